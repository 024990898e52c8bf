"""Figures on recovery: dead units that come back, and worn networks beside fresh ones."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_utils.evidence.stats import interval
from lop_utils.experiments.recovery import further_rows, gaps, values
from lop_utils.experiments.recovery_remedies import FRESH, ONCE, ONGOING, REMEDIES, WORN
from lop_utils.experiments.revival_arms import ARMS
from lop_utils.figures.style import COLOURS, curves

WHEN = {ONCE: COLOURS["blue"], ONGOING: COLOURS["gold"], WORN: COLOURS["black"]}


def label(method: str) -> str:
    """A method's label in the figures."""
    return {WORN: "worn, nothing done", FRESH: "fresh for each task"}.get(method) or REMEDIES[method].label


def revival_figure(frame: pd.DataFrame, panels: Mapping[str, tuple[str, str]]) -> Figure:
    """Share of killed units that fire at the end, an arm a row; panels: title -> (case, layer).

    Mean over seeds with its 95% interval; a cross stands for units none of whose weights has moved at all in any seed.
    """
    names = [name for name in ARMS if name in set(frame["method"]) and ARMS[name].killed]
    size = (2.3 * len(panels) + 2.2, 0.29 * len(names) + 1.2)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, (title, (case, layer)) in zip(axes[0], panels.items(), strict=True):
        rows = frame[(frame["task"] == case) & (frame["layer"] == layer)]
        _revived(ax, rows[rows["step"] == rows["step"].max()], names)
        ax.set(xlim=(-0.05, 1.05), xlabel="share firing again")
        ax.set_title(title, fontsize=9.5)
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(names)), labels=[ARMS[name].label for name in names])
    axes[0, 0].invert_yaxis()
    dot = plt.Line2D([], [], color=COLOURS["blue"], marker="o", ls="-", label="mean and 95% interval")
    cross = plt.Line2D([], [], color=COLOURS["orange"], marker="X", ls="", ms=7, label="no weight of a dead row moved")
    figure.legend(handles=[dot, cross], loc="outside lower center", ncols=2)
    return figure


def _revived(ax: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    for at, name in enumerate(names):
        part = rows[rows["method"] == name].pivot(index="seed", columns="metric", values="value")
        if part.empty:
            continue
        if (part["moved"] == 0).all():
            ax.plot(0, at, "X", color=COLOURS["orange"], ms=7)
            continue
        found = interval(part["alive_again"])
        ax.plot([found.low, found.high], [at, at], color=COLOURS["blue"], lw=2)
        ax.plot(found.estimate, at, "o", color=COLOURS["blue"], ms=5)


def wake_figure(frame: pd.DataFrame) -> Figure:
    """Share of the first layer's killed units that fire, against the step, where weights or biases decay."""
    rows = frame[(frame["layer"] == "hidden.0") & (frame["metric"] == "alive_again")]
    predicted = frame[(frame["layer"] == "hidden.0") & (frame["metric"] == "alive_predicted")]
    shown = {
        "bias decay": ("biases decay", COLOURS["blue"]),
        "decay": ("weights and biases decay", COLOURS["black"]),
        "weight noise": ("weight noise", COLOURS["gold"]),
    }
    figure, ax = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
    curves(ax, rows, methods=shown, ylabel="share firing again", xlabel="steps")
    means = predicted.groupby("step")["value"].mean()
    ax.plot(means.index, means, "X", ms=6, color=COLOURS["orange"], label="biases decay, predicted")
    ax.set_ylim(-0.03, 1.03)
    ax.legend(fontsize=8)
    return figure


def gap_figure(frame: pd.DataFrame, metrics: Mapping[str, str]) -> Figure:
    """Gap to fresh networks, a method a row from best to worst; panels: metric -> label. Zero is fresh.

    A dot a seed, the mean over the further tasks and its 95% interval, paired by seed.
    """
    tables = {metric: gaps(frame, metric) for metric in metrics}
    names = list(next(iter(tables.values())).groupby("method")["value"].mean().sort_values().index)
    size = (2.5 * len(metrics) + 2.2, 0.28 * len(names) + 1.3)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, (metric, table) in zip(axes[0], tables.items(), strict=True):
        for at, name in enumerate(names):
            seeds, colour = table.loc[table["method"] == name, "value"], _colour(name)
            found = interval(seeds)
            ax.plot(seeds, [at] * len(seeds), "o", ms=3, color=colour, alpha=0.4, mew=0)
            ax.plot([found.low, found.high], [at, at], color=colour, lw=2)
            ax.plot(found.estimate, at, "o", color=colour, ms=5.5)
        ax.axvline(0, color=COLOURS["orange"], lw=1.4)
        ax.set_xlabel(metrics[metric])
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(names)), labels=[label(name) for name in names])
    axes[0, 0].invert_yaxis()
    handles = [plt.Line2D([], [], color=c, marker="o", ls="", label=f"done {when}") for when, c in WHEN.items()]
    handles[-1].set_label("nothing done")
    handles.append(plt.Line2D([], [], color=COLOURS["orange"], label="fresh"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _colour(method: str) -> str:
    return WHEN[method if method == WORN else REMEDIES[method].when]


def stream_figure(frame: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Left, accuracy at the task's end over the stream; right, the learning curve within a further task, their mean."""
    palette = [COLOURS[name] for name in ("blue", "green", "purple", "gold", "sky", "grey")]
    styles = {name: (label(name), colour) for name, colour in zip(methods, palette, strict=False)}
    styles = {WORN: (label(WORN), COLOURS["black"]), **styles, FRESH: (label(FRESH), COLOURS["orange"])}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained", width_ratios=[1.5, 1])
    ended = frame[frame["metric"] == "accuracy"]
    curves(left, ended, methods=styles, ylabel="accuracy at the task's end", xlabel="task", title="The stream")
    left.axvline(ended.loc[ended["method"] == FRESH, "step"].min() - 0.5, color=COLOURS["grey"], lw=1, ls=":")
    within = further_rows(frame)
    within = within[within["metric"] == "learning_accuracy"]
    within = within.assign(step=within["layer"].str.removeprefix("after ").astype(int))
    within = within.groupby(["method", "seed", "step"], as_index=False)["value"].mean()
    curves(right, within, methods=styles, ylabel="accuracy on the task", xlabel="steps", title="Within a further task")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def state_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and further tasks, a method a row: what the networks achieve and what state they are in."""
    columns = {
        "accuracy": ("accuracy", None), "test": ("test_accuracy", None), "online": ("online_accuracy", None),
        "steps to threshold": ("steps_to_threshold", "all"), "dead": ("dead", None),
        "effective rank": ("effective_rank", None), "weight norm": ("weight_norm", "all"),
        "pre-activation sd": ("pre_activation_sd", None),
    }  # fmt: skip
    names = [name for name in (WORN, *REMEDIES, FRESH) if name in set(frame["method"])]
    cells = {
        title: [np.mean(values(frame, name, metric, layer=layer)) for name in names]
        for title, (metric, layer) in columns.items()
    }
    return pd.DataFrame(cells, index=pd.Index([label(name) for name in names], name="method"))
