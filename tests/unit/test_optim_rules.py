"""Every update rule against its formula, computed by hand or by another implementation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.optim.clip import clip_by_norm, clip_by_value
from lop_utils.optim.l2_init import L2Init
from lop_utils.optim.lion import Lion
from lop_utils.optim.muon import Muon, newton_schulz, polar
from lop_utils.optim.norms import joint_norm
from lop_utils.optim.sam import SAM
from lop_utils.optim.sign import SignDescent


def parameter(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sign_descent_moves_every_coordinate_by_the_rate():
    p = parameter(1.0, 2.0, 3.0)
    p.grad = torch.tensor([1e-9, -5.0, 0.0], dtype=torch.float64)
    SignDescent([p], lr=0.1).step()
    assert p.tolist() == pytest.approx([0.9, 2.1, 3.0])


def test_three_lion_steps_are_those_of_scalar_arithmetic():
    p, lr, b1, b2, wd = parameter(1.0), 0.1, 0.9, 0.99, 0.5
    optimizer, theta, m = Lion([p], lr=lr, betas=(b1, b2), weight_decay=wd), 1.0, 0.0
    for g in (2.0, -0.1, -30.0):
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        direction = b1 * m + (1 - b1) * g
        theta = theta * (1 - lr * wd) - lr * (direction > 0) + lr * (direction < 0)
        m = b2 * m + (1 - b2) * g
        assert p.item() == pytest.approx(theta, abs=1e-15)


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_by_norm_is_torchs_own(limit):
    ours, theirs = [[parameter(1.0, 2.0), parameter(3.0)] for _ in range(2)]
    for group in (ours, theirs):
        for i, p in enumerate(group):
            p.grad = random(*p.shape, seed=i)
    optimizer = torch.optim.SGD(ours, lr=1.0)
    handle = clip_by_norm(optimizer, limit)
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(theirs, limit)
    torch.optim.SGD(theirs, lr=1.0).step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # torch adds 1e-6 to the norm
    handle.remove()
    before = ours[0].grad.clone()
    optimizer.step()
    assert torch.equal(ours[0].grad, before)


def test_clipping_by_value_cuts_every_entry():
    p = parameter(0.0, 0.0, 0.0)
    p.grad = torch.tensor([3.0, -0.2, -7.0], dtype=torch.float64)
    optimizer = torch.optim.SGD([p], lr=1.0)
    clip_by_value(optimizer, 0.5)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.2, 0.5]


def test_l2_init_is_gradient_descent_on_the_penalised_loss():
    p, q = parameter(1.0, -2.0), parameter(1.0, -2.0)
    start, strength, target = p.detach().clone(), 0.7, torch.tensor([3.0, 3.0], dtype=torch.float64)
    optimizer = torch.optim.SGD([p], lr=0.1)
    pull, explicit = L2Init(optimizer, strength=strength), torch.optim.SGD([q], lr=0.1)
    for _ in range(20):
        for parameter_, steps in ((p, optimizer), (q, explicit)):
            steps.zero_grad()
            loss = (parameter_ - target).square().sum()
            if parameter_ is q:
                loss = loss + strength / 2 * (q - start).square().sum()
            loss.backward()
            steps.step()
    torch.testing.assert_close(p, q, rtol=1e-14, atol=0)
    pull.remove()
    optimizer.zero_grad()
    p.grad = torch.zeros_like(p)
    before = p.detach().clone()
    optimizer.step()
    assert torch.equal(p, before)


def test_sam_uses_the_gradient_at_the_point_uphill():
    a = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)  # loss p.a.p / 2, gradient a p
    p, rho = parameter(1.0, -1.0), 0.3
    g = a @ p.detach()
    expected = p.detach() - 0.1 * a @ (p.detach() + rho * g / g.norm())
    value = SAM(torch.optim.SGD([p], lr=0.1), rho=rho).step(lambda: p @ a @ p / 2)
    torch.testing.assert_close(p.detach(), expected, rtol=1e-14, atol=0)
    assert value.item() == pytest.approx(1.5)


def test_sam_at_a_stationary_point_stays():
    p = parameter(0.0)
    SAM(torch.optim.SGD([p], lr=0.1)).step(lambda: p.square().sum())
    assert p.item() == 0


@pytest.mark.parametrize("kind", ["clip", "sam"])
def test_a_stack_is_its_networks_one_by_one(kind):
    starts, quadratic = random(3, 4), torch.diag(torch.tensor([1.0, 2.0, 5.0, 0.1], dtype=torch.float64))

    def descend(p, stacked):
        optimizer = torch.optim.SGD([p], lr=0.2)

        def loss():
            return ((p @ quadratic) * p).sum() / 2

        if kind == "sam":
            return [SAM(optimizer, rho=0.3, stacked=stacked).step(loss) for _ in range(3)]
        clip_by_norm(optimizer, 0.5, stacked=stacked)
        for _ in range(3):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        return None

    stack = torch.nn.Parameter(starts.clone())
    descend(stack, True)
    for row, start in zip(stack, starts, strict=True):
        single = torch.nn.Parameter(start.clone())
        descend(single, False)
        torch.testing.assert_close(row, single, rtol=1e-13, atol=1e-15)


def test_the_joint_norm_is_that_of_the_concatenation():
    tensors = [random(3, 4), random(3, 2, 2, seed=1)]
    flat = torch.cat([t.flatten(1) for t in tensors], 1)
    torch.testing.assert_close(joint_norm(tensors), flat.norm())
    torch.testing.assert_close(joint_norm(tensors, stacked=True), flat.norm(dim=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_the_polar_factor_of_a_product_is_the_product_of_the_orthonormal_factors(rows, columns, rank, seed):
    rank = min(rank, rows, columns)
    u = torch.linalg.qr(random(rows, rank, seed=seed))[0]
    v = torch.linalg.qr(random(columns, rank, seed=seed + 1))[0]
    s = torch.linspace(0.5, 3.0, rank, dtype=torch.float64)
    torch.testing.assert_close(polar(u * s @ v.T), u @ v.T, rtol=0, atol=1e-12)


def test_newton_schulz_maps_singular_values_by_the_scalar_polynomial():
    u, v = torch.linalg.qr(random(6, 4))[0], torch.linalg.qr(random(4, 4, seed=1))[0]
    s = torch.tensor([2.0, 0.7, 1e-6, 0.0], dtype=torch.float64)
    x = s / s.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    torch.testing.assert_close(newton_schulz(u * s @ v.T), u * x @ v.T, rtol=0, atol=1e-12)
    assert x[2] / (s[2] / s.norm()) == pytest.approx(3.4445**5, rel=1e-3)
    grid = torch.linspace(0.01, 1, 2000, dtype=torch.float64)
    for _ in range(5):
        grid = 3.4445 * grid - 4.7750 * grid**3 + 2.0315 * grid**5
    assert grid.min() > 0.6 and grid.max() < 1.21


@pytest.mark.parametrize("orthogonalise", [polar, newton_schulz])
def test_both_orthogonalisers_commute_with_rotations_and_act_matrix_by_matrix(orthogonalise):
    m, p, q = random(2, 5, 3), torch.linalg.qr(random(5, 5, seed=2))[0], torch.linalg.qr(random(3, 3, seed=3))[0]
    torch.testing.assert_close(orthogonalise(p @ m @ q.T), p @ orthogonalise(m) @ q.T, rtol=0, atol=1e-11)
    torch.testing.assert_close(orthogonalise(m)[1], orthogonalise(m[1]), rtol=0, atol=1e-13)


def test_muon_is_torchs_up_to_the_bfloat16_of_torchs_iteration():
    ours, theirs = torch.nn.Parameter(random(6, 3).float()), torch.nn.Parameter(random(6, 3).float())
    a = Muon([ours], lr=0.1, momentum=0.9)
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    b = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=True)
    for seed in range(3):
        ours.grad = random(6, 3, seed=seed + 5).float()
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    assert (ours - theirs).abs().max() <= 0.01 < (ours - random(6, 3).float()).abs().max()


def test_exact_muons_first_step_has_equal_singular_values():
    w = torch.nn.Parameter(torch.zeros(6, 3, dtype=torch.float64))
    w.grad = random(6, 3)
    Muon([w], lr=0.5, orthogonalise="polar").step()
    torch.testing.assert_close(torch.linalg.svdvals(w), torch.full((3,), 0.5 * 2**0.5, dtype=torch.float64))


@pytest.mark.parametrize("make", [SignDescent, Lion, lambda ps: Muon(ps)])
def test_a_closure_gives_the_gradient_and_its_loss_is_returned(make):
    p = torch.nn.Parameter(torch.eye(2))

    def closure():
        p.grad = None
        loss = p.square().sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    assert make([p]).step(closure).item() == pytest.approx(2.0) and not torch.equal(p, before)


@pytest.mark.parametrize("make", [SignDescent, Lion, Muon])
def test_parameters_without_a_gradient_stay(make):
    p = torch.nn.Parameter(torch.ones(2, 2))
    make([p]).step()
    assert torch.equal(p, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p, o: SignDescent([p], lr=-1.0), "learning rate -1"),
        (lambda p, o: Lion([p], lr=-1.0), "learning rate -1"),
        (lambda p, o: Lion([p], betas=(0.9, 1.0)), "betas"),
        (lambda p, o: Muon([p]), "matrices only"),
        (lambda p, o: Muon([p], orthogonalise="svd"), "'svd'"),
        (lambda p, o: Muon([p], momentum=1.0), "momentum 1.0"),
        (lambda p, o: SAM(o, rho=-0.1), "rho -0.1"),
        (lambda p, o: L2Init(o, strength=-1), "strength -1"),
        (lambda p, o: clip_by_norm(o, 0.0), "limit 0.0"),
        (lambda p, o: clip_by_value(o, float("nan")), "limit nan"),
    ],
)
def test_bad_settings_are_named(make, text):
    p = parameter(1.0)
    with pytest.raises(UsageError, match=text):
        make(p, torch.optim.SGD([p], lr=0.1))
