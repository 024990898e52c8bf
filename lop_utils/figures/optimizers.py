"""Figures and tables of the cloning chapter's sections on optimizers, modules and further manifolds."""

from collections.abc import Iterable
from html import escape

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lop_utils.evidence.render import Html, table
from lop_utils.experiments.modules_table import CASES
from lop_utils.experiments.more_manifolds import LEVEL, MIRRORED, PROPORTIONAL, kept
from lop_utils.experiments.optimizer_outcomes import AT_ONCE, BY_ROUNDING
from lop_utils.experiments.optimizer_table import KEPT
from lop_utils.experiments.update_rules import RULES
from lop_utils.figures.style import COLOURS

# Border colours with at least 3:1 contrast on white and on near-black; the words say the same.
_BORDERS = {KEPT: "#2f8f5b", BY_ROUNDING: "#b07d12", AT_ONCE: "#d1495b"}
_CELLS = (
    ("block-constant", "off_manifold", "clone: 𝓜<sub>D</sub>"),
    ("equitable", "off_manifold", "equitable, Z ≠ 0: 𝓜<sub>D</sub>"),
    ("equitable", "off_equitable", "equitable, Z ≠ 0: RE and CE"),
    ("not equitable", "off_manifold", "not equitable: 𝓜<sub>D</sub>"),
)
RATES = {"momentum": "SGD + momentum", "rmsprop": "RMSprop", "adam": "Adam"}


def outcome_table(found: pd.DataFrame, *, steps: int) -> Html:
    """The optimizer table from `optimizer_outcomes.outcomes`: a row a rule, a cell for each start and manifold.

    A cell says what happened in float64, then the largest distance over seeds at step 10 and at the last step in both
    precisions, and "not as predicted" where it is so.
    """
    cells = {(r.method, r.task, r.metric, r.layer): r for r in found.itertuples()}
    methods = list(dict.fromkeys(found["method"]))
    rows = []
    for method in methods:
        row = [f"{escape(RULES[method].label)}<br><small>{escape(RULES[method].tier)}</small>"]
        for start, metric, _ in _CELLS:
            double, single = (cells[method, start, metric, dtype] for dtype in ("float64", "float32"))
            row.append(
                _cell(double.outcome, double.predicted, (double, single), agrees=double.agrees and single.agrees)
            )
        rows.append(row)
    caption = (
        f"Distance at step 10 → step {steps:,} in float64 (64) and float32 (32), largest over seeds; in brackets, the "
        "prediction"
    )
    html = table(caption, ["update rule, what it depends on", *(head for *_, head in _CELLS)], rows)
    lines = (
        f"{r.method}, {r.task}, {r.metric}, {r.layer}: {r.outcome} ({r.early:.0e}, {r.late:.0e})"
        for r in found.itertuples()
    )
    return Html(html, "\n".join(lines))


def _cell(outcome: str, prediction: str, runs: Iterable, *, agrees: bool) -> str:
    style = f"border-left:4px solid {_BORDERS[outcome]};padding-left:.4em;display:inline-block"
    lines = (f"{run.layer[-2:]}: {_short(run.early)} → {_short(run.late)}" for run in runs)
    numbers = "<br>".join(f'<small style="white-space:nowrap">{line}</small>' for line in lines)
    warning = "" if agrees else "<br><strong>not as predicted</strong>"
    return f'<span style="{style}">{outcome} <small>[{prediction}]</small><br>{numbers}{warning}</span>'


def _short(value: float) -> str:
    """A distance in one digit, exact zero as 0.

    >>> _short(2.3e-16), _short(0.0)
    ('2e−16', '0')
    """
    return f"{value:.0e}".replace("-", "−") if value else "0"


def escapes_figure(frame: pd.DataFrame, *, seed: int) -> Figure:
    """Distance to M_D from equitable starts in both precisions; dashed, the float64 curve of `seed` times 2^29."""
    rows = frame[(frame["task"] == "equitable") & (frame["metric"] == "off_manifold")]
    figure, axes = plt.subplots(1, len(RATES), figsize=(11, 3.7), layout="constrained", sharey=True)
    for ax, (method, title) in zip(axes, RATES.items(), strict=True):
        for dtype, colour in (("float32", COLOURS["orange"]), ("float64", COLOURS["blue"])):
            runs = rows[(rows["method"] == method) & (rows["layer"] == dtype) & (rows["step"] > 0)]
            for s, run in runs.groupby("seed"):
                chosen = s == seed
                label = dtype if chosen else None
                ax.plot(
                    run["step"],
                    run["value"],
                    color=colour,
                    lw=2 if chosen else 0.8,
                    alpha=1 if chosen else 0.5,
                    label=label,
                )
        one = rows[
            (rows["method"] == method) & (rows["layer"] == "float64") & (rows["seed"] == seed) & (rows["step"] > 0)
        ]
        shifted = one[one["value"] * 2.0**29 < 10]
        ax.plot(
            shifted["step"], shifted["value"] * 2.0**29, color=COLOURS["black"], ls="--", lw=1.2, label="float64 × 2²⁹"
        )
        ax.set(yscale="log", xlabel="steps", title=title, ylim=(1e-17, 10))
    axes[0].set_ylabel("distance to $\\mathcal{M}_D$")
    axes[-1].legend(loc="lower right")
    return figure


def modules_table(clones: pd.DataFrame, equitable: pd.DataFrame) -> Html:
    """A row a module: prediction, and the distance to M_D from clones and from equitable starts, SGD and Adam.

    The largest over seeds where the module should keep, the smallest where it should break.
    """
    rows = []
    for case in dict.fromkeys(clones["arch"]):
        row = [escape(CASES[case].label), "kept" if CASES[case].kept else "broken"]
        for frame in (clones, equitable):
            for method in ("sgd", "adam"):
                at_end = frame[(frame["metric"] == "off_manifold") & (frame["step"] == frame["step"].max())]
                values = at_end[(at_end["arch"] == case) & (at_end["method"] == method)]["value"]
                row.append(_short(values.max() if CASES[case].kept else values.min()))
        rows.append(row)
    long, short = clones["step"].max(), equitable["step"].max()
    heads = [f"{name}, {kind}" for kind in (f"clone, step {long}", f"Z ≠ 0, step {short}") for name in ("SGD", "Adam")]
    caption = "Distance to M_D, float64: largest over seeds if kept, smallest if broken"
    html = table(caption, ["module", "predicted", *heads], rows)
    return Html(html, "\n".join(", ".join(row) for row in rows))


def deviations_table(frame: pd.DataFrame) -> Html:
    """A row a rule: prediction and largest deviation over seeds for mirrored and for proportional units."""
    rows, lines, deviations = [], [], frame[frame["metric"] == "deviation"]
    last = deviations["step"].max()
    for rule in dict.fromkeys(deviations["method"]):
        row = [escape(RULES[rule].label)]
        for manifold in (MIRRORED, PROPORTIONAL):
            runs = deviations[(deviations["method"] == rule) & (deviations["task"] == manifold)]
            early, late = (runs[runs["step"] == step]["value"].max() for step in (10, last))
            outcome = AT_ONCE if early > 1e-5 else KEPT if late < 1e-9 else BY_ROUNDING
            style = f"border-left:4px solid {_BORDERS[outcome]};padding-left:.4em;display:inline-block"
            said = "kept" if kept(rule, manifold) else "leaves"
            warning = "" if (outcome == AT_ONCE) != (said == "kept") else " <strong>not as predicted</strong>"
            numbers = f"<small>[{said}] {_short(early)} → {_short(late)}</small>"
            row.append(f'<span style="{style}">{outcome} {numbers}{warning}</span>')
            lines.append(f"{rule}, {manifold}: {outcome} ({early:.0e}, {late:.0e})")
        rows.append(row)
    caption = f"Deviation at step 10 → step {last}, largest over seeds, float64; predictions in brackets"
    html = table(caption, ["update rule", "mirrored, tanh", "proportional, ReLU"], rows)
    return Html(html, "\n".join(lines))


def drift_figure(frame: pd.DataFrame) -> Figure:
    """Drift off the level sets against the learning rate, a line a seed, with slope one for comparison."""
    figure, ax = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    rows = frame[(frame["task"] == LEVEL) & (frame["metric"] == "drift")].assign(
        rate=lambda f: f["method"].astype(float)
    )
    for i, (_, run) in enumerate(rows.groupby("seed")):
        run = run.sort_values("rate")
        ax.plot(
            run["rate"],
            run["value"],
            "o-",
            color=COLOURS["blue"],
            lw=1,
            ms=4,
            label=None if i else "measured, one line a seed",
        )
    middle = rows.groupby("rate")["value"].median()
    ax.plot(
        middle.index,
        middle.iloc[0] * middle.index / middle.index[0],
        color=COLOURS["black"],
        ls="--",
        lw=1.2,
        label="proportional to the rate",
    )
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="largest drift of $Q_u$")
    ax.legend()
    return figure
