import base64
import html
import io
import json
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from lop_utils.errors import UsageError
from lop_utils.evidence.stats import interval
from lop_utils.figures import cloning as figures
from lop_utils.figures import style
from lop_utils.figures.explorer import Explorable


def bar(height):
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.bar([0], [height])
    ax.set_ylim(0, 3)
    return figure


def test_frames_show_one_distinct_picture_a_value_of_which_only_the_first_chosen_is_visible():
    page = Explorable(bar, parameter="size <1>", values=[1, 2, 3], alt="the bar's <height>", start=1).frames().data
    pictures = re.findall(r"<img [^>]+>", page)
    assert len(set(re.findall(r'src="([^"]+)"', page))) == len(pictures) == 3
    assert [" hidden " in picture for picture in pictures] == [True, False, True]
    assert 'alt="size &lt;1&gt; = 2: the bar&#x27;s &lt;height&gt;"' in pictures[1]
    assert '<input type="range" min="0" max="2" step="1" value="1" aria-valuetext="2">' in page
    assert json.loads(html.unescape(re.search(r'data-labels="([^"]+)"', page).group(1))) == ["1", "2", "3"]
    assert "size <1>" not in page and not plt.get_fignums()


def test_a_live_version_draws_at_the_sliders_value_and_a_still_at_the_start():
    seen = []
    explorable = Explorable(lambda v: seen.append(v) or bar(v), parameter="h", values=[1, 2, 3], alt="a bar", start=2)
    live = explorable.live()
    live.children[0].index = 0
    assert seen[0] == 3 and seen[-1] == 1
    explorable.still()
    assert seen[-1] == 3


def test_a_live_version_finds_places_for_its_axes_once_and_keeps_them(monkeypatch):
    plt.close("all")
    executed = []
    plain = ConstrainedLayoutEngine.execute
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *a: executed.append(1) or plain(*a))

    def panels(count):
        figure, axes = plt.subplots(1, count, figsize=(4, 2), layout="constrained", squeeze=False)
        for ax in axes.flat:
            ax.set_ylabel("long\n" * count)
        return figure

    live = Explorable(panels, parameter="n", values=[2, 2.0, 3], alt="panels").live()
    slider, picture = live.children
    first = picture.value
    assert len(executed) == 1 and not plt.get_fignums()
    slider.index = 1  # the same picture, now at the places of the first
    assert len(executed) == 1 and picture.value == first
    slider.index = 2  # other axes: places are found anew
    assert len(executed) == 2 and picture.value != first


def test_a_live_picture_is_the_still_one_on_its_whole_canvas():
    figure = bar(2)
    figure.set_dpi(100)
    figure.canvas.draw()
    expected = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    plt.close(figure)
    value = Explorable(bar, parameter="h", values=[1, 2], alt="a bar", start=1).live().children[1].value
    data = base64.b64decode(re.search(r"base64,([^\"]+)", value).group(1))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)


@pytest.mark.parametrize(
    ("bad", "text"), [({"values": [1]}, "1 values"), ({"start": 5}, "start 5"), ({"alt": " "}, "no alt text")]
)
def test_an_explorable_without_a_choice_or_without_words_is_refused(bad, text):
    with pytest.raises(UsageError, match=text):
        Explorable(**{"draw": bar, "parameter": "h", "values": [1, 2], "alt": "a bar"} | bad)


def frame(methods):
    rows = [
        {"seed": s, "method": m, "step": t, "layer": layer, "metric": metric, "value": s + t}
        for s in (0, 1)
        for t in (0, 1)
        for m in methods
        for layer, metric in [("mean", "r2"), ("all", "train_loss"), ("mean", "effective_rank_singular_raw")]
    ]
    return pd.DataFrame(rows)


def test_the_escape_figure_draws_the_mean_over_seeds_of_every_method_it_is_given():
    figure = figures.escape_figure(frame(["base", "clone"]))
    for ax in figure.axes:
        assert len(ax.lines) == 2
        assert ax.lines[0].get_ydata().tolist() == [0.5, 1.5]
    plt.close(figure)


def test_the_drift_figure_keeps_exact_zeros_visible_on_its_logarithmic_axis():
    rows = pd.DataFrame({"start": ["a", "a", "b", "b"], "step": [0, 1, 0, 1], "distance": [0.0, 0.0, 1e-3, 1e-2]})
    figure = figures.drift_figure(rows)
    assert all((line.get_ydata() > figure.axes[0].get_ylim()[0]).all() for line in figure.axes[0].lines[:2])
    plt.close(figure)


def test_the_blocks_figure_uses_one_colour_scale_for_all_matrices():
    figure = figures.blocks_figure({"a": torch.eye(4), "b": 3 * torch.eye(4)}, blocks=2)
    assert {ax.images[0].get_clim() for ax in figure.axes[:2]} == {(-3.0, 3.0)}
    plt.close(figure)


def test_the_style_is_vector_graphics_with_a_fixed_salt():
    style.use()
    assert matplotlib.rcParams["svg.hashsalt"] == "lop-book"
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in style.COLOURS.values())


def test_curves_show_means_and_the_intervals_that_verdicts_use():
    rng = np.random.default_rng(0)
    rows = [(s, m, t, rng.normal()) for s in range(5) for m in ("a", "b", "unasked") for t in (0, 10)]
    data = pd.DataFrame(rows, columns=["seed", "method", "step", "value"])
    data.loc[(data["method"] == "b") & (data["seed"] == 4), "value"] = np.inf  # diverged: left out
    figure, ax = plt.subplots()
    style.curves(ax, data, methods={"a": ("A", "red"), "b": ("B", "blue", ":"), "absent": ("C", "k")}, ylabel="y")
    assert [line.get_label() for line in ax.lines] == ["A", "B"] and ax.lines[1].get_linestyle() == ":"
    for line, band, name in zip(ax.lines, ax.collections, "ab", strict=True):
        spreads = [
            interval(part[np.isfinite(part)]) for _, part in data[data["method"] == name].groupby("step")["value"]
        ]
        assert line.get_xdata().tolist() == [0, 10]
        assert line.get_ydata().tolist() == pytest.approx([spread.estimate for spread in spreads])
        corners = band.get_paths()[0].vertices
        for step, spread in zip((0, 10), spreads, strict=True):
            heights = corners[corners[:, 0] == step, 1]
            assert (heights.min(), heights.max()) == pytest.approx((spread.low, spread.high))
    style.curves(ax, data.iloc[:0], methods={"a": ("A", "red")}, ylabel="y")  # nothing to show
    plt.close(figure)
