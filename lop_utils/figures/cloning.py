"""Figures of the cloning chapter."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from lop_utils.figures.style import COLOURS, curves

METHODS = {
    "base": ("base (16 units a layer)", COLOURS["black"]),
    "clone": ("clone, SGD", COLOURS["blue"]),
    "clone_matched": ("clone, matched rates", COLOURS["sky"], "--"),
    "noisy_step": ("clone, one noisy step", COLOURS["gold"]),
    "noisy_sgd": ("clone, Noisy SGD", COLOURS["orange"]),
    "dropout": ("clone, dropout", COLOURS["purple"]),
    "fresh": ("fresh wide network", COLOURS["green"], ":"),
}


def select(frame: pd.DataFrame, metric: str, *, layer: str, methods=None) -> pd.DataFrame:
    """The rows of one metric and layer ("mean" over layers or "all" for whole-network metrics)."""
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
    return rows if methods is None else rows[rows["method"].isin(methods)]


def escape_figure(frame: pd.DataFrame) -> Figure:
    """R^2, training loss and effective rank after cloning, one line a method: who leaves the clone's manifold?"""
    panels = [
        ("r2", "mean", "cloning $R^2$", "Copies stay copies?"),
        ("train_loss", "all", "training loss", "Does the loss go on falling?"),
        ("effective_rank_singular_raw", "mean", "effective rank", "Does the rank rise?"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for ax, (metric, layer, label, title) in zip(axes, panels, strict=True):
        methods = {name: style for name, style in METHODS.items() if name != "clone_matched"}
        curves(ax, select(frame, metric, layer=layer), methods=methods, ylabel=label, title=title,
               xlabel="steps after cloning")  # fmt: skip
    axes[0].set_ylim(top=1.02)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def architectures_figure(frames: dict[str, pd.DataFrame]) -> Figure:
    """Cloning R^2 after cloning under SGD and Noisy SGD, one panel for each architecture."""
    names = {"mlp": "MLP", "cnn": "CNN", "resnet": "ResNet", "vit": "ViT"}
    figure, axes = plt.subplots(1, len(frames), figsize=(3.2 * len(frames), 3.2), layout="constrained", sharey=True)
    for ax, (arch, frame) in zip(np.atleast_1d(axes), frames.items(), strict=True):
        styles = {name: METHODS[name] for name in ("clone", "noisy_sgd")}
        rows = select(frame, "r2", layer="mean")
        curves(ax, rows, methods=styles, ylabel="cloning $R^2$", title=names[arch], xlabel="steps after cloning")
    np.atleast_1d(axes)[0].legend()
    return figure


def rates_figure(frame: pd.DataFrame) -> Figure:
    """Base against clone at equal rates (left) and at matched rates (right): training loss."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), layout="constrained", sharey=True)
    losses = select(frame, "train_loss", layer="all")
    for ax, arm, title in zip(axes, ("clone", "clone_matched"), ("Equal rates", "Matched rates"), strict=True):
        styles = {name: METHODS[name] for name in ("base", arm)}
        curves(ax, losses, methods=styles, ylabel="training loss", title=title, xlabel="steps after cloning")
        ax.legend()
    return figure


def twins_figure(paths: np.ndarray, losses: np.ndarray, index: int, *, every: int) -> Figure:
    """Weights (probes, starts, 2), their distance and the losses (probes, starts) of the start `index`."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained")
    steps, w = np.arange(len(paths)) * every, paths[:, index]
    axes[0].plot(steps, w[:, 0], color=COLOURS["blue"], label="first twin")
    axes[0].plot(steps, w[:, 1], color=COLOURS["orange"], ls="--", label="second twin")
    axes[0].legend()
    gap = np.abs(w[:, 0] - w[:, 1])
    axes[1].plot(steps, gap.clip(min=1e-13), color=COLOURS["black"])
    if not gap.any():
        axes[1].text(0.5, 0.5, "exactly 0 throughout", ha="center", transform=axes[1].transAxes)
    axes[2].plot(steps, losses[:, index], color=COLOURS["green"])
    axes[0].set(title="Incoming weights", ylim=(paths.min() - 0.1, paths.max() + 0.1))
    axes[1].set(title="Distance of the twins", yscale="log", ylim=(3e-14, 10))
    axes[2].set(title="Loss", ylim=(0, 1.05 * losses.max()))
    for ax in axes:
        ax.set_xlabel("steps")
    return figure


def blocks_figure(weights: dict[str, Tensor], *, blocks: int) -> Figure:
    """Matrices side by side as heat maps, with lines between the blocks of rows and of columns."""
    figure, axes = plt.subplots(1, len(weights), figsize=(3.1 * len(weights), 3.3), layout="constrained", squeeze=False)
    bound = max(float(w.abs().max()) for w in weights.values())
    for ax, (title, w) in zip(axes[0], weights.items(), strict=True):
        image = ax.imshow(w.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        for position in np.arange(1, blocks) * w.shape[0] / blocks - 0.5:
            ax.axhline(position, color="black", lw=1)
        for position in np.arange(1, blocks) * w.shape[1] / blocks - 0.5:
            ax.axvline(position, color="black", lw=1)
        ax.set(title=title, xlabel="from unit", ylabel="to unit", xticks=[], yticks=[])
        ax.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="weight")
    return figure


def drift_figure(distances: pd.DataFrame) -> Figure:
    """Largest off-block entry of W(t) - W(0) against the step, one line a start; exact zeros drawn at the floor."""
    figure, ax = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
    floor = 1e-18
    for (start, rows), colour in zip(distances.groupby("start", sort=False), COLOURS.values(), strict=False):
        ax.plot(rows["step"], rows["distance"].clip(lower=floor), label=start, color=colour)
    ax.set(yscale="log", xlabel="SGD steps (float64)", ylabel="distance to $\\mathcal{M}_D$", ylim=(floor / 3, 10))
    ax.legend(title="start")
    return figure
