"""Figures of the stability chapter."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.figures.style import COLOURS, curves

METHODS = {
    "tanh": ("tanh", COLOURS["blue"]),
    "gelu": ("GELU", COLOURS["orange"]),
    "relu": ("ReLU", COLOURS["green"]),
}
MARKERS = {"tanh": "o", "gelu": "s", "relu": "^"}
_LINEAR = 1e-3  # eigenvalues below this size are drawn on a linear axis


def metric(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one metric."""
    return frame[frame["metric"] == name]


def answer_figure(escape: pd.DataFrame, spectra: pd.DataFrame, *, switch: int, spectra_switch: int) -> Figure:
    """Left: distance of perturbed clones, measured and predicted. Right: the most negative normal curvature."""
    figure, axes = plt.subplots(1, 2, figsize=(10.4, 3.9), layout="constrained")
    for method, (label, colour) in METHODS.items():
        for seed, rows in escape[escape["method"] == method].groupby("seed"):
            predicted, measured = metric(rows, "predicted"), metric(rows, "distance")
            first = label if seed == escape["seed"].min() else None
            axes[0].plot(predicted["step"], predicted["value"], color=colour, lw=1, label=first)
            dots = measured.iloc[:: max(len(measured) // 12, 1)]
            axes[0].plot(dots["step"], dots["value"], MARKERS[method], ms=4, color=colour, mfc="white", mew=1)
    axes[0].set(yscale="log", xlabel="training step", ylabel="distance / distance at start")
    axes[0].set_title("Escape: measured (symbols), predicted (lines)")
    negative = metric(spectra, "lambda_min").assign(value=lambda rows: -rows["value"])
    curves(axes[1], negative, methods=METHODS, ylabel="$-\\lambda_{\\min}$", xlabel="training step",
           title="Most negative normal curvature")  # fmt: skip
    axes[1].set_yscale("log")
    for ax, at in zip(axes, (switch, spectra_switch), strict=True):
        _mark(ax, at, "task switch")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def spectra_figure(spectra: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Sorted eigenvalues, a panel an activation, a line a moment: spectra[method][moment] has shape (n,)."""
    figure, axes = plt.subplots(1, len(spectra), figsize=(10.4, 3.5), layout="constrained", sharey=True)
    for ax, (method, moments) in zip(axes, spectra.items(), strict=True):
        for (moment, values), colour in zip(moments.items(), COLOURS.values(), strict=False):
            ax.plot(np.linspace(0, 1, len(values)), values, color=colour, label=moment)
        ax.set(xlabel="share of directions", title=METHODS[method][0])
        _curvature_axis(ax)
    axes[0].set_ylabel("eigenvalue")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def residual_figure(frame: pd.DataFrame) -> Figure:
    """Largest curvature against rms residual, both logarithmic, one symbol a probe; the dashed line has slope 1."""
    figure, ax = plt.subplots(figsize=(6.2, 4.2), layout="constrained")
    wide = frame.pivot_table("value", ["method", "seed", "step"], "metric").reset_index()
    wide["largest"] = np.maximum(-wide["lambda_min"], wide["lambda_max"])
    for method, (label, colour) in METHODS.items():
        rows = wide[wide["method"] == method]
        ax.plot(rows["residual"], rows["largest"], MARKERS[method], ms=5, color=colour, mfc="none", label=label)
    middle = np.exp(np.log(wide["largest"] / wide["residual"]).median())
    ends = np.array([wide["residual"].min(), wide["residual"].max()])
    ax.plot(ends, middle * ends, "--", color=COLOURS["black"], lw=1, label="proportional")
    ax.set(xscale="log", yscale="log", xlabel="rms residual", ylabel="largest $|\\lambda|$")
    ax.legend()
    return figure


def rates_figure(windows: pd.DataFrame) -> Figure:
    """Escape rate against minus the smallest eigenvalue: of the Hessian of the moment and of the averaged one."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained", sharey=True)
    panels = (("lambda_now", "Hessian of the moment"), ("lambda_mean", "Hessian averaged over the window"))
    for ax, (column, title) in zip(axes, panels, strict=True):
        for method, (label, colour) in METHODS.items():
            rows = windows[windows["method"] == method]
            ax.plot(-rows[column], rows["rate"], MARKERS[method], ms=5, color=colour, mfc="none", label=label)
        top = 1.05 * float(windows["rate"].max())
        ax.plot([0, top], [0, top], "--", color=COLOURS["black"], lw=1, label="rate = $-\\lambda_{\\min}$")
        ax.set(xlabel="$-\\lambda_{\\min}$", title=title, ylim=(min(0, windows["rate"].min()) - 0.01, top))
    axes[0].set_ylabel("escape rate (per step / learning rate)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def drift_figure(drifts: pd.DataFrame) -> Figure:
    """Distance from a curved and from an affine manifold against the learning rate, columns manifold, lr, drift."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
    for ax, kind, colour in zip(axes, ("curved", "affine"), (COLOURS["orange"], COLOURS["blue"]), strict=True):
        rows = drifts[drifts["manifold"] == kind]
        rates = np.sort(rows["lr"].unique())
        ax.plot(rows["lr"], rows["drift"], "o", ms=5, color=colour, mfc="none")
        ax.set(xscale="log", yscale="log", xlabel="learning rate", title=f"{kind.capitalize()} manifold")
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.minorticks_off()
    curved = drifts[drifts["manifold"] == "curved"]
    middle = np.exp(np.log(curved["drift"] / curved["lr"]).mean())
    ends = np.array([curved["lr"].min(), curved["lr"].max()])
    axes[0].plot(ends, middle * ends, "--", color=COLOURS["black"], lw=1, label="proportional to the rate")
    axes[0].set_ylabel("drift off the manifold")
    axes[0].legend()
    axes[1].set_ylim(1e-17, 1e-13)
    return figure


def kicks_figure(frame: pd.DataFrame) -> Figure:
    """Measured (solid) and predicted (dashed) distance of clones pushed apart by much more than rounding."""
    figure, ax = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    for method in ("gelu", "relu"):
        label, colour = METHODS[method]
        for seed, rows in frame[frame["method"] == method].groupby("seed"):
            first = seed == frame["seed"].min()
            for name, line in (("distance", "-"), ("predicted", "--")):
                part = metric(rows, name)
                word = "measured" if name == "distance" else "predicted"
                ax.plot(
                    part["step"], part["value"], line, color=colour, lw=1.3, label=f"{label}, {word}" if first else None
                )
    ax.set(yscale="log", xlabel="training step", ylabel="distance / distance at start")
    ax.legend()
    return figure


def moment_figure(
    step: int, spectra: Mapping[int, np.ndarray], residuals: Mapping[int, float], *, switch: int
) -> Figure:
    """One moment of training: its normal spectrum, and where it lies on the curves of residual and curvature."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    values = np.asarray(spectra[step])
    place = np.linspace(0, 1, len(values))
    for sign, colour, name in ((values < 0, COLOURS["orange"], "escape"), (values > 0, COLOURS["blue"], "return")):
        axes[0].fill_between(place, np.where(sign, values, 0), 0, color=colour, alpha=0.6, lw=0, label=name)
    axes[0].set(xlabel="share of directions", ylabel="eigenvalue", title=f"Normal spectrum at step {step}")
    _curvature_axis(axes[0])
    axes[0].set_ylim(-12, 12)
    axes[0].legend(loc="upper left")
    steps = list(spectra)
    smallest = [-float(np.min(spectra[at])) for at in steps]
    axes[1].plot(steps, [residuals[at] for at in steps], color=COLOURS["grey"], label="rms residual")
    axes[1].plot(steps, smallest, color=COLOURS["orange"], label="$-\\lambda_{\\min}$")
    axes[1].plot([step, step], [residuals[step], -float(values.min())], "o", color=COLOURS["black"], ms=6)
    axes[1].set(yscale="log", xlabel="training step", title="Where we are")
    _mark(axes[1], switch, "task switch")
    axes[1].legend(loc="lower left")
    return figure


def _curvature_axis(ax: Axes) -> None:
    ax.set_yscale("symlog", linthresh=_LINEAR)
    ticks = [-10, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 10]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _mark(ax: Axes, step: int, text: str) -> None:
    """A dotted vertical line at `step`, labelled at the top."""
    ax.axvline(step, color=COLOURS["grey"], ls=":", lw=1.2)
    ax.annotate(text, (step, 1), xycoords=("data", "axes fraction"), xytext=(-4, -2), textcoords="offset points",
                rotation=90, va="top", ha="right", fontsize=8, color=COLOURS["grey"])  # fmt: skip
