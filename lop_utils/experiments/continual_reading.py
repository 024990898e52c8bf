"""Reading the frames of `experiments.continual`: tables of seeds by tasks, early against late, gaps, correlations."""

from collections.abc import Sequence

import pandas as pd

from lop_utils.errors import UsageError
from lop_utils.experiments.prediction import spearman

WHOLE = ("online_accuracy", "online_loss", "accuracy", "loss", "test_accuracy", "diverged")  # these have no layers
BLOCK = 5  # early and late are the first and the last fifth of the tasks


def select(frame: pd.DataFrame, metric: str, *, layer: str | None = None, method: str | None = None) -> pd.DataFrame:
    """The rows of one metric, of layer "all" for metrics of the whole network and else the mean over layers.

    >>> rows = pd.DataFrame({"metric": ["dead"] * 2, "layer": ["mean", "hidden.0"], "method": "none", "value": [1, 2]})
    >>> select(rows, "dead")["value"].tolist()
    [1]
    """
    layer = layer or ("all" if metric in WHOLE else "mean")
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
    return rows if method is None else rows[rows["method"] == method]


def by_task(frame: pd.DataFrame, metric: str, *, method: str = "none", layer: str | None = None) -> pd.DataFrame:
    """Seeds in rows, tasks in columns. Raises `UsageError` when there are no such rows."""
    rows = select(frame, metric, layer=layer, method=method)
    if rows.empty:
        raise UsageError(f"no {metric} of {method}", remedy="see the frame's columns metric, method and layer")
    return rows.pivot(index="seed", columns="step", values="value")


def early_late(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Means over the first and over the last fifth of the tasks (one task at least), a value a seed.

    >>> early, late = early_late(pd.DataFrame([[1.0, 2.0, 3.0]], columns=[1, 2, 3]))
    >>> early.tolist(), late.tolist()
    ([1.0], [3.0])
    """
    size = max(table.shape[1] // BLOCK, 1)
    return table.iloc[:, :size].mean(axis=1), table.iloc[:, -size:].mean(axis=1)


def change(
    frame: pd.DataFrame, metric: str, *, method: str = "none", layer: str | None = None, relative: bool = False
) -> pd.Series:
    """Late minus early (`relative`: late / early - 1), a value a seed."""
    early, late = early_late(by_task(frame, metric, method=method, layer=layer))
    return late / early - 1 if relative else late - early


def rise_and_fall(frame: pd.DataFrame, metric: str, *, method: str = "none") -> tuple[pd.Series, pd.Series]:
    """Highest / first - 1, and late / highest - 1, a value a seed: what `change` misses when a curve turns."""
    table = by_task(frame, metric, method=method)
    top = table.max(axis=1)
    return top / table.iloc[:, 0] - 1, early_late(table)[1] / top - 1


def gap(frame: pd.DataFrame, metric: str = "accuracy", *, method: str = "none") -> pd.DataFrame:
    """The plasticity gap: a fresh network of the same budget minus the continual one; columns seed, step, value."""
    fresh = by_task(frame, metric, method=f"fresh {method}")
    found = fresh - by_task(frame, metric, method=method)[fresh.columns]
    return found.reset_index().melt(id_vars="seed", var_name="step", value_name="value")


def wide(frame: pd.DataFrame, metrics: Sequence[str], *, method: str = "none") -> pd.DataFrame:
    """One row a run and task, one column a metric; tasks at which one of them was not measured are left out.

    >>> rows = pd.DataFrame({"seed": 0, "step": 1, "metric": ["dead", "loss"], "layer": ["mean", "all"],
    ...     "method": "none", "value": [0.5, 2.0]})
    >>> wide(rows, ["dead", "loss"]).to_dict("list")
    {'seed': [0], 'step': [1], 'dead': [0.5], 'loss': [2.0]}
    """
    parts = [select(frame, m, method=method).set_index(["seed", "step"])["value"].rename(m) for m in metrics]
    return pd.concat(parts, axis=1).dropna().reset_index()


def correlation(frame: pd.DataFrame, x: str, y: str, *, method: str = "none", last: float = 1.0) -> pd.Series:
    """Spearman's correlation of two metrics over the tasks of a run, or its `last` part; a value a seed."""
    table = wide(frame, [x, y], method=method)
    start = table["step"].max() * (1 - last)
    return pd.Series(
        {seed: spearman(r[x].to_numpy(), r[y].to_numpy()) for seed, r in table[table["step"] > start].groupby("seed")}
    )


def layer_spread(frame: pd.DataFrame, metric: str, *, method: str = "none") -> pd.Series:
    """Largest minus smallest late value among the layers, a value a seed."""
    rows = frame[(frame["metric"] == metric) & (frame["method"] == method)]
    names = [name for name in rows["layer"].unique() if name not in ("mean", "all")]
    late = pd.DataFrame({name: early_late(by_task(frame, metric, method=method, layer=name))[1] for name in names})
    return late.max(axis=1) - late.min(axis=1)
