import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.manifolds.frozen import (
    certified_above_relu,
    certified_dead,
    largest_pre_activation,
    moved_by,
    revived_units,
    silent_units,
)
from lop_utils.models.mlp import MLP, MLPConfig

numbers = st.floats(-3, 3, allow_nan=False, width=32)
WEIGHTS = st.lists(numbers, min_size=1, max_size=6)


def tensors(weights, bias):
    return torch.tensor([weights], dtype=torch.float64), torch.tensor([bias], dtype=torch.float64)


@settings(deadline=None)
@given(WEIGHTS, numbers, st.floats(-2, 0), st.floats(0, 2))
def test_the_largest_pre_activation_on_a_box_is_the_largest_over_its_vertices(weights, bias, low, high):
    vertices = np.array(list(itertools.product((low, high), repeat=len(weights))))
    brute = (vertices @ np.array(weights) + bias).max()
    assert largest_pre_activation(*tensors(weights, bias), low=low, high=high).item() == pytest.approx(brute, abs=1e-9)


@settings(deadline=None)
@given(WEIGHTS, numbers, st.integers(0, 2**31 - 1))
def test_no_input_of_the_cube_wakes_a_certified_unit(weights, bias, seed):
    w, b = tensors(weights, bias)
    x = torch.rand(200, len(weights), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if certified_dead(w, b).item():
        assert (x @ w.T + b).max() <= 1e-12


@settings(deadline=None)
@given(WEIGHTS, numbers)
def test_the_certificate_above_relu_is_the_limit_of_certificates_on_growing_boxes(weights, bias):
    w, b = tensors(weights, bias)
    assert certified_above_relu(w, b).item() == certified_dead(w, b, high=1e60).item()


def test_a_unit_dead_on_data_need_not_be_certified():
    w, b = tensors([1.0, -0.6], -0.55)
    data = 0.5 * torch.rand(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (data @ w.T + b).max() <= 0 and not certified_dead(w, b) and certified_dead(w, b, high=0.5)


def test_bad_boxes_shapes_and_values_are_named():
    w, b = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(UsageError, match=r"box \[1.0, 0.0\]"):
        certified_dead(w, b, low=1.0, high=0.0)
    with pytest.raises(UsageError, match="bias"):
        certified_dead(w, torch.zeros(3))
    with pytest.raises(UsageError, match="weight"):
        certified_above_relu(torch.full((1, 2), torch.nan), torch.zeros(1))


def dead_network():
    net = MLP(MLPConfig(3, (6, 5), 2), seed=0)
    with torch.no_grad():
        net.hidden[0].linear.bias[:2] -= 50
        net.hidden[1].linear.bias[0] -= 50
    return net, torch.randn(40, 3, generator=torch.Generator().manual_seed(1))


def test_silent_units_are_those_that_no_input_wakes_and_the_marked_ones_can_revive():
    net, x = dead_network()
    silent = silent_units(net, x)
    assert silent["hidden.0"][:2].all() and silent["hidden.1"][0]
    assert set(revived_units(net, x, silent).values()) == {0}
    with torch.no_grad():
        net.hidden[0].linear.bias[0] += 100
    assert revived_units(net, x, silent)["hidden.0"] == 1


def test_moved_by_sees_incoming_weights_and_biases_of_marked_units_only():
    net, x = dead_network()
    silent, start = silent_units(net, x), {name: p.clone() for name, p in net.state_dict().items()}
    with torch.no_grad():
        net.hidden[0].linear.weight[5] += 3  # not marked
        net.hidden[1].linear.weight[:, 0] += 0.0
        net.head.weight += 1  # outgoing
    unmarked = dict.fromkeys(silent, 0.0)
    assert not silent["hidden.0"][5] and moved_by(net, silent, start) == unmarked
    with torch.no_grad():
        net.hidden[1].linear.bias[0] -= 0.25
    assert moved_by(net, silent, start) == {"hidden.0": 0.0, "hidden.1": 0.25}
    with pytest.raises(UsageError, match="no start"):
        moved_by(net, silent, {})


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_a_fresh_optimizer_moves_no_frozen_unit_of_the_first_layer_by_a_single_bit(make):
    net, x = dead_network()
    silent, start = silent_units(net, x), {name: p.clone() for name, p in net.state_dict().items()}
    optimizer = make(net.parameters(), lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    assert moved_by(net, silent, start)["hidden.0"] == 0.0
    assert revived_units(net, x, silent)["hidden.0"] == 0
