"""Close-ups of single runs on the bit-flipping stream: the stream itself, single flips, single units."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lop_utils.figures.bit_flipping import METHODS
from lop_utils.figures.style import COLOURS, curves
from lop_utils.streams.bit_flipping import BitFlipping


def stream_figure(stream: BitFlipping, *, periods: int = 40) -> Figure:
    """Slow bits over periods, all bits over some steps, and the target on all inputs before and after a flip."""
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.5), layout="constrained", width_ratios=(1.1, 0.9, 1.2))
    slow = np.stack([stream.slow_bits(p) for p in range(periods)], axis=1)
    steps = stream.inputs(0, 30).T
    for ax, picture, xlabel, title in (
        (axes[0], slow, "period", "Slow bits: one flips a period"),
        (axes[1], steps, "step", "One period: slow bits stay"),
    ):
        ax.imshow(picture, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1.4)
        ax.set(xlabel=xlabel, ylabel="bit", title=title)
        ax.yaxis.set_major_locator(plt.MultipleLocator(5))
        ax.grid(False)
    axes[1].axhline(stream.slow - 0.5, color=COLOURS["orange"], lw=2)
    before, after = (stream.segment(p * stream.period).table for p in (0, 1))
    x = np.arange(len(before))
    for offset, values, label, colour in (
        (-0.2, before, "first period", "blue"),
        (0.2, after, "second period", "gold"),
    ):
        axes[2].bar(x + offset, values, 0.4, label=label, color=COLOURS[colour])
    axes[2].set(xlabel="pattern of the fast bits", ylabel="target", title="A flip changes the function to learn")
    axes[2].legend()
    return figure


def flips_figure(panels: Mapping[str, Mapping[str, pd.DataFrame]], *, period: int) -> Figure:
    """Loss in short windows around some flips (dotted), one panel a stretch of the stream, one line a learner."""
    figure, axes = plt.subplots(1, len(panels), figsize=(10.4, 3.4), layout="constrained", sharey=True)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, rows in lines.items():
            label, colour, *_ = METHODS[name]
            ax.plot(rows["step"], rows["loss"], color=colour, label=label, lw=1.3)
        first, last = rows["step"].min(), rows["step"].max()
        for flip in range(-(-int(first) // period) * period, int(last) + 1, period):
            ax.axvline(flip, color=COLOURS["grey"], ls=":", lw=1)
        ax.set(title=title, xlabel="step")
        ax.xaxis.set_major_locator(plt.MaxNLocator(4))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes[0].set(ylabel="mean squared error")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def forgetting_figure(tasks: pd.DataFrame, within: pd.DataFrame) -> Figure:
    """Left: accuracies on two tasks, one after the other. Right: loss against steps since a flip, early and late.

    `tasks` is the frame of the experiment two_tasks; `within` has columns part, since, loss.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.2, 3.8), layout="constrained")
    continual = tasks[tasks["method"] == "continual"]
    lines = {
        "accuracy_first": ("first task", COLOURS["purple"]),
        "accuracy_second": ("second task", COLOURS["blue"]),
        "fresh": ("second task, fresh network", COLOURS["green"], ":"),
    }
    rows = continual.assign(method=continual["metric"])
    fresh = tasks[(tasks["method"] == "fresh") & (tasks["metric"] == "accuracy_second")]
    curves(
        axes[0], pd.concat([rows, fresh]), methods=lines, ylabel="test accuracy", title="Forgetting: the past is lost"
    )
    axes[0].axvline(tasks["step"].max() / 2, color=COLOURS["grey"], ls=":")
    axes[0].set_ylim(0, 1.03)
    axes[0].legend(loc="center left")
    shades = ("sky", "blue", "black")
    for (part, found), colour in zip(within.groupby("part", sort=False), shades, strict=False):
        axes[1].plot(found["since"], found["loss"], label=part, color=COLOURS[colour])
    axes[1].set(xlabel="steps since the last flip", ylabel="mean squared error", ylim=(0, None))
    axes[1].set_title("Loss of plasticity: the present is not learned")
    axes[1].legend()
    return figure


def units_figure(pictures: Mapping[str, NDArray], *, title: str) -> Figure:
    """Activations of all hidden units (rows) on the inputs of the present (columns), one panel a method."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(8.6, 3.9), layout="constrained", squeeze=False)
    for ax, (name, activations) in zip(axes[0], pictures.items(), strict=True):
        top = max(np.quantile(activations, 0.98), 1e-12)
        ax.imshow(activations.T, aspect="auto", cmap="Blues", vmin=0, vmax=top, interpolation="nearest")
        dead = int((activations == 0).all(0).sum())
        ax.set(title=f"{METHODS[name][0]}: {dead} dead", xlabel="input of the present", ylabel="hidden unit")
        ax.grid(False)
    figure.suptitle(title, fontsize=11)
    return figure


def trace_figure(trace: pd.DataFrame, *, units: Sequence[int]) -> Figure:
    """Corrected utility of single units against time; a cross marks each replacement.

    `trace` has columns step, unit, utility, replaced.
    """
    figure, ax = plt.subplots(figsize=(8.6, 3.6), layout="constrained")
    for unit, colour in zip(units, ("blue", "orange", "green", "purple", "gold"), strict=False):
        rows = trace[trace["unit"] == unit]
        ax.plot(rows["step"], rows["utility"], color=COLOURS[colour], lw=1.2, label=f"unit {unit + 1}")
        gone = rows[rows["replaced"]]
        ax.plot(gone["step"], gone["utility"], "X", color=COLOURS[colour], ms=9, mec="black")
    ax.set(xlabel="step", ylabel="utility (bias-corrected)", yscale="log")
    ax.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    return figure


def dropout_figure(table: pd.DataFrame) -> Figure:
    """Ratio of the loss with dropout to that without, by width: mean and interval for each probability.

    `table` has columns width, probability, mean, low, high.
    """
    figure, ax = plt.subplots(figsize=(6.6, 3.5), layout="constrained")
    widths = sorted(table["width"].unique())
    for (probability, rows), colour, shift in zip(
        table.groupby("probability"), ("blue", "gold"), (-0.08, 0.08), strict=False
    ):
        rows = rows.set_index("width").loc[widths]
        errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(np.arange(len(widths)) + shift, rows["mean"], yerr=errors, fmt="o", capsize=3,
                    color=COLOURS[colour], label=f"dropout {probability:g}")  # fmt: skip
    ax.axhline(1, color=COLOURS["grey"], ls=":")
    ax.set(xticks=range(len(widths)), xticklabels=widths, xlabel="hidden units", ylabel="loss with / without dropout")
    ax.legend()
    return figure
