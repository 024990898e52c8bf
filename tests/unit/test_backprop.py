"""The backward pass written out against automatic differentiation: equal to the last bit."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack, observe
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.redo import ReDo
from lop_utils.optim.self_normalized_resets import SelfNormalizedResets
from lop_utils.streams.batches import member_batches
from lop_utils.training import ensemble
from lop_utils.training.backprop import Backprop, differentiable
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble

BY_HAND = ("relu", "leaky_relu", "leaky_relu_03", "tanh", "sigmoid", "gelu", "identity")


def _stack(members=3, widths=(9, 5), dtype=torch.float64, shifted=0.3, **settings):
    """MLPs of 7 inputs and 6 outputs whose gains and shifts are not those of the initialisation."""
    stack = Stack([MLP(MLPConfig(7, widths, 6, **settings), seed=seed).to(dtype) for seed in range(members)])
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in stack.tensors.items():
            if ".norm." in name and p.requires_grad:
                p += shifted * torch.randn(p.shape, generator=g, dtype=dtype)
    return stack


def _data(members, rows, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(members, rows, 7, generator=g, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, 4, (members, rows), generator=g)


def _automatic(stack, x, y, active):
    outputs = stack(x)
    losses = member_cross_entropy(outputs, y, active)
    losses.sum().backward()
    return losses, outputs


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["none", "batch", "layer"]),
    st.booleans(),
    st.sampled_from(BY_HAND),
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(2, 60),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0.0, 0.4]),
)
def test_everything_equals_automatic_differentiation(
    norm, affine, activation, widths, members, rows, some, dtype, dropout
):
    shape = {"norm": norm, "affine": affine, "activation": activation, "dropout": dropout}
    # not a copy: each has generators of its own, with the same seeds, for the masks
    stack, other = (_stack(members, tuple(widths), dtype, **shape) for _ in "ab")
    x, y = _data(members, rows, dtype)
    active = torch.arange(6).expand(members, 6) < 4 if some else None
    assert differentiable(stack, x)
    expected, found = _automatic(other, x, y, active), Backprop(stack, active)(x, y)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    for (name, a), b in zip(stack.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(stack.named_buffers(), other.named_buffers(), strict=False):
        assert torch.equal(a, b[1]), name  # running means, variances and counts


def test_a_target_that_is_not_active_has_an_infinite_loss_and_leaves_the_other_members_alone():
    stack, (x, y) = _stack(), _data(3, 10)
    other, active = copy.deepcopy(stack), torch.ones(3, 6, dtype=torch.bool)
    active[1, int(y[1, 0])] = False
    expected, (losses, _) = _automatic(other, x, y, active), Backprop(stack, active)(x, y)
    assert losses.isinf().tolist() == [False, True, False]
    assert torch.equal(losses, expected[0])
    for a, b in zip(stack.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_training_run_is_the_same_with_and_without_it(norm, rule, monkeypatch):
    used, (x, y) = [], _data(3, 40, torch.float32)
    active = torch.arange(6).expand(3, 6) < 4
    monkeypatch.setattr(ensemble, "Backprop", lambda *given: used.append(given) or Backprop(*given))

    def end(**settings):
        stack = _stack(dtype=torch.float32, norm=norm)
        data = member_batches(x, y, batch_size=8, seeds=(0, 1, 2))
        outcome = train_ensemble(stack, rule(stack.parameters(), lr=0.05), data, steps=100, active=active, **settings)
        return [*stack.parameters(), *stack.buffers(), outcome.online_loss, outcome.online_accuracy]

    by_hand = end()
    assert len(used) == 1
    automatic = end(fast=False)
    assert len(used) == 1
    for a, b in zip(by_hand, automatic, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_observers_are_told_the_same(dropout):
    told, (x, y) = {}, _data(3, 10)
    paths = ["head", *(f"hidden.{i}.{part}" for i in (0, 1) for part in ("linear", "norm", "activation", "dropout"))]
    paths = paths if dropout else [path for path in paths if not path.endswith("dropout")]
    for way in ("automatic", "by hand"):
        stack = _stack(norm="layer", dropout=dropout)
        watches = [
            observe(stack, paths, lambda outputs, way=way: told.setdefault(way, []).append(outputs)),
            observe(stack, ["head"], lambda outputs, way=way: told[way].append(outputs)),
        ]
        for _ in range(2):
            _automatic(stack, x, y, None) if way == "automatic" else Backprop(stack)(x, y)
        for watch in watches:
            watch.remove()
        _automatic(stack, x, y, None) if way == "automatic" else Backprop(stack)(x, y)
    assert [list(seen) for seen in told["by hand"]] == [paths, ["head"]] * 2
    for found, expected in zip(told["by hand"], told["automatic"], strict=True):
        assert all(torch.equal(found[path], expected[path]) for path in expected)
        assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("make", [ReDo, SelfNormalizedResets, ContinualBackprop])
def test_rules_that_watch_units_redraw_the_same_ones(make, monkeypatch):
    used, (x, y) = [], _data(3, 40, torch.float32)
    monkeypatch.setattr(ensemble, "Backprop", lambda *given: used.append(given) or Backprop(*given))
    settings = {"tau": 0.6, "every": 20} if make is ReDo else {}
    settings |= {"replacement_rate": 0.02, "maturity": 5} if make is ContinualBackprop else {}

    def end(**how):
        stack = _stack(dtype=torch.float32, dropout=0.1)
        optimizer = torch.optim.Adam(stack.parameters(), lr=0.05)
        rule = make(optimizer, stack, seed=0, **settings)
        data = member_batches(x, y, batch_size=8, seeds=(0, 1, 2))
        train_ensemble(stack, optimizer, data, steps=100, **how)
        return [*stack.parameters()], rule.replaced

    (by_hand, replaced), (automatic, _) = end(), end(fast=False)
    assert len(used) == 1
    assert make is SelfNormalizedResets or sum(int(n.sum()) for n in replaced.values()) > 0
    for a, b in zip(by_hand, automatic, strict=True):
        assert torch.equal(a, b)


def test_what_it_does_not_know_is_left_to_automatic_differentiation():
    x, _ = _data(3, 10)
    assert differentiable(_stack(), x)
    assert not differentiable(_stack(activation="prelu"), x)
    assert not differentiable(_stack(activation="crelu"), x)
    assert not differentiable(_stack().eval(), x)
    frozen = _stack()
    frozen.tensors["head.bias"].requires_grad_(False)
    assert not differentiable(frozen, x)
    images = torch.zeros(2, 4, 1, 8, 8)
    assert not differentiable(Stack([CNN(CNNConfig(1, 8, 3, (2,), 4), seed=s) for s in (0, 1)]), images)
    assert not differentiable(_stack(), x.to("meta"))


def test_a_loss_of_ones_own_is_differentiated_automatically(monkeypatch):
    monkeypatch.setattr(ensemble, "Backprop", lambda *given: pytest.fail("used for a loss it does not know"))
    stack, (x, y) = _stack(), _data(3, 10)
    squares = lambda outputs, targets: outputs.square().mean((1, 2))  # noqa: E731
    outcome = train_ensemble(
        stack, torch.optim.SGD(stack.parameters(), lr=0.1), iter([(x, y)] * 3), steps=3, loss=squares
    )
    assert outcome.steps == 3
