"""Dual kernels against closed forms, two-dimensional quadrature by scipy, and their own expansions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from lop_utils.errors import UsageError
from lop_utils.theory.activations import ACTIVATIONS, Activation, leaky_relu, sine
from lop_utils.theory.gaussian import moments, rank_recovery_strength
from lop_utils.theory.kernels import (
    dual_kernel,
    hermite_series,
    kernel_gap,
    kernel_gap_expansion,
    next_order_coefficient,
    output_correlation,
    output_gap,
)

RHO = np.array([-1.0, -0.7, 0.0, 0.3, 0.9, 1.0])


def arc_cosine(rho):
    theta = np.arccos(rho)
    return (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)


CLOSED = {
    "relu": (ACTIVATIONS["relu"], arc_cosine),
    "leaky_relu": (leaky_relu(0.2), lambda rho: 0.2 * rho + 0.64 * arc_cosine(rho)),
    "erf": (ACTIVATIONS["erf"], lambda rho: 2 / np.pi * np.arcsin(2 * rho / 3)),
    "sin": (ACTIVATIONS["sin"], lambda rho: np.exp(-1) * np.sinh(rho)),
    "sin 3z": (sine(3.0), lambda rho: np.exp(-9) * np.sinh(9 * rho)),
    "identity": (ACTIVATIONS["identity"], lambda rho: rho),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_kernels_agree_with_the_textbook_formula(name):
    f, formula = CLOSED[name]
    np.testing.assert_allclose(dual_kernel(f, RHO), formula(RHO), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_the_general_route_reproduces_every_closed_form(name):
    f = CLOSED[name][0]
    eps = np.array([1e-10, 1e-6, 1e-3, 0.1, 0.5, 1.0, 1.6, 2.0])
    np.testing.assert_allclose(kernel_gap(dataclasses.replace(f, kernel_gap=None), eps), kernel_gap(f, eps), rtol=1e-10)


@pytest.mark.parametrize("name", ["tanh", "gelu", "selu"])
@pytest.mark.parametrize("rho", [-0.4, 0.6, 0.95])
def test_kernels_agree_with_nested_scipy_quadrature(name, rho):
    f, s = ACTIVATIONS[name], np.sqrt(1 - rho**2)
    density = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731

    def inner(x):
        split = -rho * x / s
        split = float(np.clip(split, -9, 9))
        g = lambda w: float(f.f(np.float64(rho * x + s * w))) * density(w)  # noqa: E731
        return quad(g, -9, split, epsabs=1e-9)[0] + quad(g, split, 9, epsabs=1e-9)[0]

    outer = lambda x: float(f.f(np.float64(x))) * inner(x) * density(x)  # noqa: E731
    expected = quad(outer, -9, 0, epsabs=1e-8)[0] + quad(outer, 0, 9, epsabs=1e-8)[0]
    assert float(dual_kernel(f, rho)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "sigmoid"])
def test_the_series_errs_by_no_more_than_its_truncation_bound(name):
    rho = np.array([-0.9, -0.3, 0.2, 0.8, 1.0])
    for order in (3, 8, 40):
        series = hermite_series(name, order)
        error = np.abs(series.kernel(rho) - dual_kernel(name, rho))
        assert (error <= series.truncation_bound(rho) + 1e-12).all()
        if series.tail < 1e-9:
            continue
        assert error[-1] > 0.5 * series.truncation_bound(1.0)  # and the bound is the error itself at rho = 1


def test_the_kernels_slope_at_one_is_the_second_moment_of_the_derivative():
    for name in ("tanh", "gelu", "erf", "selu"):
        slope = float(kernel_gap(name, 1e-9)) / 1e-9
        assert slope == pytest.approx(float(moments(name).slope_second), rel=1e-4)


@given(st.sampled_from(["relu", "tanh", "gelu", "sigmoid", "silu"]), st.floats(0.02, 1), st.floats(0.02, 1))
@settings(max_examples=25, deadline=None)
def test_the_output_correlation_rises_with_the_input_correlation(name, one, two):
    low, high = sorted([one, two])
    below, above = output_correlation(name, [low, high], centred=True)
    assert below <= above + 1e-11 and -1 <= below <= 1


def measured_coefficient(f, centred):
    """Limit of (gap - (1 + alpha) eps) / eps^1.5, Richardson-extrapolated in sqrt(eps)."""
    eps = np.array([1e-4, 2.5e-5, 6.25e-6])
    c = (output_gap(f, eps, centred=centred) / eps - 1 - rank_recovery_strength(f, centred=centred)) / np.sqrt(eps)
    first = 2 * c[1:] - c[:-1]
    return float((4 * first[1] - first[0]) / 3)


@pytest.mark.parametrize(("centred", "expected"), [(False, -0.3001), (True, -0.4402)])
def test_the_next_order_coefficient_of_relu_is_measured_to_four_digits(centred, expected):
    measured = measured_coefficient("relu", centred)
    assert round(measured, 4) == expected
    assert measured == pytest.approx(next_order_coefficient("relu", centred=centred), abs=1e-6)


@pytest.mark.parametrize("f", [leaky_relu(0.2), ACTIVATIONS["selu"], ACTIVATIONS["tanh"]], ids=lambda f: f.name)
def test_the_next_order_coefficient_is_the_sum_over_kinks(f):
    assert measured_coefficient(f, True) == pytest.approx(next_order_coefficient(f, centred=True), abs=1e-6)


def test_a_users_own_kinks_enter_the_expansion():
    hat = Activation.of(lambda z: np.abs(z - 0.5) - np.abs(z + 1), kinks=[-1.0, 0.5])
    assert measured_coefficient(hat, True) == pytest.approx(next_order_coefficient(hat, centred=True), abs=1e-4)


@pytest.mark.parametrize("name", ["relu", "selu", "tanh", "gelu", "elu", "leaky_relu"])
@pytest.mark.parametrize("centred", [False, True])
def test_the_expansion_errs_by_order_eps_squared(name, centred):
    errors = [
        float(kernel_gap_expansion(name, eps, centred=centred) - output_gap(name, eps, centred=centred)) / eps**2
        for eps in (1e-2, 1e-4)
    ]
    assert max(np.abs(errors)) < 1.5
    assert errors[0] == pytest.approx(errors[1], abs=0.15)


def test_a_discontinuous_function_loses_correlation_like_the_square_root():
    sign = Activation.of(np.sign, derivative=np.zeros_like, breaks=[0.0])
    for eps in (1e-8, 0.1, 1.0):
        assert float(output_gap(sign, eps, centred=False)) == pytest.approx(
            1 - 2 / np.pi * np.arcsin(1 - eps), rel=1e-9
        )
    assert float(kernel_gap_expansion(sign, 1e-8, centred=False)) == pytest.approx(2 * np.sqrt(2e-8) / np.pi, rel=1e-6)
    with pytest.raises(UsageError, match="starts at sqrt"):
        next_order_coefficient(sign, centred=True)


@pytest.mark.parametrize("rho", [1.1, -2.0, np.nan, np.inf])
def test_correlations_outside_their_range_are_refused(rho):
    for call in (dual_kernel, lambda f, r: output_correlation(f, r, centred=True)):
        with pytest.raises(UsageError, match=r"outside|not finite"):
            call("tanh", rho)


def test_a_constant_function_has_no_correlation():
    with pytest.raises(UsageError, match="variance 0"):
        output_gap(lambda z: 0 * z + 2, 0.1, centred=True)
