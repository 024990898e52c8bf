"""Every activation's derivative, jumps, limits and quiet set are measured, not believed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.theory.activations import (
    ACTIVATIONS,
    Activation,
    as_activation,
    leaky_relu,
    modulate,
    polynomial,
    rectified_power,
    sine,
    tilted_step,
)

EVERY = [
    *ACTIVATIONS.values(),
    leaky_relu(0.2),
    sine(3.0),
    tilted_step(5.0),
    polynomial([1, -2, 0.5]),
    rectified_power(1.5),
]
NAMES = [f.name for f in EVERY]


@pytest.mark.parametrize("f", EVERY, ids=NAMES)
def test_the_derivative_is_the_difference_quotient(f):
    z = np.linspace(-6.03, 6.01, 173)
    step = 1e-5
    np.testing.assert_allclose(f.df(z), (f(z + step) - f(z - step)) / (2 * step), rtol=2e-7, atol=2e-8)


@pytest.mark.parametrize("f", EVERY, ids=NAMES)
def test_the_slope_jumps_are_exactly_where_declared(f):
    at = np.array([*f.kinks, 0.0, 0.5])
    declared = np.array([*f.slope_jumps, sum(f.slope_jumps) if 0.0 in f.kinks else 0.0, 0.0])
    np.testing.assert_allclose(f.df(at + 1e-9) - f.df(at - 1e-9), declared, atol=1e-4)


@pytest.mark.parametrize("f", [f for f in EVERY if f.limits], ids=[f.name for f in EVERY if f.limits])
def test_the_limits_are_reached(f):
    for side, limit in zip((-1, 1), f.limits, strict=True):
        far = f(np.array([side * 300.0, side * 600.0]))
        if np.isfinite(limit):
            np.testing.assert_allclose(far, limit, atol=1e-12)
        else:
            assert np.sign(limit) * far[1] > np.sign(limit) * far[0] > 1


@pytest.mark.parametrize("level", [1e-6, 1e-2, 0.2, 0.9, 1.2])
@pytest.mark.parametrize("f", [f for f in EVERY if f.quiet], ids=[f.name for f in EVERY if f.quiet])
def test_the_closed_quiet_set_is_where_the_derivative_is_small(f, level):
    u = np.linspace(-20.0037, 20.0051, 4001)
    inside = np.zeros(len(u), bool)
    for lo, hi in f.quiet(level):
        inside |= (u > lo) & (u < hi)
    np.testing.assert_array_equal(inside, np.abs(f.df(u)) < level)


@given(st.floats(0.1, 20) | st.floats(-20, -0.1), st.floats(-5, 5), st.sampled_from(["relu", "selu", "leaky_relu"]))
@settings(max_examples=50, deadline=None)
def test_modulation_moves_kinks_and_scales_their_jumps(a, b, name):
    f = modulate(name, a, b)
    t, jump = f.kinks[0], f.slope_jumps[0]
    assert a * t + b == pytest.approx(0.0, abs=1e-12)
    near = 1e-7 / abs(a)
    assert f.df(np.array([t + near]))[0] - f.df(np.array([t - near]))[0] == pytest.approx(jump, rel=1e-5)


def test_modulation_by_a_negative_gain_reverses_limits_breaks_and_quiet_set():
    step = Activation.of(lambda z: np.where(z > 1, 3.0, 1.0), derivative=np.zeros_like, breaks=[1.0], limits=(1.0, 3.0))
    flipped = modulate(step, -2.0, 0.0)
    assert flipped.breaks == (-0.5,) and flipped.limits == (3.0, 1.0)
    assert flipped.value_jumps == pytest.approx((-2.0,))
    np.testing.assert_allclose(modulate("relu", -1.0, 2.0).quiet(1e-3), [[2.0, np.inf]])


@pytest.mark.parametrize("name", ["tanh", "gelu", "selu", "relu", "erf", "sin", "softplus"])
def test_a_bare_callable_is_differentiated_to_ten_digits(name):
    known = ACTIVATIONS[name]
    mine = Activation.of(known.f, kinks=known.kinks)
    z = np.linspace(-5, 5, 400)
    np.testing.assert_allclose(mine.df(z), known.df(z), rtol=0, atol=2e-11)
    np.testing.assert_allclose(mine.slope_jumps, known.slope_jumps, atol=1e-8)


def test_a_steep_callable_is_differentiated_even_without_its_scale():
    mine = Activation.of(lambda z: np.tanh(1000 * z))
    z = np.linspace(-4e-3, 4e-3, 101)
    np.testing.assert_allclose(mine.df(z), modulate("tanh", 1000.0, 0.0).df(z), atol=1e-7)


def test_an_undeclared_jump_is_refused_and_a_steep_slope_is_not():
    with pytest.raises(UsageError, match=r"jumps near z = 0.999"):
        Activation.of(lambda z: (z > 0.999).astype(float))
    assert Activation.of(lambda z: np.tanh(1e5 * (z - 0.3))).breaks == ()


def test_jumps_of_the_function_itself_are_measured():
    sign = Activation.of(np.sign, derivative=np.zeros_like, breaks=[0.0])
    assert sign.value_jumps == pytest.approx((2.0,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: np.where(z > 1, np.nan, z), "not finite at z"),
        (lambda z: z.sum(), "maps shape"),
        (lambda z: z.no_such_thing, "cannot be called on a numpy array"),
        (lambda z: 1.0 if z > 0 else 0.0, "cannot be called on a numpy array"),
    ],
)
def test_a_bad_callable_is_refused_with_a_remedy(function, message):
    with pytest.raises(UsageError, match=message):
        Activation.of(function)


def test_bad_names_gains_and_exponents_are_refused():
    with pytest.raises(UsageError, match="activation 'rleu' is unknown"):
        as_activation("rleu")
    for a, b in [(0.0, 1.0), (np.nan, 0.0), (1.0, np.inf)]:
        with pytest.raises(UsageError, match=r"contains 0|not finite"):
            modulate("relu", a, b)
    with pytest.raises(UsageError, match=r"E f'\^2 infinite"):
        rectified_power(0.5)
