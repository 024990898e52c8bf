"""One look for every figure: colour-blind safe, vector graphics, the same bytes for the same data."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

from lop_utils.evidence.stats import summarise

# Okabe & Ito's palette, dark enough on white for lines; yellow left out
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#A5528F",
    "sky": "#3A9BD1",
    "gold": "#B87A00",
    "grey": "#5F6368",
    "black": "#111111",
}

RC = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(COLOURS.values())),
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.grid": True,
    "grid.color": "#E3E5E8",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.size": 10,
    "svg.hashsalt": "lop-book",
    "svg.fonttype": "path",
}


def use() -> None:
    """Set the book's figure style; inside IPython also vector output with no date in it.

    >>> use()
    """
    mpl.rcParams.update(RC)
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    if get_ipython() is not None:
        set_matplotlib_formats("svg", metadata={"Date": None})


def curves(
    ax: Axes, frame, *, methods: Mapping[str, tuple[str, str]], ylabel: str, xlabel: str = "steps", title: str = ""
) -> None:
    """Mean over seeds of value against step, a line with its 95% interval for each method of `frame` (`summarise`).

    `methods` maps a method's name to its (label, colour, optional line style); methods that `frame` lacks are left out,
    and values that are not finite.
    """
    shown = frame[frame["method"].isin(methods) & np.isfinite(frame["value"])]
    lines(ax, summarise(shown, ["method", "step"]), methods=methods)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)


def lines(ax: Axes, summary, *, methods: Mapping[str, tuple[str, str]]) -> None:
    """The lines and bands of `curves`, of a frame by method and step that has been summarised (mean, low, high)."""
    for name, (label, colour, *style) in methods.items():
        line = summary[summary["method"] == name]
        if len(line):
            ax.plot(line["step"], line["mean"], color=colour, ls=style[0] if style else "-", label=label)
            ax.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.18, lw=0)
