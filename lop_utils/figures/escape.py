"""Figures of the chapter on recovery by noise: ways out of a clone."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lop_utils.evidence.stats import summarise
from lop_utils.figures.style import COLOURS, curves, lines

METHODS = {
    "base": ("base, half as wide", COLOURS["black"]),
    "sgd": ("clone, SGD", COLOURS["blue"]),
    "label noise": ("clone, label noise", COLOURS["sky"], "--"),
    "noise 0.01 x 0": ("clone, one noisy step", COLOURS["gold"]),
    "noise 0.01 x 1": ("clone, Noisy SGD", COLOURS["orange"]),
    "dropout 0.05": ("clone, dropout 0.05", COLOURS["purple"]),
    "fresh": ("fresh, as wide as the clone", COLOURS["green"], ":"),
}
PANELS = (
    ("r2", "mean", "cloning $R^2$"),
    ("train_loss", "all", "training loss"),
    ("effective_rank_singular_raw", "mean", "effective rank"),
)
ARCHITECTURES = {"mlp": "MLP", "cnn": "CNN", "resnet": "ResNet", "vit": "ViT"}
_ORDERED = ("gold", "orange", "purple", "sky", "grey")
_NAMES = {"sgd": "SGD", "noise 0.01 x 1": "Noisy SGD", "noise 0.01 x 0": "one noisy step", "fresh": "fresh network"}


def select(frame: pd.DataFrame, metric: str, layer: str) -> pd.DataFrame:
    """The rows of one metric and layer."""
    return frame[(frame["metric"] == metric) & (frame["layer"] == layer)]


def at_end(frame: pd.DataFrame, metric: str, layer: str = "all", *, share: float = 1.0) -> pd.DataFrame:
    """Values at the last probe not after `share` of the steps: seeds as rows, methods as columns.

    >>> rows = {"metric": "r2", "layer": "all", "step": [0, 9], "seed": 0, "method": "sgd", "value": [1, 2]}
    >>> at_end(pd.DataFrame(rows), "r2").to_numpy().tolist()
    [[2]]
    """
    rows = select(frame, metric, layer)
    step = rows["step"][rows["step"] <= share * rows["step"].max()].max()
    return rows[rows["step"] == step].pivot(index="seed", columns="method", values="value")


def ordered_styles(labels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Method -> (label, colour) for methods that have an order, such as growing noise."""
    return {name: (label, COLOURS[c]) for (name, label), c in zip(labels.items(), _ORDERED, strict=False)}


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95% interval over seeds of all that `curves_figure` can show, by metric, layer, method and step."""
    shown = pd.concat([select(frame, metric, layer) for metric, layer, _ in PANELS])
    return summarise(shown[np.isfinite(shown["value"])], ["metric", "layer", "method", "step"])


def curves_figure(found: pd.DataFrame, *, methods: Mapping = METHODS, titles: Sequence[str] = ("", "", "")) -> Figure:
    """R^2, training loss and effective rank after cloning, one line a method with its interval; of a `summary`."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
    for ax, (metric, layer, label), title in zip(axes, PANELS, titles, strict=True):
        shown = {name: style for name, style in methods.items() if not (metric == "r2" and name == "fresh")}
        lines(ax, select(found, metric, layer), methods=shown)
        ax.set(ylabel=label, title=title, xlabel="steps after cloning")
    axes[0].set_ylim(top=1.02)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def outcome_figure(differences: pd.DataFrame, r2: pd.DataFrame) -> Figure:
    """Loss against the base's, paired by seed, and R^2 at the end: a row a method (columns), a value a seed (rows)."""
    order = differences.mean().sort_values().index[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.32 * len(order) + 1.2), layout="constrained", sharey=True)
    for ax, table, label in zip(
        axes, (differences, r2), ("training loss minus the base's", "cloning $R^2$ at the end"), strict=True
    ):
        long = table.reindex(columns=order).melt(var_name="method", value_name="value").dropna()
        means = summarise(long, ["method"]).set_index("method")
        for row, name in enumerate(order):
            if name in means.index:
                mean, low, high = means.loc[name, ["mean", "low", "high"]]
                below = ax is axes[0] and high < 0
                colour = COLOURS["orange"] if below else COLOURS["black"] if ax is axes[0] else COLOURS["blue"]
                ax.plot([low, high], [row, row], color=colour, lw=2)
                ax.plot(mean, row, "o", color=colour, ms=5)
        ax.set(xlabel=label, yticks=range(len(order)), yticklabels=[_NAMES.get(name, name) for name in order])
    axes[0].axvline(0, color=COLOURS["grey"], lw=1)
    axes[0].set_title("How far below the base?")
    axes[1].set_title("Copies still copies?")
    return figure


def grid_figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Heat maps, noise scale down and noise decay across, a table a panel, with the numbers written in."""
    figure, axes = plt.subplots(1, len(tables), figsize=(5.2 * len(tables), 2.9), layout="constrained", squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        sns.heatmap(table, ax=ax, annot=True, fmt=".2f", cmap="cividis", cbar=False, linewidths=1)
        ax.set(title=title, xlabel="noise decay $\\lambda$", ylabel="noise scale $\\sigma_0$")
        ax.grid(False)
    return figure


def architectures_figure(frames: Mapping[str, pd.DataFrame], *, methods: Mapping) -> Figure:
    """R^2 (above) and training loss (below) after cloning, a column an architecture."""
    figure, axes = plt.subplots(2, len(frames), figsize=(2.9 * len(frames), 5), layout="constrained", sharex="col")
    for column, (name, frame) in zip(axes.T, frames.items(), strict=True):
        for ax, (metric, layer, label) in zip(column, PANELS[:2], strict=True):
            shown = {m: style for m, style in methods.items() if not (metric == "r2" and m in ("fresh", "base"))}
            curves(ax, select(frame, metric, layer), methods=shown, ylabel=label, xlabel="steps after cloning")
        column[0].set_title(ARCHITECTURES.get(name, name))
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    for ax in axes[0]:
        ax.set_ylim(min(a.get_ylim()[0] for a in axes[0]), 1.01)
    handles = {label: handle for ax in axes[1] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def size_figure(measured: pd.DataFrame, *, sigma: float) -> Figure:
    """Norm of the noise over that of the gradient against a tensor's size; columns entries, per tensor, global."""
    figure, ax = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    n = np.geomspace(measured["entries"].min() / 2, 2 * measured["entries"].max(), 50)
    ax.plot(n, sigma * np.sqrt(n), color=COLOURS["grey"], lw=1, label="$\\sigma\\sqrt{n}$")
    ax.axhline(sigma, color=COLOURS["black"], ls=":", lw=1, label=f"{sigma:.0%} of the gradient")
    for kind, colour, marker in (("per tensor", "blue", "o"), ("global", "orange", "s")):
        ax.plot(measured["entries"], measured[kind], marker, color=COLOURS[colour], ms=5, mfc="none", label=kind)
    ax.set(xscale="log", yscale="log", xlabel="entries of the tensor", ylabel="norm of noise / norm of gradient")
    ax.legend()
    return figure


def time_figure(frames: Mapping[str, pd.DataFrame], *, threshold: float) -> Figure:
    """Growth of 1 - R^2 for one seed; escape time against sigma; measured against predicted, a colour an activation."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.7), layout="constrained")
    _growth(axes[0], next(iter(frames.values())), threshold)
    for (name, frame), colour, marker in zip(frames.items(), ("blue", "orange", "green"), "os^", strict=False):
        times = escape_times(frame)
        style = {"color": COLOURS[colour], "label": name}
        middle = times.groupby("sigma")[["escape", "escape_predicted"]].median()
        axes[1].plot(times["sigma"], times["escape"], marker, ms=4, mfc="none", color=COLOURS[colour])
        axes[1].plot(middle.index, middle["escape"], **style)
        axes[2].plot(times["escape_predicted"], times["escape"], marker, ms=5, mfc="none", ls="", **style)
    axes[1].set(xscale="log", xlabel="$\\sigma$ of the one noisy step", ylabel="escape time [steps]")
    axes[1].set_title("Ten times less noise, a bit later")
    ends = [0, max(axes[2].get_xlim()[1], axes[2].get_ylim()[1])]
    axes[2].plot(ends, ends, color=COLOURS["grey"], lw=1)
    axes[2].set(xlabel="predicted [steps]", ylabel="measured [steps]", title="Measured against predicted")
    axes[1].legend()
    return figure


def escape_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns seed, sigma, escape, escape_predicted, of the runs of `experiments.escape_time` that have both.

    Without those that were over the threshold at the first look after the noisy step: of them we know a bound only.
    """
    looks = frame.loc[(frame["metric"] == "spread") & (frame["step"] > 0), "step"]
    rows = frame[frame["metric"].isin(("escape", "escape_predicted"))]
    table = rows.pivot(index=["seed", "method"], columns="metric", values="value").dropna().reset_index()
    table = table[(table[["escape", "escape_predicted"]] > looks.min()).all(axis=1)]
    return table.assign(sigma=table["method"].astype(float)).sort_values(["seed", "sigma"])


def _growth(ax: Axes, frame: pd.DataFrame, threshold: float) -> None:
    """Measured 1 - R^2 (symbols) and sigma^2 q (lines) of the first seed."""
    rows = frame[(frame["seed"] == frame["seed"].min()) & (frame["layer"] == "mean")]
    q = rows[rows["metric"] == "q"].set_index("step")["value"]
    spread = rows[rows["metric"] == "spread"]
    names = sorted(spread["method"].unique(), key=float, reverse=True)
    for i, name in enumerate(names):
        part, colour = spread[(spread["method"] == name) & (spread["step"] > 0)], plt.cm.cividis(i / max(len(names), 2))
        every = max(len(part) // 20, 1)
        ax.plot(part["step"].iloc[::every], part["value"].iloc[::every], "o", ms=3, color=colour)
        line = (float(name) ** 2 * q)[lambda v: v < 1]
        ax.plot(line.index, line, color=colour, lw=1)
    ax.axhline(threshold, color=COLOURS["grey"], ls=":", lw=1)
    ax.set(yscale="log", xlabel="steps after cloning", ylabel="$1 - R^2$", title="One curve, shifted")


def reasons_figure(table: pd.DataFrame) -> Figure:
    """Kick, growth and R^2 at the end of several networks: columns network, kick, growth, end (a row a seed)."""
    panels = {
        "kick": "$1 - R^2$ after the noisy step",
        "growth": "growth of distance, e-folds",
        "end": "$1 - R^2$ at the end",
    }
    figure, axes = plt.subplots(1, 3, figsize=(10.6, 3.3), layout="constrained", sharey=True)
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        sns.pointplot(
            table, x=column, y="network", ax=ax, errorbar=("ci", 95), seed=0, linestyle="none", color=COLOURS["blue"]
        )
        sns.stripplot(table, x=column, y="network", ax=ax, color=COLOURS["grey"], size=3, alpha=0.7)
        ax.set(xlabel=label, ylabel="", xscale="linear" if column == "growth" else "log")
        if column != "growth":
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlim(table[column].min() / 2, 2 * table[column].max())
    return figure
