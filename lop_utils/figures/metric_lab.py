"""Figures of the chapter on measuring plasticity."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from lop_utils.figures.style import COLOURS, curves

STATES = {
    "fresh": ("before training", COLOURS["blue"]),
    "trained": ("after training", COLOURS["orange"], "--"),
    "zeroed head": ("head zeroed", COLOURS["black"], ":"),
}
DYING = {
    "paper.dead": ("dead, paper", COLOURS["orange"]),
    "dohare.dead": ("dead, Dohare", COLOURS["black"]),
    "sokar.dormant": ("dormant, τ = 0.1", COLOURS["purple"], "--"),
    "sokar.dormant_025": ("dormant, τ = 0.025", COLOURS["gold"], ":"),
    "paper.saturated": ("saturated, paper", COLOURS["blue"]),
}
TWINS = {
    "paper.duplicate": ("paper: cosine > 0.95", COLOURS["orange"]),
    "paper_code.duplicate": ("its code: lower index", COLOURS["purple"], "--"),
    "book.duplicate": ("|Pearson| > 0.95", COLOURS["black"]),
    "book.redundancy": ("redundancy", COLOURS["green"], ":"),
}
RANKS = {
    "paper.effective_rank": ("effective rank, raw", COLOURS["orange"]),
    "book.effective_rank": ("effective rank, centred", COLOURS["black"]),
    "paper.stable_rank": ("participation ratio, centred", COLOURS["blue"], "--"),
    "dohare.stable_rank": ("99% of the sum, raw", COLOURS["green"], ":"),
}
COLLAPSE = {
    "nc1": ("NC1", COLOURS["orange"]),
    "nc2_angles": ("NC2, angles", COLOURS["blue"], "--"),
    "nc4": ("NC4", COLOURS["purple"], ":"),
    "weight_ratio": ("weights / start", COLOURS["black"]),
}


def definitions_figure(frame: pd.DataFrame, *, truth: Mapping[str, Sequence[str]]) -> Figure:
    """Share of each group of units (columns) that each definition (rows) marks; the groups it should mark are framed.

    `frame` has the columns method (the definition), layer (the group) and value; `truth` maps definitions to groups.
    """
    shares = frame.groupby(["method", "layer"], sort=False)["value"].mean().unstack(sort=False)
    groups = [group for group in shares if group != "all"]
    figure, ax = plt.subplots(figsize=(8.6, 0.38 * len(shares) + 1.2), layout="constrained")
    sns.heatmap(
        shares[groups], ax=ax, cmap="Blues", vmin=0, vmax=1.25, annot=100 * shares[groups], fmt=".0f", linewidths=1.5,
        cbar=False, annot_kws={"fontsize": 9},
    )  # fmt: skip
    for y, name in enumerate(shares.index):
        first = groups.index(truth[name][0])
        box = Rectangle((first, y), len(truth[name]), 1, fill=False, ec=COLOURS["orange"], lw=2.4, clip_on=False)
        ax.add_patch(box)
    ax.set(xlabel="", ylabel="", title="Units marked, in % of the group")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    return figure


def threshold_figure(similarities: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]], threshold: float) -> Figure:
    """Similarities of independent pairs (their range as a bar) and of near-copies (diamonds), with one threshold.

    similarities[panel][activation] = (values of independent pairs, values of near-copy pairs). At the right of each
    row stand the shares of both that lie above the threshold, in colour where most of either are judged wrongly.
    """
    figure, axes = plt.subplots(
        1, len(similarities), figsize=(10, 3.7), layout="constrained", sharey=True, squeeze=False
    )
    for ax, (panel, rows) in zip(axes[0], similarities.items(), strict=True):
        for y, (independent, copies) in enumerate(rows.values()):
            ax.plot([min(independent), max(independent)], [y, y], color=COLOURS["blue"], lw=6, solid_capstyle="round")
            ax.plot(copies, [y] * len(copies), "D", color=COLOURS["orange"], ms=4.5, mew=0)
            wrong, found = (float((values > threshold).double().mean()) for values in (independent, copies))
            colour = COLOURS["orange"] if wrong > 0.5 or found < 0.5 else COLOURS["black"]
            ax.text(1.09, y, f"{wrong:4.0%} / {found:4.0%}", va="center", fontsize=9, color=colour)
        ax.axvline(threshold, color=COLOURS["black"], lw=1.4)
        ax.axvspan(threshold, 1.05, color=COLOURS["grey"], alpha=0.12, lw=0)
        ax.text(1.09, -0.75, "indep. / copies", va="center", fontsize=8.5, color=COLOURS["grey"])
        ax.set(xlim=(-0.15, 1.05), ylim=(len(rows) - 0.4, -1.1), xlabel=panel, title=f"{panel} > {threshold:g}")
        ax.set_yticks(range(len(rows)), list(rows))
    handles = [
        plt.Line2D([], [], color=COLOURS["blue"], lw=6, label="independent units (all pairs)"),
        plt.Line2D([], [], color=COLOURS["orange"], marker="D", ls="", label="unit and its near-copy"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def batch_figure(frame: pd.DataFrame) -> Figure:
    """The paper's saturated share of three networks against the number of inputs it is measured on."""
    figure, ax = plt.subplots(figsize=(6.4, 3.5), layout="constrained")
    rows = frame[frame["metric"] == "saturated"]
    curves(ax, rows, methods=STATES, ylabel="share of units", xlabel="inputs in the batch")
    frozen = frame[frame["metric"] == "frozen"].groupby("step")["value"].max()
    ax.plot(frozen.index, frozen, color=COLOURS["green"], lw=3, label="truly frozen, all three")
    ax.set(xscale="log", ylim=(-0.04, 1.04), title="Saturated, as the paper defines it")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def ranks_figure(frame: pd.DataFrame, *, names: Mapping[str, str]) -> Figure:
    """Every rank metric of one matrix on one logarithmic axis; raw and centred activations side by side.

    `frame` has the columns metric and value; `names` maps a metric without its centring to its label.
    """
    values = frame.groupby("metric")["value"].mean()
    figure, ax = plt.subplots(figsize=(7.6, 3.3), layout="constrained")
    for centring, colour, marker in (("raw", COLOURS["orange"], "o"), ("centred", COLOURS["blue"], "D")):
        found = [values[f"{name}_{centring}"] for name in names]
        ax.plot(found, range(len(found)), marker, color=colour, ms=8, label=centring)
        for y, value in enumerate(found):
            ax.annotate(f"{value:.3g}", (value, y), xytext=(0, 8 if centring == "raw" else -15), ha="center",
                        textcoords="offset points", fontsize=8.5, color=colour)  # fmt: skip
    ax.set(xscale="log", xlabel="value on the same matrix", ylim=(len(names) - 0.4, -0.7), xlim=(2, 900))
    ax.set_yticks(range(len(names)), list(names.values()))
    ax.legend(title="activations", loc="lower left")
    return figure


def training_figure(frame: pd.DataFrame, *, last: str) -> Figure:
    """One network along its training through every definition: trouble, twins, ranks, collapse and growth."""
    panels: Sequence[tuple] = (
        ("Dying units", DYING, "share of units", "mean"),
        ("Duplicates", TWINS, "share of units", "mean"),
        ("Ranks", RANKS, "rank", "mean"),
        ("Collapse and growth", COLLAPSE, "value", None),
    )
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.6), layout="constrained")
    for ax, (title, methods, label, layer) in zip(axes.flat, panels, strict=True):
        rows = frame[frame["layer"].isin([last, "all"] if layer is None else [layer])]
        curves(ax, rows.assign(method=rows["metric"]), methods=methods, ylabel=label, title=title,
               xlabel="training steps")  # fmt: skip
        ax.legend(fontsize=8.5, loc="upper right", ncols=2 if title == "Ranks" else 1)
    axes[1, 0].set_ylim(0, 1.35 * axes[1, 0].get_ylim()[1])
    axes[1, 1].set_yscale("log")
    for ax in axes[0]:
        ax.set_ylim(bottom=-0.005)
    return figure
