"""Reading frames of streams, on made-up frames whose answers are known; and the figures that show them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import continual_reading as reading
from lop_utils.experiments.continual_settings import SETTINGS, setting
from lop_utils.figures import continual as figures

METHODS = {"none": ("continual", "#0072B2"), "fresh none": ("fresh", "#D55E00")}
TASKS = range(1, 11)


def _frame(arch="mlp"):
    rows = []
    for seed in (0, 1, 2):
        for step in TASKS:
            accuracy = 1 - step / 20 - seed / 100
            whole = {"accuracy": accuracy, "loss": 1 / accuracy, "diverged": float(seed == 2 and step > 8)}
            rows += [(arch, seed, "none", step, "all", metric, value) for metric, value in whole.items()]
            by_layer = {"hidden.0": 0.01 * step, "hidden.1": 0.05 * step}
            for metric in ("dead", "duplicate", "frozen"):
                rows += [(arch, seed, "none", step, layer, metric, value) for layer, value in by_layer.items()]
                rows.append((arch, seed, "none", step, "mean", metric, 0.03 * step))
            rank = 10 + step if step <= 5 else 20 - step
            rows.append((arch, seed, "none", step, "mean", "effective_rank", rank))
        rows.append((arch, seed, "fresh none", 10, "all", "accuracy", 0.9))
    return pd.DataFrame(rows, columns=["arch", "seed", "method", "step", "layer", "metric", "value"])


def test_change_is_the_mean_of_the_last_fifth_minus_that_of_the_first():
    assert reading.change(_frame(), "accuracy").tolist() == pytest.approx([-0.4] * 3)
    assert reading.change(_frame(), "dead", layer="hidden.1", relative=True).tolist() == pytest.approx(
        [9.5 / 1.5 - 1] * 3
    )


def test_a_curve_that_turns_has_a_rise_and_a_fall():
    rise, fall = reading.rise_and_fall(_frame(), "effective_rank")
    assert rise.tolist() == pytest.approx([15 / 11 - 1] * 3)
    assert fall.tolist() == pytest.approx([10.5 / 15 - 1] * 3)


def test_the_plasticity_gap_is_fresh_minus_continual_where_there_are_fresh_networks():
    found = reading.gap(_frame())
    assert found["step"].unique().tolist() == [10]
    assert sorted(found["value"]) == pytest.approx([0.4, 0.41, 0.42])


def test_correlation_can_be_taken_over_the_last_tasks_alone():
    assert reading.correlation(_frame(), "dead", "accuracy").tolist() == pytest.approx([-1.0] * 3)
    assert reading.correlation(_frame(), "dead", "effective_rank", last=0.5).tolist() == pytest.approx([-1.0] * 3)
    assert abs(reading.correlation(_frame(), "dead", "effective_rank").iloc[0]) < 0.5


def test_layer_spread_is_the_range_over_layers_without_their_mean():
    assert reading.layer_spread(_frame(), "dead").tolist() == pytest.approx([0.04 * 9.5] * 3)


def test_missing_rows_are_named():
    with pytest.raises(UsageError, match="no dead of layer"):
        reading.by_task(_frame(), "dead", method="layer")


def test_every_setting_fits_every_profile_and_unknown_ones_are_refused():
    for name in SETTINGS:
        for profile in ("smoke", "laptop", "paper"):
            config = setting(name, profile, 3)
            assert config.seeds[0] == 3
            assert max(config.diagnosed, default=0) <= config.tasks and max(config.fresh) <= config.tasks
    with pytest.raises(UsageError, match="setting"):
        setting("rnn", "smoke")


def test_figures_show_what_they_are_given():
    frame = _frame()
    figure = figures.grid(frame, ["accuracy", "dead", "effective_rank"], methods=METHODS, columns=2)
    assert sum(ax.get_visible() for ax in figure.axes) == 3
    assert len(figure.legends[0].get_texts()) == 2
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "X"]
    assert crosses[0].get_xdata().tolist() == [9]  # the first task with a run that has diverged
    figure = figures.by_setting({"A": frame, "B": frame}, ["accuracy", "dead"], methods=METHODS)
    assert len(figure.axes) == 4
    figure = figures.layers_figure({"A": frame}, ["dead", "duplicate"])
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["hidden.0", "hidden.1"]
    figure = figures.coevolution({"A": frame}, right=("dead",))
    assert figure.axes[1].get_lines()[0].get_ydata()[-1] == pytest.approx(0.3)
    figure = figures.scatter({"A": frame})
    assert len(figure.axes[0].collections[0].get_offsets()) == 30
    plt.close("all")


def test_heat_has_a_row_a_layer_and_bars_a_bar_a_group_and_method():
    _, (left, right) = plt.subplots(1, 2)
    figures.heat(left, _frame(), "dead")
    assert left.images[0].get_array().shape == (2, 10)
    table = pd.DataFrame(
        [("dead", "none", 0.5), ("dead", "none", 0.7), ("rank", "none", 1.0)], columns=["group", "method", "value"]
    )
    figures.bars(right, table, groups=["dead", "rank"], methods=METHODS, ylabel="x")
    assert np.array([p.get_height() for p in right.patches]).tolist() == pytest.approx([0.6, 1.0])
    plt.close("all")


def test_correlations_have_one_point_a_predictor_and_version():
    table = pd.DataFrame(
        {"kind": ["within"] * 2, "predictor": ["a", "b"], "value": [0.5, -0.2], "low": [0.4, -0.3], "high": [0.6, 0.1]}
    )
    figure = figures.correlations({"A": table}, labels={"a": "A", "b": "B"}, versions={"within": ("w", "#0072B2")})
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [0.5, -0.2]
    plt.close("all")
