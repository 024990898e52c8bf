"""Figures of the chapter on open questions show the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lop_utils.figures import open_questions as figures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_gaps_are_ordered_with_means_and_a_mark_at_the_fresh_networks():
    frame = pd.DataFrame({"method": ["a", "a", "b", "b"], "seed": [0, 1] * 2, "value": [1.0, 3.0, 0.0, 0.5]})
    ax = figures.gaps_figure([("title", "gap", frame, {"a": "first"})]).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "first"]
    means = next(line for line in ax.lines if line.get_marker() == "o")
    assert means.get_xdata().tolist() == [0.25, 2.0]
    assert any(list(line.get_xdata()) == [0, 0] for line in ax.lines)


def test_the_hyperbola_is_the_level_set_of_the_start():
    path = np.array([[1.9, -1.0], [1.0, 0.5]])
    left, right = figures.hyperbola_figure(path, rate=0.1).axes
    w, a = left.lines[0].get_data()
    assert np.nanmax(np.abs(np.square(w) - np.square(a) - (1.9**2 - 1))) < 1e-9
    assert right.lines[0].get_ydata() == pytest.approx([1.9**2 - 1, 0.75])


def test_the_sweep_draws_a_colour_a_shape_in_order_of_size_and_triangles_after_the_switch():
    rows = [(m, layer, 0, step, metric, value) for m, layer in (("tanh 2 x 16", "centre"), ("tanh 2 x 8", "width"))
            for step in (0, 5, 6) for metric, value in (("residual", 1.0 + step), ("lambda_min", -0.1))]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "layer", "seed", "step", "metric", "value"])
    width = figures.sweep_figure(frame, switch=5).axes[2]
    assert [text.get_text() for text in width.get_legend().get_texts()] == ["8 units", "16 units"]
    triangles = [line for line in width.lines if line.get_marker() == "^"]
    assert [line.get_xdata().tolist() for line in triangles] == [[7.0], [7.0]]
