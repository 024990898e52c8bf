"""What moves a dead row: exact zeros where the theorem says so, exact predictions where something moves."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import recovery, revival
from lop_utils.experiments.recovery_remedies import silent_masks
from lop_utils.experiments.revival_arms import ARMS, Decay, UnitNoise
from lop_utils.figures import recovery as figures
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.optim.gradient_noise import GradientNoise


def killed_stack(shares=(0.5, 0.5), margin=0.5):
    x = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    nets = [MLP(MLPConfig(6, (8, 8), 3), seed=s) for s in (0, 1)]
    for net, inputs in zip(nets, x, strict=True):
        revival.kill_units(net, inputs, shares=shares, margin=margin)
    return Stack(nets, seeds=(0, 1)), x


def step(stack, optimizer, x):
    optimizer.zero_grad()
    stack(x).square().sum().backward()
    optimizer.step()


def test_killed_units_are_the_margin_below_zero_on_every_input():
    stack, x = killed_stack(shares=(0.5, 1.0), margin=0.25)
    masks = silent_masks(stack, x)
    assert masks["hidden.0"][:, :4].all() and masks["hidden.1"].all()
    w, b = (stack.tensors[f"hidden.0.linear.{kind}"][0, :4] for kind in ("weight", "bias"))
    z = x[0] @ w.T + b
    assert torch.allclose(z.amax(0), -0.25 * z.std(0), rtol=1e-4)


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_a_dead_row_moves_by_the_learning_rate_times_the_noise_that_others_lend_it(scope):
    stack, x = killed_stack()
    before = stack.tensors["hidden.0.linear.weight"].detach().clone()
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    step(stack, torch.optim.SGD(stack.parameters(), lr=0.0), x)
    grads = {name: t.grad.clone() for name, t in stack.tensors.items()}
    own = grads["hidden.0.linear.weight"]
    every = torch.cat([g.flatten(1) for g in grads.values()], dim=1)
    norm = (own.flatten(1) if scope == "tensor" else every).norm(dim=1)
    GradientNoise(optimizer, sigma=0.01, seed=(0, 1), scope=scope, stacked=True)
    step(stack, optimizer, x)
    moved = (stack.tensors["hidden.0.linear.weight"].detach() - before)[:, :4]
    spread = moved.flatten(1).std(1)
    assert own[:, :4].abs().max() == 0
    assert spread == pytest.approx(0.1 * 0.01 * norm, rel=0.5)


def test_in_a_network_whose_last_layer_is_dead_noise_by_tensor_moves_nothing_and_global_noise_does():
    for scope, stays in (("tensor", True), ("global", False)):
        stack, x = killed_stack(shares=(0.0, 1.0))
        before = {name: t.detach().clone() for name, t in stack.tensors.items()}
        optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
        GradientNoise(optimizer, sigma=0.01, seed=(0, 1), scope=scope, stacked=True)
        step(stack, optimizer, x)
        hidden = [name for name in before if name.startswith("hidden")]
        assert all(torch.equal(before[name], stack.tensors[name]) == stays for name in hidden)


def test_noise_by_unit_leaves_dead_rows_and_moves_living_ones_by_their_own_norm():
    stack, x = killed_stack()
    step(stack, torch.optim.SGD(stack.parameters(), lr=0.0), x)
    names = ("hidden.0.linear.weight", "hidden.0.linear.bias")
    plain = [stack.tensors[name].grad.clone() for name in names]
    UnitNoise(torch.optim.SGD(stack.parameters(), lr=0.0), stack, sigma=0.01, seed=0)._add()
    noisy = [stack.tensors[name].grad for name in names]
    assert all(torch.equal(a[:, :4], b[:, :4]) for a, b in zip(plain, noisy, strict=True))
    norm = torch.cat([plain[0], plain[1][..., None]], 2).norm(dim=2)
    change = torch.cat([noisy[0] - plain[0], (noisy[1] - plain[1])[..., None]], 2)
    alive = norm > 0
    assert (change / (0.01 * norm.clamp(min=1e-30))[..., None])[alive].std() == pytest.approx(1, rel=0.25)


def test_joint_decay_keeps_every_sign_and_bias_decay_wakes_units_when_predicted():
    config = {"cases": ("part",), "arms": ("decay", "bias decay"), "widths": (8, 8), "steps": 300, "probes": 6}
    frame = revival.run(revival.preset("smoke", seed=3, margin=0.03, source="digits", **config))
    first = frame[(frame["layer"] == "hidden.0") & (frame["step"] <= 300)]
    pick = lambda arm, metric: first[(first["method"] == arm) & (first["metric"] == metric)]["value"]  # noqa: E731
    assert (pick("decay", "alive_again") == 0).all()
    measured, predicted = pick("bias decay", "alive_again").to_numpy(), pick("bias decay", "alive_predicted").to_numpy()
    assert predicted.max() > 0.3 and abs(measured - predicted).max() <= 0.17  # one unit of six


def test_a_decay_that_would_turn_signs_is_refused():
    stack, _ = killed_stack()
    with pytest.raises(UsageError, match="decay"):
        Decay(torch.optim.SGD(stack.parameters(), lr=0.1), stack, strength=10.0, ending=("bias",))
    with pytest.raises(UsageError, match="sigma"):
        UnitNoise(torch.optim.SGD(stack.parameters(), lr=0.1), stack, sigma=-1.0, seed=0)


@pytest.fixture(scope="module")
def frame():
    worn = recovery.preset("smoke", 3, widths=(12, 12), lr=0.05, remedies=())
    return revival.run(revival.preset("smoke", seed=3, widths=(16, 16), source="digits", worn=worn))


def cells(frame, case, arm, metric, layer):
    rows = frame[(frame["task"] == case) & (frame["layer"] == layer) & (frame["metric"] == metric)]
    return rows[(rows["method"] == arm) & (rows["step"] == rows["step"].max())]["value"].tolist()


def test_exact_zeros_are_where_the_theorem_says(frame):
    for arm in ("plain", "unit noise", "last layer only"):
        assert cells(frame, "part", arm, "moved", "hidden.0") == [0.0, 0.0]
    for arm in ("plain", "unit noise", "tensor noise", "last layer only"):
        assert cells(frame, "layer", arm, "moved", "hidden.1") == [0.0, 0.0]
    for arm in ("tensor noise", "global noise", "weight noise"):
        assert min(cells(frame, "part", arm, "moved", "hidden.0")) > 0
    assert min(cells(frame, "layer", "global noise", "moved", "hidden.1")) > 0
    assert min(cells(frame, "layer", "reset", "alive_again", "hidden.1")) > 0.5


def test_every_case_and_arm_is_there_and_shares_are_shares(frame):
    assert set(frame["task"]) == set(revival.CASES) and set(frame["method"]) == set(ARMS)
    shares = frame[frame["metric"].isin(["alive_again", "alive_predicted"])]["value"]
    assert shares.between(0, 1).all() and frame["value"].notna().all()


def test_figures_mark_what_has_not_moved(frame):
    panels = {"a": ("part", "hidden.0"), "b": ("layer", "hidden.1"), "c": ("worn", "all")}
    figure = figures.revival_figure(frame, panels)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert len(figure.axes) == 3 and len(crosses) >= 3
    assert figures.wake_figure(frame).axes[0].lines
    plt.close("all")


@pytest.mark.parametrize("bad", [{"cases": ("mine",)}, {"arms": ("prayer",)}, {"share": 1.0}, {"margin": 0.0}])
def test_bad_configurations_are_refused(bad):
    with pytest.raises(UsageError):
        replace(revival.preset("smoke"), **bad)
