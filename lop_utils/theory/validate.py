"""Argument checks shared by the theory modules; each message names the argument, its value and the remedy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lop_utils.errors import UsageError

Array = NDArray[np.float64]


def finite(name: str, values: ArrayLike) -> Array:
    """`values` as a float64 array; raises `UsageError` naming the first entry that is not finite.

    >>> finite("a", [1, 2])
    array([1., 2.])
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"{name} = {array[~np.isfinite(array)][0]} is not finite", remedy="give finite numbers")
    return array


def non_zero(name: str, values: ArrayLike) -> Array:
    """`values` as finite float64; raises `UsageError` where one is 0."""
    array = finite(name, values)
    if (array == 0).any():
        raise UsageError(f"{name} contains 0, which makes the unit constant", remedy=f"give {name} different from 0")
    return array


def within(name: str, values: ArrayLike, low: float, high: float, *, open_low: bool = False) -> Array:
    """`values` as finite float64 in [low, high], or (low, high] with `open_low`; raises `UsageError` otherwise.

    >>> float(within("eps", 0.5, 0, 1))
    0.5
    """
    array = finite(name, values)
    outside = (array > high) | ((array <= low) if open_low else (array < low))
    if outside.any():
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}]"
        raise UsageError(f"{name} = {array[outside][0]:g} is outside {interval}", remedy=f"give {name} in {interval}")
    return array


def at_least(name: str, value: int, least: int) -> int:
    """`value` as an int >= `least`; raises `UsageError` otherwise.

    >>> at_least("units", 3, 2)
    3
    """
    if int(value) != value or value < least:
        raise UsageError(f"{name} = {value} is not an integer >= {least}", remedy=f"give {name} >= {least}")
    return int(value)
