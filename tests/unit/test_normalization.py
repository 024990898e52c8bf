import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.experiments import normalization, weight_scale
from lop_utils.figures import normalization as figures
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack

COLUMNS = ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]


def stack_of(norm, members=2, **changes):
    nets = [MLP(MLPConfig(7, (6, 5), 3, norm=norm, **changes), seed=s).double() for s in range(members)]
    for net in nets:
        for layer in net.hidden:
            if norm != "none":
                layer.norm.eps = 1e-30
    return Stack(nets)


def inputs(members=2):
    return torch.randn(members, 40, 7, generator=torch.Generator().manual_seed(0)).double()


def cells(frame, metric, layer="mean"):
    rows = frame[(frame["metric"] == metric) & (frame["layer"] == layer)]
    return rows.pivot(index="seed", columns="step", values="value")


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.3, 2.0, 3.1])
def test_the_angle_between_rows_is_that_of_a_known_rotation_at_any_length(angle):
    before = torch.tensor([[2.0, 0.0], [0.0, 1e-3]]).double()
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = normalization.turned(before, 5 * before @ turn)
    assert found.numpy() == pytest.approx([angle, angle], rel=1e-6)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("training", [True, False])
def test_behind_a_normalisation_weights_get_any_length_and_the_function_stays(norm, training):
    stack, x = stack_of(norm), inputs()
    stack.train()
    stack(x)  # running statistics that are not those of a new network
    stack.train(training)
    before = stack(x).detach()
    wanted = torch.tensor([[3.0, 0.1], [20.0, 5.0]]).double()  # (layers, members)
    normalization.rescale(stack, wanted)
    assert torch.allclose(normalization.lengths(stack), wanted)
    assert torch.allclose(stack(x), before, rtol=1e-10, atol=1e-12)


def test_without_normalisation_every_relu_unit_keeps_its_activity_up_to_one_factor_a_layer():
    stack, x = stack_of("none"), inputs()
    before = [hidden_activity(stack.member(i), x[i]) for i in range(2)]
    first = normalization.lengths(stack)
    normalization.rescale(stack, first * torch.tensor([[2.0, 0.5], [3.0, 0.1]]))
    for i, factors in enumerate(([2.0, 6.0], [0.5, 0.05])):
        for old, new, factor in zip(before[i], hidden_activity(stack.member(i), x[i]), factors, strict=True):
            assert torch.allclose(new, factor * old, rtol=1e-10)


def hidden_activity(net, h):
    found = []
    for layer in net.hidden:
        h = layer(h).detach()
        found.append(h)
    return found


def test_the_first_length_comes_back_after_training():
    stack = stack_of("layer")
    first = normalization.lengths(stack)
    optimizer = torch.optim.Adam(stack.parameters(), lr=0.1)
    stack(inputs()).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(normalization.lengths(stack), first)
    normalization.rescale(stack, first)
    assert torch.allclose(normalization.lengths(stack), first)


def test_lengths_are_only_known_for_mlps():
    net = CNN(CNNConfig(image_channels=3, side=8, outputs=2, channels=(4,), fc=5), seed=0)
    with pytest.raises(UsageError, match="CNN"):
        normalization.free_groups(net)


@pytest.mark.parametrize(("norm", "epsilon"), [("batch", 0.1), ("batch", 1e-12)])
def test_what_is_left_of_the_radial_gradient_is_epsilons_share(norm, epsilon):
    w = torch.randn(7, 1, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    z = inputs()[0] @ w
    hat = nn.BatchNorm1d(1, eps=epsilon, affine=False).double()(z)
    hat.retain_grad()
    (hat**3).mean().backward()
    share = epsilon / (z.detach().var(correction=0) + epsilon)
    right = (share * (hat.grad * hat.detach()).sum()).item()
    assert (w.detach() * w.grad).sum().item() == pytest.approx(right, rel=1e-3, abs=1e-15)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40).filter(lambda z: np.std(z) > 1e-3))
@settings(max_examples=80, deadline=None)
def test_a_normalised_unit_is_positive_on_at_least_the_share_of_the_theorem(values):
    z = np.array(values)
    z = (z - z.mean()) / z.std()
    assert (z > 0).mean() >= np.abs(z).mean() ** 2 / 4 - 1e-12 > 0
    assert (np.abs(z) >= 2).mean() <= 0.25 + 1e-12


@pytest.fixture(scope="module")
def frame():
    return normalization.run(tiny())


def tiny(**changes):
    return normalization.preset("smoke", **{"widths": (24, 24), "tasks": 2, "steps": 12, "every": 3} | changes)


def test_the_stream_s_frame_is_tidy_and_the_same_twice(frame):
    assert list(frame) == COLUMNS and frame["value"].notna().all()
    assert not frame.duplicated(COLUMNS[:-1]).any() and set(frame["method"]) == set(normalization.ARMS)
    assert frame.equals(normalization.run(tiny()))


def test_gradients_are_radial_only_without_normalisation(frame):
    for arm in ("none", "batch", "layer"):
        radial = cells(frame[frame["method"] == arm], "radial").to_numpy()
        assert (radial > 1e-3).all() if arm == "none" else (radial < 1e-4).all()


def test_weights_grow_behind_a_normalisation_and_rescaled_ones_start_each_task_at_their_first_length(frame):
    for arm in ("batch", "layer"):
        free, held = (cells(frame[frame["method"] == name], "length") for name in (arm, f"{arm} rescaled"))
        assert (free[2] > free[1]).all() and (free[1] == held[1]).all()
        assert (held[2] < free[2]).all()


def test_a_measured_step_is_never_the_first_of_a_task_when_the_head_is_zero_and_nothing_moves(frame):
    assert (frame[frame["metric"] == "turn"]["value"] > 0).all()


@pytest.mark.parametrize("changes", [{"tasks": 0}, {"every": 99}, {"arms": ("nonsense",)}, {"seeds": ()}])
def test_impossible_streams_are_refused(changes):
    with pytest.raises(UsageError):
        tiny(**changes)


def test_longer_weights_at_a_rate_that_is_larger_by_the_square_go_through_the_same_functions():
    losses = []
    for times in (1.0, 7.0):
        net = MLP(MLPConfig(7, (6, 5), 3, norm="layer"), seed=0).double()
        weight_scale.scale_weights(net, times)
        hidden = [p for layer in net.hidden for p in layer.linear.parameters()]
        others = [p for name, p in net.named_parameters() if ".linear." not in name]
        optimizer = torch.optim.SGD([{"params": hidden, "lr": 0.1 * times**2}, {"params": others}], lr=0.1)
        for layer in net.hidden:
            layer.norm.eps = 1e-100
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs()[0]), torch.arange(40) % 3)
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-10)


def test_a_scan_of_lengths_says_which_runs_diverged_and_leaves_their_accuracy_out():
    config = weight_scale.preset("smoke", scales=(1, 1e6), steps=5, optimizers=(("sgd", 0.1),), widths=(16, 16))
    scan = weight_scale.run(config)
    runs = scan.set_index(["method", "step", "seed", "metric"])["value"].unstack()
    assert runs.loc["none sgd"].loc[1e6, "diverged"].any() and not runs.loc["layer sgd"]["diverged"].any()
    assert (runs["online_accuracy"].isna() == (runs["diverged"] == 1)).all()


@pytest.mark.parametrize("changes", [{"scales": (0.0,)}, {"norms": ("group",)}, {"optimizers": (("lion", 1.0),)}])
def test_impossible_scans_are_refused(changes):
    with pytest.raises(UsageError):
        weight_scale.preset("smoke", **changes)


def test_the_figures_show_their_arms(frame):
    rescaled = figures.rescaled_figure(frame)
    titles = [ax.get_title() or ax.get_title(loc="left") for ax in rescaled.axes[:3]]
    assert titles == ["No normalisation", "Batch norm", "Layer norm"]
    assert all(len(ax.get_lines()) == 2 for ax in rescaled.axes)
    spiral = figures.spiral_figure(np.array([[1.0, 0.0], [1.0, 1.0]]), start=1.0, reach=2.0)
    assert spiral.axes[1].get_lines()[0].get_ydata() == pytest.approx([0.0, 45.0])
    plt.close("all")
