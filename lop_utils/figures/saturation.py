"""Figures of the saturation chapter that come from theory: families of modulated activations, maps, spectra, boxes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.figures.style import COLOURS
from lop_utils.theory.modulation import ModulationMap

Array = np.ndarray
QUIET = 1e-4  # |f'| below this counts as frozen in the figures


def tradeoff(ax: Axes, families: Mapping[str, tuple[Array, Array]], *, styles: Mapping[str, tuple[str, str]]) -> None:
    """Frozen share against centred alpha, one line a family; `styles` maps each to (colour, line style or marker)."""
    for name, (alpha, frozen) in families.items():
        colour, style = styles[name]
        line = {"ls": style} if style in ("-", "--", ":", "-.") else {"ls": "", "marker": style, "ms": 9}
        ax.plot(alpha, frozen, color=colour, label=name, **line)
    ax.set(
        xscale="log", xlabel="rank recovery strength α (centred)", ylabel="frozen share of inputs", ylim=(-0.04, 1.04)
    )


def families_figure(
    columns: Mapping[str, tuple[str, Array]], alpha: Mapping[str, Array], law: Mapping[str, Array],
    frozen: Mapping[str, Array], simulated: Mapping[str, Array],
) -> Figure:  # fmt: skip
    """Top: alpha and its asymptotic law; bottom: exact and simulated frozen share; one column a family.

    `columns` maps a family to its axis label and parameter values; the others give values at them, by family.
    """
    figure, axes = plt.subplots(2, len(columns), figsize=(4.6 * len(columns), 5.4), layout="constrained", sharex="col")
    for (top, bottom), (name, (label, values)) in zip(axes.T, columns.items(), strict=True):
        top.plot(values, alpha[name], color=COLOURS["blue"], label="α, un-centred")
        top.plot(values, law[name], color=COLOURS["orange"], ls="--", label="law")
        top.set(title=name, ylabel="α")
        bottom.plot(values, frozen[name], color=COLOURS["blue"], label="exact")
        bottom.plot(values, simulated[name], color=COLOURS["black"], ls="", marker=".", label="simulated")
        bottom.set(xlabel=label, ylabel="frozen share", ylim=(-0.04, 1.04))
        if values.min() > 0:
            bottom.set_xscale("log")
            top.set(yscale="log", ylim=(0.02, None))
        else:
            bottom.invert_xaxis()
        top.legend()
        bottom.legend(loc="lower right")
    return figure


def counterexamples_figure(families: Mapping[str, tuple[Array, Array]]) -> Figure:
    """P(|h'| < 0.1) against alpha for families in which alpha grows without bound."""
    figure, ax = plt.subplots(figsize=(6.6, 3.7), layout="constrained")
    styles = [("blue", "-"), ("sky", "-"), ("green", "-"), ("orange", "--"), ("purple", "--")]
    for (name, (alpha, share)), (colour, style) in zip(families.items(), styles, strict=True):
        ax.plot(alpha, share, label=name, color=COLOURS[colour], ls=style)
    ax.set(xscale="log", xlabel="α (centred)", ylabel="$P(|h'(z)| < 0.1)$", ylim=(-0.04, 1.04))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def maps_figure(maps: Mapping[str, ModulationMap], *, shifts: Mapping[str, str]) -> Figure:
    """One row an activation, four maps over gain a (log) and shift b; `shifts` gives the form of each modulation."""
    panels = [("alpha", "α, un-centred"), ("alpha_as_coded", "α by the public code's rule"),
              ("alpha_centred", "α, centred"), ("frozen", "frozen share")]  # fmt: skip
    figure, axes = plt.subplots(len(maps), 4, figsize=(10.4, 2.3 * len(maps)), layout="constrained", sharex=True)
    for ax in axes[-1]:
        ax.set_xlabel("gain a")
    for row, (name, found) in zip(axes, maps.items(), strict=True):
        for ax, (attribute, title) in zip(row, panels, strict=True):
            values = getattr(found, attribute)  # (gains, shifts)
            strength = attribute != "frozen"
            image = ax.pcolormesh(
                found.a, found.b, np.log10(1 + values.clip(0, 100)).T if strength else values.T, rasterized=True,
                cmap="viridis" if strength else "magma", vmin=0, vmax=np.log10(101) if strength else 1,
            )  # fmt: skip
            ax.set(xscale="log")
            ax.minorticks_off()
            ax.grid(False)
            if name == next(iter(maps)):
                ax.set_title(title, fontsize=10)
            if attribute == "alpha":
                ax.set_ylabel(f"{shifts[name]}\nshift b")
            if strength and attribute == "alpha":
                scale = image
    ticks = np.array([0, 1, 3, 10, 30, 100])
    bar = figure.colorbar(
        scale, ax=axes[:, :3], location="bottom", shrink=0.6, aspect=40, label="α (negative: as 0; above 100: as 100)"
    )
    bar.set_ticks(np.log10(1 + ticks), labels=[str(t) for t in ticks])
    figure.colorbar(image, ax=axes[:, 3], location="bottom", aspect=14, label="frozen share")
    return figure


def spectrum_figure(gains: Sequence[float], spectra: Mapping[float, Array], ranks: Array, limit: float) -> Figure:
    """Left: normalised covariance eigenvalues of tanh(a x) for some gains; right: effective rank against the gain."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(spectra)))
    for (gain, values), colour in zip(spectra.items(), colours, strict=True):
        left.plot(range(1, len(values) + 1), values, color=colour, marker=".", label=f"a = {gain:g}")
    left.set(yscale="log", xlabel="index", ylabel="share of variance", title="Spectrum of tanh(a x)", ylim=(1e-8, 1))
    left.set_xticks(range(1, len(values) + 1, 3))
    left.legend()
    right.plot(gains, ranks, color=COLOURS["blue"])
    right.axhline(limit, color=COLOURS["grey"], ls=":", label="sign(x)")
    right.set(xscale="log", xlabel="gain a", ylabel="effective rank", title="Effective rank")
    right.legend(loc="lower right")
    return figure


def gain_figure(gain: float, gains: Array, curves: Mapping[str, Array]) -> Figure:
    """tanh(a z) at one gain: the activation over its Gaussian input, and `curves` over `gains` with this gain marked.

    The region where |f'(a z)| < 1e-4 is shaded. Values at `gain` are interpolated in the logarithm of the gain.
    """
    figure, axes = plt.subplots(1, 1 + len(curves), figsize=(10.4, 3.2), layout="constrained")
    left, z = axes[0], np.linspace(-4, 4, 801)
    end = np.arctanh(np.sqrt(1 - QUIET)) / gain
    left.fill_between(z, np.exp(-(z**2) / 2), color=COLOURS["grey"], alpha=0.25, lw=0, label="density of z, peak 1")
    if end < 4:
        left.axvspan(-4, -end, color=COLOURS["orange"], alpha=0.18, lw=0, label="frozen")
        left.axvspan(end, 4, color=COLOURS["orange"], alpha=0.18, lw=0)
    left.plot(z, np.tanh(gain * z), color=COLOURS["blue"], label="h(z)")
    left.set(xlabel="z", xlim=(-4, 4), ylim=(-1.1, 1.1), title=f"h(z) = tanh({gain:g} z)")
    left.legend(loc="upper left", fontsize=8)
    for ax, (label, values) in zip(axes[1:], curves.items(), strict=True):
        at = float(np.interp(np.log(gain), np.log(gains), values))
        ax.plot(gains, values, color=COLOURS["blue"])
        ax.plot([gain], [at], "o", color=COLOURS["orange"], ms=8)
        ax.set(xscale="log", xlabel="gain a", title=f"{label} = {at:.3g}")
        if label == "α":
            ax.set_yscale("log")
        ax.minorticks_off()  # each minor tick of a log axis costs time in every frame
    return figure


def box_figure(units: Mapping[str, tuple[Array, float]], samples: Array) -> Figure:
    """For ReLU units with two inputs: where each fires (shaded), the unit square, and the data (samples, 2)."""
    figure, axes = plt.subplots(1, len(units), figsize=(3.2 * len(units), 3.3), layout="constrained", sharey=True)
    x, y = np.meshgrid(np.linspace(-0.25, 1.25, 301), np.linspace(-0.25, 1.25, 301))
    for ax, (title, (w, b)) in zip(axes, units.items(), strict=True):
        z = w[0] * x + w[1] * y + b
        ax.contourf(x, y, z, levels=[0, np.inf], colors=[COLOURS["orange"]], alpha=0.3)
        ax.contour(x, y, z, levels=[0], colors=[COLOURS["orange"]], linewidths=1.5)
        ax.add_patch(plt.Rectangle((0, 0), 1, 1, fill=False, color=COLOURS["black"], lw=1.5))
        ax.plot(*samples.T, ".", color=COLOURS["blue"], ms=3)
        top = (np.array(w) > 0).astype(float)
        ax.plot(*top, marker="*", ms=13, color=COLOURS["black"], clip_on=False)
        ax.set(title=title, xlabel="$x_1$", aspect="equal", xlim=(-0.25, 1.25), ylim=(-0.25, 1.25))
        ax.grid(False)
    axes[0].set_ylabel("$x_2$")
    return figure
