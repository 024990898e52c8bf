import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle

from lop_utils.experiments import metric_lab
from lop_utils.experiments.specimens import GROUPS
from lop_utils.figures import metric_lab as figures


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def tidy(rows):
    return pd.DataFrame(rows, columns=["method", "seed", "step", "layer", "metric", "value"])


def test_the_definitions_figure_writes_percentages_and_frames_what_should_be_marked():
    rows = [(name, 0, 0, group, "share", 0.25) for name in metric_lab.DEFINITIONS for group in GROUPS]
    ax = figures.definitions_figure(tidy(rows), truth=metric_lab.TRUTH).axes[0]
    assert {text.get_text() for text in ax.texts} == {"25"}
    frames = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert [(p.get_y(), p.get_width()) for p in frames] == [
        (y, len(groups)) for y, groups in enumerate(metric_lab.TRUTH.values())
    ]
    sokar = list(metric_lab.DEFINITIONS).index("dormant, Sokar τ = 0.1")
    assert GROUPS[int(frames[sokar].get_x())] == "quiet" and frames[sokar].get_width() == 3


def test_the_threshold_figure_counts_what_lies_beyond_the_threshold():
    pairs = {"cosine": {"relu": (torch.tensor([0.1, 0.6, 0.7, 0.8]), torch.tensor([0.4, 0.9]))}}
    ax = figures.threshold_figure(pairs, 0.65).axes[0]
    assert " 50% /  50%" in {text.get_text() for text in ax.texts}


def test_the_batch_and_training_figures_draw_the_mean_of_the_seeds():
    rows = [(state, s, n, "mean", "saturated", s * n) for state in figures.STATES for s in (0, 1) for n in (4, 16)]
    rows += [(state, s, n, "mean", "frozen", 0.0) for state in figures.STATES for s in (0, 1) for n in (4, 16)]
    ax = figures.batch_figure(tidy(rows)).axes[0]
    assert [list(line.get_ydata()) for line in ax.lines] == [[2, 8]] * 3 + [[0, 0]]

    names = [*figures.DYING, *figures.TWINS, *figures.RANKS]
    rows = [("relu", s, t, "mean", name, 1 + s + t) for name in names for s in (0, 1) for t in (0, 5)]
    rows += [("relu", s, t, "hidden.2", name, 1 + s) for name in figures.COLLAPSE for s in (0, 1) for t in (0, 5)]
    drawn = [len(ax.lines) for ax in figures.training_figure(tidy(rows), last="hidden.2").axes]
    assert drawn == [len(group) for group in (figures.DYING, figures.TWINS, figures.RANKS, figures.COLLAPSE)]


def test_the_ranks_figure_shows_each_rank_raw_and_centred():
    rows = pd.DataFrame({"metric": ["a_raw", "a_centred", "a_raw", "a_centred"], "value": [3.0, 40.0, 5.0, 42.0]})
    ax = figures.ranks_figure(rows, names={"a": "rank a"}).axes[0]
    assert [line.get_xdata()[0] for line in ax.lines] == [4.0, 41.0]
