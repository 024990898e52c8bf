"""The compiled engine against the plain torch loop: every loss of every step."""

import numpy as np
import pytest

from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import CONVENTIONS, BitFlipping
from lop_utils.training import compiled, online, online_kernel
from lop_utils.training.online import Method, State, initial, learn

pytestmark = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")

ADDITIONS = {
    "sgd": {},
    "leaky": {"activation": "leaky_relu"},
    "tanh": {"activation": "tanh"},
    "cbp": {"cbp": "as_published", "rate": 0.02},
    "cbp, several at once": {"cbp": "as_published", "rate": 0.5, "maturity": 5},
    "cbp, contribution": {"cbp": "as_published", "rate": 0.02, "utility": "contribution", "activation": "tanh"},
    "cbp as coded": {"cbp": "as_coded"},
    "cbp dohare": {"cbp": "dohare", "rate": 0.02},
    "dropout": {"dropout": 0.2},
    "l2": {"l2": 1e-2},
    "l2 init": {"l2_init": 1e-2},
    "noisy sgd": {"gradient_noise": 0.05, "noise_decay": 0.999},
    "weight noise": {"weight_noise": 1e-3},
    "shrink and perturb": {"shrink": 0.6, "perturb": 0.3},
    "redo": {"redo_every": 70, "redo_tau": 0.3},
}


def both(
    method: Method, stream: BitFlipping, *, steps: int, every: int = 1, state: State | None = None
) -> tuple[np.ndarray, list]:
    """Largest differences between the engines' windows, and both final states, from `state` or a new one."""
    states = [initial(method, stream, seed=4) if state is None else state.copy() for _ in "ab"]
    losses = [
        [w.loss for w in learn(method, stream, state, steps=steps, every=every, seed=4, engine=engine)]
        for state, engine in zip(states, ("compiled", "torch"), strict=True)
    ]
    return np.abs(np.subtract(*losses)), states


@pytest.mark.parametrize("name", ADDITIONS)
def test_engines_agree_on_every_loss_whatever_is_added_to_sgd(name):
    stream = BitFlipping(seed=4, period=100, convention=CONVENTIONS[sorted(ADDITIONS).index(name) % 3])
    gaps, (one, two) = both(Method(width=6, **ADDITIONS[name]), stream, steps=250)
    assert len(gaps) == 250 and gaps.max() < 1e-12
    assert np.abs(one.w - two.w).max() < 1e-12 and np.abs(one.v - two.v).max() < 1e-12
    assert np.array_equal(one.units[3], two.units[3])


@pytest.mark.parametrize("silenced", [slice(None), slice(-5, None), slice(0, -5)], ids=["all", "fast", "slow"])
def test_engines_agree_on_units_whose_incoming_weights_are_zero(silenced):
    method, stream = Method(width=4, cbp="as_published", rate=0.01), BitFlipping(seed=3, period=100)
    state = initial(method, stream, seed=4)
    state.w[silenced], state.b[:] = 0.0, 0.1
    differences, states = both(method, stream, steps=700, state=state)
    assert differences.max() < 1e-12
    assert all(np.isfinite(end.units).all() for end in states)


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("activation", ["relu", "tanh", "leaky_relu"])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("continual", [False, True])
def test_engines_agree_to_rounding_over_ten_thousand_steps(convention, activation, continual):
    stream = BitFlipping(seed=9, period=1_000, convention=convention)
    additions = {"cbp": convention, "rate": 1e-3} if continual else {}
    for_all = Method(width=7, activation=activation, **additions)
    states = [initial(for_all, stream, seed=4) for _ in "abcd"]
    for number, state in enumerate(states[2:]):  # torch again, from weights that differ in the last bit
        up = np.random.default_rng(number).choice([-np.inf, np.inf], size=state.w.shape)
        state.w[:] = np.nextafter(state.w, up)
    tanh = activation == "tanh" and not continual
    engines = ("compiled", "torch", *(("torch", "torch") if tanh else ()))
    compiled, plain, *nudged = [
        [w.loss for w in learn(for_all, stream, state, steps=10_000, every=1, seed=4, engine=engine)]
        for state, engine in zip(states, engines, strict=False)
    ]
    # tanh under plain SGD amplifies the last bit itself, to 1.5e-11 in the torch loop: one ulp at each step does more
    own = max((float(np.abs(np.subtract(plain, run)).max()) for run in nudged), default=0.0)
    assert np.abs(np.subtract(compiled, plain)).max() < max(1e-12, 10 * own)


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("width", [1, 16, 17, 100])
def test_engines_agree_at_widths_that_do_and_do_not_fill_registers(width):
    for additions in ({}, {"cbp": "as_published", "rate": 1e-3}):
        gaps, _ = both(Method(width=width, **additions), BitFlipping(seed=1, period=700), steps=2_000, every=10)
        assert gaps.max() < 1e-12


FAST_PATHS = {
    "sgd": {"width": 5},
    "sgd, wide": {"width": 40},
    "leaky": {"width": 9, "activation": "leaky_relu"},
    "cbp": {"width": 12, "cbp": "as_published", "rate": 2e-3},
    "cbp, often": {"width": 6, "cbp": "as_published", "rate": 0.2, "maturity": 5},
    "cbp leaky": {"width": 9, "cbp": "as_published", "rate": 2e-3, "activation": "leaky_relu"},
    "cbp dohare": {"width": 12, "cbp": "dohare", "rate": 2e-3},
    "cbp as coded": {"width": 12, "cbp": "as_coded"},
    "dropout": {"width": 9, "dropout": 0.2},
}


@pytest.mark.parametrize("name", FAST_PATHS)
def test_engines_agree_on_every_loss_of_periods_that_are_one_call_each(name):
    method, stream = Method(**FAST_PATHS[name]), BitFlipping(seed=6, period=900)
    states = [initial(method, stream, seed=4) for _ in "ab"]
    engines = [online._engine(engine, method, stream, 4) for engine in ("compiled", "torch")]
    for stop in (900, 1800, 2000, 2700):
        one, two = (engine(state, stop) for engine, state in zip(engines, states, strict=True))
        assert one.shape == two.shape and np.abs(one - two).max() < 1e-12
    assert all(np.abs(getattr(states[0], n) - getattr(states[1], n)).max() < 1e-12 for n in ("w", "b", "v", "c"))
    assert np.array_equal(states[0].units[3], states[1].units[3])


def test_a_run_cut_anywhere_is_the_run_in_one_piece_to_rounding():
    method, stream = Method(width=6, cbp="as_published", rate=0.05, maturity=20), BitFlipping(seed=2, period=400)
    runs = []
    for cuts in ((400, 800), (1, 2, 150, 399, 400, 401, 770, 800)):
        state, engine = initial(method, stream, seed=4), online._engine("compiled", method, stream, 4)
        runs.append((np.concatenate([engine(state, stop) for stop in cuts]), state))
    assert np.abs(runs[0][0] - runs[1][0]).max() < 1e-12
    assert np.abs(runs[0][1].w - runs[1][1].w).max() < 1e-12


def test_fewer_than_five_fast_bits_fit_the_compiled_engine():
    gaps, _ = both(Method(width=4), BitFlipping(seed=0, bits=10, slow=7, units=30, period=60), steps=150)
    assert gaps.max() < 1e-12


def test_compiled_draws_are_those_of_numpy():
    key = counter.key(7, 16)
    words = [int(online_kernel._word(np.uint64(key), n)) for n in (0, 1, 10**12)]
    assert words == [int(w) for w in counter.words(key, [0, 1, 10**12])]
