"""The diagnostics of a network before it learns, against explicit Jacobians and Hessians in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from lop_utils.errors import UsageError
from lop_utils.metrics import trainability as t
from lop_utils.metrics.hessian import (
    effective_rank_by_quadrature,
    hessian_effective_rank,
    hessian_epsilon_rank,
    lanczos_quadrature,
)
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.vit import ViT, ViTConfig


@pytest.fixture(params=["none", "batch", "layer"])
def setting(request):
    torch.manual_seed(0)
    net = MLP(MLPConfig(3, (5, 4), 4, norm=request.param, activation="tanh"), seed=1).double().eval()
    return net, torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 1, 1])


def _flat(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def _loss_of(net, x, y, columns=None):
    """The mean cross-entropy as a function of one flat parameter vector."""
    shapes = {name: p.shape for name, p in net.named_parameters()}

    def loss(flat, rows=slice(None)):
        parts = flat.split([s.numel() for s in shapes.values()])
        state = {name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        outputs = functional_call(net, state, (x[rows],))
        return nn.functional.cross_entropy(outputs if columns is None else outputs[:, columns], y[rows])

    return loss


def _rank(values):
    p = np.abs(values) / np.abs(values).sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def test_gradient_diagnostics_equal_those_of_explicit_per_sample_gradients(setting):
    net, x, y = setting
    loss, flat = _loss_of(net, x, y), _flat(net)
    single = torch.stack([torch.func.grad(loss)(flat, slice(i, i + 1)) for i in range(len(x))])
    mean = torch.func.grad(loss)(flat)
    at = t.tangents(net, x, y)
    strength, noise = float(mean.norm()), float(single.square().sum(1).mean())
    assert t.gradient_norm(at) == pytest.approx(strength, rel=1e-10)
    assert t.gradient_norm_per_parameter(at) == pytest.approx(strength / len(flat) ** 0.5, rel=1e-10)
    assert t.gradient_reliability(at) == pytest.approx(strength**2 / noise, rel=1e-10)
    assert t.optimization_readiness(at) == pytest.approx(strength**4 / noise, rel=1e-10)


def test_reliability_of_a_minibatch_is_that_of_all_its_draws(setting):
    net, x, y = setting
    x, y = x[:3], y[:3]
    loss, flat = _loss_of(net, x, y), _flat(net)
    single = torch.stack([torch.func.grad(loss)(flat, slice(i, i + 1)) for i in range(3)])
    drawn = [(single[i] + single[j]).div(2).square().sum() for i in range(3) for j in range(3)]
    want = float(single.mean(0).square().sum() / torch.stack(drawn).mean())
    assert t.gradient_reliability(t.tangents(net, x, y), batch_size=2) == pytest.approx(want, rel=1e-10)


def test_one_step_at_the_best_rate_gains_at_least_readiness_over_two_l():
    """A quadratic loss (a linear map under cross-entropy is smooth with L <= max eigenvalue of K / (2 N))."""
    torch.manual_seed(3)
    net = nn.Linear(3, 2).double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randint(2, (8,))
    at = t.tangents(net, x, y)
    smooth = float(torch.linalg.eigvalsh(t._square(at.kernel)).max()) / (2 * len(x))
    loss, flat = _loss_of(net, x, y), _flat(net)
    rate = t.gradient_reliability(at) / smooth
    steps = [flat - rate * torch.func.grad(loss)(flat, slice(i, i + 1)) for i in range(len(x))]
    gain = float(loss(flat) - torch.stack([loss(step) for step in steps]).mean())
    assert gain >= t.optimization_readiness(at) / (2 * smooth) > 0


def test_kernel_ranks_equal_those_of_the_explicit_jacobian(setting):
    net, x, y = setting
    shapes = [p.shape for p in net.parameters()]
    names = [name for name, _ in net.named_parameters()]

    def outputs(flat):
        parts = flat.split([s.numel() for s in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return functional_call(net, state, (x,))

    jacobian = torch.func.jacrev(outputs)(_flat(net)).numpy()  # (N, C, P)
    at = t.tangents(net, x, y)
    raw = np.linalg.svd(jacobian.reshape(-1, jacobian.shape[-1]), compute_uv=False) ** 2
    centred = np.linalg.svd((jacobian - jacobian.mean(0)).reshape(len(raw), -1), compute_uv=False) ** 2
    assert t.ntk_effective_rank(at) == pytest.approx(_rank(raw), rel=1e-8)
    assert t.ntk_effective_rank(at, centred=True) == pytest.approx(_rank(centred), rel=1e-8)
    p = outputs(_flat(net)).softmax(1).detach().numpy()
    ggn = sum(j.T @ (np.diag(q) - np.outer(q, q)) @ j for j, q in zip(jacobian, p, strict=True)) / len(x)
    assert t.ggn_effective_rank(at) == pytest.approx(_rank(np.linalg.eigvalsh(ggn)), rel=1e-6)


def test_hessian_ranks_equal_those_of_the_explicit_hessian(setting):
    net, x, y = setting
    gradient, at, step = torch.func.grad(_loss_of(net, x, y)), _flat(net), 1e-5
    axes = step * torch.eye(len(at), dtype=torch.float64)  # differences: forward-over-reverse is wrong for layer norm
    hessian = torch.stack([gradient(at + axis) - gradient(at - axis) for axis in axes]).numpy() / (2 * step)
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert hessian_effective_rank(net, x, y, probes=None) == pytest.approx(_rank(values), rel=1e-5)
    sizes = np.sort(np.abs(values))[::-1] / np.abs(values).max()
    epsilon = (sizes[9] + sizes[10]) / 2
    assert hessian_epsilon_rank(net, x, y, epsilon=epsilon, steps=60) == 10
    assert hessian_epsilon_rank(net, x, y, epsilon=epsilon, steps=4) <= 4  # never more than the steps


def test_estimated_hessian_rank_comes_near_the_exact_one(setting):
    net, x, y = setting
    exact = hessian_effective_rank(net, x, y, probes=None)
    assert hessian_effective_rank(net, x, y, probes=40, steps=30) == pytest.approx(exact, rel=0.1)


def test_active_outputs_leave_the_others_out(setting):
    net, x, y = setting
    keep = torch.tensor([1, 3])
    rows = (y == 1) | (y == 3)
    x, y = x[rows], y[rows]
    reduced = copy.deepcopy(net)
    reduced.head = nn.Linear(4, 2).double()
    with torch.no_grad():
        reduced.head.weight.copy_(net.head.weight[keep])
        reduced.head.bias.copy_(net.head.bias[keep])
    z = (y == 3).long()
    whole, small = t.tangents(net, x, y, active=keep), t.tangents(reduced, x, z)
    torch.testing.assert_close(whole.kernel, small.kernel)
    assert t.gradient_norm(whole) == pytest.approx(t.gradient_norm(small), rel=1e-10)
    mask = torch.tensor([False, True, False, True])
    torch.testing.assert_close(t.tangents(net, x, y, active=mask).kernel, whole.kernel)
    ranks = [hessian_effective_rank(*case, probes=None) for case in ((reduced, x, z),)]
    assert hessian_effective_rank(net, x, y, active=keep, probes=None) == pytest.approx(ranks[0], rel=1e-8)


def test_quadrature_is_exact_once_lanczos_has_run_its_course():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix, v = half + half.T, torch.randn(7, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix)
    nodes, weights = lanczos_quadrature(lambda u: matrix @ u, v, steps=7)
    assert float(weights @ nodes.abs()) == pytest.approx(float((vectors.T @ v).square() @ values.abs()), rel=1e-10)


def test_quadrature_stops_early_on_an_invariant_space_and_finds_nothing_in_zero():
    v = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    nodes, weights = lanczos_quadrature(lambda u: torch.tensor([2.0, 2.0, 5.0]) * u, v, steps=3)
    assert nodes.tolist() == pytest.approx([2.0]) and weights.tolist() == pytest.approx([2.0])
    assert effective_rank_by_quadrature(torch.zeros_like, torch.zeros(5), probes=2, steps=3) == 0.0


@pytest.mark.parametrize(
    "net",
    [
        CNN(CNNConfig(side=8, channels=(2, 3), fc=4, norm="batch", image_channels=1, outputs=5), seed=0),
        ViT(
            ViTConfig(side=8, patch=4, width=4, mlp=6, depth=1, heads=2, head_dim=2, image_channels=1, outputs=5),
            seed=0,
        ),
    ],
    ids=["cnn", "vit"],
)
def test_diagnosis_works_for_images_and_leaves_the_model_untouched(net):
    before = copy.deepcopy(net.state_dict())
    net.train()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 1, 8, 8, generator=generator), torch.arange(12) % 3 + 1
    state = torch.random.get_rng_state()
    found = t.diagnose(net, x, y)
    assert set(found) == {*t.DIAGNOSTICS, "hessian_rank"}
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    assert net.training and all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_dead_network_has_no_gradient_behind_its_head():
    net = MLP(MLPConfig(3, (4,), 2), seed=0)
    with torch.no_grad():
        net.hidden[0].linear.bias.fill_(-100.0)
    at = t.tangents(net, torch.eye(3), torch.tensor([0, 1, 0]))
    assert t.ntk_effective_rank(at) == pytest.approx(2.0)  # only the two output biases are left
    assert t.ntk_effective_rank(at, centred=True) == pytest.approx(0.0, abs=1e-6)


def test_wrong_use_is_named():
    net = nn.Linear(2, 3)
    with pytest.raises(UsageError, match="no active output"):
        t.tangents(net, torch.eye(2), torch.tensor([0, 2]), active=torch.tensor([0, 1]))
    with pytest.raises(UsageError, match="epsilon 0"):
        hessian_epsilon_rank(net, torch.eye(2), torch.tensor([0, 2]), epsilon=0)
    with pytest.raises(UsageError, match="0 probes"):
        hessian_effective_rank(net, torch.eye(2), torch.tensor([0, 2]), probes=0)
