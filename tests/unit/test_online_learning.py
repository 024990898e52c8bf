"""Online learning: what each addition does to the network, interruption, memory, fallback."""

import logging
import tracemalloc

import numpy as np
import pytest
from scipy.stats import kstest

from lop_utils.errors import UsageError
from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training import compiled, online
from lop_utils.training.online import Method, State, initial, learn, losses_of
from lop_utils.training.online_linear import learn_linear
from lop_utils.training.online_state import fresh_weights

ENGINES = ["torch", pytest.param("compiled", marks=pytest.mark.skipif(not compiled.AVAILABLE, reason="no numba"))]


def advance(
    method: Method, stream: BitFlipping, state: State, stop: int, engine: str = "torch", every: int = 1
) -> list:
    return list(learn(method, stream, state, steps=stop, every=every, seed=0, engine=engine))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cbp", ["as_published", "as_coded", "dohare"])
def test_a_replacement_changes_exactly_what_its_convention_says(engine, cbp):
    """With learning rate 0 nothing else moves, so the whole difference is the replacement."""
    stream, method = BitFlipping(seed=0), Method(width=6, lr=0.0, cbp=cbp, rate=0.16, maturity=20)
    state = initial(method, stream, seed=0)
    state.b[:] = 0.1
    before = state.copy()
    while not (state.units[3] < before.units[3]).any():
        before = state.copy()
        advance(method, stream, state, state.step + 1, engine)
    (unit,) = np.flatnonzero(state.units[3] < before.units[3])
    others = np.arange(6) != unit
    kept = 0.0 if cbp == "as_coded" else 0.1
    assert np.array_equal(state.w[:, others], before.w[:, others]) and np.array_equal(state.v[others], before.v[others])
    assert state.v[unit] == 0 and np.allclose(state.b[others], kept, atol=1e-15) and abs(state.b[unit]) < 1e-15
    assert state.units[:, unit].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert np.array_equal(state.w[:, unit], before.w[:, unit]) == (cbp == "as_coded")
    power = method.decay ** (before.units[3, unit] + 1)
    x = stream.inputs(state.step - 1, state.step)
    h = before.hidden(x, method)[1][0, unit]
    mean = (method.decay * before.units[1, unit] + (1 - method.decay) * h) / (1 - power)
    expected = 0.0 if cbp == "dohare" else before.v[unit] * mean
    assert state.c[0] - before.c[0] == pytest.approx(expected, abs=1e-13)
    assert expected != 0 or cbp == "dohare"


def test_the_unit_of_least_corrected_utility_among_the_mature_is_replaced():
    stream, method = BitFlipping(seed=0), Method(width=5, cbp="as_published", rate=0.0, maturity=30)
    state = initial(method, stream, seed=0)
    advance(method, stream, state, 60)
    state.units[3, 2], state.units[0, 2], state.owed[0] = 3.0, 0.0, 0.999  # the least useful one is too young
    utility = state.units[0] / (1 - state.units[2])
    worst = np.argsort(utility)[1]
    advance(Method(width=5, cbp="as_published", rate=1e-3, maturity=30), stream, state, 61)
    assert np.flatnonzero(state.units[3] == 0).tolist() == [worst]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_measured_replacement_rate_is_rho_of_the_mature_units(engine):
    steps = 1_000 if engine == "torch" else 20_000
    method, stream = Method(width=12, cbp="as_published", rate=2e-2, maturity=20), BitFlipping(seed=1)
    state, replaced, mature = initial(method, stream, seed=0), 0, 0
    ages = state.units[3].copy()
    for _ in learn(method, stream, state, steps=steps, every=1, seed=0, engine=engine):
        mature += int((ages + 1 > method.maturity).sum())
        replaced += int((state.units[3] < ages).sum())
        ages = state.units[3].copy()
    assert replaced / mature == pytest.approx(method.rate, rel=0.02)


def test_as_coded_replaces_a_unit_whenever_one_is_mature():
    method, stream = Method(width=12, cbp="as_coded", maturity=100), BitFlipping(seed=1, convention="as_coded")
    state, replaced = initial(method, stream, seed=0), 0
    ages = state.units[3].copy()
    for _ in learn(method, stream, state, steps=1_500, every=1, seed=0, engine="auto"):
        replaced += int((state.units[3] < ages).sum())
        ages = state.units[3].copy()
    rate = replaced / (1_500 * 12)
    assert 0.008 < rate < 1 / 101  # and not the 1e-4 that was asked for


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_are_reported_without_dropout_and_before_the_update(engine):
    stream = BitFlipping(seed=0)
    plain, dropped = (losses_of(Method(width=8, dropout=p), stream, steps=2, seed=0, engine=engine) for p in (0.0, 0.6))
    state = initial(Method(width=8), stream, seed=0)
    first = (state.predict(stream.inputs(0, 1), Method(width=8)) - stream.targets(0, 1))[0] ** 2
    assert plain[0] == pytest.approx(first, abs=1e-14) and dropped[0] == pytest.approx(first, abs=1e-14)
    assert plain[1] != dropped[1]


def test_a_pull_to_zero_shrinks_what_no_input_touches_by_one_minus_rate_times_strength():
    stream = BitFlipping(seed=0, period=10_000)
    off = stream.segment(0).slow == 0
    for name, engine in (("l2", "torch"), ("l2", "auto"), ("l2_init", "auto")):
        method = Method(width=4, lr=0.1, **{name: 0.5})
        state = initial(method, stream, seed=0)
        before = state.w.copy()
        advance(method, stream, state, 10, engine, every=10)
        factor = (1 - 0.1 * 0.5) ** 10 if name == "l2" else 1.0
        assert np.allclose(state.w[:15][off], factor * before[:15][off], rtol=1e-13)


def test_noise_has_the_variance_that_was_asked_for():
    stream = BitFlipping(seed=0)
    method = Method(width=12, lr=0.0, weight_noise=0.01)
    state, steps = initial(method, stream, seed=0), []
    for _ in range(40):
        before = state.copy()
        advance(method, stream, state, state.step + 1, "auto")
        steps += [(state.w - before.w).ravel(), state.v - before.v, state.b - before.b, state.c - before.c]
    moved = np.concatenate(steps)
    assert moved.std() == pytest.approx(0.01, rel=0.02) and abs(moved.mean()) < 0.0004


def test_shrink_and_perturb_comes_when_the_slow_bits_change_and_only_then():
    stream, method = BitFlipping(seed=0, period=10), Method(width=3, lr=0.0, shrink=0.5, perturb=0.25)
    state = initial(method, stream, seed=0)
    start = state.copy()
    advance(method, stream, state, 9)
    assert np.array_equal(state.w, start.w)
    advance(method, stream, state, 10)
    w, v = fresh_weights(method, 20, seed=online.PERTURB << 32, draw=1)
    assert np.allclose(state.w, 0.5 * start.w + 0.25 * w) and np.allclose(state.v, 0.5 * start.v + 0.25 * v)


def test_redo_draws_dormant_units_anew_and_leaves_the_others():
    stream, method = BitFlipping(seed=0), Method(width=5, lr=0.0, redo_every=4, redo_tau=0.0)
    state = initial(method, stream, seed=0)
    state.b[1] = -100.0
    before = state.copy()
    advance(method, stream, state, 4)
    assert np.flatnonzero((state.w != before.w).any(0)).tolist() == [1]
    assert state.b[1] == 0 and state.v[1] == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("additions", [{}, {"cbp": "as_published", "rate": 1e-2}, {"dropout": 0.2}, {"l2_init": 0.01}])
def test_an_interrupted_run_goes_on_from_its_saved_state_as_if_nothing_had_happened(engine, additions, tmp_path):
    stream, method = BitFlipping(seed=2, period=70), Method(width=5, **additions)
    whole = initial(method, stream, seed=0)
    losses = advance(method, stream, whole, 300, engine, every=50)
    state = initial(method, stream, seed=0)
    first = advance(method, stream, state, 150, engine, every=50)
    state.save(tmp_path / "state.npz")
    state = State.load(tmp_path / "state.npz")
    assert first + advance(method, stream, state, 300, engine, every=50) == losses
    assert np.array_equal(state.w, whole.w) and np.array_equal(state.units, whole.units) and state.step == 300


@pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")
def test_memory_does_not_depend_on_the_length_of_the_stream():
    def peak(steps: int) -> int:
        method, stream = Method(width=5), BitFlipping(seed=0)
        state = initial(method, stream, seed=0)
        tracemalloc.start()
        for _ in learn(method, stream, state, steps=steps, every=5_000, seed=0):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(20_000)
    assert peak(400_000) < 1.2 * peak(40_000)


def test_without_numba_the_torch_loop_takes_over_with_one_warning(monkeypatch, caplog):
    monkeypatch.setattr(compiled, "AVAILABLE", False)
    online._warn.cache_clear()
    stream, method = BitFlipping(seed=0), Method(width=3)
    with caplog.at_level(logging.WARNING):
        losses = [losses_of(method, stream, steps=5, seed=0) for _ in range(2)]
    assert [record.message for record in caplog.records] == [online.WARNING]
    assert np.array_equal(losses[0], losses_of(method, stream, steps=5, seed=0, engine="torch"))
    with pytest.raises(UsageError, match="numba"):
        losses_of(method, stream, steps=5, seed=0, engine="compiled")


def test_a_linear_learner_is_sgd_on_a_line():
    stream, weights, losses = BitFlipping(seed=0, period=30), np.zeros(21), []
    for x, y in zip(stream.inputs(0, 100), stream.targets(0, 100), strict=True):
        x = np.append(x, 1.0)
        error = weights @ x - y
        losses.append(error**2)
        weights -= 0.01 * 2 * error * x
    found = [w.loss for w in learn_linear(stream, steps=100, every=20)]
    assert np.allclose(found, np.reshape(losses, (5, 20)).mean(1), rtol=1e-12)


def test_methods_that_make_no_sense_are_refused():
    for bad in ({"activation": "elu"}, {"width": 0}, {"dropout": 1.0}, {"l2": 0.1, "dropout": 0.1}, {"l2": -1.0}):
        with pytest.raises(UsageError):
            Method(**bad)
    with pytest.raises(UsageError, match="every"):
        advance(Method(), BitFlipping(), initial(Method(), BitFlipping(), seed=0), 5, every=0)


def test_normal_draws_have_moments_of_a_normal_distribution():
    drawn = counter.normal(counter.key(0, 0), 5, 40_001)
    assert len(drawn) == 40_001 and abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    assert kstest(drawn, "norm").pvalue > 0.01 and drawn.std() == pytest.approx(1, abs=0.015)
