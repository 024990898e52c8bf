"""Figures of the chapters on streams: curves against the task, layers, co-evolution, scatters, bars, correlations.

All take tidy frames of `experiments.continual` (columns arch, seed, method, step, layer, metric, value; step is the
task's number). `methods` maps a method to its (label, colour, optional line style), as in `style.curves`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.experiments.continual_reading import select, wide
from lop_utils.figures.style import COLOURS, curves

LABELS = {
    "online_accuracy": "online accuracy",
    "accuracy": "accuracy at the task's end",
    "loss": "loss at the task's end",
    "test_accuracy": "test accuracy",
    "dead": "dead share",
    "frozen": "frozen share",
    "saturated": "saturated share",
    "duplicate": "duplicate share",
    "effective_rank": "effective rank",
    "weight_norm": "weight norm",
    "pre_activation_sd": "pre-activation sd",
}


def curve(
    ax: Axes,
    frame: pd.DataFrame,
    metric: str,
    *,
    methods: Mapping[str, tuple],
    layer: str | None = None,
    title: str = "",
    log: bool = False,
) -> None:
    """One metric against the task: mean over seeds and its 95% bootstrap interval; fresh networks as points.

    Where runs have diverged a cross at the lower edge marks the first such task of each method.
    """
    rows = select(frame, metric, layer=layer)
    lines = {name: style for name, style in methods.items() if not name.startswith("fresh")}
    curves(ax, rows, methods=lines, ylabel=LABELS.get(metric, metric), xlabel="task", title=title)
    for name, (label, colour, *_) in methods.items():
        if name.startswith("fresh") and len(points := rows[rows["method"] == name]):
            found = summarise(points, ["step"])
            error = [found["mean"] - found["low"], found["high"] - found["mean"]]
            ax.errorbar(found["step"], found["mean"], error, fmt="o", ms=5, color=colour, label=label, capsize=2)
    gone = select(frame, "diverged")
    for name, part in gone[gone["value"] > 0].groupby("method"):
        if name in methods:
            ax.plot([part["step"].min()], [0.02], "X", color=methods[name][1], transform=ax.get_xaxis_transform(), ms=9)
    if log:
        ax.set_yscale("log")


def grid(
    frame: pd.DataFrame, metrics: Sequence[str], *, methods: Mapping[str, tuple], columns: int = 4, height: float = 2.6
) -> Figure:
    """A panel for each metric, all methods in each, one legend; shares and accuracies on the axis from 0 to 1."""
    rows = -(-len(metrics) // columns)
    size = (2.75 * columns, height * rows + 0.3)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        curve(ax, frame, metric, methods=methods, log=metric in ("loss", "weight_norm", "pre_activation_sd"))
        _unit(ax, metric)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    legend_below(figure, axes.flat[0])
    return figure


def by_setting(
    frames: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, methods: Mapping[str, tuple], height: float = 2.2
) -> Figure:
    """One column a setting (title -> frame), one row a metric."""
    size = (2.6 * len(frames) + 0.4, height * len(metrics) + 0.4)
    figure, axes = plt.subplots(
        len(metrics), len(frames), figsize=size, layout="constrained", squeeze=False, sharey="row", sharex="col"
    )
    for column, (title, frame) in zip(axes.T, frames.items(), strict=True):
        for ax, metric in zip(column, metrics, strict=True):
            curve(ax, frame, metric, methods=methods, title=title if metric == metrics[0] else "")
            _unit(ax, metric)
            ax.set_xlabel("task" if metric == metrics[-1] else "")
    legend_below(figure, axes[0, 0])
    return figure


def layers(ax: Axes, frame: pd.DataFrame, metric: str, *, names: Sequence[str] | None = None, title: str = "") -> None:
    """One metric against the task, a line for each layer from input (dark) to output (light); means over seeds."""
    rows = frame[(frame["metric"] == metric) & ~frame["layer"].isin(["mean", "all"])]
    names = list(rows["layer"].unique()) if names is None else [name for name in names if name in set(rows["layer"])]
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, max(len(names), 2)))
    for name, shade in zip(names, shades, strict=False):
        means = rows[rows["layer"] == name].groupby("step")["value"].mean()
        ax.plot(means.index, means, color=shade, label=name)
    ax.set(xlabel="task", ylabel=LABELS.get(metric, metric), title=title)
    _unit(ax, metric)


def layers_figure(frames: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, height: float = 2.3) -> Figure:
    """One column a setting, one row a metric, lines by layer; each column has a legend of its own."""
    size = (2.35 * len(frames) + 0.3, height * len(metrics) + 0.3)
    figure, axes = plt.subplots(len(metrics), len(frames), figsize=size, layout="constrained", squeeze=False)
    for column, (title, frame) in zip(axes.T, frames.items(), strict=True):
        for ax, metric in zip(column, metrics, strict=True):
            layers(ax, frame, metric, title=title if metric == metrics[0] else "")
            ax.set_xlabel("task" if metric == metrics[-1] else "")
            ax.set_ylabel(ax.get_ylabel() if ax in axes[:, 0] else "")
        column[-1].legend(
            fontsize=6.5, ncols=2, handlelength=1.0, columnspacing=0.7, loc="upper center", bbox_to_anchor=(0.5, -0.3)
        )
    return figure


def heat(ax: Axes, frame: pd.DataFrame, metric: str, *, title: str = "", top: float = 1.0) -> None:
    """One metric by layer (rows, input at the top) and task (columns), mean over seeds; colour from 0 to `top`."""
    rows = frame[(frame["metric"] == metric) & ~frame["layer"].isin(["mean", "all"])]
    order = list(rows["layer"].unique())
    table = rows.pivot_table(index="layer", columns="step", values="value").loc[order]
    image = ax.imshow(table, aspect="auto", cmap="magma_r", vmin=0, vmax=top, interpolation="nearest")
    ticks = np.linspace(0, table.shape[1] - 1, min(5, table.shape[1])).round().astype(int)
    ax.set_xticks(ticks, labels=[str(table.columns[i]) for i in ticks])
    ax.set_yticks(range(len(order)), labels=order, fontsize=7)
    ax.set(xlabel="task", title=title)
    ax.grid(False)
    ax.figure.colorbar(image, ax=ax, label=LABELS.get(metric, metric), shrink=0.9)


def coevolution(
    frames: Mapping[str, pd.DataFrame], *, method: str = "none", left: str = "effective_rank", right: Sequence[str]
) -> Figure:
    """Two axes in each panel (one a setting): `left`, and the metrics `right`; means and bands over seeds."""
    size = (2.5 * len(frames) + 0.3, 2.8)
    figure, axes = plt.subplots(1, len(frames), figsize=size, layout="constrained", squeeze=False)
    colours = [COLOURS["orange"], COLOURS["purple"]]
    for ax, (title, frame) in zip(axes[0], frames.items(), strict=True):
        curves(
            ax, select(frame, left), methods={method: (LABELS[left], COLOURS["blue"])}, title=title, xlabel="task",
            ylabel=LABELS[left] if ax is axes[0, 0] else "",
        )  # fmt: skip
        other = ax.twinx()
        for metric, colour in zip(right, colours, strict=False):
            curves(other, select(frame, metric), methods={method: (LABELS[metric], colour, "--")}, ylabel="share")
        other.set(ylim=(0, None), xlabel="", ylabel="share" if ax is axes[0, -1] else "")
        other.grid(False)
        other.spines["right"].set_visible(True)
        ax.set_ylim(0, None)
        handles = [*ax.get_lines(), *other.get_lines()]
        if ax is axes[0, 0]:
            figure.legend(handles, [h.get_label() for h in handles], loc="outside lower center", ncols=3)
    return figure


def scatter(
    frames: Mapping[str, pd.DataFrame],
    *,
    method: str = "none",
    x: str = "duplicate",
    y: str = "dead",
    colour: str = "accuracy",
) -> Figure:
    """A panel a setting, a point a run and task: two symptoms on the axes, accuracy at that task's end as colour."""
    size = (2.3 * len(frames) + 0.9, 2.7)
    figure, axes = plt.subplots(1, len(frames), figsize=size, layout="constrained", squeeze=False)
    for ax, (title, frame) in zip(axes[0], frames.items(), strict=True):
        table = wide(frame, (x, y, colour), method=method)
        points = ax.scatter(
            table[x], table[y], c=table[colour], cmap="viridis", norm=Normalize(0, 1), s=14, alpha=0.85, linewidths=0
        )
        ax.set(xlabel=LABELS[x], ylabel=LABELS[y] if ax is axes[0, 0] else "", title=title)
    figure.colorbar(points, ax=axes[0, -1], label=LABELS[colour])
    return figure


def bars(
    ax: Axes, table: pd.DataFrame, *, groups: Sequence[str], methods: Mapping[str, tuple], ylabel: str, title: str = ""
) -> None:
    """Grouped bars with 95% intervals over seeds; `table` has columns group, method, value (one row a seed)."""
    width = 0.8 / len(methods)
    for i, (name, (label, colour, *_)) in enumerate(methods.items()):
        rows = table[(table["method"] == name) & table["group"].isin(groups)]
        if rows.empty:
            continue
        found = summarise(rows, ["group"]).set_index("group").reindex(groups)
        at = np.arange(len(groups)) + (i - (len(methods) - 1) / 2) * width
        ax.bar(at, found["mean"], width * 0.92, color=colour, label=label)
        error = np.array([found["mean"] - found["low"], found["high"] - found["mean"]])
        ax.errorbar(at, found["mean"], error, fmt="none", ecolor=COLOURS["black"], elinewidth=1, capsize=2)
    ax.set_xticks(range(len(groups)), labels=groups)
    ax.set(ylabel=ylabel, title=title)
    ax.grid(axis="x", visible=False)


def correlations(
    tables: Mapping[str, pd.DataFrame], *, labels: Mapping[str, str], versions: Mapping[str, tuple[str, str]]
) -> Figure:
    """A panel a setting (title -> `experiments.prediction.correlate`): each predictor's correlations with intervals.

    `labels` orders and names the predictors, `versions` maps columns kind of the table to (label, colour).
    """
    size = (1.85 * len(tables) + 2.0, 0.27 * len(labels) + 1.2)
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False, sharey=True)
    at = {name: i for i, name in enumerate(reversed(labels))}
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for j, (kind, (label, colour)) in enumerate(versions.items()):
            rows = table[(table["kind"] == kind) & table["predictor"].isin(at)]
            y = rows["predictor"].map(at) + 0.3 * ((len(versions) - 1) / 2 - j)
            error = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            ax.errorbar(rows["value"], y, xerr=error, fmt="o", ms=4, color=colour, elinewidth=1, label=label)
        ax.axvline(0, color=COLOURS["grey"], lw=1)
        ax.set(xlim=(-1.05, 1.05), xlabel="rank correlation", title=title)
        ax.set_yticks(list(at.values()), labels=[labels[name] for name in at])
    legend_below(figure, axes[0, 0])
    return figure


def legend_below(figure: Figure, ax: Axes, *, columns: int = 5) -> None:
    """One legend for the whole figure, under it, from the entries of one panel."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(columns, max(len(names), 1)))


def _unit(ax: Axes, metric: str) -> None:
    if metric.endswith("accuracy") or metric in ("dead", "frozen", "saturated", "duplicate"):
        ax.set_ylim(-0.03, 1.03)
