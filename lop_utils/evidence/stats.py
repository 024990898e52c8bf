"""Estimates with intervals: the bootstrap, made honest for the handful of seeds that experiments have."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats as scipy_stats

from lop_utils.errors import UsageError, check_choice

STATISTICS = ("mean", "median", "every")
RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` values with its interval at confidence `level` (for `every`: the range, level 1)."""

    estimate: float
    low: float
    high: float
    n: int
    level: float
    statistic: str

    def __str__(self) -> str:
        spread = "range" if self.statistic == "every" else f"{self.level:.0%} interval"
        return f"{self.estimate:.4g} ({spread} {self.low:.4g} to {self.high:.4g}, n = {self.n})"


def finite(values: Sequence[float], what: str = "values") -> np.ndarray:
    """`values` (numbers, an array, a tensor) as a flat float64 array.

    Raises `UsageError` naming `what` and the values that are not finite; also for no values, and for no numbers.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} are not numbers: {error}", remedy="give a flat list of numbers") from error
    if array.size == 0:
        raise UsageError(f"{what} are empty", remedy="give at least one value")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        listed = ", ".join(f"[{i}] = {array[i]}" for i in bad[:5])
        raise UsageError(f"{what} are not finite: {listed}", remedy="find out why before taking statistics of them")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level {level!r} is not between 0 and 1", remedy="use 0.95, say")


def _small_sample_level(level: float, n: int) -> float:
    """The nominal level that makes a bootstrap of a mean of `n` values cover `level` (Hesterberg 2015, "expanded").

    The bootstrap's spread is too small by sqrt((n-1)/n) and ignores that the spread itself is estimated: the tail
    probability becomes Phi(-sqrt(n/(n-1)) t_{n-1}). At n = 5, 0.95 becomes 0.998.
    """
    t = scipy_stats.t.ppf((1 + level) / 2, n - 1) * np.sqrt(n / (n - 1))
    return float(1 - 2 * scipy_stats.norm.sf(t))


def _statistic(statistic: str):
    return np.mean if statistic == "mean" else np.median


def _bootstrap(samples: tuple[np.ndarray, ...], function, level: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap limits along the last axis: BCa, and percentile limits where BCa is undefined."""
    limits = []
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # degenerate data: the next method takes over
            found = scipy_stats.bootstrap(
                samples, function, confidence_level=level, n_resamples=RESAMPLES, batch=500, method=method,
                vectorized=True, axis=-1, rng=np.random.default_rng(seed),
            ).confidence_interval  # fmt: skip
        limits.append(np.array([found.low, found.high]))
        if np.isfinite(limits[0]).all():
            return tuple(limits[0])
    return tuple(np.where(np.isfinite(limits[0]), *limits))


def _limits(rows: np.ndarray, statistic: str, level: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, low and high of each row of `rows`, shape (groups, values)."""
    least, most = rows.min(-1), rows.max(-1)
    if statistic == "every":
        return rows.mean(-1).clip(least, most), least, most
    function = _statistic(statistic)
    estimate = function(rows, axis=-1).clip(least, most)
    low, high = estimate.copy(), estimate.copy()
    varied = least < most
    if varied.any():
        nominal = _small_sample_level(level, rows.shape[-1]) if statistic == "mean" else level
        low[varied], high[varied] = _bootstrap((rows[varied],), function, nominal, seed)
    return estimate, np.clip(low, least, estimate), np.clip(high, estimate, most)


def interval(values: Sequence[float], statistic: str = "mean", level: float = 0.95, *, seed: int = 0) -> Interval:
    """The `statistic` of independent `values`, shape (n,), with its interval.

    `mean`, `median`: bootstrap (BCa, Efron 1987; percentile where that is undefined), for the mean at the nominal level
    that keeps its coverage for few values. `every`: the range from the least to the largest value, for statements about
    each single one; its estimate is the mean. One value, or equal values, give an interval of width 0: look at `n`.

    Raises `UsageError` for an unknown statistic, no values, and values that are not finite.

    >>> interval([3.0, 1.0, 2.0], "every")
    Interval(estimate=2.0, low=1.0, high=3.0, n=3, level=1.0, statistic='every')
    """
    check_choice("statistic", statistic, STATISTICS)
    _check_level(level)
    array = finite(values)
    estimate, low, high = (float(part[0]) for part in _limits(array[None], statistic, level, seed))
    return Interval(estimate, low, high, array.size, 1.0 if statistic == "every" else level, statistic)


def difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool = True,
    statistic: str = "mean",
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`a` minus `b` with its interval: of differences pair by pair, or with `paired=False` of two groups' statistics.

    Pair what shares a seed. `n` is the number of pairs, or the size of the smaller group.

    >>> difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0]).estimate
    1.0
    """
    a, b = finite(a, "first values"), finite(b, "second values")
    if paired:
        if a.size != b.size:
            raise UsageError(
                f"{a.size} and {b.size} values cannot be paired", remedy="pair by seed or use paired=False"
            )
        return interval(a - b, statistic, level, seed=seed)
    check_choice("statistic", statistic, ("mean", "median"))
    _check_level(level)
    function, n = _statistic(statistic), min(a.size, b.size)
    estimate = float(function(a) - function(b))
    low = high = estimate
    if n > 1 and (np.ptp(a) > 0 or np.ptp(b) > 0):
        nominal = _small_sample_level(level, n) if statistic == "mean" else level
        both = _bootstrap((a, b), lambda x, y, axis: function(x, axis=axis) - function(y, axis=axis), nominal, seed)
        low, high = (float(limit) for limit in both)
    return Interval(estimate, min(low, estimate), max(high, estimate), n, level, statistic)


def summarise(
    frame: pd.DataFrame,
    by: Sequence[str],
    *,
    value: str = "value",
    statistic: str = "mean",
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """One row for each group of `by`, sorted: the group's columns, `mean` (or `median`, ...), `low`, `high`, `n`.

    Made for figures with seeds: all groups of one size go through the bootstrap together.

    >>> frame = pd.DataFrame({"step": [0, 0, 1, 1], "value": [1.0, 1.0, 2.0, 2.0]})
    >>> summarise(frame, ["step"]).to_dict("list")
    {'step': [0, 1], 'mean': [1.0, 2.0], 'low': [1.0, 2.0], 'high': [1.0, 2.0], 'n': [2, 2]}
    """
    check_choice("statistic", statistic, STATISTICS)
    _check_level(level)
    missing = [name for name in (*by, value) if name not in frame]
    if missing:
        raise UsageError(f"the frame has no column {missing}", remedy=f"it has {list(frame.columns)}")
    groups = [(key, finite(part, f"values at {key}")) for key, part in frame.groupby(list(by), dropna=False)[value]]
    table = pd.DataFrame([key for key, _ in groups], columns=list(by))
    table["n"] = [part.size for _, part in groups]
    columns = np.empty((3, len(groups)))
    for n in table["n"].unique():
        rows = np.flatnonzero(table["n"] == n)
        columns[:, rows] = _limits(np.stack([groups[row][1] for row in rows]), statistic, level, seed)
    table[statistic], table["low"], table["high"] = columns
    return table[[*by, statistic, "low", "high", "n"]]
