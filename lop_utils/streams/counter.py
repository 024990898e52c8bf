"""Random numbers as a function of (key, counter): the same draw for every program that asks for it, in any order."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def key(seed: int, purpose: int) -> int:
    """The key of one stream of draws; different seeds and purposes give unrelated streams.

    >>> key(0, 1) == key(0, 1), key(0, 1) == key(1, 0)
    (True, False)
    """
    words = _mixed(np.array([(seed * _GOLDEN + 1) & _MASK], dtype=np.uint64))
    return int(_mixed(words + np.array([(purpose * _GOLDEN) & _MASK], dtype=np.uint64))[0])


def words(stream: int, counters: ArrayLike) -> NDArray[np.uint64]:
    """One 64-bit word for each counter, (counters,): splitmix64 of key + counter * golden ratio.

    >>> words(key(0, 0), [3, 4]).shape
    (2,)
    """
    counters = np.atleast_1d(np.asarray(counters)).astype(np.uint64)
    return _mixed(np.array([stream], dtype=np.uint64) + counters * np.uint64(_GOLDEN))


def uniform(stream: int, counters: ArrayLike) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) on a grid of 2^-53, one a counter.

    >>> bool((uniform(key(0, 0), range(1000)) < 1).all())
    True
    """
    return (words(stream, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(stream: int, counters: ArrayLike, high: int) -> NDArray[np.int64]:
    """Whole numbers from 0 to high - 1, one a counter (bias below high / 2^53).

    >>> sorted(set(integers(key(0, 0), range(100), 3).tolist()))
    [0, 1, 2]
    """
    return np.floor(uniform(stream, counters) * high).astype(np.int64)


@cache
def quantiles() -> NDArray[np.float64]:
    """The 2^16 equally likely values that `normal` draws from: quantiles of N(0, 1), scaled to variance 1.

    >>> len(quantiles()), round(float(quantiles().max()), 2)
    (65536, 4.32)
    """
    values = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return values / values.std()


def normal(stream: int, block: int, size: int) -> NDArray[np.float64]:
    """`size` standard normal numbers of a numbered block, four from every word, on the grid of `quantiles`.

    >>> normal(key(0, 0), 0, 4).tolist() == normal(key(0, 0), 0, 4).tolist()
    True
    """
    count = (size + 3) // 4
    drawn = words(stream, block * count + np.arange(count))
    lanes = drawn[:, None] >> (np.arange(4) * 16).astype(np.uint64) & np.uint64(0xFFFF)
    return quantiles()[lanes.ravel()[:size].astype(np.int64)]
