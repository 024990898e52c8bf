"""Reading the league: standings against fresh networks, and what tuning saw and chose."""

import pandas as pd

from lop_utils.experiments.league import JUDGED, TUNING
from lop_utils.experiments.league_entrants import ENTRANTS


def standings(frame: pd.DataFrame, *, late: int) -> pd.DataFrame:
    """Columns method, seed, metric, value; metrics over the last `late` judged tasks, one value a seed.

    late_accuracy: mean accuracy at the task's end; late_online: mean online accuracy; gap: accuracy of fresh plain
    networks on the same tasks with the same budget, minus late_accuracy (positive: worse than starting anew); gain:
    late_accuracy minus that of "none". "fresh" has a row of its own.
    """
    rows = frame[
        (frame["layer"] == JUDGED) & (frame["step"] > frame.loc[frame["layer"] == JUDGED, "step"].max() - late)
    ]
    tables = {}
    for metric, source in (("late_accuracy", "accuracy"), ("late_online", "online_accuracy")):
        picked = rows[rows["metric"] == source]
        tables[metric] = picked.groupby(["method", "seed"], sort=False)["value"].mean().unstack("seed")
    accuracy = tables["late_accuracy"]
    tables["gap"] = accuracy.loc["fresh"] - accuracy
    tables["gain"] = accuracy - accuracy.loc["none"]
    long = [table.stack().rename("value").reset_index().assign(metric=metric) for metric, table in tables.items()]
    return pd.concat(long, ignore_index=True)[["method", "seed", "metric", "value"]]


def values(table: pd.DataFrame, method: str, metric: str) -> list[float]:
    """One method's values of one metric of `standings`, in the order of the seeds."""
    rows = table[(table["method"] == method) & (table["metric"] == metric)]
    return rows.sort_values("seed")["value"].tolist()


def order(table: pd.DataFrame, metric: str = "late_accuracy") -> list[str]:
    """Methods of `standings` from the highest mean of `metric` to the lowest."""
    means = table[table["metric"] == metric].groupby("method")["value"].mean()
    return list(means.sort_values(ascending=False).index)


def tuning(frame: pd.DataFrame, *, late: int) -> pd.DataFrame:
    """What tuning saw: columns method, knob, value, late_accuracy (mean over tasks and seeds), chosen (bool).

    Entrants without a setting to choose have no rows.
    """
    rows = frame[frame["layer"].str.startswith(TUNING) & (frame["metric"] == "accuracy")]
    rows = rows[rows["step"] > rows["step"].max() - late] if len(rows) else rows
    chosen = frame[frame["metric"] == "chosen"].groupby("method")["value"].first()
    means = rows.groupby(["method", "layer"], sort=False)["value"].mean().reset_index(name="late_accuracy")
    means["value"] = means["layer"].str.removeprefix(f"{TUNING} ").astype(float)
    means["knob"] = [ENTRANTS[name].knob for name in means["method"]]
    means["chosen"] = [
        abs(chosen[m] - v) <= 1e-9 * abs(v) for m, v in zip(means["method"], means["value"], strict=True)
    ]
    return means[["method", "knob", "value", "late_accuracy", "chosen"]]


def above_none(table: pd.DataFrame) -> list[str]:
    """Entrants whose gain over "none" is positive in every seed, best first."""
    gain = table[(table["metric"] == "gain") & ~table["method"].isin(["none", "fresh"])]
    least = gain.groupby("method")["value"].min()
    return [name for name in order(table) if least.get(name, -1.0) > 0]
