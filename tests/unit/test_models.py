import copy

import pytest
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import narrow, widen
from lop_utils.manifolds.equitable import distance
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.record import record
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.norms import IMAGE_NORMS, image_norm
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.spaces import axis_uses, spaces_of
from lop_utils.models.vit import ViT, ViTConfig

SMALL_VIT = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "head_dim": 4, "mlp": 12}
MAKERS = {
    **{f"cnn-{n}": lambda n=n: CNN(CNNConfig(3, 8, 5, channels=(4, 8), fc=6, norm=n), seed=1) for n in IMAGE_NORMS},
    **{
        f"resnet-{n}": lambda n=n: ResNet(ResNetConfig(3, 5, stages=(4, 8), blocks=(2, 1), norm=n), seed=1)
        for n in IMAGE_NORMS
    },
    **{
        f"vit-{n}-{a}": lambda n=n, a=a: ViT(ViTConfig(3, 8, 5, norm=n, attention_units=a, **SMALL_VIT), seed=1)
        for n in ("none", "layer")
        for a in ("heads", "dimensions")
    },
    "mlp-prelu": lambda: MLP(MLPConfig(192, (6, 4), 5, activation="prelu"), seed=1),
}


def made(name):
    """The model in float64 with normalisation gains, shifts and statistics that are not the initial ones."""
    net = MAKERS[name]().double()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in net.state_dict().items():
        if "norm" in key and tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return net


def images(rows=16):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(rows, 3, 8, 8, generator=generator).double(), torch.randint(5, (rows,), generator=generator)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_every_architecture_is_widened_exactly_also_a_second_time(name, factor, training):
    net, (x, _) = made(name).train(training), images()
    clone = widen(net, factor)
    assert (clone(x) - net(x)).abs().max() <= 1e-11
    again, net = widen(clone, 2), net.eval()
    assert (again.eval()(x) - clone.eval()(x)).abs().max() <= 1e-11


@pytest.mark.parametrize("name", MAKERS)
def test_narrow_undoes_widen_and_the_given_model_is_untouched(name):
    net = made(name)
    before = copy.deepcopy(net.state_dict())
    back = narrow(widen(net, 3), 3).state_dict()
    for key, tensor in before.items():
        assert torch.equal(net.state_dict()[key], tensor)
        torch.testing.assert_close(back[key], tensor, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", MAKERS)
def test_sgd_keeps_every_architecture_on_the_clones_manifold(name):
    clone, (x, y) = widen(made(name), 2), images()
    start = {key: tensor.clone() for key, tensor in clone.state_dict().items()}
    optimizer = torch.optim.SGD(clone.parameters(), lr=0.02, momentum=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(clone(x), y).backward()
        optimizer.step()
    found = distance(clone, Partition.of_clone(clone, 2), reference=start)
    assert found.block_constant_max <= 1e-13 and found.equitable_max <= 1e-13
    assert (clone.head.weight - start["head.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_belongs_to_a_space_but_the_output_bias(name):
    net = made(name)
    assert {key for key, _ in net.named_parameters()} - set(axis_uses(net)) == {"head.bias"}


@pytest.mark.parametrize("name", MAKERS)
def test_recorded_units_are_the_declared_ones(name):
    net, (x, y) = made(name), images()
    sizes = {space.name: space.size for space in spaces_of(net)}
    layers = record(net, x, y)
    assert layers and all(layer.activation.shape[1] == sizes[key] for key, layer in layers.items())
    assert all(layer.gradient.shape == layer.activation.shape for layer in layers.values())


def test_spaces_of_a_resnet_may_be_widened_one_by_one():
    net, (x, _) = made("resnet-batch").eval(), images()
    clone = widen(net, {"stage.0": 2, "stage.1": 3, "stage.1.0": 2})
    assert (clone(x) - net(x)).abs().max() <= 1e-11 and clone.config.stages == (8, 24)
    with pytest.raises(UsageError, match="one size a stage"):
        widen(net, {"stage.0.0": 2})  # its sister block stays narrow


@pytest.mark.parametrize("attention_units", ["heads", "dimensions"])
def test_a_vit_may_be_widened_in_its_heads_alone(attention_units):
    net = ViT(ViTConfig(3, 8, 5, attention_units=attention_units, **SMALL_VIT), seed=0).double()
    clone = widen(net, {"block.0.attention": 2, "block.1.attention": 2})
    x, _ = images()
    assert (clone(x) - net(x)).abs().max() <= 1e-11
    assert (clone.config.heads, clone.config.head_dim) == ((4, 4) if attention_units == "heads" else (2, 8))


def test_groups_that_would_cut_through_copies_are_refused_with_the_modules_name():
    class FixedGroups(CNN):
        def resized(self, sizes):
            wide = super().resized(sizes)
            for layer in wide.conv:
                layer.norm = nn.GroupNorm(2, layer.norm.num_channels)
            return wide

    with pytest.raises(UsageError, match=r"conv\.1\.norm: groups of 4 channels become groups of 8"):
        widen(FixedGroups(CNNConfig(3, 8, 5, channels=(8, 8), fc=6, norm="group"), seed=0), {"conv.1": 2})


def test_a_resnet18_has_the_known_number_of_parameters():
    """11,173,962 with a 3 x 3 stem for ten classes (He et al. 2016 for small images, widely reported)."""
    net = ResNet(ResNetConfig(3, 10), seed=0)
    assert sum(p.numel() for p in net.parameters()) == 11_173_962


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CNNConfig(3, 4, 5), "side 4 cannot be halved 3 times"),
        (lambda: CNNConfig(3, 8, 5, norm="instance"), "norm 'instance'"),
        (lambda: ViTConfig(3, 30, 5), "side 30"),
        (lambda: ViTConfig(3, 32, 5, norm="batch"), "norm 'batch'"),
        (lambda: ResNetConfig(3, 5, stages=(4,), blocks=(1, 1)), "1 stages"),
        (lambda: image_norm("group", 6, group_size=4), "6 channels in groups of 4"),
        (lambda: MLPConfig(3, (), 5), "sizes"),
        (lambda: MLPConfig(3, (4,), 5, dropout=1.0), "dropout 1.0"),
    ],
)
def test_impossible_shapes_are_named(make, text):
    with pytest.raises(UsageError, match=text):
        make()
