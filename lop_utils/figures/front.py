"""The front page's figures: losing plasticity in one picture, and a network looked into while it grows old."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import summarise
from lop_utils.experiments.first_look import Look
from lop_utils.experiments.online_summary import binned
from lop_utils.figures.bit_flipping import METHODS, chosen, fresh_ends
from lop_utils.figures.style import COLOURS, lines

OLD, FRESH, TARGET = COLOURS["blue"], COLOURS["green"], COLOURS["black"]
_LINES = {"bp": ("trained all along", OLD), "linear": METHODS["linear"]}


def error_curves(frame: pd.DataFrame, *, bins: int = 50) -> pd.DataFrame:
    """Columns method, step, mean, low, high: the errors of the bit-flipping experiment in `bins` stretches of time."""
    losses = chosen(frame, "loss")
    lines = binned(losses[losses["method"].isin(_LINES)], max(1, int(frame["step"].max()) // bins))
    points = fresh_ends(losses).assign(method="fresh")
    return pd.concat([summarise(lines, ["method", "step"]), points], ignore_index=True)


def opening_figure(errors: pd.DataFrame, looks: Sequence[Look]) -> Figure:
    """Left: error against time, fresh networks as points. Right: the hidden units of one network, early and late."""
    figure = plt.figure(figsize=(9.6, 3.6), layout="constrained")
    grid = figure.add_gridspec(1, 1 + len(looks), width_ratios=[2.4, *[1] * len(looks)])
    ax = figure.add_subplot(grid[0])
    _errors(ax, errors)
    ax.set(title="It learns worse and worse", xlabel="steps of training (millions)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    top = darkest(looks)
    for column, look in enumerate(looks):
        panel = figure.add_subplot(grid[1 + column])
        _units(panel, look, top=top)
        panel.set_title(f"step {look.step:,}\n{look.silent} of {look.hidden.shape[1]} silent", fontsize=10)
        if column:
            panel.set(ylabel="", yticklabels=[])
    return figure


def look_figure(errors: pd.DataFrame, look: Look, *, top: float, limits: tuple[float, float]) -> Figure:
    """One moment: where it is on the error curve, what the hidden units do, what the network answers.

    `top` is the activation that is drawn darkest, `limits` the range of answers: the same in all frames.
    """
    figure, axes = plt.subplots(
        1, 3, figsize=(9.6, 3.5), layout="constrained", gridspec_kw={"width_ratios": [1.5, 1, 1.6]}
    )
    _errors(axes[0], errors)
    axes[0].axvline(look.step, color=COLOURS["orange"], lw=2.4)
    axes[0].set(title="Its error so far", xlabel="steps of training (millions)")
    _units(axes[1], look, top=top)
    axes[1].set_title(f"{look.silent} of {look.hidden.shape[1]} units silent")
    order, place = np.argsort(look.target, kind="stable"), np.arange(len(look.target))
    axes[2].step(place, look.target[order], where="mid", color=TARGET, lw=2.2, label="right answer")
    axes[2].plot(place, look.fresh[order], "o", color=FRESH, ms=5, mfc="none", label=f"fresh, {look.fresh_error:.2f}")
    axes[2].plot(place, look.answer[order], "D", color=OLD, ms=4, label=f"trained all along, {look.error:.2f}")
    axes[2].set(title="What it answers (error)", xlabel="the 32 inputs of the present, sorted", ylim=limits)
    axes[2].legend(loc="upper left", fontsize=8)
    return figure


def limits(looks: Sequence[Look]) -> tuple[float, float]:
    """A range that holds every answer in `looks`, with room for the legend above."""
    values = np.concatenate([np.concatenate([look.target, look.answer, look.fresh]) for look in looks])
    low, high = float(values.min()), float(values.max())
    return low - 0.05 * (high - low), high + 0.45 * (high - low)


def darkest(looks: Sequence[Look]) -> float:
    """The activation to draw darkest, so that most of what is there can be told apart."""
    active = np.concatenate([look.hidden[look.hidden > 0] for look in looks])
    return float(np.quantile(active, 0.95)) if len(active) else 1.0


def _errors(ax: Axes, errors: pd.DataFrame) -> None:
    lines(ax, errors, methods=_LINES)
    points = errors[errors["method"] == "fresh"]
    label, colour = METHODS["fresh"]
    bars = [points["mean"] - points["low"], points["high"] - points["mean"]]
    ax.errorbar(points["step"], points["mean"], yerr=bars, fmt="o", color=colour, capsize=3, label=label, zorder=5)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
    ax.set_ylabel("mean squared error")
    ax.set_ylim(bottom=0)


def _units(ax: Axes, look: Look, *, top: float) -> None:
    order = np.argsort(look.target, kind="stable")
    ax.imshow(look.hidden[order].T, aspect="auto", cmap="Blues", vmin=0, vmax=top, interpolation="nearest")
    ax.set(xlabel="input", ylabel="hidden unit", xticks=[], yticks=[0, look.hidden.shape[1] - 1])
    ax.set_yticklabels(["1", str(look.hidden.shape[1])])
    ax.grid(False)
