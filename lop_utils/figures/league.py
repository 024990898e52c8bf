"""Figures of the league: the standings with what they cost, what tuning saw, and the curves behind them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import interval, summarise
from lop_utils.experiments.league import JUDGED
from lop_utils.experiments.league_entrants import ENTRANTS, MODEL, NOISE, OPTIMIZER, PULL, REDRAW
from lop_utils.experiments.league_reading import order, tuning, values
from lop_utils.figures.style import COLOURS, curves

FAMILIES = {
    OPTIMIZER: COLOURS["grey"],
    MODEL: COLOURS["green"],
    PULL: COLOURS["purple"],
    NOISE: COLOURS["gold"],
    REDRAW: COLOURS["blue"],
}


def label(method: str) -> str:
    """An entrant's label; fresh networks have one too."""
    return "fresh network each task" if method == "fresh" else ENTRANTS[method].label


def league_table(table: pd.DataFrame, costs: pd.DataFrame | None = None) -> Figure:
    """Entrants from best to worst: late accuracy with a dot a seed, mean and 95% interval; beside it the cost a step.

    `table` is `league_reading.standings`, `costs` the frame of `league_cost`. The band is the fresh networks' interval.
    """
    names = [name for name in order(table) if name != "fresh"]
    columns = 1 if costs is None else 2
    figure, axes = plt.subplots(
        1, columns, figsize=(4.6 + 2.6 * (columns - 1), 0.27 * len(names) + 1.5), layout="constrained", sharey=True,
        squeeze=False, width_ratios=[2.2, 1][:columns],
    )  # fmt: skip
    _accuracies(axes[0, 0], table, names)
    if costs is not None:
        _costs(axes[0, 1], costs, names)
    axes[0, 0].set_yticks(range(len(names)), labels=[label(name) for name in names])
    axes[0, 0].invert_yaxis()
    handles = [plt.Line2D([], [], color=colour, marker="o", ls="", label=family) for family, colour in FAMILIES.items()]
    handles.append(plt.Rectangle((0, 0), 1, 1, color=COLOURS["orange"], alpha=0.25, label="fresh network"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _accuracies(ax: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    fresh = interval(values(table, "fresh", "late_accuracy"))
    ax.axvspan(fresh.low, fresh.high, color=COLOURS["orange"], alpha=0.25, lw=0)
    ax.axvline(fresh.estimate, color=COLOURS["orange"], lw=1.2)
    for at, name in enumerate(names):
        seeds = values(table, name, "late_accuracy")
        colour, found = FAMILIES[ENTRANTS[name].family], interval(seeds)
        ax.plot(seeds, [at] * len(seeds), "o", ms=3, color=colour, alpha=0.45, mew=0)
        ax.plot([found.low, found.high], [at, at], color=colour, lw=2)
        ax.plot(found.estimate, at, "o", color=colour, ms=6)
    ax.set(xlim=(0, 1.02), xlabel="accuracy at the task's end, last tasks", title="what is left of learning")
    ax.grid(axis="y", visible=False)


def _costs(ax: Axes, costs: pd.DataFrame, names: Sequence[str]) -> None:
    for at, name in enumerate(names):
        ratios = costs.loc[costs["method"] == name, "value"].tolist()
        if ratios:
            found, colour = interval(ratios, "median"), FAMILIES[ENTRANTS[name].family]
            ax.plot([found.low, found.high], [at, at], color=colour, lw=2)
            ax.plot(found.estimate, at, "o", color=colour, ms=5)
    ax.axvline(1, color=COLOURS["grey"], lw=1)
    ax.set(xlabel="time of a step / time without", title="what it costs", xlim=(0.8, None))
    ax.grid(axis="y", visible=False)


def league_curves(frame: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Accuracy at the end of each judged task for some entrants, mean and 95% interval; fresh networks as points."""
    rows = frame[(frame["layer"] == JUDGED) & (frame["metric"] == "accuracy")]
    figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    palette = [COLOURS[name] for name in ("black", "blue", "green", "purple", "gold", "sky")]
    shown = {name: (label(name), palette[i % len(palette)], "-" if i < 6 else "--") for i, name in enumerate(methods)}
    curves(ax, rows, methods=shown, ylabel="accuracy at the task's end", xlabel="task")
    fresh = summarise(rows[rows["method"] == "fresh"], ["step"])
    error = [fresh["mean"] - fresh["low"], fresh["high"] - fresh["mean"]]
    ax.errorbar(fresh["step"], fresh["mean"], error, fmt="o", ms=4, color=COLOURS["orange"], label=label("fresh"))
    ax.set_ylim(0, 1.02)
    ax.legend(fontsize=8, ncols=2)
    return figure


def league_tuning(frame: pd.DataFrame, *, late: int) -> Figure:
    """Late accuracy of every setting that tuning tried, an entrant a row; the chosen one is filled."""
    seen = tuning(frame, late=late)
    names = list(dict.fromkeys(seen["method"]))
    figure, ax = plt.subplots(figsize=(6.4, 0.42 * len(names) + 1.1), layout="constrained")
    for at, name in enumerate(names):
        rows = seen[seen["method"] == name].sort_values("value")
        colour = FAMILIES[ENTRANTS[name].family]
        for shift, row in zip(np.linspace(-0.28, 0.28, len(rows)), rows.itertuples(), strict=True):
            face = colour if row.chosen else "none"
            ax.plot(row.late_accuracy, at + shift, "o", ms=5, mec=colour, mfc=face)
            ax.annotate(
                f"{row.value:g}",
                (row.late_accuracy, at + shift),
                (5, 0),
                textcoords="offset points",
                fontsize=6.5,
                va="center",
            )
    ax.set_yticks(range(len(names)), labels=[f"{label(name)}: {ENTRANTS[name].knob}" for name in names])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.08), xlabel="late accuracy on the tuning seeds")
    ax.grid(axis="y", visible=False)
    return figure
