"""Online learning on the bit-flipping stream: one sample a step, no memory of the past, millions of steps.

    stream, method = BitFlipping(seed=0), Method(width=5)
    state = initial(method, stream, seed=0)
    for window in learn(method, stream, state, steps=100_000, every=1_000, seed=0):
        ...  # window.step, window.loss; state is the network after that step

Between two windows everything is ordinary Python: measure `state`, save it, stop and go on later (`State.save`,
`State.load`): the result is the same. Memory does not depend on the length of the stream.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lop_utils.errors import UsageError, check_choice
from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training import compiled, online_fused, online_kernel, online_torch
from lop_utils.training.online_state import (
    CBP,
    COUNT,
    DROPOUT,
    NOISE,
    PERTURB,
    REDO,
    REDRAW,
    Method,
    State,
    fresh_weights,
    initial,
)  # fmt: skip

__all__ = ["ENGINES", "Method", "State", "Window", "initial", "learn", "losses_of"]
ENGINES = ("auto", "compiled", "torch")
WARNING = "numba is not installed: online learning runs as a plain torch loop, thousands of times slower"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """The mean loss of the `size` steps that end before `step`: before each update, on the sample that comes next."""

    step: int
    size: int
    loss: float


def learn(
    method: Method,
    stream: BitFlipping,
    state: State,
    *,
    steps: int,
    every: int,
    seed: int,
    engine: str = "auto",
) -> Iterator[Window]:
    """Train `state`, in place, up to step `steps` of the stream; a `Window` at every multiple of `every` and the end.

    `seed` decides the learner's own draws (dropout, noise, new units). Engines: compiled (numba), torch (a plain loop,
    thousands of times slower), auto (compiled where numba is there, else torch with a warning). Both give the same
    losses to rounding. Raises `UsageError` for an unknown engine and for one that is not there.
    """
    if every < 1 or steps < state.step:
        raise UsageError(f"every {every}, steps {steps}", remedy=f"use every >= 1 and steps >= {state.step}")
    run = _engine(engine, method, stream, seed)
    total, size = 0.0, 0
    while state.step < steps:
        stop = min(steps, *(_next(state.step, n) for n in (every, stream.period, method.redo_every) if n))
        losses = run(state, stop)
        total, size = total + float(losses.sum()), size + len(losses)
        _between(method, stream, state, seed)
        if state.step % every == 0 or state.step == steps:
            yield Window(state.step, size, total / size)
            total, size = 0.0, 0


def losses_of(
    method: Method, stream: BitFlipping, *, steps: int, seed: int, engine: str = "auto"
) -> NDArray[np.float64]:
    """The loss of every step of a new network, (steps,).

    >>> losses_of(Method(width=3), BitFlipping(), steps=4, seed=0, engine="torch").shape
    (4,)
    """
    state = initial(method, stream, seed=seed)
    return np.array([w.loss for w in learn(method, stream, state, steps=steps, every=1, seed=seed, engine=engine)])


def _next(step: int, multiple: int) -> int:
    return (step // multiple + 1) * multiple


@cache
def _warn() -> None:
    log.warning(WARNING)


def _engine(name: str, method: Method, stream: BitFlipping, seed: int):
    """A function (state, stop) -> losses of the steps up to `stop`, all in one period."""
    check_choice("engine", name, ENGINES)
    holds = stream.fast <= online_kernel.FAST
    if name == "compiled" and not (compiled.AVAILABLE and holds):
        problem = "numba is not installed" if holds else f"{stream.fast} fast bits do not fit the compiled engine"
        raise UsageError(problem, remedy="use engine auto or torch, which are slower")
    if name == "auto" and not compiled.AVAILABLE:
        _warn()
    if name == "torch" or not (compiled.AVAILABLE and holds):
        return lambda state, stop: online_torch.advance(method, stream, state, stop - state.step, seed=seed)
    return _Compiled(method, stream, seed)


class _Compiled:
    """The compiled engine for one run: scratch memory, the method as numbers, the state padded to whole registers."""

    def __init__(self, method: Method, stream: BitFlipping, seed: int):
        self.method, self.stream = method, stream
        self.lanes = (0,) * online_kernel.padded(method.width)
        p, inputs = len(self.lanes), stream.width
        self.block = online_kernel.aligned((online_kernel.ROWS * p,))
        self.on = online_kernel.aligned((inputs * p,))
        self.arrays = online_kernel.Arrays(
            *(np.zeros(shape) for shape in ((inputs, p), p, p, 1, (inputs + 2, p), 1, (4, p), 1)), counter.quantiles()
        )
        self.rule = _rule(method, stream, seed)
        self.segment, self.path = stream.segment(0), _path(method)
        compiled.settled(lambda: self._advance(0, np.empty(0)))
        for values in self.arrays[:-1]:
            values[...] = 0.0
        self.arrays.units[3] = -np.inf  # the padding never matures

    def _advance(self, first: int, losses: NDArray[np.float64]) -> None:
        slow, table = self.segment.slow, self.segment.table
        self.path(self.lanes, self.arrays, slow, table, first, losses, self.block, self.on, self.rule)

    def __call__(self, state: State, stop: int) -> NDArray[np.float64]:
        if not self.segment.first <= state.step < self.segment.first + self.stream.period:
            self.segment = self.stream.segment(state.step)
        losses, pairs = np.empty(stop - state.step), self._pairs(state)
        for wide, narrow in pairs:
            wide[..., : narrow.shape[-1]] = narrow
        self._advance(state.step, losses)
        for wide, narrow in pairs:
            narrow[...] = wide[..., : narrow.shape[-1]]
        state.step = stop
        return losses

    def _pairs(self, state: State) -> list[tuple[NDArray, NDArray]]:
        """Each padded array with the state's array that it stands for."""
        a = self.arrays
        pairs = [(a.w, state.w), (a.b, state.b), (a.v, state.v), (a.c, state.c)]
        if self.method.l2_init:
            pairs += [(a.start, state.start[:-1].reshape(-1, self.method.width)), (a.start_c, state.start[-1:])]
        return pairs + [(a.units, state.units), (a.owed, state.owed)]


def _path(method: Method) -> Callable:
    """The compiled function for a method: the fast ones take nothing that acts between update and forward pass."""
    between = method.dropout, method.l2, method.l2_init, method.gradient_noise, method.weight_noise
    if method.activation == "tanh" or any(between):
        return online_kernel.advance
    if method.cbp == "none":
        return online_fused.advance
    fast = method.cbp != "as_coded" and method.utility == "adaptable_contribution"
    return online_fused.advance_cbp if fast else online_kernel.advance


def _rule(method: Method, stream: BitFlipping, seed: int) -> np.record:
    """The method, and the keys of its draws, for the compiled engine."""
    numbers = {
        "tanh": method.activation == "tanh",
        "keep": 1.0 - method.dropout,
        "kept": 1.0 - method.lr * max(method.l2, method.l2_init),
        "cbp": CBP.index(method.cbp),
        "adaptable": method.utility == "adaptable_contribution",
        "bound": method.bound(stream.width),
        "pattern_key": stream.pattern_key,
        "dropout_key": counter.key(seed, DROPOUT),
        "redraw_key": counter.key(seed, REDRAW),
        "noise_key": counter.key(seed, NOISE),
        "count_key": counter.key(seed, COUNT),
    }
    values = [numbers.get(name, getattr(method, name, None)) for name in online_kernel.RULE.names]
    return np.rec.array([tuple(values)], dtype=online_kernel.RULE)[0]


def _between(method: Method, stream: BitFlipping, state: State, seed: int) -> None:
    """What happens between two steps: shrink-and-perturb when a period ends, ReDo when it is due."""
    if (method.shrink, method.perturb) != (1.0, 0.0) and state.step % stream.period == 0:
        key = seed + (PERTURB << 32)
        w, v = fresh_weights(method, stream.width, seed=key, draw=state.step // stream.period)
        for values in (state.w, state.b, state.v, state.c):
            values *= method.shrink
        state.w += method.perturb * w
        state.v += method.perturb * v
    if method.redo_every and state.step % method.redo_every == 0:
        h = np.abs(state.hidden(stream.present(state.step - 1)[0], method)[1]).mean(0)
        dormant = h <= method.redo_tau * h.mean()
        w, _ = fresh_weights(method, stream.width, seed=seed + (REDO << 32), draw=state.step // method.redo_every)
        state.w[:, dormant], state.b[dormant], state.v[dormant] = w[:, dormant], 0.0, 0.0
