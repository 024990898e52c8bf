"""Figures of the saturation chapter that come from training: revival of dead units, saturation, drift on a stream."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lop_utils.figures.saturation import tradeoff
from lop_utils.figures.style import COLOURS, curves

ARMS = {
    "sgd": ("SGD", COLOURS["blue"]),
    "momentum": ("SGD + momentum", COLOURS["green"]),
    "adam": ("Adam", COLOURS["purple"]),
    "first_fixed": ("SGD, first layer not trained", COLOURS["black"], ":"),
}
STREAM = {"relu": ("ReLU", COLOURS["blue"]), "tanh": ("tanh", COLOURS["orange"])}
LAYERS = {"hidden.0": "First hidden layer", "hidden.1": "Second hidden layer"}


def revived_share(frame: pd.DataFrame, layer: str) -> pd.DataFrame:
    """Share of the units killed in `layer` that fire, as value by seed, method and step."""
    rows = frame[frame["layer"] == layer]
    wide = rows.pivot_table(index=["seed", "method", "step"], columns="metric", values="value").reset_index()
    return wide.assign(value=wide["revived"] / wide["killed"])


def revival(axes: Sequence[Axes], frame: pd.DataFrame) -> None:
    """Share of killed units that fire on the training data, against steps; one panel a hidden layer."""
    for ax, (layer, title) in zip(axes, LAYERS.items(), strict=True):
        curves(ax, revived_share(frame, layer), methods=ARMS, ylabel="share of dead units revived", title=title)
        ax.set_ylim(-0.04, 1.04)


def saturation_figure(starts: np.ndarray, moved: Mapping[str, np.ndarray]) -> Figure:
    """Distance that the weight of one tanh unit travels, against its pre-activation at the start."""
    figure, ax = plt.subplots(figsize=(6.8, 3.6), layout="constrained")
    styles = [("blue", "-"), ("sky", "--"), ("orange", "-"), ("gold", "--")]
    floor = 1e-14
    for (name, distance), (colour, style) in zip(moved.items(), styles, strict=True):
        ax.plot(starts, distance.clip(floor), label=name, color=COLOURS[colour], ls=style)
    ax.set(
        yscale="log", xlabel="pre-activation z at the start", ylabel="distance after 1,000 steps", ylim=(floor / 2, 30)
    )
    ax.text(starts[len(starts) // 2], floor * 3, "exactly 0", ha="left", fontsize=9, color=COLOURS["grey"])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def stream_figure(frame: pd.DataFrame) -> Figure:
    """Over a stream of tasks, ReLU and tanh: scale of pre-activations, frozen share, alpha, accuracy."""
    panels = [
        ("pre_activation_sd", "mean", "sd of pre-activations", "Scale"),
        ("frozen", "mean", "frozen share", "Frozen pairs"),
        ("alpha", "mean", "median α of the units", "Strength"),
        ("accuracy", "all", "accuracy at the task's end", "Accuracy"),
    ]
    figure, axes = plt.subplots(1, 4, figsize=(12.4, 3.3), layout="constrained")
    for ax, (metric, layer, label, title) in zip(axes, panels, strict=True):
        rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
        curves(ax, rows, methods=STREAM, ylabel=label, xlabel="tasks done", title=title)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(yscale="log", ylim=(0.1, None))
    axes[0].legend()
    return figure


def answer_figure(families: Mapping[str, tuple[np.ndarray, np.ndarray]], frame: pd.DataFrame) -> Figure:
    """Left: frozen share against alpha by family of activations; right: dead units that revive, by layer and arm."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
    styles = dict(
        zip(families, [("blue", "-"), ("green", "-"), ("orange", "--"), ("purple", "--"), ("black", "*")], strict=True)
    )
    tradeoff(axes[0], families, styles={name: (COLOURS[c], style) for name, (c, style) in styles.items()})
    axes[0].set_title("Two families, three exceptions")
    axes[0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.06), fontsize=8)
    revival(axes[1:], frame)
    axes[1].legend(loc="center", fontsize=8)
    return figure
