"""Which symptom predicts? What is known of a network at a task's start, against what it then learns.

Works on frames of `experiments.continual` whose configuration names `diagnosed` tasks. A run is one network on one
stream. Everything drifts along a stream, so any two quantities that drift are correlated over its tasks; the versions
of a correlation below differ in what they do about it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lop_utils.errors import UsageError, check_choice
from lop_utils.evidence.stats import interval

RUN = ["arch", "task", "method", "seed"]
OUTCOMES = ("online_accuracy", "accuracy")
CLOCK, PREVIOUS = "task_number", "previous_accuracy"
FEWEST = 5  # tasks of a run for a correlation over them


def starts(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row a run and diagnosed task: the run (arch, task, method, seed), step, predictors and outcomes.

    Predictors: every metric recorded as start_<name> (mean over layers, or of the whole network), task_number (a clock)
    and previous_accuracy (at the end of the task before). Outcomes: `OUTCOMES` of the task itself.
    """
    frame = pd.concat(frames, ignore_index=True)
    whole = frame[frame["layer"] == "all"]
    begun = frame[frame["metric"].str.startswith("start_") & frame["layer"].isin(["all", "mean"])]
    begun = begun[~((begun["metric"] == "start_weight_norm") & (begun["layer"] == "mean"))]
    if begun.empty:
        raise UsageError("no task was diagnosed", remedy="name tasks in `diagnosed` of the configuration")
    keys = [*RUN, "step"]
    table = begun.pivot_table(index=keys, columns="metric", values="value").rename(columns=lambda m: m[len("start_") :])
    ends = whole[whole["metric"].isin(OUTCOMES)].pivot_table(index=keys, columns="metric", values="value")
    before = ends["accuracy"].rename(PREVIOUS).reset_index()
    before["step"] += 1
    table = table.join(ends).join(before.set_index(keys)[PREVIOUS]).reset_index()
    table[CLOCK] = table["step"].astype(float)
    table.columns.name = None
    return table


def predictors(table: pd.DataFrame) -> list[str]:
    """The columns of `starts` that are predictors."""
    return [name for name in table.columns if name not in {*RUN, "step", *OUTCOMES}]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; 0 when one of them is constant (it predicts nothing then).

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    return _pearson(rankdata(x), rankdata(y))


def partial_spearman(x: np.ndarray, y: np.ndarray, *, given: np.ndarray) -> float:
    """Spearman's correlation of x and y with the ranks of `given` regressed out of the ranks of both.

    What is left says whether x and y deviate together from their common drift. Source: the usual partial rank
    correlation, (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)).

    >>> z = np.arange(6.0)
    >>> abs(partial_spearman(z, -z, given=z)) < 1e-6  # nothing is left beside the drift
    True
    """
    r_xy, r_xz, r_yz = spearman(x, y), spearman(x, given), spearman(y, given)
    left = (1 - r_xz**2) * (1 - r_yz**2)
    return (r_xy - r_xz * r_yz) / left**0.5 if left > 1e-9 else 0.0


def pooled(table: pd.DataFrame, predictor: str, outcome: str) -> float:
    """Spearman's correlation over all runs and tasks at once."""
    rows = table[[predictor, outcome]].dropna()
    if len(rows) < 2:
        return float("nan")
    return spearman(rows[predictor].to_numpy(), rows[outcome].to_numpy())


def within(table: pd.DataFrame, predictor: str, outcome: str) -> float:
    """Mean over runs of Spearman's correlation over the tasks of a run."""
    return _over_runs(table, predictor, outcome, lambda x, y, step: spearman(x, y))


def detrended(table: pd.DataFrame, predictor: str, outcome: str) -> float:
    """Mean over runs of the partial rank correlation over the tasks of a run, given the task's number."""
    return _over_runs(table, predictor, outcome, lambda x, y, step: partial_spearman(x, y, given=step))


KINDS: Mapping[str, Callable[[pd.DataFrame, str, str], float]] = {
    "pooled": pooled,
    "within": within,
    "detrended": detrended,
}


def correlate(
    table: pd.DataFrame, *, outcome: str = "accuracy", kinds: Sequence[str] = tuple(KINDS), level: float = 0.95
) -> pd.DataFrame:
    """Every predictor's correlation with the outcome: columns kind, predictor, value, low, high.

    Each seed gives one correlation, from all its runs and tasks, which are not independent of each other; the value is
    the mean over seeds and the interval that of `evidence.stats.interval`. A predictor without a correlation within
    runs (fewer than `FEWEST` tasks) has no row. Raises `UsageError` for an unknown outcome or kind.
    """
    check_choice("outcome", outcome, OUTCOMES)
    for kind in kinds:
        check_choice("kind of correlation", kind, KINDS)
    rows = []
    for name in predictors(table):
        for kind in kinds:
            values = np.array([KINDS[kind](part, name, outcome) for _, part in table.groupby("seed", sort=False)])
            values = values[~np.isnan(values)]
            if len(values):
                found = interval(values, level=level)
                rows.append((kind, name, found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=["kind", "predictor", "value", "low", "high"])


def agreement(tables: Mapping[str, pd.DataFrame], *, kind: str = "within") -> pd.DataFrame:
    """How a predictor fares over settings (title -> `correlate`): mean, least and greatest correlation, and `worst`.

    `worst` is the least |correlation| if the sign is the same in all settings, and else minus the size of the weaker
    side: positive only for a predictor that can be read the same way everywhere.
    """
    parts = {title: t[t["kind"] == kind].set_index("predictor")["value"] for title, t in tables.items()}
    values = pd.DataFrame(parts).dropna()
    least, most = values.min(axis=1), values.max(axis=1)
    worst = np.where(least > 0, least, np.where(most < 0, -most, -np.minimum(-least, most)))
    found = pd.DataFrame({"mean": values.mean(axis=1), "least": least, "greatest": most, "worst": worst})
    return found.sort_values("worst", ascending=False)


def _over_runs(
    table: pd.DataFrame, predictor: str, outcome: str, measure: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
) -> float:
    found = []
    for _, run in table.groupby(RUN, sort=False):
        rows = run[[predictor, outcome, "step"]].dropna()
        if len(rows) >= FEWEST:
            found.append(measure(*(rows[column].to_numpy(float) for column in (predictor, outcome, "step"))))
    return float(np.mean(found)) if found else float("nan")


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else 0.0
