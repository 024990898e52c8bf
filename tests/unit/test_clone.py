import copy

import pytest
import torch
from helpers import batch, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import narrow, widen
from lop_utils.manifolds.equitable import distance, jitter
from lop_utils.manifolds.partition import Partition
from lop_utils.models.norms import NORMS
from lop_utils.models.spaces import Link, Space, axis_uses


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("factor", [2, 3, {"hidden.0": 3, "hidden.1": 2}, {"hidden.1": 4}])
@pytest.mark.parametrize("norm", NORMS)
def test_a_clone_computes_its_bases_function(norm, factor, training):
    net = mlp(norm=norm).train(training)
    clone, (x, _) = widen(net, factor), batch(net)
    assert (clone(x) - net(x)).abs().max() <= 1e-12
    single = widen(copy.deepcopy(net).float(), factor)
    reference = net.eval()(x)
    assert (single.eval()(x.float()) - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_widening_agrees_with_the_definition_written_out_entry_by_entry():
    net = mlp()
    clone = widen(net, 2)
    small, wide = net.hidden[1].linear.weight, clone.hidden[1].linear.weight  # (5, 6), (10, 12)
    for i in range(10):
        for j in range(12):
            assert wide[i, j] == small[i % 5, j % 6] / 2
    assert torch.equal(clone.hidden[0].linear.weight, torch.cat([net.hidden[0].linear.weight] * 2))
    assert torch.equal(clone.head.bias, net.head.bias)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    factors=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    norm=st.sampled_from(NORMS),
)
def test_narrow_undoes_widen_for_any_widths_and_factors(widths, factors, norm):
    net = mlp(widths=tuple(widths), norm=norm)
    factor = {f"hidden.{i}": k for i, k in enumerate(factors[: len(widths)])}
    clone = widen(net, factor)
    assert distance(clone, Partition.of_clone(clone, factor)).block_constant_max <= 1e-15
    back = narrow(clone, factor).state_dict()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-14, atol=0)


def test_narrowing_an_equitable_network_keeps_its_function():
    clone = widen(mlp(), 2)
    jitter(clone, Partition.of_clone(clone, 2), scale=0.3, seed=1)
    x, _ = batch(clone)
    assert distance(clone, Partition.of_clone(clone, 2)).block_constant_max > 0.1
    assert (narrow(clone, 2)(x) - clone(x)).abs().max() <= 1e-12


def test_widening_leaves_the_model_alone_and_keeps_mode_and_dtype():
    net = mlp(norm="batch").eval()
    before = copy.deepcopy(net.state_dict())
    clone = widen(net, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not clone.training and clone.head.weight.dtype == torch.float64
    clone.head.weight.data.zero_()
    assert net.head.weight.abs().max() > 0


class Convolutional(nn.Module):
    """conv -> relu -> flatten -> linear, declared by hand: a flatten lists H x W entries a channel."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(2, channels, 3), nn.ReLU(), nn.Linear(channels * 4, 2)

    def forward(self, x):
        return self.head(self.act(self.conv(x)).flatten(1))

    def spaces(self):
        return (Space("conv", self.conv.out_channels, (Link("conv"),), (Link("head", inner=4),), (), "conv", "act"),)

    def resized(self, sizes):
        return Convolutional(sizes["conv"])


class Heads(nn.Module):
    """Two heads of three dimensions each, averaged over heads: units are the dimensions inside a head (outer = 2)."""

    def __init__(self, width=3):
        super().__init__()
        self.values, self.out = nn.Linear(4, 2 * width), nn.Linear(2 * width, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.values(x)))

    def spaces(self):
        width = self.values.out_features // 2
        return (Space("head_width", width, (Link("values", outer=2),), (Link("out", outer=2),)),)

    def resized(self, sizes):
        return Heads(sizes["head_width"])


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(("make", "shape"), [(Convolutional, (2, 4, 4)), (Heads, (4,))])
def test_layouts_of_flattened_channels_and_of_head_dimensions_are_widened_exactly(make, shape, factor):
    torch.manual_seed(0)
    net = make().double()
    clone, x = widen(net, factor), torch.randn(9, *shape, dtype=torch.float64)
    assert (clone(x) - net(x)).abs().max() <= 1e-12
    assert distance(clone, Partition.of_clone(clone, factor)).block_constant_max <= 1e-15
    torch.testing.assert_close(narrow(clone, factor).state_dict(), net.state_dict(), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("factor", "message"),
    [(0, "no integer >= 1"), (1.5, "no integer >= 1"), ({"hidden.7": 2}, "hidden.7"), ({"hidden.0": -1}, "hidden.0")],
)
def test_a_bad_factor_is_named(factor, message):
    with pytest.raises(UsageError, match=message):
        widen(mlp(), factor if not isinstance(factor, float) else {"hidden.0": factor})


def test_a_model_without_spaces_is_refused_by_name():
    with pytest.raises(UsageError, match="Linear declares no unit spaces"):
        widen(nn.Linear(2, 2), 2)


def test_a_declaration_that_does_not_fit_names_the_module():
    class Wrong(Convolutional):
        def spaces(self):
            return (Space("conv", 3, (Link("conv"),), (Link("head", inner=5),)),)

    with pytest.raises(UsageError, match=r"head\.weight: axis 1 has 12 entries"):
        axis_uses(Wrong())

    class Missing(Convolutional):
        def spaces(self):
            return (Space("conv", 3, (Link("convolution"),), ()),)

    with pytest.raises(UsageError, match="'convolution'"):
        axis_uses(Missing())


def test_a_partition_that_does_not_fit_is_refused():
    net = mlp()
    with pytest.raises(UsageError, match="'inputs'"):
        Partition({"inputs": torch.zeros(7, dtype=torch.long)}).validate(net)
    with pytest.raises(UsageError, match=r"shape \(4,\) for 6 units"):
        Partition({"hidden.0": torch.zeros(4, dtype=torch.long)}).validate(net)
    with pytest.raises(UsageError, match="no 4-fold clone"):
        Partition.of_clone(net, 4)


@pytest.mark.parametrize("change", [lambda head: head.float(), lambda head: head.to("meta")])
@pytest.mark.parametrize("function", [widen, narrow])
def test_mixed_dtypes_and_devices_are_refused_by_the_parameters_name(function, change):
    net = mlp()
    change(net.head)
    with pytest.raises(UsageError, match=r"head\.weight is torch\.float(32 on cpu|64 on meta), but hidden\.0\.linear"):
        function(net, 1)
