import pandas as pd
import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import metric_lab
from lop_utils.experiments.specimens import GROUPS, paired_units, specimen

SMALL = {"inputs": 300, "units": 8, "many_inputs": 500, "matrix": (60, 8, 30), "widths": (8, 8), "steps": 4,
         "tanh_steps": 2, "probes": 2, "batch_sizes": (4, 300), "activations": ("relu", "tanh")}  # fmt: skip


@pytest.fixture(scope="module")
def frame():
    return metric_lab.run(metric_lab.preset("smoke", **SMALL))


def test_a_specimens_groups_are_what_their_names_say():
    found = specimen(20_000, seed=0)
    h = found.layer.activation
    firing = (h > 0).double().mean(0)
    assert firing[found.members("dead")].max() == 0
    assert firing[found.members("rare")].sub(0.03).abs().max() < 0.006
    assert firing[found.members("always on")].min() == 1
    copied = h[:, found.members("copied")]
    assert torch.equal(copied[:, ::2], copied[:, 1::2])
    assert h[:, found.members("quiet")].max() < 0.1 < h[:, found.members("healthy")].mean()
    assert torch.equal(found.slope, (found.layer.pre_activation > 0).float())


def test_a_specimens_gradient_is_that_of_a_mean_over_the_batch_it_keeps():
    whole, part = specimen(400, seed=3), specimen(400, seed=3, batch=100)
    assert torch.equal(whole.layer.activation[:100], part.layer.activation)
    ratio = whole.layer.gradient.abs().mean() / part.layer.gradient.abs().mean()
    assert ratio == pytest.approx(1 / 4, rel=0.1)
    with pytest.raises(UsageError, match="3 units"):
        specimen(10, seed=0, per_group=3)


def test_paired_units_have_the_pre_activation_correlation_asked_for():
    z, near = paired_units("identity", rows=100_000, units=2, correlation=0.8, seed=0)
    assert torch.corrcoef(torch.stack([z[:, 0], near[:, 0]]))[0, 1] == pytest.approx(0.8, abs=0.01)
    assert torch.corrcoef(torch.stack([z[:, 0], near[:, 1]]))[0, 1] == pytest.approx(0, abs=0.02)
    with pytest.raises(UsageError, match=r"1\.5"):
        paired_units("relu", rows=2, units=2, correlation=1.5, seed=0)


def test_the_frame_is_tidy_complete_and_finite(frame):
    assert list(frame) == ["experiment", "arch", "method", "seed", "task", "step", "layer", "metric", "value"]
    assert not frame.isna().any().any()
    assert set(frame["task"]) == {"specimen", "errors", "independent", "copies", "fresh", "ranks", "batch", "training"}
    keys = ["method", "seed", "task", "step", "layer", "metric"]
    assert not frame.duplicated(keys).any()
    shares = frame[frame["task"] == "specimen"]
    assert set(shares["layer"]) == {*GROUPS, "all"} and shares["value"].between(0, 1).all()


def test_the_same_seed_gives_the_same_frame(frame):
    pd.testing.assert_frame_equal(frame, metric_lab.run(metric_lab.preset("smoke", **SMALL)))


def test_a_configuration_without_seeds_or_with_too_few_inputs_is_refused():
    for change in ({"seeds": ()}, {"inputs": 100}):
        with pytest.raises(UsageError):
            metric_lab.preset("smoke", **change)
