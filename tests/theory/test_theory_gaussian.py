"""Moments, rank recovery strength and Hermite coefficients against closed forms and scipy.integrate.quad."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfcx

from lop_utils.errors import UsageError
from lop_utils.theory.activations import ACTIVATIONS, Activation, leaky_relu, modulate, polynomial, sine
from lop_utils.theory.gaussian import alpha_as_coded, hermite_coefficients, moments, rank_recovery_strength

TABLE = {  # un-centred, centred
    "relu": (0.0, 0.46694),
    "leaky_relu": (0.0, 0.45337),
    "leaky_relu(0.2)": (0.0, 0.24360),
    "tanh": (0.17781, 0.17781),
    "erf": (0.22570, 0.22570),
    "gelu": (0.07203, 0.31884),
    "sigmoid": (-0.84717, 0.03359),
    "elu": (0.03590, 0.07901),
    "selu": (0.07157, 0.07157),
    "silu": (0.06663, 0.21208),
}


def both(f, a=1.0, b=0.0):
    return [rank_recovery_strength(f, a, b, centred=c) for c in (False, True)]


def alpha_by_quad(f, a=1.0, b=0.0):
    """(un-centred, centred) alpha by scipy, cut at 0's pre-image."""
    cuts = sorted({-14.0, float(np.clip(-b / a, -14, 14)), 14.0})

    def mean(g):
        density = lambda z: float(g(np.array([a * z + b]))[0]) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        options = {"epsabs": 0, "epsrel": 1e-12, "limit": 500}
        return sum(quad(density, lo, hi, **options)[0] for lo, hi in pairwise(cuts))

    slope, second = a * a * mean(lambda u: f.df(u) ** 2), mean(lambda u: f.f(u) ** 2)
    centre = mean(f.f)
    return slope / second - 1, slope / mean(lambda u: (f.f(u) - centre) ** 2) - 1


@pytest.mark.parametrize("name", TABLE)
def test_alpha_agrees_with_the_table_of_the_ledger(name):
    f = leaky_relu(0.2) if name == "leaky_relu(0.2)" else name
    np.testing.assert_allclose(both(f), TABLE[name], atol=1e-5)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid", "elu", "selu", "silu", "softplus", "sin", "erf"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (2.5, -1.5)])
def test_alpha_agrees_with_an_independent_quadrature(name, a, b):
    np.testing.assert_allclose(both(name, a, b), alpha_by_quad(ACTIVATIONS[name], a, b), atol=1e-9)


def test_alpha_has_its_closed_forms_to_ten_digits():
    assert both("relu") == pytest.approx([0, 1 / (np.pi - 1)], abs=1e-12)
    assert both("erf") == pytest.approx([2 / np.sqrt(5) / np.arcsin(2 / 3) - 1] * 2, abs=1e-12)
    assert both("sin") == pytest.approx([(1 + np.exp(-2)) / (1 - np.exp(-2)) - 1] * 2, abs=1e-12)
    s = 0.2
    leaky = (1 + s * s) / ((1 + s * s) - (1 - s) ** 2 / np.pi) - 1
    assert both(leaky_relu(s)) == pytest.approx([0, leaky], abs=1e-12)
    assert both("identity") == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("b", [1.0, -2.0, -6.0, -12.0, -25.0, -45.0])
@pytest.mark.parametrize("a", [1.0, -0.5])
def test_shifted_relu_is_exact_far_into_the_tail(a, b):
    t = -b / abs(a)
    mills = np.sqrt(np.pi / 2) * erfcx(t / np.sqrt(2))  # P(Z > t) / phi(t), without underflow
    exact = mills / ((1 + t * t) * mills - t)
    assert rank_recovery_strength("relu", a, b, centred=False) + 1 == pytest.approx(exact, rel=1e-7 if t > 9 else 1e-11)


def test_sine_has_its_moments():
    m = moments("sin")
    assert m.second == pytest.approx((1 - np.exp(-2)) / 2, abs=1e-13)
    assert m.slope_second == pytest.approx((1 + np.exp(-2)) / 2, abs=1e-13)
    assert moments(sine(40.0)).slope_second == pytest.approx(40**2 / 2, rel=1e-11)


@pytest.mark.parametrize(("a", "expected"), [(1, 0.1778), (5, 2.135), (10, 4.769), (100, 52.62)])
def test_steep_tanh_has_the_ledgers_alpha(a, expected):
    assert rank_recovery_strength("tanh", a, centred=False) == pytest.approx(expected, rel=5e-4)


def test_tanh_of_a_thousand_is_a_step_of_known_height():
    m = moments("tanh", 1000.0)
    assert m.second == pytest.approx(1 - 2e-3 / np.sqrt(2 * np.pi), rel=1e-8)  # 1 - E sech^2, a spike of area 2/a
    assert m.slope_second == pytest.approx(1000 * 4 / 3 / np.sqrt(2 * np.pi), rel=1e-6)
    assert m.error < 1e-11


@pytest.mark.parametrize(("b", "expected"), [(0, 0), (-1, 1.106), (-2, 2.944), (-3, 5.636), (-4, 9.249)])
def test_shifted_relu_has_the_ledgers_alpha(b, expected):
    assert rank_recovery_strength("relu", 1.0, b, centred=False) == pytest.approx(expected, abs=6e-4)


@given(st.sampled_from(sorted(ACTIVATIONS)), st.floats(0.1, 30), st.floats(-4, 4))
@settings(max_examples=60, deadline=None)
def test_centred_alpha_is_non_negative_and_at_least_the_uncentred(name, a, b):
    uncentred, centred = both(name, a, b)
    assert centred >= -1e-9 and centred >= uncentred - 1e-9 * (1 + abs(centred))


@given(st.floats(0.2, 5), st.floats(-2, 2), st.sampled_from(["tanh", "selu", "gelu"]))
@settings(max_examples=20, deadline=None)
def test_modulating_first_gives_the_same_moments(a, b, name):
    direct, composed = moments(name, a, b), moments(modulate(name, a, b))
    for field in ("mean", "second", "variance", "slope_second"):
        assert getattr(direct, field) == pytest.approx(getattr(composed, field), rel=1e-10, abs=1e-14)


@given(st.floats(0.1, 10), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_alpha_does_not_change_when_the_output_is_scaled(scale, b):
    mine = Activation.of(lambda z: scale * np.tanh(z), derivative=lambda z: scale / np.cosh(z) ** 2)
    assert rank_recovery_strength(mine, 1.0, b, centred=True) == pytest.approx(both("tanh", 1.0, b)[1], rel=1e-9)


def test_small_variance_on_a_plateau_keeps_its_digits():
    a, b = 1e-4, 3.0
    slope = 1 / np.cosh(b) ** 2
    assert moments("tanh", a, b).variance == pytest.approx((a * slope) ** 2, rel=1e-3)
    assert rank_recovery_strength("tanh", a, b, centred=True) == pytest.approx(2 * (a * np.tanh(b)) ** 2, abs=3e-9)


def test_a_jump_makes_alpha_infinite():
    step = Activation.of(np.sign, derivative=np.zeros_like, breaks=[0.0])
    assert rank_recovery_strength(step, centred=False) == np.inf


def test_the_coded_quadrature_averages_over_half_the_standard_deviation():
    assert alpha_as_coded("relu") == pytest.approx(3.0, abs=1e-12)
    assert alpha_as_coded("tanh") == pytest.approx(3.13, abs=5e-3)
    for name in ("tanh", "sigmoid", "sin"):  # smooth: the nodes resolve N(0, 1/4) exactly
        m = moments(name, 0.5)
        assert alpha_as_coded(name) == pytest.approx(float(4 * m.slope_second / m.second - 1), rel=1e-10)
    assert alpha_as_coded("relu", 0.3, -20.0) == 0.0  # its floor: E f^2 <= 1e-10 counts as alpha = 0


def test_hermite_coefficients_have_their_closed_forms():
    relu = hermite_coefficients("relu", 4)
    root = 1 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(relu, [root, 0.5, root / np.sqrt(2), 0, -root / np.sqrt(24)], atol=1e-14)
    k = np.arange(9)
    factorial = np.array([1, 1, 2, 6, 24, 120, 720, 5040, 40320.0])
    signs = np.sin(k * np.pi / 2)
    np.testing.assert_allclose(hermite_coefficients("sin", 8), signs * np.exp(-0.5) / np.sqrt(factorial), atol=1e-14)
    np.testing.assert_allclose(
        hermite_coefficients(polynomial([0, 0, 0, 1]), 5), [0, 3, 0, np.sqrt(6), 0, 0], atol=1e-13
    )


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid", "erf", "softplus"])
def test_parseval_gives_both_second_moments(name):
    c, m = hermite_coefficients(name, 200), moments(name)
    assert (c**2).sum() == pytest.approx(float(m.second), rel=1e-9)
    assert (np.arange(201) * c**2).sum() == pytest.approx(float(m.slope_second), rel=1e-6)


@pytest.mark.parametrize(("a", "b"), [(np.nan, 0.0), (np.inf, 0.0), (1.0, np.nan), (0.0, 1.0)])
def test_bad_gains_and_shifts_are_refused(a, b):
    for call in (moments, alpha_as_coded) if a else (moments,):
        with pytest.raises(UsageError, match=r"not finite|contains 0"):
            call("relu", a, b)


def test_a_unit_that_is_constant_in_float64_is_refused_by_name():
    for f, a, b in [("tanh", 0.1, -40.0), ("gelu", 0.3, -30.0), (lambda z: 3 + 0 * z, 1.0, 0.0)]:
        with pytest.raises(UsageError, match="variance 0 in float64"):
            rank_recovery_strength(f, a, b, centred=True)


def test_a_callable_that_turns_nan_far_out_is_refused():
    with pytest.raises(UsageError, match="not finite at z"):
        rank_recovery_strength(lambda z: np.where(np.abs(z) < 9, z, np.nan), centred=True)


def test_hermite_orders_beyond_the_reach_are_refused():
    with pytest.raises(UsageError, match="order"):
        hermite_coefficients("relu", 201)
