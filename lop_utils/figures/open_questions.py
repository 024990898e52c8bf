"""Figures of the chapter on open questions."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.figures.style import COLOURS, curves

ARMS = {
    "clone": ("stuck clone", COLOURS["black"]),
    "noisy step": ("one noisy step", COLOURS["gold"]),
    "noisy sgd": ("Noisy SGD", COLOURS["orange"]),
    "dropout": ("dropout", COLOURS["purple"]),
    "redrawn": ("copies redrawn", COLOURS["blue"]),
    "cbp": ("continual backprop", COLOURS["sky"]),
    "fresh": ("fresh wide network", COLOURS["green"], ":"),
    "new": ("newborn network", COLOURS["grey"], "--"),
}
RULES = {
    "SGD .2": ("SGD 0.2", COLOURS["sky"]),
    "SGD .1": ("SGD 0.1", COLOURS["blue"]),
    "SGD .05": ("SGD 0.05", COLOURS["black"]),
    "SGD .1, L2": ("SGD 0.1, L2", COLOURS["green"], "--"),
    "Adam": ("Adam", COLOURS["orange"]),
    "Adam, L2": ("Adam, L2", COLOURS["purple"], "--"),
}
CONTROLS = {
    "trained": ("trained", COLOURS["orange"]),
    "shuffled": ("shuffled", COLOURS["blue"], "--"),
    "random": ("random, same lengths", COLOURS["grey"], ":"),
}


Panel = tuple[str, str, pd.DataFrame, Mapping[str, str]]


def gaps_figure(panels: Sequence[Panel]) -> Figure:
    """A panel for each (title, axis label, frame with columns method, seed, value, names of methods).

    Mean gap and 95% interval a method; a gap of 0, fresh networks, is marked; small dots are seeds.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 4.6), layout="constrained", squeeze=False)
    for ax, (title, label, frame, names) in zip(axes[0], panels, strict=True):
        order = frame.groupby("method")["value"].mean().sort_values().index.tolist()
        _intervals(ax, frame, order, names)
        ax.axvline(0, color=COLOURS["green"], ls=":")
        ax.set(title=title, xlabel=label)
    return figure


def _intervals(ax: Axes, frame: pd.DataFrame, order: Sequence[str], names: Mapping[str, str]) -> None:
    table = summarise(frame, ["method"]).set_index("method").loc[list(order)]
    at = np.arange(len(order))
    ax.hlines(at, table["low"], table["high"], color=COLOURS["blue"], lw=2.5)
    ax.plot(table["mean"], at, "o", color=COLOURS["blue"], ms=6)
    for place, name in zip(at, order, strict=True):
        seeds = frame[frame["method"] == name]["value"]
        ax.plot(seeds, np.full(len(seeds), place - 0.22), ".", color=COLOURS["grey"], ms=4)
    labels = [names.get(name, name) for name in order]
    ax.set_yticks(at, labels=labels)
    ax.set_ylim(-0.7, len(order) - 0.4)


def routes_figure(frame: pd.DataFrame, *, rank: str) -> Figure:
    """R^2, training loss (logarithmic) and effective rank after cloning, one line an arm."""
    panels = [("r2", "mean", "cloning $R^2$", "How far from clones?"),
              ("train_loss", "all", "training loss", "What is still to learn?"),
              (rank, "mean", "effective rank", "How many directions?")]  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    shown = {name: style for name, style in ARMS.items() if name != "new"}
    for ax, (metric, layer, label, title) in zip(axes, panels, strict=True):
        rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
        curves(ax, rows, methods=shown, ylabel=label, title=title, xlabel="steps after cloning")
    axes[1].set_yscale("log")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def further_figure(frame: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """Training loss while a further task is learned, a panel a task, one line an arm."""
    figure, axes = plt.subplots(1, len(tasks), figsize=(4.6 * len(tasks), 3.8), layout="constrained", squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        rows = frame[(frame["metric"] == "train_loss") & (frame["layer"] == task) & (frame["step"] > 0)]
        curves(
            ax, rows, methods=ARMS, ylabel="training loss", title=task.capitalize(), xlabel="steps into the new task"
        )
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def lines_figure(frame: pd.DataFrame) -> Figure:
    """Barrier (left) and distance (right) on the straight line to the fresh network and to the stuck clone."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained", sharey=True)
    order = [name for name in ARMS if name != "new"][::-1]
    styles = {"line to fresh": ("to a fresh network", COLOURS["green"], 0.13),
              "line to clone": ("to the stuck clone", COLOURS["black"], -0.13)}  # fmt: skip
    for ax, metric, label in zip(
        axes, ("barrier", "distance"), ("loss barrier", "distance of the weights"), strict=True
    ):
        for layer, (name, colour, shift) in styles.items():
            rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
            table = summarise(rows, ["method"]).set_index("method")
            at = np.array([order.index(method) for method in table.index]) + shift
            ax.hlines(at, table["low"], table["high"], color=colour, lw=2.5)
            ax.plot(table["mean"], at, "o", color=colour, label=name)
        ax.set(xlabel=label, yticks=range(len(order)), yticklabels=[ARMS[name][0] for name in order])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    axes[0].set_title("A hill between them?")
    axes[1].set_title("How far apart?")
    return figure


def level_figure(frame: pd.DataFrame) -> Figure:
    """Drift of the conserved quantities and share of dead units along the stream; what foretells death."""
    figure, axes = plt.subplots(1, 3, figsize=(11.2, 3.9), layout="constrained")
    drift = frame[(frame["metric"] == "drift") & (frame["step"] > 0)]
    curves(
        axes[0], drift, methods=RULES, ylabel="root mean square change of $Q_u$", xlabel="task", title="$Q_u$ drifts"
    )
    axes[0].set(xscale="log", yscale="log")
    dead = frame[(frame["metric"] == "dead") & (frame["layer"] == "mean")]
    curves(axes[1], dead, methods=RULES, ylabel="share of silent units", xlabel="task", title="Units die")
    rows, width = frame[frame["metric"] == "auc"], 0.12
    names = {
        "auc level": "$Q_u$",
        "auc imbalance": "$Q_u$ / size",
        "auc incoming": "incoming",
        "auc outgoing": "outgoing",
    }
    for i, (rule, (label, colour, *_)) in enumerate(RULES.items()):
        part = rows[rows["method"] == rule]
        if len(part):
            table = summarise(part, ["layer"]).set_index("layer")
            at = np.array([list(names).index(layer) for layer in table.index]) + width * (i - len(RULES) / 2 + 0.5)
            axes[2].vlines(at, table["low"], table["high"], color=colour, lw=2)
            axes[2].plot(at, table["mean"], "o", color=colour, ms=4, label=label)
    axes[2].axhline(0.5, color=COLOURS["grey"], ls=":")
    axes[2].set(title="Do low values foretell death?", ylabel="area under the curve", ylim=(0, 1))
    axes[2].set_xticks(range(len(names)), labels=names.values())
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def hyperbola_figure(path: np.ndarray, *, rate: float) -> Figure:
    """Gradient descent of a unit with one incoming and one outgoing weight: the level set, and Q along the way.

    `path` (steps + 1, 2): incoming w and outgoing a.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.7), layout="constrained")
    level = path[:, 0] ** 2 - path[:, 1] ** 2
    out = np.linspace(-2.5, 2.5, 400)
    inside = out**2 + level[0] >= 0
    left.plot(np.where(inside, np.sqrt(np.maximum(out**2 + level[0], 0)), np.nan), out, color=COLOURS["grey"], ls="--",
              label="level set of the start")  # fmt: skip
    optimum = np.linspace(0.3, 2.6, 200)
    left.plot(optimum, 1 / optimum, color=COLOURS["green"], label="zero loss")
    left.plot(*path.T, "-o", ms=3, color=COLOURS["orange"], label="gradient descent")
    left.set(xlim=(0, 2.6), ylim=(-1.6, 2.6), xlabel="incoming weight $w$", ylabel="outgoing weight $a$",
             title=f"Learning rate {rate:g}")  # fmt: skip
    left.legend(fontsize=8, loc="lower left")
    right.plot(np.arange(len(path)) * rate, level, color=COLOURS["orange"])
    right.axhline(level[0], color=COLOURS["grey"], ls="--")
    right.set(
        xlabel="time (steps × learning rate)", ylabel="$Q = w^2 - a^2$", ylim=(0, 3), title="The conserved quantity"
    )
    return figure


def sweep_figure(frame: pd.DataFrame, *, switch: int) -> Figure:
    """Largest escape rate -lambda_min against the residual, a panel for each axis of the sweep, all probes."""
    wide = frame.pivot_table(index=["method", "layer", "seed", "step"], columns="metric", values="value").reset_index()
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained", sharey=True)
    for ax, axis in zip(axes, ("activation", "depth", "width"), strict=True):
        part = wide[wide["layer"].isin(["centre", axis])]
        for method, colour in zip(sorted(part["method"].unique(), key=_by_number), COLOURS.values(), strict=False):
            rows, names = part[part["method"] == method], sweep_name(method).split(", ")
            label = names[("activation", "depth", "width").index(axis)]
            after = rows["step"] == switch + 1
            ax.plot(rows[~after]["residual"], -rows[~after]["lambda_min"], "o", ms=4, color=colour, label=label)
            ax.plot(rows[after]["residual"], -rows[after]["lambda_min"], "^", ms=5, mfc="none", color=colour)
        ax.set(xscale="log", yscale="log", xlabel="residual", title=f"By {axis}")
        ax.legend(fontsize=8)
    axes[0].set_ylabel("most negative curvature, $-\\lambda_{\\min}$")
    return figure


def sweep_name(method: str) -> str:
    """A network of the sweep for readers: activation, depth, width.

    >>> sweep_name("leaky_relu_01 2 x 16")
    'leaky ReLU (0.1), 2 layers, 16 units'
    """
    activation, depth, _, width = method.split(" ")
    shown = {"relu": "ReLU", "leaky_relu_01": "leaky ReLU (0.1)", "gelu": "GELU", "silu": "SiLU"}
    return f"{shown.get(activation, activation)}, {depth} layer{'s' * (depth != '1')}, {width} units"


def _by_number(method: str) -> tuple[str, int, int]:
    activation, depth, _, width = method.split(" ")
    return activation, int(depth), int(width)


def nearness_figure(frame: pd.DataFrame) -> Figure:
    """Distances to the nearest manifolds along the stream: a row a rule, trained networks and their controls."""
    panels = [("pair", "nearest pair of units", 1.0), ("clone", "half as many units", None),
              ("frozen", "silence, mean of a living unit", None), ("silent", "share already silent", None)]  # fmt: skip
    rules = frame["method"].unique()
    figure, axes = plt.subplots(
        len(rules), 4, figsize=(11.4, 2.6 * len(rules) + 0.6), layout="constrained", squeeze=False, sharex=True,
        sharey="col",
    )  # fmt: skip
    for row, rule in zip(axes, rules, strict=True):
        for ax, (metric, title, _) in zip(row, panels, strict=True):
            part = frame[(frame["method"] == rule) & (frame["metric"] == metric)]
            part = part.assign(method=part["layer"])
            curves(ax, part, methods=CONTROLS, ylabel=f"{rule}", title=title.capitalize() if rule == rules[0] else "",
                   xlabel="tasks learned" if rule == rules[-1] else "")  # fmt: skip
            ax.set_xscale("symlog", linthresh=1)
            ax.set_ylabel(f"{rule}: relative distance" if metric == "pair" else "")
    for ax in axes.flat:
        ax.set_ylim(bottom=0)  # last: it ends the scaling of the shared axes
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
