"""The adaptive rule against exact polynomial moments and against scipy's own, independent quadrature."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import factorial2, ndtr

from lop_utils.errors import UsageError
from lop_utils.theory.gaussian import expect
from lop_utils.theory.quadrature import GAUSS, KRONROD, NODES, gaussian_integrals


def by_quad(g, *cuts):
    """E g(Z) by scipy, piece by piece."""
    edges = [-12.0, *sorted(cuts), 12.0]
    density = lambda z: g(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    return sum(quad(density, lo, hi, epsabs=1e-14, epsrel=1e-12, limit=400)[0] for lo, hi in pairwise(edges))


def test_the_rules_are_exact_to_their_degrees():
    for degree in range(0, 32, 2):
        assert KRONROD @ NODES**degree == pytest.approx(2 / (degree + 1), rel=1e-14)
        if degree < 20:
            assert GAUSS @ NODES**degree == pytest.approx(2 / (degree + 1), rel=1e-13)
    assert abs(KRONROD @ NODES**34 - 2 / 35) > 1e-12  # so the exactness above is no accident of high degree


@pytest.mark.parametrize("degree", [2, 4, 8, 16])
def test_even_moments_are_double_factorials(degree):
    assert expect(lambda z: z**degree).value == pytest.approx(factorial2(degree - 1), rel=1e-13)


@given(st.floats(-4, 4))
@settings(max_examples=25, deadline=None)
def test_an_undeclared_kink_is_closed_in_on(t):
    exact = np.exp(-t * t / 2) / np.sqrt(2 * np.pi) - t * ndtr(-t)
    assert expect(lambda z: np.maximum(z - t, 0)).value == pytest.approx(exact, abs=2e-6)


@pytest.mark.parametrize("t", [-3.0, 0.1, 5.0, 9.0])
def test_a_declared_jump_keeps_full_relative_accuracy_in_the_tail(t):
    assert expect(lambda z: (z > t).astype(float), points=[t]).value == pytest.approx(ndtr(-t), rel=1e-12)


@pytest.mark.parametrize(
    "g", [lambda z: np.abs(np.sin(7 * z)), lambda z: np.exp(np.abs(z)), lambda z: 1 / (1 + 400 * z**2)]
)
def test_steep_and_kinked_integrands_agree_with_scipy(g):
    kinks = np.arange(-26, 27) * np.pi / 7
    assert expect(g, points=[0.0]).value == pytest.approx(by_quad(g, *kinks), rel=1e-11)


def test_the_error_estimate_bounds_the_error():
    found = expect(np.abs)
    assert abs(found.value - np.sqrt(2 / np.pi)) <= found.error < 1e-11


def test_many_integrals_at_once_equal_each_alone():
    shifts = np.linspace(-3, 3, 41)
    together = gaussian_integrals(
        lambda z, owner: np.tanh(50 * (z - shifts[owner, None]))[None], points=shifts[:, None]
    )
    alone = [expect(lambda z, s=s: np.tanh(50 * (z - s)), points=[s]).value for s in shifts]
    np.testing.assert_allclose(together.value[0], alone, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "g",
    [lambda z: np.exp(z**2), lambda z: np.where(z > 0, np.nan, 1.0), lambda z: 1 / np.maximum(np.abs(z - 0.3), 1e-300)],
)
def test_a_divergent_or_non_finite_integrand_is_refused_by_name(g):
    with pytest.raises(UsageError, match=r"outgrows|not finite|did not converge"):
        expect(g)
