"""The two families' laws, the frozen fraction against closed forms and samples, the counterexamples, and the maps."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from lop_utils.errors import UsageError
from lop_utils.theory.activations import ACTIVATIONS, Activation, rectified_power, sine, tilted_step
from lop_utils.theory.gaussian import alpha_as_coded, moments, rank_recovery_strength
from lop_utils.theory.modulation import (
    family,
    frozen_fraction,
    half_vanishing_law,
    modulation_map,
    plateauing_law,
    quiet_set,
)


def test_families_are_read_off_the_limits():
    found = {name: family(f) for name, f in ACTIVATIONS.items()}
    assert {n for n, kind in found.items() if kind == "plateauing"} == {"tanh", "erf", "sigmoid"}
    half = {"relu", "gelu", "elu", "selu", "silu", "softplus"}
    assert {n for n, kind in found.items() if kind == "half-vanishing"} == half
    assert {n for n, kind in found.items() if kind == "neither"} == {"identity", "leaky_relu", "sin"}


@pytest.mark.parametrize("p", [0.75, 1.0, 1.5, 2.0])
def test_rectified_powers_follow_the_half_vanishing_law(p):
    ratio = [
        rank_recovery_strength(rectified_power(p), 1.0, b, centred=False) / half_vanishing_law(1.0, b, p=p)
        for b in (-8.0, -24.0)
    ]
    assert abs(ratio[1] - 1) < abs(ratio[0] - 1) and ratio[1] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["gelu", "elu", "selu", "silu", "softplus"])
def test_other_half_vanishing_activations_approach_shifted_relu_as_the_gain_grows(name):
    limit = rank_recovery_strength("relu", 1.0, -2.0, centred=True)
    errors = [abs(rank_recovery_strength(name, a, -2.0 * a, centred=True) / limit - 1) for a in (20.0, 200.0)]
    assert errors[1] < errors[0] < 0.5 and errors[1] < 0.05


def test_a_floor_other_than_zero_defeats_the_uncentred_law():
    assert rank_recovery_strength("elu", 1.0, -5.0, centred=False) == pytest.approx(-1, abs=1e-3)
    limit = 1 / (1 - np.exp(-1)) - 1  # the centred alpha of exp(z), ELU's tail
    assert rank_recovery_strength("elu", 1.0, -15.0, centred=True) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid"])
@pytest.mark.parametrize("k", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("centred", [False, True])
def test_plateauing_activations_follow_their_law(name, k, centred):
    errors = []
    for a in (30.0, 300.0, -300.0):
        exact = rank_recovery_strength(name, a, -k * a, centred=centred)
        errors.append(abs(float(plateauing_law(name, a, -k * a, centred=centred)) / exact - 1))
    assert errors[1] < errors[0] / 5 and errors[1] < 0.01 and errors[2] < 0.01


@given(st.floats(-4, 4), st.floats(0.1, 10))
def test_the_frozen_share_of_relu_is_the_mass_below_its_kink(b, a):
    assert float(frozen_fraction("relu", a, b)) == pytest.approx(float(ndtr(-b / a)), rel=1e-12)


@pytest.mark.parametrize(("a", "share"), [(1, 1.2e-7), (5, 0.222), (10, 0.519), (100, 0.939)])
def test_steep_tanh_has_the_ledgers_frozen_share(a, share):
    assert float(frozen_fraction("tanh", a, derivative="modulated")) == pytest.approx(
        share, rel=0.03, abs=5e-4 * (a > 1)
    )


def test_frozen_shares_have_their_closed_forms():
    edge = np.arccosh(1e2)
    assert float(frozen_fraction("tanh", 3.0, 0.5)) == pytest.approx(
        ndtr((-edge - 0.5) / 3) + ndtr((0.5 - edge) / 3), rel=1e-12
    )
    root = (1 - np.sqrt(1 - 4e-4)) / 2
    edge = np.log((1 - root) / root)
    assert float(frozen_fraction("sigmoid", 5.0)) == pytest.approx(2 * ndtr(-edge / 5), rel=1e-9)
    for b, dead in [(0, 0.5), (-1, 0.841), (-2, 0.977), (-3, 0.99865), (-4, 0.99997)]:
        assert float(frozen_fraction("relu", 1.0, b)) == pytest.approx(dead, abs=5e-4)


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "tanh", "erf", "gelu", "sigmoid", "elu", "selu", "silu", "softplus"]
)
@pytest.mark.parametrize("derivative", ["activation", "modulated"])
def test_the_frozen_share_is_what_samples_show(name, derivative):
    f, z = ACTIVATIONS[name], np.random.default_rng(3).standard_normal(200_000)
    for a, b, level in [(4.0, -3.0, 1e-2), (-2.0, 1.0, 0.1)]:
        slope = np.abs(f.df(a * z + b)) * (abs(a) if derivative == "modulated" else 1)
        exact = float(frozen_fraction(f, a, b, tolerance=level, derivative=derivative))
        assert abs((slope < level).mean() - exact) < 5 * np.sqrt(exact * (1 - exact) / len(z)) + 1e-12


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "selu", "softplus", "erf"])
def test_the_grid_finds_the_same_quiet_set_as_the_closed_form(name):
    bare = Activation.of(ACTIVATIONS[name].f, derivative=ACTIVATIONS[name].df, kinks=ACTIVATIONS[name].kinks)
    np.testing.assert_allclose(quiet_set(bare, 1e-3), quiet_set(name, 1e-3), atol=1e-9)


def test_the_sine_has_unbounded_alpha_and_freezes_almost_nowhere():
    for s in (5.0, 100.0):
        exact = s * s * (1 + np.exp(-2 * s * s)) / (1 - np.exp(-2 * s * s)) - 1
        assert rank_recovery_strength(sine(s), centred=True) == pytest.approx(exact, rel=1e-10)
        assert float(moments(sine(s)).second) <= 0.5 + 1e-12
    assert float(frozen_fraction(sine(100.0), tolerance=0.1)) == pytest.approx(2e-3 / np.pi, rel=1e-3)  # .0006


def test_even_a_monotone_function_can_have_unbounded_alpha_and_no_small_slope():
    alphas = [rank_recovery_strength(tilted_step(s), centred=True) for s in (10.0, 100.0, 1000.0)]
    assert alphas[1] / alphas[0] > 5 and alphas[2] / alphas[1] > 9
    step = 2 + 2 * np.sqrt(2 / np.pi)  # E (z + sign z)^2, the limit of E f^2
    assert alphas[2] == pytest.approx(1000 * 4 / 3 / np.sqrt(2 * np.pi) / step, rel=0.02)
    assert float(moments(tilted_step(1000.0)).second) < step
    assert float(frozen_fraction(tilted_step(1000.0), tolerance=0.999)) == 0.0


def test_a_small_gain_freezes_without_any_alpha():
    """h' -> 0 and alpha -> 0 together: the trade-off is not an equivalence."""
    assert rank_recovery_strength("tanh", 1e-3, centred=True) < 1e-5
    assert float(frozen_fraction("tanh", 1e-5, derivative="modulated")) == 1.0


GAINS = np.logspace(-0.5, 2, 100)  # the ranges of the paper's maps
MAPS = {
    "relu": (np.linspace(-20, 5, 100), "outer", 1e-8),
    "selu": (np.linspace(-20, 5, 100), "outer", 1e-8),
    "tanh": (np.linspace(-3, 1, 100), "inner", 1e-4),
    "sigmoid": (np.linspace(-3, 1, 100), "inner", 1e-4),
}


def test_four_maps_of_ten_thousand_points_take_far_less_than_twenty_seconds():
    start = time.perf_counter()
    for name, (b, shift, tolerance) in MAPS.items():
        found = modulation_map(name, GAINS, b, shift=shift, tolerance=tolerance, derivative="modulated")
        for values in (found.alpha, found.alpha_centred, found.alpha_as_coded, found.frozen):
            assert values.shape == (100, 100) and np.isfinite(values).all()
        assert (found.alpha_centred >= -1e-9).all() and (found.alpha_centred >= found.alpha - 1e-6).all()
        assert ((found.frozen >= 0) & (found.frozen <= 1)).all()
    assert time.perf_counter() - start < 20


@given(st.sampled_from(sorted(MAPS)), st.integers(0, 11), st.integers(0, 11))
@settings(max_examples=25, deadline=None)
def test_a_map_holds_the_single_values(name, i, j):
    shift = MAPS[name][1]
    a, b = np.linspace(0.4, 9, 12), np.linspace(-3, 1, 12)
    found = modulation_map(name, a, b, shift=shift)
    offset = a[i] * b[j] if shift == "inner" else b[j]
    assert found.alpha[i, j] == pytest.approx(
        rank_recovery_strength(name, a[i], offset, centred=False), rel=1e-10, abs=1e-12
    )
    assert found.alpha_as_coded[i, j] == pytest.approx(alpha_as_coded(name, a[i], offset), rel=1e-12)
    assert found.frozen[i, j] == pytest.approx(float(frozen_fraction(name, a[i], offset)), rel=1e-12)


def test_bad_arguments_are_refused_by_name():
    for a, b in [(0.0, 1.0), (np.nan, 1.0), (1.0, np.inf)]:
        for call in (half_vanishing_law, frozen_fraction.__get__("relu"), modulation_map.__get__("relu")):
            with pytest.raises(UsageError, match=r"contains 0|not finite"):
                call(a, b)
    with pytest.raises(UsageError, match="relu is half-vanishing"):
        plateauing_law("relu", 10.0, centred=True)
    with pytest.raises(UsageError, match="derivative 'inner'"):
        frozen_fraction("relu", derivative="inner")
    with pytest.raises(UsageError, match="shift 'both'"):
        modulation_map("relu", 1.0, 0.0, shift="both")
    with pytest.raises(UsageError, match="level = 0"):
        quiet_set("relu", 0.0)
    with pytest.raises(UsageError, match="too steep"):
        frozen_fraction("sin", 1e5)
    with pytest.raises(UsageError, match="p > 1/2"):
        half_vanishing_law(1.0, -1.0, p=0.5)
    with pytest.raises(UsageError, match=r"constant|variance 0"):
        modulation_map("tanh", 0.1, -40.0)
