"""Training a stack: each member as if alone, divergence its own affair."""

import time

import pytest
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.batches import batches, member_batches
from lop_utils.training.capture import capturable
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble, zero_head
from lop_utils.training.loop import train


def _nets(members=3, **kw):
    return [MLP(MLPConfig(6, (8, 8), 4, **kw), seed=seed).double() for seed in range(members)]


def _data(members=3):
    g = torch.Generator().manual_seed(0)
    return torch.randn(members, 20, 6, generator=g, dtype=torch.float64), torch.randint(4, (members, 20), generator=g)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam])
def test_a_hundred_steps_of_a_member_are_those_of_its_lone_run(norm, rule):
    nets, (x, y) = _nets(norm=norm), _data()
    stack = Stack(nets)
    seeds = (4, 5, 6)
    data = member_batches(x, y, batch_size=5, seeds=seeds)
    train_ensemble(stack, rule(stack.parameters(), lr=0.01), data, steps=100)
    for i, net in enumerate(nets):
        stream = batches(x[i], y[i], batch_size=5, seed=seeds[i])
        train(net, rule(net.parameters(), lr=0.01), stream, steps=100)
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(stack.member(i).state_dict()[name], tensor, rtol=0, atol=1e-8)


def test_online_scores_are_taken_before_each_update():
    class One(nn.Module):
        members = 1

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[[0.1], [0.0]]]))

        def forward(self, x):
            return x @ self.weight.mT

    stack = One()
    x, y = torch.ones(1, 4, 1), torch.ones(1, 4, dtype=torch.long)  # class 1, while class 0 leads at first
    outcome = train_ensemble(stack, torch.optim.SGD(stack.parameters(), lr=1.0), iter([(x, y)] * 4), steps=4)
    assert float(outcome.online_accuracy[0]) == 0.75  # wrong once, then right
    first = float(member_cross_entropy(x @ torch.tensor([[[0.1], [0.0]]]).mT, y))
    assert float(outcome.online_loss[0]) < first


def test_a_diverging_member_is_named_with_its_step_and_the_others_go_on():
    nets, (x, y) = _nets(), _data()
    with torch.no_grad():
        nets[1].head.weight.fill_(torch.inf)
    stack = Stack(nets)
    data = member_batches(x, y, batch_size=5, seeds=(4, 5, 6))
    outcome = train_ensemble(stack, torch.optim.SGD(stack.parameters(), lr=0.01), data, steps=30)
    assert outcome.diverged_at[0] is None and outcome.diverged_at[1] == 0 and outcome.diverged_at[2] is None
    alone = _nets()[2]
    stream = batches(x[2], y[2], batch_size=5, seed=6)
    train(alone, torch.optim.SGD(alone.parameters(), lr=0.01), stream, steps=30)
    torch.testing.assert_close(stack.member(2).head.weight, alone.head.weight, rtol=0, atol=1e-10)
    assert torch.isfinite(outcome.online_accuracy).all()


def test_inactive_outputs_get_no_gradient():
    outputs = torch.randn(2, 5, 4, requires_grad=True)
    active = torch.tensor([[True, True, False, False], [False, True, True, False]])
    y = torch.ones(2, 5, dtype=torch.long)
    member_cross_entropy(outputs, y, active).sum().backward()
    assert (outputs.grad.abs().sum(1) > 0).equal(active)
    inside = nn.functional.cross_entropy(outputs[0][:, :2], y[0])
    torch.testing.assert_close(member_cross_entropy(outputs, y, active)[0], inside)


def test_zeroing_the_head_zeroes_its_moments_only_when_asked():
    nets, (x, y) = _nets(), _data()
    stack = Stack(nets)
    optimizer = torch.optim.Adam(stack.parameters())
    train_ensemble(stack, optimizer, member_batches(x, y, batch_size=5, seeds=(1, 2, 3)), steps=2)
    head, hidden = stack.tensors["head.weight"], stack.tensors["hidden.0.linear.weight"]
    zero_head(stack)
    assert not head.any() and optimizer.state[head]["exp_avg"].any()
    zero_head(stack, optimizer)
    assert not optimizer.state[head]["exp_avg"].any() and optimizer.state[hidden]["exp_avg"].any()


def test_probes_come_at_their_steps():
    seen = []
    stack = Stack(_nets())
    data = member_batches(*_data(), batch_size=5, seeds=(1, 2, 3))
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    train_ensemble(stack, optimizer, data, steps=4, probe=seen.append, probe_at=(0, 3, 4))
    assert seen == [0, 3, 4]
    with pytest.raises(UsageError, match="both"):
        active = torch.ones(3, 4, dtype=torch.bool)
        train_ensemble(stack, optimizer, data, steps=1, active=active, loss=member_cross_entropy)


@pytest.mark.slow
def test_five_seeds_at_once_take_less_time_than_one_after_another():
    torch.set_num_threads(1)
    x, y = torch.randn(5, 400, 192), torch.randint(5, (5, 400))
    times = {}
    for members in (5, 1):
        stack = Stack([MLP(MLPConfig(192, (128,) * 5, 5), seed=seed) for seed in range(members)])
        optimizer = torch.optim.Adam(stack.parameters(), foreach=True)
        data = member_batches(x[:members], y[:members], batch_size=50, seeds=range(members))
        train_ensemble(stack, optimizer, data, steps=20)
        best = []
        for _ in range(5):
            started = time.perf_counter()
            train_ensemble(stack, optimizer, data, steps=40)
            best.append(time.perf_counter() - started)
        times[members] = min(best)
    assert 5 * times[1] > 1.15 * times[5]  # 1.4 on a quiet machine


def test_on_a_cpu_and_with_dropout_nothing_is_captured():
    x, _ = _data()
    assert not capturable(Stack(_nets()), x)
    assert not capturable(Stack(_nets(dropout=0.1)), x)
