"""Figures of the chapter on expansion and compression."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.experiments.expansion import CENTRED, RAW
from lop_utils.figures.style import COLOURS, curves

SCALES = {
    "small": ("half the critical scale", COLOURS["blue"]),
    "medium": ("critical scale", COLOURS["black"]),
    "large": ("twice the critical scale", COLOURS["orange"]),
}
CONTRASTS = {
    "relu_medium": ("SGD, rate 0.05", COLOURS["black"]),
    "long_steps": ("SGD, rate 0.2", COLOURS["gold"], "--"),
    "adam": ("Adam, rate 0.001", COLOURS["sky"], "-."),
    "decay": ("weight decay 0.01", COLOURS["purple"]),
    "random_labels": ("random labels", COLOURS["green"]),
}
FUNCTIONS = {
    "relu": ("ReLU", COLOURS["orange"]),
    "gelu": ("GELU", COLOURS["gold"], "--"),
    "elu": ("ELU", COLOURS["green"], "-."),
    "tanh": ("tanh", COLOURS["blue"]),
    "sigmoid": ("sigmoid", COLOURS["purple"], "--"),
}


def scales(activation: str) -> dict[str, tuple]:
    """Line styles of the three arms of one activation, by method."""
    return {f"{activation}_{name}": style for name, style in SCALES.items()}


def story_figure(frame: pd.DataFrame, *, layer: str) -> Figure:
    """Effective rank of one layer against log steps: ReLU and tanh at three initial scales, and ReLU's contrasts."""
    panels = [("ReLU", scales("relu")), ("tanh", scales("tanh")), ("ReLU, one thing changed", CONTRASTS)]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained", sharey=True)
    rows = frame[(frame["metric"] == RAW) & (frame["layer"] == layer)]
    for ax, (title, methods) in zip(axes, panels, strict=True):
        curves(ax, rows, methods=methods, ylabel="effective rank, last hidden layer", title=title)
        _log_steps(ax)
    for ax, title, methods in ((axes[0], "initial weights (left and middle)", SCALES), (axes[2], "", CONTRASTS)):
        lines = [plt.Line2D([], [], color=c, ls=ls[0] if ls else "-", label=t) for t, c, *ls in methods.values()]
        ax.legend(handles=lines, title=title, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def _log_steps(ax: Axes) -> None:
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])


def _ranges(ax: Axes, frame: pd.DataFrame, *, methods: Mapping[str, tuple], ylabel: str, title: str) -> None:
    """Mean over seeds (line) and range over seeds (band) of value against step, for each method of `frame`."""
    for name, (label, colour, *line) in methods.items():
        found = frame[frame["method"] == name].groupby("step")["value"].agg(["mean", "min", "max"])
        ax.plot(found.index, found["mean"], color=colour, ls=line[0] if line else "-", label=label)
        ax.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.15, lw=0)
    ax.set(xlabel="steps", ylabel=ylabel, title=title)


def layers_figure(frame: pd.DataFrame) -> Figure:
    """Effective rank of every layer, raw (lines) and centred (dashes), ReLU above tanh, three initial scales."""
    layers = sorted(layer for layer in frame["layer"].unique() if layer != "all")
    figure, axes = plt.subplots(2, len(layers), figsize=(11, 5.6), layout="constrained", sharex=True, sharey="row")
    for row, (activation, name) in zip(axes, (("relu", "ReLU"), ("tanh", "tanh")), strict=True):
        for ax, layer in zip(row, layers, strict=True):
            title = f"{name}, layer {int(layer.rpartition('.')[2]) + 1}"
            for metric, line in ((RAW, "-"), (CENTRED, "--")):
                methods = {key: (*style[:2], line) for key, style in scales(activation).items()}
                part = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
                _ranges(ax, part, methods=methods, ylabel="effective rank", title=title)
            _log_steps(ax)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in SCALES.values()]
    handles += [
        plt.Line2D([], [], color=COLOURS["grey"], ls=ls, label=t) for t, ls in (("raw", "-"), ("centred", "--"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def collapse_figure(frame: pd.DataFrame, patches: pd.DataFrame, *, layer: str) -> Figure:
    """NC1 and test accuracy against steps; effective rank against NC1, one path a setting, open circle at the start."""
    methods = scales("relu") | {k: (f"tanh, {v[0]}", v[1], "--") for k, v in scales("tanh").items()}
    methods = {k: (v[0] if len(v) == 3 else f"ReLU, {v[0]}", *v[1:]) for k, v in methods.items()}
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for ax, metric, where, label in (
        (axes[0], "nc1", layer, "NC1"),
        (axes[1], "test_accuracy", "all", "test accuracy"),
    ):
        rows = frame[(frame["metric"] == metric) & (frame["layer"] == where)]
        curves(ax, rows, methods=methods, ylabel=label, title="Features of a class" if ax is axes[0] else "Learning")
        _log_steps(ax)
    axes[0].set_yscale("log")
    paths = [(frame, key, *style) for key, style in methods.items()]
    paths.append((patches, "tanh_medium", "tanh on patches, critical scale", COLOURS["green"]))
    for source, key, label, colour, *line in paths:
        nc1, rank = (_mean(source, key, metric, layer) for metric in ("nc1", RAW))
        axes[2].plot(nc1, rank, color=colour, ls=line[0] if line else "-", label=label, lw=1.5)
        axes[2].plot(nc1.iloc[0], rank.iloc[0], "o", color=colour, mfc="white")
        axes[2].plot(nc1.iloc[-1], rank.iloc[-1], "o", color=colour)
    axes[2].set(
        xscale="log", xlabel="NC1 (training goes to the left)", ylabel="effective rank", title="Rank against NC1"
    )
    figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _mean(frame: pd.DataFrame, method: str, metric: str, layer: str) -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric) & (frame["layer"] == layer)]
    return rows.groupby("step")["value"].mean()


def shock_figure(frame: pd.DataFrame, *, layer: str) -> Figure:
    """The first steps of ReLU networks: training loss, pre-activation shift and share of active units, by scale."""
    panels = [
        ("train_loss", "all", "training loss", "The loss overshoots ..."),
        ("shift", layer, "mean / sd of pre-activations", "... units are pushed down ..."),
        ("active", layer, "share of inputs with z > 0", "... and fire more rarely"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for ax, (metric, where, label, title) in zip(axes, panels, strict=True):
        rows = frame[(frame["metric"] == metric) & (frame["layer"] == where)]
        _ranges(ax, rows, methods=scales("relu"), ylabel=label, title=title)
        _log_steps(ax)
    axes[0].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def depth_figure(frame: pd.DataFrame, *, width: int) -> Figure:
    """Effective rank of a product of random square matrices against depth, by spectrum; band: all seeds."""
    styles = {"singular": ("singular values", COLOURS["blue"]), "covariance": ("squared ones", COLOURS["orange"])}
    figure, ax = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
    for name, (label, colour) in styles.items():
        found = frame[frame["spectrum"] == name].groupby("depth")["value"].agg(["mean", "min", "max"])
        ax.plot(found.index, found["mean"], "o-", color=colour, label=f"effective rank, {label}")
        ax.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.18, lw=0)
    ax.axhline(width, color=COLOURS["black"], ls="--", lw=1.2, label="hard rank")
    ticks = sorted(frame["depth"].unique())
    ax.set(xscale="log", yscale="log", xlabel="factors in the product", ylabel="rank")
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.minorticks_off()
    ax.legend()
    return figure


def spectra_figure(spectra: Mapping[str, Mapping[str, np.ndarray]], tolerance: float) -> Figure:
    """Covariance eigenvalues by activation, one panel an input scale; the legend counts those above a tolerance.

    spectra[panel title][activation] = eigenvalues, descending.
    """
    figure, axes = plt.subplots(1, len(spectra), figsize=(9.6, 3.8), layout="constrained", sharey=True)
    for ax, (title, found) in zip(axes, spectra.items(), strict=True):
        for name, values in found.items():
            label, colour, *line = FUNCTIONS[name]
            relative = values / values[0]
            count = int((relative > tolerance).sum())
            line = line[0] if line else "-"
            ax.plot(np.arange(1, len(values) + 1), relative, color=colour, ls=line, label=f"{label}: rank {count}")
        ax.axhline(tolerance, color=COLOURS["black"], lw=1.2)
        ax.axhspan(1e-8, tolerance, color=COLOURS["grey"], alpha=0.12, lw=0)
        ax.set(yscale="log", ylim=(2e-7, 1.5), xlabel="eigenvalue number", ylabel="eigenvalue / largest", title=title)
        ax.minorticks_off()  # more than a hundred, which no reader needs and a moving slider would wait for
        ax.legend(title=f"above {tolerance:.0e}", loc="lower left")
    axes[1].set_ylabel("")
    return figure


def remainder_figure(frame: pd.DataFrame) -> Figure:
    """|(1 + alpha) eps - (1 - c)| against eps for each activation (columns eps, activation, value, predicted)."""
    figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for (name, rows), colour in zip(frame.groupby("activation", sort=False), COLOURS.values(), strict=False):
        ax.plot(rows["eps"], rows["value"], "o", color=colour, ms=4, label=name)
        ax.plot(rows["eps"], rows["predicted"], color=colour, lw=1.3)
    ax.set(xscale="log", yscale="log", xlabel="$\\varepsilon$", ylabel="$|(1 + \\alpha)\\varepsilon - (1 - c)|$")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def formula_figure(frame: pd.DataFrame) -> Figure:
    """Effective rank after over before the activation, against eps: simulation, exact, paper's formula.

    Columns eps, activation, centred, kind (exact | paper | matched | simulated), value; one column of panels an
    activation; covariance above, second moments below.
    """
    styles = {
        "exact": ("exact", COLOURS["black"], "-"),
        "matched": ("paper's formula, α centred as the matrix is", COLOURS["blue"], "--"),
        "paper": ("paper's formula, α un-centred", COLOURS["orange"], ":"),
    }
    names = list(frame["activation"].unique())
    figure, axes = plt.subplots(2, len(names), figsize=(11, 5), layout="constrained", sharex=True, sharey="row")
    for (centred, title), row in zip(((True, "covariance"), (False, "second moments")), axes, strict=True):
        for name, ax in zip(names, row, strict=True):
            part = frame[(frame["activation"] == name) & (frame["centred"] == centred)]
            for kind, (label, colour, line) in styles.items():
                rows = part[part["kind"] == kind]
                ax.plot(rows["eps"], rows["value"], ls=line, color=colour, label=label)
            rows = part[part["kind"] == "simulated"]
            ax.plot(rows["eps"], rows["value"], "o", color=COLOURS["green"], ms=4.5, label="simulated")
            ax.set(xscale="log", title=FUNCTIONS[name][0], ylim=(0.7, 1.9) if centred else (0.15, 1.35))
        row[0].set_ylabel(f"{title}:\nrank after / before")
    for ax in axes[1]:
        ax.set_xlabel("$\\varepsilon$")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def gain_figure(frame: pd.DataFrame, spectra: Mapping[float, np.ndarray]) -> Figure:
    """tanh(a x): covariance spectrum at each gain (left), effective rank against the gain (right, one dot a seed)."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(spectra)))
    for (gain, values), shade in zip(spectra.items(), shades, strict=True):
        axes[0].plot(
            np.arange(1, len(values) + 1), values / values.sum(), "o-", ms=3, color=shade, label=f"a = {gain:g}"
        )
    axes[0].set(yscale="log", xlabel="eigenvalue number", ylabel="share of the trace", ylim=(1e-6, 1), title="Spectrum")
    axes[0].legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    axes[1].plot(frame["gain"], frame["value"], "o", color=COLOURS["grey"], ms=4)
    axes[1].plot(frame.groupby("gain")["value"].mean(), color=COLOURS["blue"])
    axes[1].set(xscale="log", xlabel="gain $a$", ylabel="effective rank (covariance)", title="Effective rank")
    return figure
