"""Escaped networks beside fresh ones: the arms are what they say, and agree with networks trained alone."""

import pytest
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.experiments import as_good_as_fresh as experiment
from lop_utils.experiments.fresh_measures import gap, scores, values
from lop_utils.manifolds.clone import widen
from lop_utils.metrics.connectivity import barrier, line_losses
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import load
from lop_utils.training.loop import train

SMALL = experiment.Config(widths=(4,), base_steps=6, escape=5, steps=9, probes=3, task_steps=4, random_images=200,
                          seeds=(7, 8))  # fmt: skip


@pytest.fixture(scope="module")
def frame():
    return experiment.run(SMALL)


def test_the_stuck_clone_of_the_stack_is_the_clone_trained_alone(frame):
    source = load("mnist1d")
    x, alone = source.inputs.flatten(1), MLP(MLPConfig(40, (4,), 10), seed=7)
    for shift, steps in ((0, 6), (1, 5), (2, 4)):
        alone = widen(alone, 2) if shift == 1 else alone
        stream = batches(x, source.targets, batch_size=128, seed=7 + 100_000 * shift)
        train(alone, torch.optim.SGD(alone.parameters(), lr=0.2), stream, steps=steps, seed=0)
    loss = float(nn.functional.cross_entropy(alone(x), source.targets).detach())
    assert values(frame, "clone", "train_loss")[7] == pytest.approx(loss, rel=1e-5)


def test_every_arm_learns_every_task_and_only_the_noiseless_clone_stays_a_clone(frame):
    for task in experiment.TASKS:
        found = frame[(frame["layer"] == task) & (frame["metric"] == "online_loss")]
        assert set(found["method"]) == {*experiment.ARMS, experiment.NEW}
    assert values(frame, "clone", "r2", "mean").min() > 1 - 1e-6
    assert values(frame, "redrawn", "r2", "mean").max() < 0.97
    assert values(frame, "noisy step", "r2", "mean").max() < 1 - 1e-9
    assert gap(frame, "clone", "train_loss", against="clone") == [0.0, 0.0]


def test_scores_take_shared_data_and_data_of_each_member():
    stack = Stack([MLP(MLPConfig(3, (4,), 2), seed=s) for s in (0, 1)])
    x, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3)
    shared, own = scores(stack, x, y, x, y), scores(stack, *(torch.stack([part] * 2) for part in (x, y, x, y)))
    assert shared == own and len(shared[0]) == 2


def test_the_line_between_a_network_and_itself_is_flat_and_ends_are_the_networks_losses():
    a, b = (MLP(MLPConfig(3, (4,), 2), seed=s) for s in (0, 1))
    x, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3)
    assert barrier(line_losses(a, a, x, y)) == pytest.approx(0, abs=1e-7)
    ends = line_losses(a, b, x, y)[[0, -1]]
    assert ends == pytest.approx([float(nn.functional.cross_entropy(net(x), y).detach()) for net in (a, b)], rel=1e-6)


@pytest.mark.parametrize("change", [{"tasks": ("more",)}, {"escape": 9}, {"seeds": ()}])
def test_bad_settings_are_refused(change):
    with pytest.raises(UsageError):
        experiment.preset("laptop", **({"steps": 9} | change))
