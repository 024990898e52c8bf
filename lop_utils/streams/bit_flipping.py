"""The slowly changing regression problem: bits in, a fixed target network out, and slow bits that flip now and then.

Source: Dohare et al. 2024 ("slowly-changing regression"); arXiv:2510.00304, the bit-flipping experiment. An input has
`slow` bits that stay for `period` steps and fast bits drawn anew in every step; the target is a fixed network of
linear-threshold units. Within a period only 2^fast inputs occur: `Segment` lists them and their targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lop_utils.errors import UsageError, check_choice
from lop_utils.streams import counter

CONVENTIONS = ("as_published", "as_coded", "dohare")
_START, _FLIPS, _FAST, _TARGET, _REDRAWN = range(5)  # purposes of the random streams; the learner's begin at 16
_BLOCK = 512  # periods whose slow bits are worked out at once


@dataclass(frozen=True)
class Segment:
    """One period of the stream: the steps from `first` on see these slow inputs and this table of targets.

    slow: 0 or 1 (slow inputs,), the constant input of `as_coded` included; table: (2^fast,), the target of each pattern
    of fast bits, bit i of the pattern's number being fast bit i.
    """

    first: int
    slow: NDArray[np.float64]
    table: NDArray[np.float64]


@dataclass(frozen=True)
class BitFlipping:
    """One stream, decided by `seed`.

    Conventions (of inputs and of the target's units; x in {0, 1}^bits, v and the bias weight v_0 are +-1, S counts the
    -1 among v): as_published: a unit is on if v x + v_0 >= beta * bits - S - [v_0 < 0], the bias counting as one more
    input, inputs are the bits. as_coded (public code of arXiv:2510.00304): v x + v_0 > beta * (bits + 1) - S + v_0 / 2,
    and a constant 1 is one more input of the learner. dohare: > beta * (bits + 1) - S - v_0 / 2, and at the end of a
    period all slow bits are drawn anew (the other two flip one of them).

    >>> stream = BitFlipping(seed=0)
    >>> stream.inputs(0, 3).shape, stream.targets(0, 3).shape
    ((3, 20), (3,))
    """

    seed: int = 0
    bits: int = 20
    slow: int = 15
    period: int = 10_000
    units: int = 100
    beta: float = 0.7
    convention: str = "as_published"

    def __post_init__(self) -> None:
        check_choice("convention", self.convention, CONVENTIONS)
        if not 0 < self.slow < self.bits or self.bits - self.slow > 12:
            raise UsageError(
                f"{self.slow} slow of {self.bits} bits", remedy="have some slow bits and 1 to 12 fast ones"
            )
        if min(self.period, self.units) < 1:
            raise UsageError(f"period {self.period}, {self.units} units", remedy="use numbers of 1 or more")

    @property
    def fast(self) -> int:
        """How many bits are drawn anew in every step."""
        return self.bits - self.slow

    @property
    def constant(self) -> int:
        """1 if a constant 1 is one of the learner's inputs, else 0."""
        return int(self.convention == "as_coded")

    @property
    def width(self) -> int:
        """Number of inputs of the learner, in the order slow bits, constant, fast bits."""
        return self.bits + self.constant

    @cached_property
    def _target(self) -> tuple[NDArray, NDArray, NDArray, float]:
        """Signs of the bits (units, bits), thresholds on the number of agreeing bits, output weights and bias."""
        count = self.units * (self.bits + 2) + 1
        signs = 2.0 * counter.integers(counter.key(self.seed, _TARGET), np.arange(count), 2) - 1.0
        v = signs[: self.units * self.bits].reshape(self.units, self.bits)
        v0, out = signs[self.units * self.bits : -1].reshape(2, self.units)
        # v x + S is the number of bits that agree with v; the rest of the condition is a threshold on it
        least = {
            "as_published": self.beta * self.bits - v0 - (v0 < 0),
            "as_coded": self.beta * (self.bits + 1) - v0 / 2,
            "dohare": self.beta * (self.bits + 1) - 3 * v0 / 2,
        }[self.convention]
        return v, least, out, float(signs[-1])

    def target(self, bits: NDArray) -> NDArray[np.float64]:
        """The target network's output for bits (n, bits) of 0 and 1, shape (n,)."""
        v = self._target[0]
        return self._output(bits @ v.T + (v < 0).sum(1))  # whole numbers: exact

    def _output(self, agree: NDArray) -> NDArray[np.float64]:
        """The output (n,) from the number of bits that agree with each unit's signs, (n, units)."""
        _, least, out, bias = self._target
        on = agree >= least - 1e-9 if self.convention == "as_published" else agree > least + 1e-9
        return on @ out + bias

    @cached_property
    def _agree_fast(self) -> NDArray[np.float64]:
        """What the fast bits of each pattern, and the -1 among all signs, add to the agreement, (2^fast, units)."""
        v = self._target[0]
        return self.fast_bits @ v[:, self.slow :].T + (v < 0).sum(1)

    def patterns(self, start: int, stop: int) -> NDArray[np.int64]:
        """The fast bits of steps start to stop - 1 as numbers from 0 to 2^fast - 1."""
        found = counter.words(counter.key(self.seed, _FAST), np.arange(start, stop))
        return (found >> np.uint64(64 - self.fast)).astype(np.int64)

    @property
    def pattern_key(self) -> int:
        """Key of the words whose highest bits are the patterns (for the compiled engine)."""
        return counter.key(self.seed, _FAST)

    @cached_property
    def fast_bits(self) -> NDArray[np.float64]:
        """All patterns of fast bits, (2^fast, fast)."""
        return (np.arange(2**self.fast)[:, None] >> np.arange(self.fast) & 1).astype(np.float64)

    def slow_bits(self, period: int) -> NDArray[np.float64]:
        """The slow bits (slow,) in a period, counted from 0."""
        return _slow_table(self, period // _BLOCK)[period % _BLOCK].copy()

    def segment(self, step: int) -> Segment:
        """The period that `step` belongs to."""
        period = step // self.period
        slow = self.slow_bits(period)
        table = self._output(self._agree_fast + self._target[0][:, : self.slow] @ slow)
        return Segment(period * self.period, np.concatenate([slow, np.ones(self.constant)]), table)

    def present(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All inputs (2^fast, width) that can occur at `step`, equally likely, and their targets (2^fast,)."""
        segment = self.segment(step)
        fixed = np.broadcast_to(segment.slow, (len(segment.table), len(segment.slow)))
        return np.concatenate([fixed, self.fast_bits], axis=1), segment.table

    def parts(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """start to stop, cut where a period ends."""
        while start < stop:
            end = min(stop, (start // self.period + 1) * self.period)
            yield start, end
            start = end

    def inputs(self, start: int, stop: int) -> NDArray[np.float64]:
        """The learner's inputs of steps start to stop - 1, (steps, width)."""
        fast = self.fast_bits[self.patterns(start, stop)]
        parts = [
            np.broadcast_to(self.segment(a).slow, (b - a, self.width - self.fast)) for a, b in self.parts(start, stop)
        ]
        return np.concatenate([np.concatenate(parts), fast], axis=1)

    def targets(self, start: int, stop: int) -> NDArray[np.float64]:
        """The targets of steps start to stop - 1, (steps,)."""
        patterns = self.patterns(start, stop)
        return np.concatenate(
            [self.segment(a).table[patterns[a - start : b - start]] for a, b in self.parts(start, stop)]
        )

    def sample(self, steps: int, size: int, *, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`size` inputs and targets from random places of the first `steps` steps: past, present and future alike."""
        places = np.sort(counter.integers(counter.key(self.seed, 8 + seed), np.arange(size), steps))
        rows = [(self.inputs(t, t + 1), self.targets(t, t + 1)) for t in places.tolist()]
        return np.concatenate([x for x, _ in rows]), np.concatenate([y for _, y in rows])


@lru_cache(maxsize=64)
def _slow_table(stream: BitFlipping, block: int) -> NDArray[np.float64]:
    """The slow bits of _BLOCK periods from block * _BLOCK on, (_BLOCK, slow)."""
    slow, first = stream.slow, block * _BLOCK
    start = counter.integers(counter.key(stream.seed, _START), np.arange(slow), 2)
    if stream.convention == "dohare":
        draws = np.arange(first * slow, (first + _BLOCK) * slow)
        bits = counter.integers(counter.key(stream.seed, _REDRAWN), draws, 2).reshape(_BLOCK, slow)
        bits[: int(block == 0)] = start
    else:
        flips = counter.integers(counter.key(stream.seed, _FLIPS), np.arange(1, first + _BLOCK), slow)
        before, now = flips[: max(first - 1, 0)], flips[max(first - 1, 0) :]
        flipped = np.zeros((_BLOCK, slow), dtype=np.int64)
        flipped[np.arange(_BLOCK - len(now), _BLOCK), now] = 1  # in period 0 no bit has flipped
        bits = (start + np.bincount(before, minlength=slow) + flipped.cumsum(0)) % 2
    return bits.astype(np.float64)
