"""Figures of the chapter on normalisation; curves and bars over the stream come from `figures.continual`."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.figures.continual import bars, curve, legend_below
from lop_utils.figures.style import COLOURS, curves, lines

METHODS = {
    "none": ("no normalisation", COLOURS["black"]),
    "batch": ("batch norm", COLOURS["blue"]),
    "layer": ("layer norm", COLOURS["orange"]),
    "batch without affine": ("batch norm without affine", COLOURS["sky"], "--"),
    "layer without affine": ("layer norm without affine", COLOURS["gold"], "--"),
}
RESCALED = {
    "none": ("no normalisation", COLOURS["black"]),
    "none rescaled": ("the same, scale brought back", COLOURS["grey"], "--"),
    "batch": ("batch norm", COLOURS["blue"]),
    "batch rescaled": ("the same, scale brought back", COLOURS["sky"], "--"),
    "layer": ("layer norm", COLOURS["orange"]),
    "layer rescaled": ("the same, scale brought back", COLOURS["gold"], "--"),
}


def bars_figure(tables: Mapping[str, pd.DataFrame], *, groups: Sequence[str]) -> Figure:
    """A panel for each of `tables` (label -> columns group, method, value), grouped bars in each."""
    figure, axes = plt.subplots(1, len(tables), figsize=(3.0 * len(tables), 3.2), layout="constrained", squeeze=False)
    shown = {name: METHODS[name] for name in ("none", "batch", "layer")}
    for ax, (label, table) in zip(axes[0], tables.items(), strict=True):
        bars(ax, table, groups=groups, methods=shown, ylabel=label)
    legend_below(figure, axes[0, 0])
    return figure


def held_figure(frame: pd.DataFrame, *, methods: Mapping[str, tuple] = METHODS) -> Figure:
    """What grows and what is held: weight norm and standard deviation of the pre-activations against the task."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), layout="constrained")
    for ax, metric, title in zip(
        axes, ("weight_norm", "pre_activation_sd"), ("The weights grow", "The pre-activations are held"), strict=True
    ):
        layer = "all" if metric == "weight_norm" else "mean"
        curve(ax, frame, metric, methods=methods, layer=layer, title=title, log=True)
    axes[0].set_ylabel("norm of all weights")
    axes[1].set_ylabel("sd of the pre-activations")
    legend_below(figure, axes[0], columns=3)
    return figure


def rescaled_figure(frame: pd.DataFrame) -> Figure:
    """Three columns (no, batch, layer normalisation), each with its arm whose weights are brought back to length."""
    rows = [("accuracy", "all", "accuracy at the task's end"), ("turn", "mean", "angle a step (rad)")]
    rows += [("effective_rank", "mean", "effective rank")]
    columns = [("none", "No normalisation"), ("batch", "Batch norm"), ("layer", "Layer norm")]
    size = (9.2, 6.6)
    figure, axes = plt.subplots(3, 3, figsize=size, layout="constrained", sharey="row", sharex=True)
    for column, (norm, title) in zip(axes.T, columns, strict=True):
        arms = {name: RESCALED[name] for name in (norm, f"{norm} rescaled")}
        for ax, (metric, layer, label) in zip(column, rows, strict=True):
            part = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
            curves(ax, part, methods=arms, ylabel=label if norm == "none" else "",
                   xlabel="task" if metric == "effective_rank" else "",
                   title=title if metric == "accuracy" else "")  # fmt: skip
        column[1].set_yscale("log")
        column[-1].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    return figure


def scan_figure(frame: pd.DataFrame) -> Figure:
    """Online accuracy on one task against the length of the hidden weights, a panel for each optimizer."""
    optimizers = [("sgd", "SGD"), ("adam", "Adam")]
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), layout="constrained", sharey=True)
    for ax, (optimizer, title) in zip(axes, optimizers, strict=True):
        rows = frame[frame["metric"] == "online_accuracy"]
        arms = {f"{norm} {optimizer}": METHODS[norm] for norm in ("none", "batch", "layer")}
        found = summarise(rows[rows["method"].isin(arms) & np.isfinite(rows["value"])], ["method", "step"])
        every = pd.MultiIndex.from_product([arms, sorted(rows["step"].unique())], names=["method", "step"])
        lines(ax, found.set_index(["method", "step"]).reindex(every).reset_index(), methods=arms)  # gaps where all left
        ax.set(ylabel="online accuracy", xlabel="length of the hidden weights (× initial)", title=title)
        _crosses(ax, frame, arms)
        ax.set_xscale("log", base=2)
        ticks = sorted(frame["step"].unique())
        ax.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    legend_below(figure, axes[0])
    return figure


def _crosses(ax: Axes, frame: pd.DataFrame, arms: Mapping[str, tuple]) -> None:
    """A cross at the lower edge wherever runs of an arm diverged."""
    gone = frame[(frame["metric"] == "diverged") & (frame["value"] > 0)]
    for name, part in gone.groupby("method"):
        if name in arms:
            at = part["step"].unique()
            ax.plot(at, np.full(len(at), 0.03), "X", color=arms[name][1], transform=ax.get_xaxis_transform(), ms=8)


def spiral_figure(path: np.ndarray, *, start: float, reach: float) -> Figure:
    """Gradient descent on a loss that depends on the direction of two weights alone.

    `path` (steps + 1, 2); left the plane with the optimum's ray, right the angle left to the optimum (the direction
    (1, 0)) against the step.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained")
    turn = np.linspace(0, 2 * np.pi, 200)
    left.plot(start * np.cos(turn), start * np.sin(turn), color=COLOURS["grey"], lw=1, ls=":")
    left.plot([0, reach], [0, 0], color=COLOURS["green"], label="optimal direction")
    left.plot(*path.T, "-o", ms=3, color=COLOURS["blue"], label="weights")
    left.plot([0, path[0, 0]], [0, path[0, 1]], color=COLOURS["blue"], lw=1, ls="--")
    left.set(xlim=(-reach, reach), ylim=(-0.15 * reach, reach), aspect="equal", xlabel="$w_1$", ylabel="$w_2$")
    left.set_title(f"Start at length {start:g}, end at {np.hypot(*path[-1]):.2f}")
    left.legend(loc="upper left", fontsize=8)
    angle = np.degrees(np.abs(np.arctan2(path[:, 1], path[:, 0])))
    right.plot(angle, color=COLOURS["blue"])
    right.set(xlabel="step", ylabel="angle to the optimum (degrees)", ylim=(0, 130), title="How far it still is")
    return figure
