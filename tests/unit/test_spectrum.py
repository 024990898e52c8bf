import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from lop_utils.errors import UsageError
from lop_utils.metrics.spectrum import RANK_METRICS, effective_rank, numerical_rank, ranks, spectrum, srank


def gaussian(rows, units, seed=0):
    return torch.randn(rows, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows, units, seed=0):
    return torch.linalg.qr(gaussian(rows, units, seed))[0]


def with_singular_values(values, rows=40, units=12):
    values = torch.as_tensor(values, dtype=torch.float64)
    return orthonormal(rows, len(values)) @ torch.diag(values) @ orthonormal(units, len(values), 1).T


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_orthogonal_activations_have_every_rank_equal_to_their_dimension(n):
    found = ranks(with_singular_values([3.0] * n))
    for name in RANK_METRICS:
        if name.endswith("_raw"):
            assert found[name] == pytest.approx(n, rel=1e-9), name


def test_rank_one_activations_have_every_rank_one_and_constant_rows_none_when_centred():
    h = torch.outer(torch.arange(1.0, 9), torch.tensor([1.0, -2.0, 0.5]))
    assert {round(value, 9) for value in ranks(h).values()} == {1.0}
    found = ranks(torch.ones(8, 3) * torch.tensor([1.0, 2.0, 3.0]))
    assert {name: found[name] for name in found if name.endswith("_centred")} == dict.fromkeys(
        [name for name in found if name.endswith("_centred")], 0.0
    )


@pytest.mark.parametrize("q", [0.5, 0.8])
def test_a_geometric_spectrum_has_the_entropy_of_a_geometric_distribution(q):
    n = 12
    p = torch.tensor([q**i for i in range(n)], dtype=torch.float64)
    found = ranks(with_singular_values(p))
    z = (1 - q**n) / (1 - q)
    mean_index = sum(i * q**i for i in range(n)) / z
    exact = z * q**-mean_index  # exp(-sum p ln p) for p_i = q^i / z
    assert found["effective_rank_singular_raw"] == pytest.approx(float(exact), rel=1e-9)
    assert found["participation_ratio_raw"] == pytest.approx(float(p.square().sum() ** 2 / p.pow(4).sum()), rel=1e-9)
    assert found["stable_rank_raw"] == pytest.approx(float(p.square().sum()), rel=1e-9)


def test_an_equicorrelated_covariance_has_the_two_level_entropy():
    n, rho = 10, 0.6
    covariance = rho * torch.ones(n, n, dtype=torch.float64) + (1 - rho) * torch.eye(n, dtype=torch.float64)
    h = with_singular_values([1.0] * n, rows=50, units=n) @ torch.linalg.cholesky(covariance).T
    p = torch.tensor([1 + (n - 1) * rho] + [1 - rho] * (n - 1), dtype=torch.float64) / n
    assert ranks(h)["effective_rank_covariance_raw"] == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(1, 20), st.integers(0, 999), st.floats(1e-3, 1e3))
def test_ranks_ignore_scale_rotation_and_order_and_stay_within_the_dimensions(rows, units, seed, scale):
    h = gaussian(rows, units, seed) + 1
    found = ranks(h)
    moved = ranks(scale * h[torch.randperm(rows)] @ orthonormal(units, units, seed + 1))
    for name, value in found.items():
        if name.startswith(("effective", "participation", "stable")):
            assert value == pytest.approx(moved[name], rel=1e-6), name
        assert 0 <= value <= min(rows, units) + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 999))
def test_the_gram_route_agrees_with_the_singular_value_decomposition(rows, units, seed):
    h = gaussian(rows, units, seed)
    found = spectrum(h)
    for values, matrix in ((found.raw, h), (found.centred, h - h.mean(0))):
        torch.testing.assert_close(values[: min(rows, units)], torch.linalg.svdvals(matrix), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_effective_rank_of_wide_relu_activations_is_exact_to_1e_5_with_cloned_units_too(copies):
    h = torch.relu(gaussian(512, 1536 // copies)).float().repeat(1, copies)
    reference = effective_rank(torch.linalg.svdvals(h.double()))
    assert ranks(h)["effective_rank_singular_raw"] == pytest.approx(reference, rel=1e-5)
    assert numerical_rank(spectrum(h).raw) <= 512


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 2])
def test_one_spectrum_is_at_least_twice_as_fast_as_a_float32_svd(copies):
    h = torch.relu(gaussian(512, 1536 // copies)).float().repeat(1, copies)

    def median(f):
        f()
        times = []
        for _ in range(7):
            start = time.process_time()
            f()
            times.append(time.process_time() - start)
        return sorted(times)[3]

    with threadpool_limits(1):  # both on one thread, like torch in these tests
        assert median(lambda: torch.linalg.svdvals(h)) >= 2 * median(lambda: spectrum(h))


def test_degenerate_activations_give_documented_values():
    assert set(ranks(torch.zeros(5, 3)).values()) == {0.0}
    single = ranks(torch.tensor([[1.0, 2.0]]))
    assert single["effective_rank_singular_raw"] == 1 and single["effective_rank_singular_centred"] == 0
    assert srank(torch.tensor([1.0, 1.0])) == 2


@pytest.mark.parametrize("bad", [torch.tensor([[1.0, float("nan")]]), torch.zeros(0, 3), torch.zeros(3)])
def test_bad_activations_are_refused_with_the_layers_name(bad):
    with pytest.raises(UsageError, match=r"hidden\.2"):
        spectrum(bad, layer="hidden.2")


def test_an_unknown_centring_is_named():
    with pytest.raises(UsageError, match="'mean'"):
        spectrum(torch.eye(2)).values("mean")
