"""Figures of the chapter on the tension between generalising now and learning later."""

from collections.abc import Mapping, Sequence
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.experiments.tension_table import loss_to_fresh, of_knobs
from lop_utils.figures.style import COLOURS

KNOBS = {
    "none": ("usual", COLOURS["black"], "*"),
    "scale": ("initial scale", COLOURS["orange"], "o"),
    "decay": ("weight decay", COLOURS["purple"], "s"),
    "l2": ("L2", COLOURS["blue"], "D"),
    "noise": ("label noise", COLOURS["green"], "^"),
    "width": ("width", COLOURS["gold"], "P"),
    "length": ("training length", COLOURS["sky"], "v"),
}
SOURCES = {"digits": "digits", "mnist1d": "MNIST-1D"}
MEASURES = {
    "test_a": "test accuracy on A",
    "online_b": "online accuracy on B",
    "test_b": "test accuracy on B",
    "online_random": "online accuracy, random labels",
}
_SHOWN = {"rank": "effective rank after A", **MEASURES}
_LOOK = {"digits": (COLOURS["blue"], "o"), "mnist1d": (COLOURS["orange"], "s")}
USUAL = {"scale": 1.0, "decay": 0.0, "l2": 0.0, "noise": 0.0, "width": 64.0, "length": 1.0}


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of every measure, one row a setting, with its knob and value."""
    return rows.drop(columns=["seed", "kind"]).groupby(["setting", "knob", "value"], sort=False).mean().reset_index()


def _points(ax: Axes, rows: pd.DataFrame, x: str, y: str, *, hollow: bool = False) -> None:
    for knob, (_, colour, marker) in KNOBS.items():
        part = rows[rows["knob"] == knob]
        size = 13 if knob == "none" else 7
        face = "none" if hollow else colour
        ax.plot(part[x], part[y], marker, color=colour, mfc=face, ms=size, zorder=4 if knob == "none" else 3)


def _legend(figure: Figure, knobs: Sequence[str] = tuple(KNOBS), *, fresh: str = "") -> None:
    handles = [
        plt.Line2D([], [], ls="", color=KNOBS[k][1], marker=KNOBS[k][2], ms=11 if k == "none" else 7, label=KNOBS[k][0])
        for k in knobs
    ]
    if fresh:
        handles.append(plt.Line2D([], [], ls="", color=COLOURS["grey"], marker="o", mfc="none", label=fresh))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def answer_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Rank after A against test accuracy on A, online accuracy on B and on random labels; a point a setting."""
    shown = ("test_a", "online_b", "online_random")
    titles = ("The task it has learned", "A new task", "Random labels")
    figure, axes = plt.subplots(len(tables), 3, figsize=(11, 3.2 * len(tables) + 0.5), layout="constrained")
    for row, (source, rows) in zip(axes, tables.items(), strict=True):
        learned, fresh = (_means(rows[rows["kind"] == kind]) for kind in ("learned", "fresh"))
        for ax, measure, title in zip(row, shown, titles, strict=True):
            _points(ax, learned, "rank", measure)
            if measure != "test_a":
                level = fresh[fresh["setting"] == "usual"][measure].iloc[0]
                ax.axhline(level, color=COLOURS["grey"], ls="--", lw=1.2)
                ax.annotate("fresh, usual", (0.99, level), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                            fontsize=8, color=COLOURS["grey"])  # fmt: skip
            ax.set(ylabel=MEASURES[measure], title=f"{title} ({SOURCES[source]})")
    for ax in axes[-1]:
        ax.set_xlabel("effective rank after task A (mean of hidden layers)")
    _legend(figure)
    return figure


def trade_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Test accuracy on A against online accuracy on random labels, a path for each knob from one end to the other."""
    figure, axes = plt.subplots(1, len(tables), figsize=(11, 4.4), layout="constrained")
    for ax, (source, rows) in zip(axes, tables.items(), strict=True):
        for knob, (_, colour, marker) in list(KNOBS.items())[1:]:
            part = _means(of_knobs(rows, [knob]))
            part.loc[part["knob"] == "none", "value"] = USUAL[knob]
            part = part.sort_values("value")
            ax.plot(part["test_a"], part["online_random"], "-", color=colour, lw=1.4)
            ends = part[part["knob"] == knob]
            ax.plot(ends["test_a"], ends["online_random"], marker, color=colour, ms=7)
            if source == "mnist1d":
                _label_ends(ax, part, colour)
        _points(ax, _means(of_knobs(rows, [])), "test_a", "online_random")
        ax.set(xlabel="test accuracy on A", ylabel=MEASURES["online_random"], title=SOURCES[source])
    _legend(figure)
    return figure


def _label_ends(ax: Axes, part: pd.DataFrame, colour: str) -> None:
    """The knob's value at the ends of its path, on the side that leads away from the usual setting."""
    usual = part[part["knob"] == "none"].iloc[0]
    for _, end in part[part["knob"] != "none"].iloc[[0, -1]].drop_duplicates().iterrows():
        right, up = end["test_a"] >= usual["test_a"], end["online_random"] >= usual["online_random"]
        ax.annotate(f"{end['value']:g}", (end["test_a"], end["online_random"]), fontsize=8, color=colour,
                    xytext=(5 if right else -5, 4 if up else -4), textcoords="offset points",
                    ha="left" if right else "right", va="bottom" if up else "top")  # fmt: skip


def gap_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """The plasticity gap of every setting, its fresh start minus itself after A, on what comes next; 95% intervals."""
    measures = ("online_b", "test_b", "online_random")
    names = [name for name in KNOBS if name != "none"]
    first = next(iter(tables.values()))
    order = first.drop_duplicates("setting").sort_values(
        "knob", key=lambda k: k.map(["none", *names].index), kind="stable"
    )
    settings = list(order["setting"])[::-1]
    figure, axes = plt.subplots(1, 3, figsize=(11, 0.27 * len(settings) + 1.6), layout="constrained", sharey=True)
    for ax, measure in zip(axes, measures, strict=True):
        for shift, (source, (colour, marker)) in zip((0.15, -0.15), _LOOK.items(), strict=True):
            for place, setting in enumerate(settings):
                values = loss_to_fresh(tables[source], setting, measure)
                found = summarise(pd.DataFrame({"all": 0, "value": values}), ["all"]).iloc[0]
                ax.plot([found["low"], found["high"]], [place + shift] * 2, color=colour, lw=2)
                ax.plot(found["mean"], place + shift, marker, color=colour, ms=5)
        ax.axvline(0, color=COLOURS["black"], lw=1)
        ax.set(xlabel="fresh minus learned", title=MEASURES[measure])
    axes[0].set_yticks(range(len(settings)), settings)
    handles = [plt.Line2D([], [], color=c, marker=m, label=SOURCES[source]) for source, (c, m) in _LOOK.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def norm_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Online accuracy on random labels: left against rank at equal norms, right against the norm at equal rank."""
    figure, axes = plt.subplots(1, 2 * len(tables), figsize=(11.5, 3.7), layout="constrained", sharey=True)
    knobs = ("none", "scale", "decay", "l2", "noise", "length")
    for pair, (source, rows) in zip((axes[:2], axes[2:]), tables.items(), strict=True):
        _points(pair[0], _means(rows[rows["kind"] == "rescaled"]), "rank", "online_random")
        pair[0].set(xlabel="effective rank after A", title=f"{SOURCES[source]}: equal norms")
        fresh = rows[(rows["kind"] == "fresh") & rows["knob"].isin(["none", "scale"])]
        _points(pair[1], _means(fresh), "norm", "online_random", hollow=True)
        pair[1].set(xlabel="weight norm", title="fresh: equal rank")
    axes[0].set_ylabel(MEASURES["online_random"])
    _legend(figure, knobs, fresh="fresh")
    return figure


def knob_spreads(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What `knob_figure` draws, of all knobs: mean and range (every, low, high) of each measure by the knob's value.

    Columns source, knob, kind, measure, at. Each seed's own level is taken out; the usual setting is one of the values.
    """
    parts = []
    for (source, rows), knob, kind in product(tables.items(), USUAL, ("learned", "fresh")):
        rows = of_knobs(rows, [knob], kind=kind)
        own = rows.groupby("seed")[list(_SHOWN)].transform("mean")
        left = rows[list(_SHOWN)] - own + rows[list(_SHOWN)].mean()
        left["at"] = rows["value"].where(rows["knob"] != "none", USUAL[knob])
        parts.append(left.melt("at", var_name="measure").assign(source=source, knob=knob, kind=kind))
    return summarise(pd.concat(parts), ["source", "knob", "kind", "measure", "at"], statistic="every")


def knob_figure(spreads: pd.DataFrame, knob: str) -> Figure:
    """One knob turned through its values: rank and four accuracies, after A (full) and from its fresh start (dashed).

    Seeds differ in their tasks: a band shows the range over seeds after each seed's own level is taken out.
    """
    figure, axes = plt.subplots(1, len(_SHOWN), figsize=(12, 2.9), layout="constrained")
    for ax, (measure, title) in zip(axes, _SHOWN.items(), strict=True):
        chosen = spreads[(spreads["knob"] == knob) & (spreads["measure"] == measure)]
        for (source, kind), part in chosen.groupby(["source", "kind"], sort=False):
            if kind == "fresh" and measure == "test_a":
                continue
            colour, marker = _LOOK[source]
            line, face = ("-", colour) if kind == "learned" else ("--", "white")
            ax.plot(part["every"].to_numpy(), line, marker=marker, color=colour, mfc=face)
            ax.fill_between(range(len(part)), part["low"], part["high"], color=colour, alpha=0.15, lw=0)
        values = sorted(chosen["at"].unique())
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        ax.set_title(title.replace(", ", ",\n"), fontsize=9)
        ax.set_xlabel(KNOBS[knob][0])
    handles = [plt.Line2D([], [], color=c, marker=m, label=SOURCES[source]) for source, (c, m) in _LOOK.items()]
    handles.append(plt.Line2D([], [], color=COLOURS["grey"], ls="--", marker="o", mfc="white", label="fresh start"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def warm_figure(frame: pd.DataFrame) -> Figure:
    """Test accuracy after half of the data, and after all of them from four starts; mean and 95% interval."""
    styles = {
        "half": ("half of the data only", COLOURS["grey"], "x"),
        "warm": ("warm start", COLOURS["orange"], "o"),
        "fresh": ("fresh, same steps on all data", COLOURS["black"], "s"),
        "fresh, longer": ("fresh, same steps altogether", COLOURS["sky"], "D"),
        "shrunk": ("shrink and perturb", COLOURS["green"], "^"),
    }
    found = summarise(frame[frame["metric"] == "test_accuracy"], ["task", "method"])
    settings = list(frame["task"].unique())
    figure, ax = plt.subplots(figsize=(8.5, 3.9), layout="constrained")
    for shift, (method, (label, colour, marker)) in enumerate(styles.items()):
        part = found[found["method"] == method].set_index("task").loc[settings]
        at = [place + (shift - 2) * 0.13 for place in range(len(settings))]
        ax.vlines(at, part["low"], part["high"], color=colour, lw=2)
        ax.plot(at, part["mean"], marker, color=colour, ms=7, label=label)
    ax.set_xticks(range(len(settings)), settings)
    ax.set_ylabel("test accuracy (MNIST-1D)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
