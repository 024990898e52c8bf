"""Every intervention against its formula; what all of them share: members, resuming, removal, any optimizer."""

import math
from copy import deepcopy

import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack, stacked
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.initial import draw
from lop_utils.optim.intervention import generators_for
from lop_utils.optim.l2_init import L2Init
from lop_utils.optim.redo import ReDo
from lop_utils.optim.self_normalized_resets import SelfNormalizedResets, quantiles
from lop_utils.optim.shrink_perturb import ShrinkPerturb
from lop_utils.optim.upgd import UPGD
from lop_utils.optim.weight_noise import WeightNoise

ALL = {
    "cbp": lambda o, m, s: ContinualBackprop(o, m, replacement_rate=0.05, maturity=2, seed=s),
    "redo": lambda o, m, s: ReDo(o, m, tau=0.5, every=3, seed=s),
    "snr": lambda o, m, s: SelfNormalizedResets(o, m, quantile=0.5, limit=4, refresh=3, seed=s),
    "shrink_perturb": lambda o, m, s: ShrinkPerturb(o, m, shrink=0.99, perturb=0.01, every=4, seed=s),
    "gaussian_perturb": lambda o, m, s: ShrinkPerturb(o, m, shrink=0.9, perturb=0.01, draw="gaussian", every=1, seed=s),
    "weight_noise": lambda o, m, s: WeightNoise(o, m, sigma=0.01, decay=0.9, seed=s),
    "gradient_noise": lambda o, m, s: GradientNoise(o, sigma=0.1, decay=0.9, seed=s, stacked=stacked(m)),
    "global_noise": lambda o, m, s: GradientNoise(o, sigma=0.1, seed=s, scope="global", stacked=stacked(m)),
    "upgd": lambda o, m, s: UPGD(o, m, sigma=0.01, weight_decay=0.01, seed=s),
    "l2_init": lambda o, m, s: L2Init(o, strength=0.1),
}
OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01),
}


def steps(net, optimizer, x, y, count):
    for _ in range(count):
        optimizer.zero_grad()
        outputs = net(x)
        if stacked(net):
            sum(nn.functional.cross_entropy(a, b) for a, b in zip(outputs, y, strict=True)).backward()
        else:
            nn.functional.cross_entropy(outputs, y).backward()
        optimizer.step()


def quiet(seed=0):
    """A network some of whose units seldom or never fire."""
    net = mlp(activation="relu", widths=(8, 8), seed=seed)
    with torch.no_grad():
        net.hidden[0].linear.bias.sub_(torch.linspace(0, 2.5, 8))
    return net


def same(a, b, **tolerance):
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, **tolerance)


@pytest.mark.parametrize("rule", ALL)
def test_member_i_of_a_stack_does_what_it_does_alone(rule):
    nets = [quiet(seed) for seed in (0, 1)]
    stack = Stack(nets)
    data = [batch(net, rows=6, seed=i) for i, net in enumerate(nets)]
    x, y = (torch.stack(parts) for parts in zip(*data, strict=True))
    optimizer = OPTIMIZERS["adam"](stack.parameters())
    ALL[rule](optimizer, stack, 3)
    steps(stack, optimizer, x, y, 12)
    for i, net in enumerate(nets):
        alone = OPTIMIZERS["adam"](net.parameters())
        ALL[rule](alone, net, 3 + i)
        steps(net, alone, *data[i], 12)
        same(stack.member(i), net, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rule", ALL)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_a_pause_training_goes_on_as_if_there_had_been_none(rule, optimizer):
    net = quiet()
    x, y = batch(net, rows=6)
    first = OPTIMIZERS[optimizer](net.parameters())
    start, intervention = [p.detach().clone() for p in net.parameters()], ALL[rule](first, net, 0)
    steps(net, first, x, y, 7)
    twin = quiet(1)
    twin.load_state_dict(net.state_dict())
    second = OPTIMIZERS[optimizer](twin.parameters())
    second.load_state_dict(deepcopy(first.state_dict()))  # torch's holds the tensors themselves
    ALL[rule](second, twin, 99).load_state_dict(intervention.state_dict())
    steps(net, first, x, y, 7)
    steps(twin, second, x, y, 7)
    same(net, twin, rtol=0, atol=0)
    assert any(not torch.equal(p, old) for p, old in zip(net.parameters(), start, strict=True))


@pytest.mark.parametrize("rule", ALL)
def test_removed_it_leaves_a_plain_optimizer(rule):
    net, twin = quiet(), quiet()
    x, y = batch(net, rows=6)
    optimizer, plain = OPTIMIZERS["sgd"](net.parameters()), OPTIMIZERS["sgd"](twin.parameters())
    intervention = ALL[rule](optimizer, net, 0)
    intervention.remove()
    steps(net, optimizer, x, y, 9)
    steps(twin, plain, x, y, 9)
    same(net, twin, rtol=0, atol=0)


def test_redo_redraws_the_units_at_or_below_tau_of_the_mean_at_every_fth_step_and_no_other():
    net = quiet()
    x, y = batch(net, rows=40)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    redo = ReDo(optimizer, net, tau=0.3, every=3, seed=0)
    before = [layer.linear.weight.detach().clone() for layer in net.hidden]
    layers = [record(net, x)[f"hidden.{i}"].activation.abs().mean(0) for i in (0, 1)]
    steps(net, optimizer, x, y, 2)
    assert all(torch.equal(layer.linear.weight, old) for layer, old in zip(net.hidden, before, strict=True))
    steps(net, optimizer, x, y, 1)
    dormant = [size <= 0.3 * size.mean() for size in layers]
    assert 0 < sum(int(mask.sum()) for mask in dormant) < 16
    for i, mask in enumerate(dormant):
        assert torch.equal(redo.replaced[f"hidden.{i}"][0].bool(), mask)
        changed = (net.hidden[i].linear.weight != before[i]).any(1)
        assert torch.equal(changed | (dormant[0].any() if i else False), mask | (dormant[0].any() if i else False))
    assert (
        not net.head.weight[:, dormant[1]].any() and not net.hidden[1].linear.weight[~dormant[1]][:, dormant[0]].any()
    )


def test_self_normalised_resets_follow_each_units_own_history():
    net = MLP(MLPConfig(inputs=2, widths=(2,), outputs=1), seed=0)
    with torch.no_grad():  # unit j fires exactly when input j is positive
        net.hidden[0].linear.weight.copy_(torch.eye(2))
        net.hidden[0].linear.bias.zero_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    snr = SelfNormalizedResets(optimizer, net, quantile=0.9, limit=50, refresh=1, seed=0)

    def step(first, second):
        net(torch.tensor([[1.0 if first else -1.0, 1.0 if second else -1.0]])).sum().backward()
        optimizer.step()

    for t in range(40):  # unit 0 fires at every step, unit 1 at every fourth
        step(True, t % 4 == 3)
    assert snr.threshold["hidden.0"].tolist() == [[1, 4]] and snr.silent["hidden.0"].tolist() == [[0, 0]]
    step(False, False)
    assert not snr.replaced["hidden.0"].any()
    step(False, False)  # two silent steps: more than unit 0 is used to
    assert snr.replaced["hidden.0"].tolist() == [[1, 0]]
    assert snr.gaps["hidden.0"][0, 0].sum() == 0 and snr.threshold["hidden.0"].tolist() == [[50, 4]]
    step(False, False), step(False, False)
    assert snr.replaced["hidden.0"][0, 1] == 0
    step(False, False)  # five
    assert snr.replaced["hidden.0"][0, 1] == 1


def test_the_threshold_is_the_smallest_time_that_holds_the_quantile():
    g = torch.Generator().manual_seed(0)
    times = torch.randint(1, 30, (5, 77), generator=g)
    counts = torch.stack([torch.bincount(row, minlength=31)[1:] for row in times]).to(torch.int32)
    for level in (0.5, 0.9, 0.99):
        expected = torch.tensor([sorted(row.tolist())[math.ceil(level * 77 - 1e-9) - 1] for row in times])
        assert torch.equal(quantiles(counts, level, empty=99).long(), expected)


def test_a_fresh_perturbation_mixes_in_a_new_network():
    net = mlp(norm="batch", gain=2.0)
    old = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    ShrinkPerturb(optimizer, net, shrink=0.7, perturb=0.3, seed=5).perturb_now()
    generator = generators_for(net, 5)[0]
    for name, p in net.named_parameters():
        xi = draw(net, name, p.shape, generator)
        torch.testing.assert_close(p.detach(), 0.7 * old[name] + 0.3 * xi.double(), rtol=1e-12, atol=1e-13)
        kind = name.rpartition(".")[2]
        assert ".norm." not in name or bool((xi == (1.0 if kind == "weight" else 0.0)).all())


def test_gaussian_perturbation_and_weight_noise_have_the_stated_variance():
    for make, mean_factor, sd in (
        (lambda o, m: ShrinkPerturb(o, m, shrink=0.5, perturb=0.2, draw="gaussian", every=2, seed=0), 0.5, 0.2),
        (lambda o, m: WeightNoise(o, m, sigma=0.2, decay=0.5, seed=0), 1.0, (0.2**2 + 0.1**2) ** 0.5),
    ):
        net = MLP(MLPConfig(inputs=300, widths=(300,), outputs=2), seed=0)
        before = net.hidden[0].linear.weight.detach().clone()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        make(optimizer, net)
        for _ in range(2):
            optimizer.step()
        noise = net.hidden[0].linear.weight.detach() - mean_factor * before
        assert noise.std().item() == pytest.approx(sd, rel=0.01)
        assert abs(noise.mean().item()) < 5 * sd / 300
        assert noise.pow(4).mean().item() == pytest.approx(3 * sd**4, rel=0.05)


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_gradient_noise_of_a_stack_is_as_large_as_each_members_own_gradient(scope):
    p, q = nn.Parameter(torch.zeros(2, 200, 200)), nn.Parameter(torch.zeros(2, 300))
    g, h = torch.ones(2, 200, 200), torch.ones(2, 300)
    g[1], h[1] = 10, 0
    p.grad, q.grad = g.clone(), h.clone()
    optimizer = torch.optim.SGD([p, q], lr=1.0)
    GradientNoise(optimizer, sigma=0.5, seed=0, scope=scope, stacked=True)
    optimizer.step()
    for member in (0, 1):
        norms = [g[member].norm().item(), h[member].norm().item()]
        expected = norms if scope == "tensor" else [math.hypot(*norms)] * 2
        for noise, norm in zip((-p.data - g, -q.data - h), expected, strict=True):
            assert noise[member].std().item() == pytest.approx(0.5 * norm, rel=0.1, abs=1e-6)


def test_three_upgd_steps_are_those_of_scalar_arithmetic():
    layer = nn.Linear(2, 1, bias=False).double()
    theta = [0.5, -1.5]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([theta]))
    lr, wd, decay, factor = 0.1, 0.2, 0.9, 2.0
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    UPGD(optimizer, layer, sigma=0.0, weight_decay=wd, decay=decay, factor=factor, seed=0)
    u = [0.0, 0.0]
    for t, g in enumerate(([1.0, 0.3], [-2.0, 0.1], [0.2, 0.4]), start=1):
        layer.weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        u = [decay * a + (1 - decay) * -b * c for a, b, c in zip(u, g, theta, strict=True)]
        corrected = [a / (1 - decay**t) for a in u]
        gates = [1 - 1 / (1 + math.exp(-a / max(*corrected, 1e-300))) for a in corrected]
        theta = [(1 - lr * wd) * c - factor * lr * b * k for c, b, k in zip(theta, g, gates, strict=True)]
        assert layer.weight.flatten().tolist() == pytest.approx(theta, rel=1e-12)


def test_upgds_noise_spares_useful_weights():
    layer = nn.Linear(400, 400, bias=False)
    with torch.no_grad():
        layer.weight.fill_(-1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    UPGD(optimizer, layer, sigma=3.0, seed=0)
    gradient = torch.zeros(400, 400)
    gradient[:200] = 1e-6  # -g theta > 0: the greatest utility there is; the rest has none
    layer.weight.grad = gradient
    optimizer.step()
    noise = layer.weight.detach() + 1
    gate = 1 - torch.sigmoid(torch.tensor(1.0)).item()
    assert noise[:200].std().item() == pytest.approx(0.3 * gate, rel=0.02)
    assert noise[200:].std().item() == pytest.approx(0.3 * 0.5, rel=0.02)


@pytest.mark.parametrize(
    "bad",
    [
        lambda o, m: ReDo(o, m, every=0, seed=0),
        lambda o, m: SelfNormalizedResets(o, m, quantile=1.0, seed=0),
        lambda o, m: ShrinkPerturb(o, m, shrink=1.1, perturb=0.0, seed=0),
        lambda o, m: ShrinkPerturb(o, m, shrink=1.0, perturb=0.0, draw="uniform", seed=0),
        lambda o, m: WeightNoise(o, m, sigma=float("nan"), seed=0),
        lambda o, m: GradientNoise(o, sigma=0.1, decay=2.0, seed=0),
        lambda o, m: UPGD(o, m, factor=0.0, seed=0),
        lambda o, m: L2Init(o, strength=-1.0),
        lambda o, m: ContinualBackprop(o, m, seed=[1, 2]),
    ],
)
def test_settings_out_of_range_are_refused(bad):
    net = mlp()
    with pytest.raises(UsageError):
        bad(torch.optim.SGD(net.parameters(), lr=0.1), net)
