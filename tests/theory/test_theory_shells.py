"""Generic hard ranks against matrices that are actually built, and against sampled activations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.theory.activations import polynomial
from lop_utils.theory.shells import (
    generic_hard_rank,
    hadamard_power_rank,
    hard_rank,
    hermite_support,
    low_rank_gaussian,
    new_dimensions,
    sampled_hard_rank,
    shell_dimension,
)


@given(st.integers(1, 4), st.integers(0, 4), st.integers(1, 30), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_hadamard_power_has_the_rank_of_its_shell(r, k, n, seed):
    v = np.random.default_rng(seed).standard_normal((n, r))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    power = (v @ v.T) ** k
    assert hard_rank(np.abs(np.linalg.eigvalsh(power)), tolerance=1e-11) <= hadamard_power_rank(r, k, n)
    if shell_dimension(r, k) >= n or n >= 2 * shell_dimension(r, k):
        assert np.linalg.matrix_rank(power, tol=1e-13) == hadamard_power_rank(r, k, n)


@pytest.mark.parametrize(
    ("name", "degrees"), [("relu", {0, 1, 2, 4, 6}), ("tanh", {1, 3, 5}), ("identity", {1}), ("silu", {0, 1, 2, 4, 6})]
)
def test_the_support_is_the_parity_that_theory_says(name, degrees):
    assert set(hermite_support(name, 6)) == degrees


@pytest.mark.parametrize("coefficients", [[0, 1], [0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 2], [0, 1, 1], [3, 1, 2, 1, 1]])
@pytest.mark.parametrize("rank", [2, 3])
def test_polynomials_fill_exactly_their_shells(coefficients, rank):
    f, units = polynomial(coefficients), 24
    z = low_rank_gaussian(rank, units, 4000, seed=1)
    assert sampled_hard_rank(f, z, tolerance=1e-10) == generic_hard_rank(f, rank, units)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid", "elu", "selu", "silu", "softplus", "erf"])
def test_every_non_polynomial_recovers_full_rank_from_ten_of_fifty(name):
    z = low_rank_gaussian(10, 50, 4000, scale=3.0)
    assert np.linalg.matrix_rank(z) == 10
    assert sampled_hard_rank(name, z) == generic_hard_rank(name, 10, 50) == 50


@pytest.mark.parametrize(
    ("name", "rank"),
    [("tanh", 25), ("relu", 35), ("gelu", 35), ("silu", 35), ("softplus", 35), ("elu", 50), ("selu", 50)],
)
def test_antipodal_pairs_see_the_even_and_odd_part_apart(name, rank):
    z = low_rank_gaussian(10, 50, 4000, antipodal_pairs=25)
    assert sampled_hard_rank(name, z, tolerance=1e-9) == generic_hard_rank(name, 10, 50, antipodal_pairs=25) == rank


def test_some_pairs_and_some_single_units_share_the_shells():
    z = low_rank_gaussian(3, 14, 4000, antipodal_pairs=4)
    for f in (polynomial([0, 1, 1]), polynomial([0, 0, 1]), "tanh"):
        assert sampled_hard_rank(f, z, tolerance=1e-9) == generic_hard_rank(f, 3, 14, antipodal_pairs=4)


@given(st.integers(2, 4), st.integers(0, 5), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_shell_contains_the_lower_shells_of_its_parity(r, k, seed):
    v = np.random.default_rng(seed).standard_normal((80, r))
    gram = (lambda u: u @ u.T)(v / np.linalg.norm(v, axis=1, keepdims=True))
    together = sum(gram**j for j in range(k, -1, -2))
    assert np.linalg.matrix_rank(together, tol=1e-8) == sum(new_dimensions(r, j) for j in range(k, -1, -2))
    assert np.linalg.matrix_rank(together, tol=1e-8) == shell_dimension(r, k)


def test_uncentred_data_gain_the_constant_shell():
    z = low_rank_gaussian(2, 20, 3000)
    f = polynomial([5, 1])
    assert [sampled_hard_rank(f, z, tolerance=1e-10, centred=c) for c in (True, False)] == [2, 3]
    assert [generic_hard_rank(f, 2, 20, centred=c) for c in (True, False)] == [2, 3]
    square = polynomial([5, 0, 1])  # but not where an even shell holds it already
    assert [sampled_hard_rank(square, z, tolerance=1e-10, centred=c) for c in (True, False)] == [3, 3]
    assert [generic_hard_rank(square, 2, 20, centred=c) for c in (True, False)] == [3, 3]


def test_from_one_dimension_only_the_two_signs_come_back():
    z = low_rank_gaussian(1, 6, 2000, seed=2)
    assert len(np.unique(np.sign(z[0]))) == 2
    assert sampled_hard_rank("relu", z) == generic_hard_rank("relu", 1, 6) == 2


def test_the_difference_between_activations_is_the_tolerance():
    z = low_rank_gaussian(10, 50, 10_000)
    at = {name: sampled_hard_rank(name, z, tolerance=1e-2) for name in ("relu", "elu", "tanh", "sigmoid")}
    assert at["relu"] > at["elu"] > at["tanh"] > at["sigmoid"] == 10
    assert at["relu"] == pytest.approx(42, abs=2) and at["elu"] == pytest.approx(22, abs=2)


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(UsageError, match="26 antipodal pairs need 52 units"):
        generic_hard_rank("relu", 10, 50, antipodal_pairs=26)
    with pytest.raises(UsageError, match="rank = 0"):
        shell_dimension(0, 2)
    with pytest.raises(UsageError, match="tolerance"):
        hard_rank(np.ones(3), tolerance=2.0)
    with pytest.raises(UsageError, match="values"):
        hard_rank(np.array([1.0, np.nan]))
    with pytest.raises(UsageError, match="samples"):
        low_rank_gaussian(2, 3, 1)
