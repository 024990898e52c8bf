"""Sixteen runs side by side in vector registers: plain SGD of narrow networks, many streams at once, on one core.

A layer of five units leaves most of a vector register empty, and a step waits for the one before. So here the lanes of
a register are runs: lane r of every number belongs to run r, with its own stream, weights and targets. For a handful of
units this is several times faster per run than one run at a time; for wide layers it gains nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lop_utils.errors import UsageError
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.compiled import compiled, settled
from lop_utils.training.online import Method, State, Window
from lop_utils.training.online_kernel import FAST, _word, aligned

LANES = 16  # runs; two registers full, which is also what makes the compiler use them
X, TARGET, OUTPUT, STEP, COUNT, BIAS, TOTAL, HEAD = 0, 5, 6, 7, 8, 9, 10, 11  # rows of LANES numbers before the units


@compiled
def _advance(units, lanes, m, tables, keys, shift, first, steps, lr, slope):
    """Train all runs on `steps` steps from first on and add up their losses in row TOTAL.

    m: HEAD rows of `lanes` numbers, then s, v, h and five bits of each unit.
    """
    U, R = len(units), len(lanes)
    S, V, H, F, N = HEAD * R, (HEAD + U) * R, (HEAD + 2 * U) * R, (HEAD + 3 * U) * R, U * R
    for index in range(steps):
        for r in range(R):
            q = np.int64(_word(keys[r], first + index) >> shift)
            m[X + r], m[X + R + r] = np.float64(q & 1), np.float64((q >> 1) & 1)
            m[X + 2 * R + r], m[X + 3 * R + r] = np.float64((q >> 2) & 1), np.float64((q >> 3) & 1)
            m[X + 4 * R + r] = np.float64((q >> 4) & 1)
            m[TARGET * R + r] = tables[r, q]
            m[OUTPUT * R + r] = m[BIAS * R + r]
        for u in range(U):
            for r in range(R):
                j = u * R + r
                z = m[S + j] + m[X + r] * m[F + j] + m[X + R + r] * m[F + N + j]
                z = z + m[X + 2 * R + r] * m[F + 2 * N + j] + m[X + 3 * R + r] * m[F + 3 * N + j]
                z = z + m[X + 4 * R + r] * m[F + 4 * N + j]
                h = z if z > 0.0 else slope * z
                m[H + j] = h
                m[OUTPUT * R + r] += m[V + j] * h
        for r in range(R):
            error = m[OUTPUT * R + r] - m[TARGET * R + r]
            m[TOTAL * R + r] += error * error
            m[STEP * R + r] = 2.0 * lr * error
            m[BIAS * R + r] -= 2.0 * lr * error
        for u in range(U):
            for r in range(R):
                j = u * R + r
                h, v, g = m[H + j], m[V + j], m[STEP * R + r]
                d = g * v * (1.0 if h > 0.0 else slope)
                m[V + j] = v - g * h
                m[S + j] -= m[COUNT * R + r] * d
                m[F + j] -= m[X + r] * d
                m[F + N + j] -= m[X + R + r] * d
                m[F + 2 * N + j] -= m[X + 2 * R + r] * d
                m[F + 3 * N + j] -= m[X + 3 * R + r] * d
                m[F + 4 * N + j] -= m[X + 4 * R + r] * d


def learn_together(
    method: Method, streams: Sequence[BitFlipping], states: Sequence[State], *, steps: int, every: int
) -> Iterator[tuple[Window, ...]]:
    """Train up to sixteen states, each on its stream, in place; a `Window` of each at every multiple of `every`.

    What `online.learn` does for each alone, to rounding. `method` is plain SGD with a piecewise linear activation; the
    streams have one period and the states one step. Raises `UsageError` otherwise, and where numba is absent the loops
    run as plain Python.

    >>> from lop_utils.training.online import initial
    >>> method, streams = Method(width=2), [BitFlipping(seed=s) for s in (0, 1)]
    >>> states = [initial(method, stream, seed=0) for stream in streams]
    >>> [len(windows) for windows in learn_together(method, streams, states, steps=20, every=10)]
    [2, 2]
    """
    _check(method, streams, states)
    packed, stream, step = _Packed(method, streams), streams[0], states[0].step
    totals, size = np.zeros(len(states)), 0
    while step < steps:
        stop = min(steps, (step // every + 1) * every, (step // stream.period + 1) * stream.period)
        totals, size, step = totals + packed(states, stop), size + stop - step, stop
        if step % every == 0 or step == steps:
            yield tuple(Window(step, size, float(total) / size) for total in totals)
            totals, size = np.zeros(len(states)), 0


def _check(method: Method, streams: Sequence[BitFlipping], states: Sequence[State]) -> None:
    if method != Method(width=method.width, activation=method.activation, lr=method.lr) or method.activation == "tanh":
        raise UsageError(f"{method} is not plain SGD of a piecewise linear network", remedy="train runs one by one")
    alike = {(s.period, s.fast, s.width) for s in streams}, {state.step for state in states}
    if not 1 <= len(streams) == len(states) <= LANES or max(map(len, alike)) > 1 or streams[0].fast > FAST:
        problem = f"{len(streams)} streams and {len(states)} states are not 1 to {LANES} of a kind"
        raise UsageError(problem, remedy="use one period and step, and at most five fast bits")


class _Packed:
    """Scratch memory of sixteen runs; a call trains them up to a step inside the present period."""

    def __init__(self, method: Method, streams: Sequence[BitFlipping]):
        self.method, self.streams = method, streams
        self.block = aligned(((HEAD + 8 * method.width) * LANES,))
        self.rows = self.block.reshape(-1, LANES)
        self.keys = np.array([s.pattern_key for s in streams] + [0] * (LANES - len(streams)), dtype=np.uint64)
        self.shift = np.uint64(64 - streams[0].fast)
        tables = np.zeros((LANES, 2 ** streams[0].fast))
        settled(lambda: self._advance(tables, 0, 0))

    def _advance(self, tables: np.ndarray, first: int, steps: int) -> None:
        lanes = (0,) * self.method.width, (0,) * LANES
        rule = self.method.lr, self.method.slope
        _advance(*lanes, self.block, tables, self.keys, self.shift, first, steps, *rule)

    def __call__(self, states: Sequence[State], stop: int) -> np.ndarray:
        width, fast, step = self.method.width, self.streams[0].fast, states[0].step
        units = self.rows[HEAD:].reshape(8, width, LANES)
        tables, slows = np.zeros((LANES, 2**fast)), []
        for r, (stream, state) in enumerate(zip(self.streams, states, strict=True)):
            segment = stream.segment(step)
            slows.append(segment.slow)
            tables[r] = segment.table
            first = len(segment.slow)
            self.rows[COUNT, r], self.rows[BIAS, r] = segment.slow.sum() + 1, state.c[0]
            units[0, :, r], units[1, :, r] = state.b + segment.slow @ state.w[:first], state.v
            units[3 : 3 + fast, :, r] = state.w[first:]
        before = units[0].copy()
        self.rows[TOTAL] = 0.0
        self._advance(tables, step, stop - step)
        for r, (slow, state) in enumerate(zip(slows, states, strict=True)):
            moved = (units[0, :, r] - before[:, r]) / self.rows[COUNT, r]
            state.w[: len(slow)] += slow[:, None] * moved
            state.w[len(slow) :] = units[3 : 3 + fast, :, r]
            state.b += moved
            state.v[:], state.c[0], state.step = units[1, :, r], self.rows[BIAS, r], stop
        return self.rows[TOTAL, : len(states)].copy()
