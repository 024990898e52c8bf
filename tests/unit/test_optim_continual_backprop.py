"""Continual backpropagation against an implementation with scalar loops, and against its own rate."""

import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.optim.continual_backprop import UTILITIES, ContinualBackprop


def train(net, optimizer, x, y):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


class ByHand:
    """CBP of one hidden layer, unit by unit, as Dohare et al. 2024 describe it: says who is replaced, and when."""

    def __init__(self, units, *, rate, maturity, decay, kind):
        self.u, self.a, self.age = [0.0] * units, [0.0] * units, [0] * units
        self.rate, self.maturity, self.decay, self.kind, self.due = rate, maturity, decay, kind, 0.0

    def step(self, h, w_in, w_out):
        for j in range(len(self.u)):
            self.age[j] += 1
            correction = 1 - self.decay ** self.age[j]
            column = [float(v) for v in h[:, j]]
            self.a[j] = self.decay * self.a[j] + (1 - self.decay) * sum(column) / len(column)
            centre = self.a[j] / correction if self.kind == "adaptable_contribution" else 0.0
            size = sum(abs(v - centre) for v in column) / len(column)
            outgoing = sum(abs(float(row[j])) for row in w_out)
            incoming = sum(abs(float(v)) for v in w_in[j]) if self.kind == "adaptable_contribution" else 1.0
            self.u[j] = self.decay * self.u[j] + (1 - self.decay) * size * outgoing / incoming
        eligible = [j for j in range(len(self.u)) if self.age[j] > self.maturity]
        self.due += self.rate * len(eligible)
        count, self.due = int(self.due), self.due - int(self.due)
        chosen = sorted(eligible, key=lambda j: self.u[j] / (1 - self.decay ** self.age[j]))[:count]
        sent = {j: self.a[j] / (1 - self.decay ** self.age[j]) for j in chosen}
        for j in chosen:
            self.u[j] = self.a[j] = self.age[j] = 0
        return sent


@pytest.mark.parametrize("kind", UTILITIES)
def test_every_replacement_and_compensation_is_that_of_scalar_loops(kind):
    net = mlp(widths=(12,), activation="relu")
    x, y = batch(net, rows=20)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    settings = {"replacement_rate": 0.02, "maturity": 5, "decay": 0.9}
    cbp = ContinualBackprop(optimizer, net, utility=kind, seed=0, **settings)
    twin = mlp(widths=(12,), activation="relu")  # takes the plain step from the same place, to be compared with
    hand, replaced = ByHand(12, rate=0.02, maturity=5, decay=0.9, kind=kind), 0
    for _ in range(120):
        twin.load_state_dict(net.state_dict())
        h = torch.relu(net.hidden[0].linear(x)).detach()
        train(twin, torch.optim.SGD(twin.parameters(), lr=0.1), x, y)
        train(net, optimizer, x, y)
        w_in, w_out = twin.hidden[0].linear.weight.detach(), twin.head.weight.detach()
        sent = hand.step(h, w_in, w_out)
        changed = (net.hidden[0].linear.weight != w_in).any(1).nonzero().flatten().tolist()
        assert changed == sorted(sent)
        bias = twin.head.bias.detach() + sum((w_out[:, j] * value for j, value in sent.items()), torch.zeros(3))
        torch.testing.assert_close(net.head.bias.detach(), bias, rtol=1e-12, atol=1e-13)
        kept = [j for j in range(12) if j not in sent]
        assert torch.equal(net.head.weight[:, kept], w_out[:, kept]) and not net.head.weight[:, list(sent)].any()
        replaced += len(sent)
        expected = torch.tensor([hand.u], dtype=torch.float64)
        torch.testing.assert_close(cbp.utility["hidden.0"], expected, rtol=1e-10, atol=1e-12)
    assert replaced == cbp.replaced["hidden.0"].sum() >= 15


@pytest.mark.parametrize(("rate", "maturity"), [(1e-2, 0), (1e-3, 100), (1e-4, 100)])
def test_the_measured_replacement_rate_is_rho_within_two_percent(rate, maturity):
    steps, units = {1e-2: (400, 200), 1e-3: (2000, 200), 1e-4: (1500, 1000)}[rate]
    net = MLP(MLPConfig(inputs=2, widths=(units,), outputs=1), seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    cbp = ContinualBackprop(optimizer, net, replacement_rate=rate, maturity=maturity, seed=0)
    x, eligible = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), 0
    for _ in range(steps):
        eligible += int((cbp.age["hidden.0"] + 1 > maturity).sum())
        net(x).sum().backward()
        optimizer.step()
    replaced = int(cbp.replaced["hidden.0"].sum())
    assert replaced == pytest.approx(rate * eligible, rel=0.02) and replaced > 100
    if maturity:  # in the long run a unit is eligible for a share 1 / (1 + rate maturity) of its time
        lifetime = units * (steps - maturity) * rate / (1 + rate * maturity)
        assert replaced == pytest.approx(lifetime, rel=0.02)


def test_the_age_counts_steps_since_the_last_replacement_and_the_fraction_is_kept():
    net = mlp(widths=(4,), activation="relu")
    x, y = batch(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(optimizer, net, replacement_rate=0.1, maturity=2, seed=0)
    counts = []
    for _ in range(8):
        train(net, optimizer, x, y)
        counts.append(int(cbp.replaced["hidden.0"].sum()))
    assert counts == [0, 0, 0, 0, 1, 1, 1, 2]  # dues .4 .8 1.2 | .2+.3 .8 1.2: mature from step 3, three units at 6, 7
    assert cbp.age["hidden.0"].min() == 0 and cbp.age["hidden.0"].max() == 8


def test_a_replacement_hands_the_average_on_before_it_forgets_it():
    net = mlp(widths=(6,), activation="relu")
    x, y = batch(net, rows=64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)  # the network stands still: averages are exact
    cbp = ContinualBackprop(optimizer, net, replacement_rate=1.0, maturity=3, seed=0)
    before = net(x).mean(0)
    for _ in range(4):
        train(net, optimizer, x, y)
    assert cbp.replaced["hidden.0"].eq(1).all() and not net.head.weight.any()
    torch.testing.assert_close(net(x).mean(0), before, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "crelu", "tanh"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_member_of_a_stack_is_judged_and_redrawn_as_it_would_be_alone(activation, norm):
    shape = {"activation": activation, "norm": norm}
    nets = [mlp(seed=s, **shape) for s in (0, 1, 2)]
    stack = Stack(nets)
    data = [batch(net, seed=i) for i, net in enumerate(nets)]
    x, y = (torch.stack(parts) for parts in zip(*data, strict=True))
    together = torch.optim.SGD(stack.parameters(), lr=0.1, momentum=0.9)
    rule = {"replacement_rate": 0.05, "maturity": 3}
    ContinualBackprop(together, stack, seed=7, **rule)
    for _ in range(30):
        together.zero_grad()
        outputs = stack(x)
        sum(nn.functional.cross_entropy(a, b) for a, b in zip(outputs, y, strict=True)).backward()
        together.step()
    for i, net in enumerate(nets):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        cbp = ContinualBackprop(optimizer, net, seed=7 + i, **rule)
        for _ in range(30):
            train(net, optimizer, *data[i])
        assert cbp.replaced["hidden.0"].sum() > 5
        for name, p in net.named_parameters():
            torch.testing.assert_close(stack.tensors[name][i], p, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CNN(CNNConfig(3, side=8, outputs=3, channels=(4, 6), fc=5), seed=0),
        lambda: ViT(ViTConfig(3, side=8, outputs=3, patch=4, width=8, depth=1, heads=2, head_dim=4, mlp=12), seed=0),
    ],
)
def test_channels_and_transformer_units_are_replaced_at_the_same_rate(make):
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(optimizer, net, replacement_rate=0.1, maturity=0, seed=0)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 3, 8, 8, generator=g), torch.randint(3, (8,), generator=g)
    for _ in range(20):
        train(net, optimizer, x, y)
    for name, count in cbp.replaced.items():
        assert abs(int(count.sum()) - 20 * 0.1 * count.shape[1]) <= 1, name
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_impossible_settings_and_steps_without_a_pass_are_refused():
    net = mlp(widths=(4,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for bad in ({"replacement_rate": 1.5}, {"maturity": -1}, {"decay": 1.0}, {"utility": "weight"}):
        with pytest.raises(UsageError, match=str(next(iter(bad.values())))):
            ContinualBackprop(optimizer, net, seed=0, **bad)
    ContinualBackprop(optimizer, net, seed=0)
    net.eval()
    with pytest.raises(UsageError, match="no training pass"):
        train(net, optimizer, *batch(net))
