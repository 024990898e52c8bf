import dataclasses

import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import cloning


@pytest.fixture(scope="module")
def frame():
    return cloning.run(tiny())


def tiny(**changes):
    return cloning.preset("smoke", steps=60, base_steps=60, probes=3, widths=(8, 8), **changes)


def last(frame, metric, layer, method):
    rows = frame[(frame.metric == metric) & (frame.layer == layer) & (frame.method == method)]
    return rows[rows.step == rows.step.max()].set_index("seed")["value"]


def test_the_same_configuration_gives_the_same_frame_twice(frame):
    assert frame.equals(cloning.run(tiny()))


def test_the_frame_is_tidy_and_complete(frame):
    key = ["experiment", "arch", "method", "seed", "task", "step", "layer", "metric"]
    assert list(frame) == ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]
    assert not frame.duplicated(key).any() and frame.value.notna().all()
    assert set(frame.method) == set(cloning.ARMS) and set(frame.step) == {0, 30, 60}


def test_every_clone_starts_as_its_base_and_sgd_keeps_it_a_clone(frame):
    start = frame[(frame.step == 0) & (frame.metric == "train_loss")].pivot_table("value", "seed", "method")
    for method in ("clone", "clone_matched", "noisy_step", "noisy_sgd", "dropout"):
        assert start[method].to_numpy() == pytest.approx(start["base"].to_numpy(), rel=1e-6)
    assert (last(frame, "r2", "mean", "clone") >= 1 - 1e-9).all()
    assert (last(frame, "off_manifold", "all", "clone") == 0).all()
    assert (last(frame, "off_manifold", "all", "noisy_step") > 1e-6).all()


def test_at_matched_rates_the_clones_loss_is_the_bases_in_float64():
    frame = cloning.run(tiny(dtype="float64", arms=("base", "clone_matched")))
    difference = last(frame, "train_loss", "all", "clone_matched") - last(frame, "train_loss", "all", "base")
    assert difference.abs().max() <= 1e-12


def test_presets_scale_and_take_overrides():
    assert cloning.preset("laptop", seed=7).seeds == (7, 8, 9, 10, 11)
    assert cloning.preset("smoke", lr=0.5).lr == 0.5
    assert dataclasses.is_dataclass(cloning.preset("paper"))


def test_bad_configurations_are_named():
    with pytest.raises(UsageError, match="'fast'"):
        cloning.preset("fast")
    with pytest.raises(UsageError, match="arm 'sam'"):
        cloning.Config(arms=("sam",))
    with pytest.raises(UsageError, match="factor 1"):
        cloning.Config(factor=1)
