"""A stack is its members side by side: each does exactly what it does alone."""

import pytest
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.stack import Stack, observe, skeleton_of, stacked, tensors_of
from lop_utils.models.vit import ViT, ViTConfig

MEMBERS = 3


def _mlp(seed, **kw):
    return MLP(MLPConfig(inputs=12, widths=(7, 6), outputs=4, **kw), seed=seed)


def _cnn(seed, **kw):
    return CNN(CNNConfig(3, side=8, outputs=4, channels=(4, 8), fc=6, **kw), seed=seed)


def _resnet(seed, **kw):
    return ResNet(ResNetConfig(3, outputs=4, stages=(4, 8), blocks=(1, 1), **kw), seed=seed)


def _vit(seed, **kw):
    sizes = {"patch": 4, "width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 12}
    return ViT(ViTConfig(3, side=8, outputs=4, **sizes, **kw), seed=seed)


CASES = {
    **{f"mlp-{norm}": (_mlp, {"norm": norm}) for norm in ("none", "batch", "layer")},
    "mlp-plain-norm": (_mlp, {"norm": "layer", "affine": False}),
    "mlp-plain-batch": (_mlp, {"norm": "batch", "affine": False, "activation": "tanh"}),
    "mlp-prelu": (_mlp, {"activation": "prelu"}),
    **{f"cnn-{norm}": (_cnn, {"norm": norm}) for norm in ("none", "batch", "layer", "group")},
    **{f"resnet-{norm}": (_resnet, {"norm": norm}) for norm in ("none", "batch", "layer")},
    **{f"vit-{norm}": (_vit, {"norm": norm}) for norm in ("none", "layer")},
}


def _data(make, members=MEMBERS):
    g = torch.Generator().manual_seed(0)
    shape = (12,) if make is _mlp else (3, 8, 8)
    x = torch.randn(members, 10, *shape, generator=g, dtype=torch.float64)
    return x, torch.randint(4, (members, 10), generator=g)


@pytest.mark.parametrize("case", CASES)
def test_ten_adam_steps_of_a_stack_are_those_of_its_members_alone(case):
    make, kw = CASES[case]
    nets = [make(seed, **kw).double() for seed in range(MEMBERS)]
    stack = Stack(nets)
    x, y = _data(make)
    together = torch.optim.Adam(stack.parameters(), lr=0.01)
    alone = [torch.optim.Adam(net.parameters(), lr=0.01) for net in nets]
    for _ in range(10):
        together.zero_grad()
        out = stack(x)
        sum(nn.functional.cross_entropy(out[i], y[i]) for i in range(MEMBERS)).backward()
        together.step()
        for i, (net, optimizer) in enumerate(zip(nets, alone, strict=True)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[i]), y[i]).backward()
            optimizer.step()
    stack.eval()
    out = stack(x)
    for i, net in enumerate(nets):
        net.eval()
        copy = stack.member(i)
        assert not copy.training
        torch.testing.assert_close(out[i], net(x[i]), rtol=0, atol=1e-9)
        torch.testing.assert_close(copy(x[i]), out[i], rtol=0, atol=1e-12)
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(copy.state_dict()[name], tensor, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [_mlp, _cnn, _resnet, _vit])
def test_dropout_of_a_member_depends_on_its_seed_alone(make):
    nets = [make(seed, dropout=0.5) for seed in range(MEMBERS)]
    x = _data(make)[0].float()
    together = Stack(nets, seeds=(5, 6, 7))
    lone = Stack([nets[1]], seeds=(6,))
    for _ in range(3):
        torch.testing.assert_close(together(x)[1:2], lone(x[1:2]), rtol=1e-5, atol=1e-6)
    assert not torch.equal(together(x), together(x))
    together.eval()
    assert torch.equal(together(x), together(x))


def test_dropout_keeps_the_stated_share_and_the_mean():
    stack = Stack([MLP(MLPConfig(2, (4000,), 1, activation="identity", dropout=0.3), seed=0)])
    with torch.no_grad():
        stack.tensors["hidden.0.linear.weight"].zero_()
        stack.tensors["hidden.0.linear.bias"].fill_(1.0)
    seen = []
    observe(stack, ["hidden.0.dropout"], lambda out: seen.append(out["hidden.0.dropout"]))
    stack(torch.zeros(1, 5, 2))
    assert abs(float((seen[0] == 0).double().mean()) - 0.3) < 0.015
    assert abs(float(seen[0].mean()) - 1) < 0.02


def test_a_members_dead_end_leaves_the_others_alone():
    nets = [_mlp(seed) for seed in range(2)]
    with torch.no_grad():
        nets[0].head.weight.fill_(torch.nan)
    stack = Stack(nets)
    x, y = _data(_mlp, 2)
    optimizer = torch.optim.Adam(stack.parameters())
    out = stack(x.float())
    nn.functional.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="sum").backward()
    optimizer.step()
    assert all(torch.isfinite(tensor[1]).all() for tensor in stack.tensors.values())


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_observation_sees_training_passes_of_networks_and_stacks_alike(make):
    nets = [make(seed) for seed in range(2)]
    path = skeleton_of(nets[0]).spaces()[0].activation
    x = _data(make, 2)[0].float()
    found = {}
    for model, inputs in ((nets[0], x[0]), (Stack(nets), x)):
        seen = []
        watch = observe(model, [path], lambda out, seen=seen: seen.append(out[path]))
        model(inputs)
        with torch.no_grad():
            model(inputs)
        model.eval()
        model(inputs)
        model.train()
        watch.remove()
        model(inputs)
        assert len(seen) == 1 and not seen[0].requires_grad
        found[stacked(model)] = seen[0]
    torch.testing.assert_close(found[True][0], found[False])


def test_tensors_of_a_stack_have_one_more_axis():
    net = _mlp(0, norm="batch")
    one, many = tensors_of(net), tensors_of(Stack([net, net]))
    assert {name: (2, *tensor.shape) for name, tensor in one.items()} == {n: tuple(t.shape) for n, t in many.items()}


def test_networks_that_differ_are_refused():
    with pytest.raises(UsageError, match="one class and configuration"):
        Stack([_mlp(0), _mlp(0, norm="layer")])
    with pytest.raises(UsageError, match="one dtype and device"):
        Stack([_mlp(0), _mlp(1).double()])
    with pytest.raises(UsageError, match="at least one"):
        Stack([])
    with pytest.raises(UsageError, match="one seed a member"):
        Stack([_mlp(0)], seeds=(1, 2))
    with pytest.raises(UsageError, match="not 1"):
        Stack([_mlp(0)])(torch.zeros(2, 5, 12))
    with pytest.raises(UsageError, match="no module"):
        observe(_mlp(0), ["nowhere"], print)
