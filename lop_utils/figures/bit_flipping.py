"""Figures of the chapters on the bit-flipping stream."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.experiments.online_summary import binned
from lop_utils.figures.style import COLOURS, curves

METHODS = {
    "bp": ("backpropagation", COLOURS["blue"]),
    "cbp": ("continual backpropagation", COLOURS["orange"]),
    "cbp_as_coded": ("CBP, the paper's code", COLOURS["purple"], "--"),
    "cbp_dohare": ("CBP, Dohare et al.'s code", COLOURS["gold"], "-."),
    "linear": ("linear learner", COLOURS["grey"], ":"),
    "fresh": ("fresh network", COLOURS["green"]),
}
RANK = ("effective_rank", "after", "effective rank")


def chosen(frame: pd.DataFrame, metric: str, layer: str = "all", *, width: int | None = None) -> pd.DataFrame:
    """The rows of one metric and layer; with `width`, of this width, and the linear learner's."""
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
    return rows if width is None else rows[rows["arch"].isin([f"width {width}", "linear"])]


def opening_figure(frame: pd.DataFrame, *, width: int, bins: int = 50) -> Figure:
    """Loss and effective rank of a network that never stops learning, a linear learner and fresh networks beside it."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.7), layout="constrained")
    size, losses = _bin(frame, bins), chosen(frame, "loss", width=width)
    named = {name: METHODS[name] for name in ("bp", "linear")}
    curves(axes[0], binned(losses, size), methods=named, ylabel="mean squared error", title="It learns worse and worse")
    _fresh(axes[0], losses)
    metric, layer, label = RANK
    ranks = binned(chosen(frame, metric, layer, width=width), size)
    curves(axes[1], ranks, methods={"bp": METHODS["bp"]}, ylabel=label, title="Its representation collapses")
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(bottom=0)
    axes[0].legend()
    return _in_millions(figure, frame)


def widths_figure(frame: pd.DataFrame, *, widths: Sequence[int], bins: int = 50) -> Figure:
    """Loss (above) and effective rank (below) against time, one column a width, one line a method."""
    figure, axes = plt.subplots(2, len(widths), figsize=(11, 5.6), layout="constrained", sharex=True, squeeze=False)
    names = {name: style for name, style in METHODS.items() if name != "fresh"}
    metric, layer, label = RANK
    for column, width in enumerate(widths):
        first, size = ("" if column else "mean squared error"), _bin(frame, bins)
        losses = chosen(frame, "loss", width=width)
        curves(axes[0, column], binned(losses, size), methods=names, ylabel=first, title=f"{width} units", xlabel="")
        _fresh(axes[0, column], losses)
        ranks = binned(chosen(frame, metric, layer, width=width), size)
        curves(axes[1, column], ranks, methods=names, ylabel="" if column else label)
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_ylim(bottom=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return _in_millions(figure, frame)


def one_width_figure(frame: pd.DataFrame, *, width: int, bins: int = 50) -> Figure:
    """Loss, effective rank and dead units of one width against time, one line a method."""
    figure, axes = plt.subplots(1, 3, figsize=(10.4, 3.4), layout="constrained")
    panels = [("loss", "all", "mean squared error"), RANK, ("dead", "after", "share of dead units")]
    for ax, (metric, layer, label) in zip(axes, panels, strict=True):
        rows = binned(chosen(frame, metric, layer, width=width), _bin(frame, bins))
        curves(ax, rows, methods={name: METHODS[name] for name in ("bp", "cbp", "linear")}, ylabel=label)
        ax.set_ylim(bottom=0)
    axes[2].set_ylim(0, 1.03)
    axes[1].set_title(f"{width} hidden units")
    axes[0].legend()
    return _in_millions(figure, frame)


def variants_figure(frame: pd.DataFrame, *, widths: Sequence[int], bins: int = 50) -> Figure:
    """Loss of the variants of continual backpropagation against time, one panel a width."""
    figure, axes = plt.subplots(1, len(widths), figsize=(3.9 * len(widths), 3.7), layout="constrained", squeeze=False)
    names = {name: METHODS[name] for name in ("bp", "cbp_as_coded", "cbp_dohare", "cbp")}
    for column, (ax, width) in enumerate(zip(axes[0], widths, strict=True)):
        rows = binned(chosen(frame, "loss", width=width), _bin(frame, bins))
        curves(ax, rows, methods=names, ylabel="" if column else "mean squared error", title=f"{width} units")
        ax.set_ylim(bottom=0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return _in_millions(figure, frame)


def symptoms_figure(frame: pd.DataFrame, *, widths: Sequence[int], bins: int = 50) -> Figure:
    """Four symptoms of plain backpropagation against time, one line a width."""
    panels = [
        ("dead_book", "after", "share of units", "Dead units"),
        (*RANK[:2], "effective rank", "Rank of the activations"),
        ("duplicate", "before", "share of units", "Duplicates before the ReLU"),
        ("outgoing", "all", "mean size", "Outgoing weights"),
    ]
    shades = dict(zip(widths, (COLOURS[name] for name in ("sky", "blue", "purple", "black")), strict=False))
    methods = {f"width {width}": (f"{width} units", colour) for width, colour in shades.items()}
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    for ax, (metric, layer, label, title) in zip(axes, panels, strict=True):
        rows = chosen(frame, metric, layer)
        rows = binned(rows[rows["method"] == "bp"], _bin(frame, bins))
        curves(ax, rows.assign(method=rows["arch"]), methods=methods, ylabel=label, title=title)
        ax.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return _in_millions(figure, frame)


def bars_figure(frame: pd.DataFrame, *, widths: Sequence[int], after: float, methods: Sequence[str]) -> Figure:
    """Loss, rank and duplicates at the end of the stream by width, one bar a method, with intervals over seeds."""
    panels = [
        ("loss", "all", "mean squared error"),
        (*RANK[:2], "effective rank"),
        ("duplicate", "after", "duplicates after the ReLU"),
        ("duplicate", "before", "duplicates before the ReLU"),
    ]
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.5), layout="constrained")
    late = frame[(frame["step"] > after) & frame["method"].isin(methods)]
    for ax, (metric, layer, label) in zip(axes, panels, strict=True):
        rows = chosen(late, metric, layer).groupby(["arch", "method", "seed"], as_index=False)["value"].mean()
        found = summarise(rows, ["method", "arch"]).set_index(["method", "arch"])
        for number, name in enumerate(methods):
            part = found.loc[name].loc[[f"width {width}" for width in widths]]
            x = np.arange(len(widths)) + (number - (len(methods) - 1) / 2) * 0.8 / len(methods)
            errors = [part["mean"] - part["low"], part["high"] - part["mean"]]
            ax.bar(x, part["mean"], 0.76 / len(methods), yerr=errors, color=METHODS[name][1], label=METHODS[name][0],
                   hatch=("", "//", "..", "xx")[number], edgecolor="white", error_kw={"lw": 1.2})  # fmt: skip
        ax.set(title=label, xlabel="hidden units", xticks=range(len(widths)), xticklabels=widths)
        ax.grid(False, axis="x")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods))
    return figure


def ranking_figure(table: pd.DataFrame, *, xlabel: str, marks: Mapping[str, float]) -> Figure:
    """One row a method (table: index names; columns mean, low, high, setting), sorted; dotted lines at `marks`."""
    table = table.sort_values("mean", ascending=False)
    figure, ax = plt.subplots(figsize=(8.2, 0.36 * len(table) + 1.1), layout="constrained")
    y = np.arange(len(table))
    errors = [table["mean"] - table["low"], table["high"] - table["mean"]]
    ax.errorbar(table["mean"], y, xerr=errors, fmt="o", color=COLOURS["blue"], capsize=3)
    labels = [f"{name}  ({setting})" for name, setting in zip(table.index, table["setting"], strict=True)]
    ax.set(yticks=y, yticklabels=labels, xlabel=xlabel, ylim=(-0.7, len(table) - 0.1))
    ax.set_xlim(left=0)
    for (name, value), colour in zip(marks.items(), ("green", "grey", "black"), strict=False):
        ax.axvline(value, color=COLOURS[colour], ls=":", lw=1.6)
        ax.annotate(name, (value, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9)
    return figure


def _bin(frame: pd.DataFrame, bins: int) -> int:
    return max(1, int(frame["step"].max()) // bins)


def _fresh(ax: Axes, losses: pd.DataFrame) -> None:
    """Fresh networks as points at their last step: the mean over seeds with its interval."""
    if "fresh" in set(losses["method"]):
        found = fresh_ends(losses)
        errors = [found["mean"] - found["low"], found["high"] - found["mean"]]
        label, colour = METHODS["fresh"]
        ax.errorbar(found["step"], found["mean"], yerr=errors, fmt="o", color=colour, capsize=3, label=label, zorder=5)


def fresh_ends(losses: pd.DataFrame) -> pd.DataFrame:
    """Loss of fresh networks over the second half of their lives: mean, low and high over seeds at their last steps."""
    rows = losses[losses["method"] == "fresh"]
    gaps = np.diff(np.sort(rows["step"].unique()))
    bursts = np.split(np.sort(rows["step"].unique()), np.flatnonzero(gaps > gaps.min()) + 1)
    ends = {step: burst[-1] for burst in bursts for step in burst[len(burst) // 2 :]}
    late = rows[rows["step"].isin(ends)]
    late = late.assign(step=late["step"].map(ends)).groupby(["seed", "step"], as_index=False)["value"].mean()
    return summarise(late, ["step"])


def _in_millions(figure: Figure, frame: pd.DataFrame) -> Figure:
    """Label the time axes in millions of steps when the stream is that long."""
    if frame["step"].max() >= 1e6:
        for ax in figure.axes:
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
            if ax.get_xlabel():
                ax.set_xlabel("steps (millions)")
    return figure
