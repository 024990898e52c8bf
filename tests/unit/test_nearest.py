"""Distances to the nearest manifolds of cloned and of frozen units, against planted ones and a general solver."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import distance, jitter
from lop_utils.manifolds.nearest import frozen_distances, nearest_clone, nearest_pair
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.connectivity import matched
from lop_utils.models.mlp import MLP, MLPConfig


def planted(noise, *, seed=0):
    clone = widen(MLP(MLPConfig(5, (4, 3), 3, gain=2.0), seed=seed).double(), 2)
    partition = Partition.of_clone(clone, 2)
    if noise:
        jitter(clone, partition, scale=noise, seed=seed, inside=False)
    return clone, partition


def blocks_of(labels):
    return {frozenset(np.flatnonzero(labels == k)) for k in np.unique(labels)}


def shuffled_units(net, seed):
    """The same network with the units of every hidden layer in another order."""
    copy, generator = net.resized({}).to(net.head.weight), torch.Generator().manual_seed(seed)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for i, width in enumerate(net.config.widths):
        order = torch.randperm(width, generator=generator)
        reader = f"hidden.{i + 1}.linear" if i + 1 < len(net.hidden) else "head"
        for name in (f"hidden.{i}.linear.weight", f"hidden.{i}.linear.bias"):
            state[name] = state[name][order]
        state[f"{reader}.weight"] = state[f"{reader}.weight"][:, order]
    copy.load_state_dict(state)
    return copy


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-2])
def test_planted_clones_with_noise_are_found_and_their_distance_is_the_planted_one(noise):
    clone, partition = planted(noise)
    found = nearest_clone(clone)
    for name, labels in partition.labels.items():
        assert blocks_of(found.partition.labels[name].numpy()) == blocks_of(labels.numpy())
    assert found.distance == pytest.approx(distance(clone, partition).equitable_norm, rel=1e-9, abs=1e-12)


def test_clones_whose_weights_hide_behind_interactions_are_found_by_their_activations():
    clone, partition = planted(0.0)
    jitter(clone, partition, scale=1.0, seed=3)  # stays equitable: copies act alike but their weights do not look it
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).double()
    assert nearest_clone(clone, inputs=x).distance < 1e-9


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_units_changes_no_distance(seed):
    net, _ = planted(0.3, seed=seed % 7)
    other = shuffled_units(net, seed)
    assert nearest_clone(other).distance == pytest.approx(nearest_clone(net).distance, rel=1e-6)
    assert nearest_pair(other).relative == pytest.approx(nearest_pair(net).relative, rel=1e-9)


def test_the_distance_of_a_pair_is_that_of_the_partition_with_this_one_block():
    net, _ = planted(0.3)
    pair = nearest_pair(net)
    labels = {f"hidden.{i}": torch.arange(width) for i, width in enumerate(net.config.widths)}
    labels[pair.space][pair.units[1]] = pair.units[0]
    assert pair.distance == pytest.approx(distance(net, Partition(labels)).equitable_norm, rel=1e-9)


def test_the_distance_found_is_that_of_the_partition_found_with_the_blocks_asked_for():
    net, _ = planted(0.5)
    found = nearest_clone(net, {"hidden.0": 3, "hidden.1": 2})
    assert found.distance == pytest.approx(distance(net, found.partition).equitable_norm, rel=1e-12)
    assert 0 < found.relative < 1
    assert [len(set(labels.tolist())) for labels in found.partition.labels.values()] == [3, 2]


@pytest.mark.parametrize("blocks", [{"hidden.0": 3}, {"hidden.0": 9, "hidden.1": 2}, {"hidden.0": 0, "hidden.1": 1}])
def test_impossible_numbers_of_blocks_are_refused(blocks):
    with pytest.raises(UsageError, match="every layer"):
        nearest_clone(planted(0.0)[0], blocks)


def test_the_distance_to_silence_is_what_a_general_solver_finds():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=generator).double() + 0.5
    w, b = torch.randn(4, 3, generator=generator).double(), torch.randn(4, generator=generator).double()
    rows = np.hstack([x.numpy(), np.ones((12, 1))])
    for found, unit in zip(frozen_distances(w, b, x), torch.cat([w, b[:, None]], 1).numpy(), strict=True):
        constraint = {"type": "ineq", "fun": lambda v: -rows @ v, "jac": lambda v: -rows}
        start = np.array([0.0, 0.0, 0.0, -20.0])  # silent on everything
        best = minimize(lambda v, u=unit: ((v - u) ** 2).sum(), start, constraints=constraint, method="SLSQP",
                        options={"maxiter": 500, "ftol": 1e-14})  # fmt: skip
        assert float(found) == pytest.approx(best.fun**0.5, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10))
def test_the_distance_to_silence_scales_with_the_unit_and_never_exceeds_its_length(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 4, generator=generator).double()
    w, b = torch.randn(3, 4, generator=generator).double(), torch.randn(3, generator=generator).double()
    one, many = frozen_distances(w, b, x), frozen_distances(scale * w, scale * b, x)
    torch.testing.assert_close(many, scale * one, rtol=1e-6, atol=1e-9)
    assert (one <= torch.cat([w, b[:, None]], 1).norm(dim=1) + 1e-9).all()


def test_silent_units_are_at_distance_zero_and_shapes_are_checked():
    x = torch.rand(10, 2)
    assert frozen_distances(torch.tensor([[-1.0, -1.0]]), torch.tensor([-0.1]), x).tolist() == [0.0]
    with pytest.raises(UsageError, match="inputs"):
        frozen_distances(torch.ones(2, 3), torch.ones(2), x)


def test_matching_undoes_any_order_of_the_units():
    net, _ = planted(0.5)
    back = matched(shuffled_units(net, 5), net)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=0, atol=0)


def test_matching_keeps_the_function_and_refuses_another_shape():
    a, b = (MLP(MLPConfig(5, (6, 4), 3), seed=s).double() for s in (0, 1))
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(matched(a, b)(x), a(x))
    with pytest.raises(UsageError, match="one class"):
        matched(a, MLP(MLPConfig(5, (6, 5), 3), seed=0))
