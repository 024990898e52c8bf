"""Redrawing units changes what it must, leaves the rest bit by bit, and does not change the function."""

import pytest
import torch
from helpers import batch, mlp
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.metrics.record import record
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.stack import Stack
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.optim.reset import forget_moments, reset_units

SHAPE = {"patch": 4, "width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 12}
NETS = {
    "none": (lambda: mlp(activation="relu"), ["hidden.0", "hidden.1"]),
    "batch": (lambda: mlp(activation="relu", norm="batch"), ["hidden.0", "hidden.1"]),
    "crelu": (lambda: mlp(activation="crelu"), ["hidden.0", "hidden.1"]),
    "prelu": (lambda: mlp(activation="prelu"), ["hidden.0", "hidden.1"]),
    "cnn": (lambda: CNN(CNNConfig(3, side=8, outputs=3, channels=(4, 6), fc=5), seed=0).double(), ["conv.1", "fc"]),
    "resnet": (lambda: ResNet(ResNetConfig(3, 3, stages=(4, 8), blocks=(1, 1)), seed=0).double(), ["stage.1.0"]),
    "vit": (lambda: ViT(ViTConfig(3, side=8, outputs=3, **SHAPE), seed=0).double(), ["block.0.mlp"]),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(net, rows=16):
    shape = (7,) if isinstance(net, MLP) else (3, 8, 8)
    return torch.randn(rows, *shape, generator=generator(5), dtype=torch.float64)


def make_constant(net, name, unit):
    """Give a unit a constant non-zero pre-activation; returns nothing."""
    space = next(space for space in net.spaces() if space.name == name)
    writer = net.get_submodule(space.writers[0].module)
    with torch.no_grad():
        writer.weight[unit] = 0
        if writer.bias is not None:
            writer.bias[unit] = 0.7


@pytest.mark.parametrize("case", NETS)
def test_redrawing_constant_units_with_their_values_handed_on_leaves_the_outputs_as_they_were(case):
    make, names = NETS[case]
    net = make().eval()
    x = inputs(net)
    for name in names:
        make_constant(net, name, 1)
    h = {name: record(net, x, spaces=[name])[name].activation for name in names}
    means = {name: values.mean(0) for name, values in h.items()}
    before = net(x)
    weights = [p.detach().clone() for p in net.parameters()]
    for name in names:
        mask = torch.zeros(next(s.size for s in net.spaces() if s.name == name), dtype=torch.bool)
        mask[1] = True
        if case == "resnet":  # no bias to hand the value to: the constant is 0 here
            assert means[name][1] == 0
        reset_units(net, {name: mask}, generators=generator(), means=means)
    torch.testing.assert_close(net(x), before, rtol=1e-12, atol=1e-13)
    assert any(not torch.equal(p, old) for p, old in zip(net.parameters(), weights, strict=True))


def test_the_mean_output_is_kept_when_the_last_hidden_units_vary():
    net = mlp(activation="relu")
    x, _ = batch(net)
    h = record(net, x)["hidden.1"].activation
    before = net(x).mean(0)
    mask = {"hidden.1": torch.tensor([True, False, True, False, True])}
    reset_units(net, mask, generators=generator(), means={"hidden.1": h.mean(0)})
    torch.testing.assert_close(net(x).mean(0), before, rtol=1e-12, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_exactly_the_entries_of_the_masked_units_change(first, second, compensated):
    net = mlp(norm="batch", activation="relu")
    a, b = torch.tensor(first), torch.tensor(second)
    means = {"hidden.0": torch.ones(6).double(), "hidden.1": torch.ones(5).double()} if compensated else None
    old = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    reset_units(net, {"hidden.0": a, "hidden.1": b}, generators=generator(9), means=means)
    expected = {
        "hidden.0.linear.weight": a[:, None].expand(6, 7),
        "hidden.0.linear.bias": a,
        "hidden.1.linear.weight": b[:, None] | a[None, :],
        "hidden.1.linear.bias": b | (compensated and bool(a.any())),
        "head.weight": b[None, :].expand(3, 5),
        "head.bias": torch.tensor([compensated and bool(b.any())] * 3),
    } | {
        f"hidden.{i}.norm.{part}": mask
        for i, mask in enumerate((a, b))
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    for name, tensor in net.state_dict().items():
        changed = tensor != old[name]
        assert torch.equal(changed, expected.get(name, torch.zeros_like(changed))), name


def test_new_weights_come_from_the_models_own_initial_distribution():
    net = MLP(MLPConfig(inputs=25, widths=(4000,), outputs=2, gain=3.0), seed=0)
    reset_units(net, {"hidden.0": torch.ones(4000, dtype=torch.bool)}, generators=generator())
    weight, bias = net.hidden[0].linear.weight, net.hidden[0].linear.bias
    for values, bound in ((weight, 3 / 5), (bias, 1 / 5)):
        assert values.abs().max() <= bound and values.abs().max() > 0.99 * bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not net.head.weight.any()


@pytest.mark.parametrize(
    ("make", "settings", "moments"),
    [
        (torch.optim.Adam, {"amsgrad": True}, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
        (torch.optim.SGD, {"momentum": 0.9}, {"momentum_buffer"}),
        (torch.optim.RMSprop, {}, {"square_avg"}),
    ],
)
def test_the_optimizers_moments_are_cleared_for_the_masked_entries_alone(make, settings, moments):
    net = mlp(activation="tanh")
    optimizer, (x, y) = make(net.parameters(), lr=0.01, **settings), batch(net)
    for _ in range(3):
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    mask = torch.tensor([True, False, False, True, False, False])
    parameters = dict(net.named_parameters())
    old = {name: {k: optimizer.state[p][k].clone() for k in moments} for name, p in parameters.items()}
    steps = {name: optimizer.state[p].get("step", torch.zeros(())).item() for name, p in parameters.items()}
    reset_units(net, {"hidden.0": mask}, generators=generator(), optimizer=optimizer)
    for name, p in parameters.items():
        cleared = torch.zeros_like(p, dtype=torch.bool)
        if name.startswith("hidden.0"):
            cleared[mask] = True
        if name == "hidden.1.linear.weight":
            cleared[:, mask] = True
        for kind in moments:
            assert old[name][kind].abs().min() > 0
            torch.testing.assert_close(
                optimizer.state[p][kind], old[name][kind].masked_fill(cleared, 0), rtol=0, atol=0
            )
        assert optimizer.state[p].get("step", torch.zeros(())).item() == steps[name]


@pytest.mark.parametrize("case", NETS)
def test_a_member_of_a_stack_is_redrawn_as_it_would_be_alone(case):
    make, names = NETS[case]
    nets = [make() for _ in range(2)]
    with torch.no_grad():
        for p in nets[1].parameters():
            p.mul_(1.5)
    sizes = {space.name: space.size for space in nets[0].spaces()}
    masks = {name: torch.rand(2, sizes[name], generator=generator(3)) < 0.5 for name in names}
    sent = 2 if case == "crelu" else 1
    means = {name: torch.rand(2, sent * sizes[name], generator=generator(4)).double() for name in names}
    stack = Stack(nets)
    reset_units(stack, masks, generators=[generator(10), generator(11)], means=means)
    for i, net in enumerate(nets):
        mine = [{name: values[i] for name, values in given.items()} for given in (masks, means)]
        reset_units(net, mine[0], generators=generator(10 + i), means=mine[1])
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(stack.tensors[name][i], tensor, rtol=1e-14, atol=1e-15)


def test_a_kernels_share_of_the_compensation_is_its_sum():
    net = CNN(CNNConfig(1, side=4, outputs=2, channels=(2, 3), fc=5), seed=0).double()
    reader = net.conv[1].conv
    expected = reader.bias.detach() + reader.weight.detach()[:, 0].sum((1, 2)) * 0.25
    mask = {"conv.0": torch.tensor([True, False])}
    reset_units(net, mask, generators=generator(), means={"conv.0": torch.tensor([0.25, 9.0]).double()})
    torch.testing.assert_close(reader.bias.detach(), expected)


def test_residual_streams_attention_and_wrong_masks_are_refused_by_name():
    net = ViT(ViTConfig(3, side=8, outputs=3, **SHAPE), seed=0)
    for name in ("stream", "block.0.attention", "hidden.0"):
        with pytest.raises(UsageError, match=name):
            reset_units(net, {name: torch.ones(8, dtype=torch.bool)}, generators=generator())
    with pytest.raises(UsageError, match=r"\(1, 12\)"):
        reset_units(net, {"block.0.mlp": torch.ones(11, dtype=torch.bool)}, generators=generator())
    with pytest.raises(UsageError, match="booleans"):
        reset_units(net, {"block.0.mlp": torch.ones(12)}, generators=generator())
    with pytest.raises(UsageError, match="2 generators for 1"):
        reset_units(net, {"block.0.mlp": torch.ones(12, dtype=torch.bool)}, generators=[generator()] * 2)


def test_forgetting_the_moments_makes_the_next_step_a_first_step():
    p, q = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([p], lr=0.1)
    for _ in range(5):
        p.grad = torch.randn(3, generator=generator())
        optimizer.step()
    before = p.detach().clone()
    forget_moments(optimizer)
    p.grad = q.grad = torch.tensor([1.0, -2.0, 3.0])
    optimizer.step()
    torch.optim.Adam([q], lr=0.1).step()
    torch.testing.assert_close(p - before, q.detach())


def test_crelu_sends_both_signs_and_widens_exactly():
    net = mlp(activation="crelu")
    x, _ = batch(net)
    z = net.hidden[0].linear(x)
    h = net.hidden[0](x)
    assert torch.equal(h[:, :6] - h[:, 6:], z) and h.shape[1] == net.hidden[1].linear.in_features == 12
    torch.testing.assert_close(widen(net, 2)(x), net(x), rtol=1e-12, atol=1e-13)
    stack = Stack([mlp(activation="crelu", seed=s) for s in (0, 1)])
    torch.testing.assert_close(stack(torch.stack([x, x]))[0], net(x), rtol=1e-12, atol=1e-13)
    with pytest.raises(UsageError, match="crelu"):
        CNN(CNNConfig(3, side=8, outputs=2, activation="crelu"), seed=0)
