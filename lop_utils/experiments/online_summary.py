"""Numbers from frames of the bit-flipping experiment: one value a seed."""

import pandas as pd

from lop_utils.errors import UsageError


def per_seed(
    frame: pd.DataFrame,
    metric: str,
    *,
    method: str,
    width: int | None = None,
    layer: str = "all",
    after: float = -1,
    until: float = float("inf"),
) -> pd.Series:
    """Mean of a metric over steps after < step <= until, one value for each seed (the index).

    Raises `UsageError` when nothing fits.

    >>> rows = [("width 5", 0, "bp", step, "all", "loss", float(step)) for step in (1, 2, 3)]
    >>> frame = pd.DataFrame(rows, columns=["arch", "seed", "method", "step", "layer", "metric", "value"])
    >>> per_seed(frame, "loss", method="bp", width=5, after=1).tolist()
    [2.5]
    """
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer) & (frame["method"] == method)]
    rows = rows[(rows["step"] > after) & (rows["step"] <= until)]
    if width is not None:
        rows = rows[rows["arch"] == f"width {width}"]
    if rows.empty:
        raise UsageError(f"no {metric} of {method} at width {width} after {after:g}", remedy="look at the frame")
    return rows.groupby("seed")["value"].mean()


def binned(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """Rows averaged over bins of `size` steps for each seed, method and architecture; step is the end of the bin.

    >>> rows = pd.DataFrame({"arch": "w", "seed": 0, "method": "bp", "step": [1, 2, 3], "value": [1.0, 3.0, 9.0]})
    >>> binned(rows, 2)[["step", "value"]].values.tolist()
    [[2.0, 2.0], [4.0, 9.0]]
    """
    ends = -(-rows["step"] // size) * size
    keys = ["arch", "seed", "method"]
    return rows.assign(step=ends).groupby([*keys, "step"], as_index=False)["value"].mean()
