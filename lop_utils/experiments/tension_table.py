"""Reading the tension experiment: one row a network, and correlations over settings, one for each seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lop_utils.errors import UsageError
from lop_utils.experiments.tension import CENTRED, RAW
from lop_utils.experiments.tension_settings import SETTINGS, start_of

KINDS = ("learned", "fresh", "rescaled")
_COLUMNS = {  # name: (task, metric, layer; None: the last one that has the metric, which step)
    "rank": ("A", RAW, "mean"),
    "rank_centred": ("A", CENTRED, "mean"),
    "nc1": ("A", "nc1", None),
    "norm": ("A", "weight_norm", "all"),
    "dead": ("A", "dead", "mean"),
    "train_a": ("A", "accuracy", "all"),
    "test_a": ("A", "test_accuracy", "all"),
    "rank_b": ("B", RAW, "mean"),
    "online_b": ("B", "online_accuracy", "all"),
    "accuracy_b": ("B", "accuracy", "all"),
    "test_b": ("B", "test_accuracy", "all"),
    "online_random": ("random", "online_accuracy", "all"),
    "accuracy_random": ("random", "accuracy", "all"),
}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each (seed, kind, setting), with columns knob, value and one for each measure.

    Kinds: learned (after task A), fresh (before it; settings that share a start share the numbers), rescaled.
    """
    columns = {}
    for name, (task, metric, layer) in _COLUMNS.items():
        rows = frame[(frame["task"] == task) & (frame["metric"] == metric)]
        rows = rows[rows["layer"] == (rows["layer"].max() if layer is None else layer)]
        columns[name] = rows.set_index(["seed", "method"])["value"]
    wide = pd.DataFrame(columns).reset_index()
    parts = [_kind(wide, kind) for kind in KINDS]
    found = pd.concat(parts, ignore_index=True)
    settings = found["setting"].map(SETTINGS)
    found.insert(3, "knob", settings.map(lambda setting: setting.knob))
    found.insert(4, "value", settings.map(lambda setting: setting.value))
    return found


def _kind(wide: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows of one kind, with its settings' names."""
    learned = [name for name in wide["method"].unique() if name in SETTINGS]
    if kind == "fresh":
        method = {name: f"fresh, {start_of(name)}" for name in learned}
    else:
        method = {name: name if kind == "learned" else f"{kind}, {name}" for name in learned}
    pairs = pd.DataFrame({"setting": list(method), "method": list(method.values())})
    found = pairs.merge(wide, on="method").drop(columns="method")
    found.insert(0, "kind", kind)
    return found


def correlations(rows: pd.DataFrame, x: str, y: str, *, given: str | None = None) -> pd.Series:
    """Spearman's correlation of columns `x` and `y` over the settings, one for each seed (index).

    With `given`, the partial correlation: r_xy.g = (r_xy - r_xg r_yg) / sqrt((1 - r_xg^2)(1 - r_yg^2)), of ranks.

    >>> rows = pd.DataFrame({"seed": 0, "setting": list("abcd"), "x": [1, 2, 3, 4], "y": [1, 2, 4, 3]})
    >>> float(correlations(rows, "x", "y")[0].round(2))
    0.8
    """
    seeds, values = _by_seed(rows, [x, y] + ([given] if given else []))
    return pd.Series([_correlation(part) for part in values], index=seeds, name=f"{x}, {y}")


def over_settings(
    rows: pd.DataFrame, x: str, y: str, *, given: str | None = None, seed: int = 0, resamples: int = 500
) -> tuple[float, float]:
    """95% percentile interval of the mean over seeds of `correlations` when the settings are drawn with replacement.

    It says how far a correlation hangs on the settings that happened to be chosen; seeds say nothing about that.
    """
    _, values = _by_seed(rows, [x, y] + ([given] if given else []))
    rng, count, means = np.random.default_rng(seed), values.shape[2], []
    while len(means) < resamples:
        drawn = rng.integers(count, size=count)
        if len(set(drawn.tolist())) > 3:
            means.append(np.mean([_correlation(part[:, drawn]) for part in values]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _by_seed(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.Index, np.ndarray]:
    """The seeds, and the values (seeds, columns, settings)."""
    wide = [rows.pivot(index="seed", columns="setting", values=name) for name in columns]
    if wide[0].shape[1] < 4:
        raise UsageError(f"{wide[0].shape[1]} settings", remedy="correlate over four settings or more")
    return wide[0].index, np.stack([part.to_numpy(dtype=float) for part in wide], axis=1)


def _correlation(values: np.ndarray) -> float:
    """Spearman's correlation of the first two of (columns, settings), given the third if there is one; 0 for ties."""
    ranked = rankdata(values, axis=1)
    ranked = ranked - ranked.mean(1, keepdims=True)
    r = ranked @ ranked.T
    scale = np.sqrt(np.diag(r))
    if (scale == 0).any():
        return 0.0
    r = r / np.outer(scale, scale)
    if len(r) == 2:
        return float(r[0, 1])
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)) if rest > 1e-12 else 0.0


def contrast(
    rows: pd.DataFrame, setting: str, measure: str, *, kind: str = "learned", against: str = "usual"
) -> pd.Series:
    """How much higher `measure` is in `setting` than in `against`, one value for each seed (index)."""
    values = rows[rows["kind"] == kind].pivot(index="seed", columns="setting", values=measure)
    for name in (setting, against):
        if name not in values:
            raise UsageError(f"setting {name!r} was not run", remedy=f"it has {', '.join(values)}")
    return values[setting] - values[against]


def loss_to_fresh(rows: pd.DataFrame, setting: str, measure: str) -> pd.Series:
    """The plasticity gap: what the network that `setting` started from reaches, less what it reaches after task A."""
    own = rows[rows["setting"] == setting].pivot(index="seed", columns="kind", values=measure)
    return own["fresh"] - own["learned"]


def of_knobs(rows: pd.DataFrame, knobs: Sequence[str], *, kind: str = "learned") -> pd.DataFrame:
    """The rows of one kind whose setting turns one of `knobs`, and the usual setting's."""
    return rows[(rows["kind"] == kind) & rows["knob"].isin([*knobs, "none"])]
