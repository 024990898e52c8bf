import math

import pytest
import torch
from helpers import mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.metrics.growth import weight_growth


def test_doubling_all_weights_doubles_norms_and_moves_by_the_starts_norm():
    net = mlp()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        for p in net.parameters():
            p *= 2
    for name, found in weight_growth(net, start).items():
        assert (found.ratio, found.distance) == pytest.approx((2, 1)), name
    flat = torch.cat([p.detach().flatten() for p in net.parameters()])
    found = weight_growth(net, start)["all"]
    assert found.norm == pytest.approx(float(flat.norm()))
    assert found.mean_magnitude == pytest.approx(float(flat.abs().mean()))


def test_from_a_zero_start_growth_is_infinite_as_soon_as_there_is_any():
    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.ones_(layer.bias)
    start = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    found = weight_growth(layer, start)
    assert (found["weight"].ratio, found["weight"].distance) == (1, 0)
    assert found["bias"].ratio == found["bias"].distance == math.inf


def test_a_parameter_that_diverged_or_has_no_start_is_named():
    net = mlp()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        net.head.weight[0, 0] = math.nan
    with pytest.raises(UsageError, match=r"head\.weight"):
        weight_growth(net, start)
    with pytest.raises(UsageError, match=r"hidden\.0\.linear\.weight has no start"):
        weight_growth(net, {})
    with pytest.raises(UsageError, match="no parameters"):
        weight_growth(nn.ReLU(), {})
