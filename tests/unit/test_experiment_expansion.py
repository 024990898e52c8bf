import math
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import expansion
from lop_utils.figures import expansion as figures
from lop_utils.streams.sources import load


@pytest.fixture(scope="module")
def config():
    arms = ("relu_small", "relu_medium", "relu_large", "tanh_small", "tanh_medium", "tanh_large", "random_labels")
    return expansion.preset("smoke", widths=(8, 8), steps=6, arms=arms)


@pytest.fixture(scope="module")
def frame(config):
    return expansion.run(config)


def series(values, metric=expansion.RAW, method="relu_medium", layer="hidden.1", seed=0):
    steps = range(len(values))
    row = {"method": method, "metric": metric, "layer": layer, "seed": seed}
    return pd.DataFrame([row | {"step": t, "value": v} for t, v in zip(steps, values, strict=True)])


def test_the_same_configuration_gives_the_same_frame_twice(config, frame):
    assert frame.equals(expansion.run(config))


def test_the_frame_is_tidy_and_complete(config, frame):
    assert list(frame) == ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]
    assert not frame.duplicated(["method", "seed", "step", "layer", "metric"]).any() and frame.value.notna().all()
    assert set(frame.method) == set(config.arms) and set(frame.step) == set(expansion.log_steps(6))
    assert set(frame[frame.layer == "hidden.1"].metric) == {expansion.RAW, expansion.CENTRED, "nc1", "active", "shift"}


def test_all_arms_of_one_scale_and_activation_start_from_the_same_network(frame):
    start = frame[(frame.step == 0) & (frame.metric == expansion.RAW)]
    table = start.pivot(index=["seed", "layer"], columns="method", values="value")
    assert table["relu_medium"].equals(table["random_labels"])
    assert not table["relu_medium"].equals(table["relu_large"])


def test_a_recorded_rank_is_that_of_the_activations_of_the_untrained_network(config, frame):
    source = load("digits")
    net = expansion.network(expansion.ARMS["relu_large"], source, config.widths, seed=1)
    rows = torch.linspace(0, len(source.targets) - 1, 1000).long()
    h = torch.relu(net.hidden[0].linear(source.inputs[rows].flatten(1))).detach().numpy().astype(float)
    h -= h.mean(0)
    p = np.linalg.svd(h, compute_uv=False)
    p /= p.sum()
    expected = math.exp(-(p[p > 0] * np.log(p[p > 0])).sum())
    found = frame.query("method == 'relu_large' and seed == 1 and step == 0 and layer == 'hidden.0'")
    assert found[found.metric == expansion.CENTRED].value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("activation", "critical"), [("relu", math.sqrt(2)), ("tanh", 1.0)])
def test_the_scale_multiplies_the_weights_that_keep_the_signal(activation, critical):
    arm, source = expansion.Arm(activation, scale=0.5), load("digits")
    weight = expansion.network(arm, source, (500, 500), seed=0).hidden[1].linear.weight
    assert float(weight.detach().std()) * math.sqrt(500) == pytest.approx(0.5 * critical, rel=0.01)


def test_random_labels_are_fixed_for_a_seed_and_differ_from_the_true_ones(frame):
    start = frame[(frame.step == 0) & (frame.metric == "train_accuracy") & (frame.layer == "all")]
    table = start.pivot(index="seed", columns="method", values="value")
    assert not table["random_labels"].equals(table["relu_medium"]) and (table["random_labels"] < 0.2).all()


def test_log_steps_are_sorted_unique_and_contain_both_ends():
    for steps in (1, 2, 7, 1024):
        found = expansion.log_steps(steps)
        assert found == sorted(set(found)) and found[0] == 0 and found[-1] == steps


def test_swing_reads_rise_fall_and_recovery_from_known_curves():
    frame = pd.concat([series([10, 15, 12]), series([10, 5, 6], seed=1)])
    found = expansion.swing(frame, "relu_medium", layer="hidden.1")
    assert found.loc[0, ["rise", "fall", "top_step", "late"]].tolist() == pytest.approx([0.5, 0.2, 1, 0.2])
    assert found.loc[1, ["rise", "fall", "top_step", "late"]].tolist() == pytest.approx([0.0, 0.4, 0, 0.2])


def test_bad_configurations_and_questions_are_named(frame):
    with pytest.raises(UsageError, match="arm 'huge'"):
        expansion.Config(arms=("huge",))
    with pytest.raises(UsageError, match="0 seeds"):
        expansion.Config(seeds=())
    with pytest.raises(UsageError, match="'sgdm'"):
        expansion._optimizer(replace(expansion.Arm(), optimizer="sgdm"), torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="of adam in"):
        expansion.swing(frame, "adam")


def test_presets_scale_and_take_overrides():
    assert expansion.preset("laptop", seed=3).seeds == (3, 4, 5, 6, 7)
    assert expansion.preset("paper").steps > expansion.preset("laptop").steps > expansion.preset("smoke").steps
    assert expansion.preset("smoke", steps=5).steps == 5


def test_the_spectra_figure_counts_the_eigenvalues_above_the_tolerance():
    spectra = {title: {"relu": np.array([4.0, 2.0, 0.1]), "tanh": np.array([1.0, 1e-4, 0.0])} for title in "ab"}
    figure = figures.spectra_figure(spectra, 1e-2)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["ReLU: rank 3", "tanh: rank 1"]
    plt.close(figure)


def test_every_dynamics_figure_draws_what_it_is_given(frame):
    patches = frame.assign(task="patches")
    drawn = [
        figures.story_figure(frame, layer="hidden.1"),
        figures.layers_figure(frame),
        figures.collapse_figure(frame, patches, layer="hidden.1"),
        figures.shock_figure(frame, layer="hidden.1"),
    ]
    assert [len(figure.axes) for figure in drawn] == [3, 4, 3, 3]
    assert [len(ax.lines) for ax in drawn[0].axes] == [3, 3, 2]
    plt.close("all")
