"""Reading the optimizer table: what was kept, what left at once, what rounding carried away, and how fast."""

import math

import numpy as np
import pandas as pd
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments.optimizer_table import KEPT, LEAVES, predicted
from lop_utils.experiments.update_rules import RULES

AT_ONCE, BY_ROUNDING = "leaves at once", "leaves by rounding"
VISIBLE = 1e-5  # a distance at step 10 that no rounding explains
EARLY_STEP = 10
ESCAPING = ("momentum", "rmsprop", "adagrad", "adam")
WINDOW = {"float64": (3e-15, math.inf), "float32": (1e-6, 2e-2)}  # distances between rounding and saturation


def outcome(smallest_early: float, largest_late: float, dtype: str) -> str:
    """Leaves at once: every seed is visibly off at step 10. Kept: no seed ever is by over 1000 rounding units.

    >>> outcome(1e-3, 1.0, "float64"), outcome(1e-16, 1e-8, "float64"), outcome(1e-16, 1e-15, "float64")
    ('leaves at once', 'leaves by rounding', 'kept')
    """
    if smallest_early >= VISIBLE:
        return AT_ONCE
    return KEPT if largest_late <= 1000 * torch.finfo(getattr(torch, dtype)).eps else BY_ROUNDING


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (method, task, layer, metric) of the table: prediction, outcome, distances over seeds.

    Columns: early_low, early (smallest and largest at step 10), late (largest at the last step), predicted, outcome,
    and agrees: a cell predicted as kept does not leave at once, one predicted to leave does.
    """
    rows = frame[frame["metric"].isin(["off_manifold", "off_equitable"])]
    keys, last = ["method", "task", "layer", "metric"], rows["step"].max()
    early = rows[rows["step"] == EARLY_STEP].groupby(keys, sort=False)["value"]
    found = pd.DataFrame({"early_low": early.min(), "early": early.max()})
    found["late"] = rows[rows["step"] == last].groupby(keys, sort=False)["value"].max()
    found = found.reset_index()
    found["predicted"] = _predictions(found)
    found["outcome"] = [outcome(row.early_low, row.late, row.layer) for row in found.itertuples()]
    found["agrees"] = (found["outcome"] == AT_ONCE) == (found["predicted"] == LEAVES)
    return found[found["predicted"].notna()].reset_index(drop=True)


def extremes(frame: pd.DataFrame, prediction: str, *, rules: list[str], aggregate: str) -> list[float]:
    """For each seed the "max" or "min" distance at step 10 over the float64 cells of `rules` with this prediction.

    Only starts that are block-constant or equitable count.
    """
    rows = frame[frame["metric"].isin(["off_manifold", "off_equitable"]) & (frame["task"] != "not equitable")]
    rows = rows[(rows["step"] == EARLY_STEP) & (rows["layer"] == "float64") & rows["method"].isin(rules)]
    rows = rows[[said == prediction for said in _predictions(rows)]]
    return rows.groupby("seed")["value"].agg(aggregate).tolist()


def _predictions(rows: pd.DataFrame) -> list[str | None]:
    return [predicted(RULES[row.method].tier, row.task)[row.metric] for row in rows.itertuples()]


def escape_slopes(frame: pd.DataFrame, rules: tuple[str, ...] = ESCAPING) -> pd.DataFrame:
    """Growth of the distance to M_D from the equitable start, in both precisions: one row per (method, seed).

    float32 and float64 are the slopes of ln(distance) per step, fitted over the steps at which both distances lie in
    `WINDOW`; ratio is float32 / float64; decades is the median of log10 of the ratio of the distances; points the
    number of steps in the fit. Runs with fewer than 4 such steps are left out.
    """
    rows = frame[(frame["task"] == "equitable") & (frame["metric"] == "off_manifold") & frame["method"].isin(rules)]
    if not {"float32", "float64"} <= set(rows["layer"]):
        raise UsageError("escape slopes need both precisions", remedy="run the table with dtypes float64 and float32")
    found = []
    for (method, seed), run in rows.groupby(["method", "seed"], sort=False):
        both = run.pivot(index="step", columns="layer", values="value")
        for dtype, (low, high) in WINDOW.items():
            both = both[(both[dtype] > low) & (both[dtype] < high)]
        if len(both) >= 4:
            slopes = {dtype: float(np.polyfit(both.index, np.log(both[dtype]), 1)[0]) for dtype in WINDOW}
            ratio = slopes["float32"] / slopes["float64"]
            decades = float(np.log10(both["float32"] / both["float64"]).median())
            found.append(
                {"method": method, "seed": seed, **slopes, "ratio": ratio, "decades": decades, "points": len(both)}
            )
    return pd.DataFrame(found, columns=["method", "seed", "float64", "float32", "ratio", "decades", "points"])


def shrinkage_error(frame: pd.DataFrame, *, rule: str, factor: float) -> list[float]:
    """For each seed |ln| of the norm of Z at the last step over its norm at the start times factor^steps, float64."""
    rows = frame[(frame["method"] == rule) & (frame["layer"] == "float64") & (frame["metric"] == "interaction")]
    norms = rows[rows["task"] == "equitable"].pivot(index="seed", columns="step", values="value")
    last = norms.columns.max()
    return (np.log(norms[last] / norms[0]) - last * math.log(factor)).abs().tolist()
