import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.manifolds.lanczos import extreme_eigenvalues


def symmetric(n, seed):
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed)).double()
    return (a + a.T) / 2


@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_both_ends_of_a_dense_matrix_are_found_within_one_percent(n, seed):
    matrix = symmetric(n, seed)
    values = torch.linalg.eigvalsh(matrix)
    found = extreme_eigenvalues(lambda v: matrix @ v, torch.zeros(n, dtype=torch.float64), seed=seed + 1)
    assert found.converged
    assert found.smallest == pytest.approx(float(values[0]), rel=0.01, abs=1e-9)
    assert found.largest == pytest.approx(float(values[-1]), rel=0.01, abs=1e-9)


def test_many_products_with_a_large_operator_are_not_needed():
    diagonal = torch.linspace(-1, 3, 5000, dtype=torch.float64)
    found = extreme_eigenvalues(lambda v: diagonal * v, torch.zeros_like(diagonal))
    assert found.converged and found.products < 150
    assert found.smallest == pytest.approx(-1, rel=0.01) and found.largest == pytest.approx(3, rel=0.01)


def test_the_zero_operator_has_two_zero_ends():
    found = extreme_eigenvalues(lambda v: 0 * v, torch.zeros(30))
    assert (found.smallest, found.largest, found.converged) == (0, 0, True)


def test_multiples_of_the_identity_end_after_one_product():
    found = extreme_eigenvalues(lambda v: 2.5 * v, torch.zeros(30, dtype=torch.float64))
    assert found.products == 1 and found.smallest == pytest.approx(2.5) == found.largest


def test_an_unfinished_search_says_so_and_bounds_its_error():
    diagonal = torch.linspace(-1, 1, 3000, dtype=torch.float64)
    found = extreme_eigenvalues(lambda v: diagonal * v, torch.zeros_like(diagonal), products=5)
    assert not found.converged and abs(found.largest - 1) > 0.01
    assert (diagonal - found.largest).abs().min() <= found.largest_error


def test_bad_arguments_are_named():
    with pytest.raises(UsageError, match="0 products"):
        extreme_eigenvalues(lambda v: v, torch.zeros(3), products=0)
