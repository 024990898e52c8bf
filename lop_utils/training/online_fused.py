"""The compiled engine's fast path: one pass over the weights a step, for SGD of a piecewise linear layer, and for CBP.

A step's update and the next step's forward pass read the same weights, so both are done while these are in registers.
And the next pre-activations do not wait for the update: for inputs x and then y, with x and y the fast bits and k the
slow inputs that are on, plus the bias,

    z(y) after the update  =  z(y) before it  -  d (k + x . y),

where d is what the step takes from the unit's bias. So what has to wait for a step's error is only d, one product and
the sum over units. Methods that draw noise, masks or a pull between the two go through `online_kernel.advance`, which
is also where the block of rows is explained.
"""

import numpy as np

from lop_utils.training.compiled import compiled
from lop_utils.training.online_kernel import (
    BASE,
    HIGH,
    LOW,
    MASK,
    MEAN,
    POWER,
    S0,
    SLOPE,
    UTILITY,
    F,
    H,
    S,
    V,
    _bits,
    _due,
    _forward,
    _load,
    _mature,
    _next_pieces,
    _redraw,
    _store,
    _word,
)

LAST = MASK  # activations of the input before, where they are still needed; nothing here draws masks


@compiled
def _step(lanes, m, x0, x1, x2, x3, x4, y0, y1, y2, y3, y4, g, k, slope):
    """Update on the input x, and the activations of the input y into row H; returns their sum weighted by V."""
    P, total = len(lanes), 0.0
    moves = k + x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3 + x4 * y4
    for j in range(P):
        h, v = m[H * P + j], m[V * P + j]
        d = g * (v * (1.0 if h > 0.0 else slope))
        z = m[S * P + j] + y0 * m[F * P + j] + y1 * m[(F + 1) * P + j] + y2 * m[(F + 2) * P + j]
        z = (z + y3 * m[(F + 3) * P + j] + y4 * m[(F + 4) * P + j]) - moves * d
        v -= g * h
        m[V * P + j] = v
        m[S * P + j] -= k * d
        m[F * P + j] -= x0 * d
        m[(F + 1) * P + j] -= x1 * d
        m[(F + 2) * P + j] -= x2 * d
        m[(F + 3) * P + j] -= x3 * d
        m[(F + 4) * P + j] -= x4 * d
        h = z if z > 0.0 else slope * z
        m[H * P + j] = h
        total += v * h
    return total


@compiled
def advance(lanes, arrays, slow, table, first, losses, m, on, rule):
    """What `online_kernel.advance` does, for plain SGD."""
    fast, slope, rate = arrays.w.shape[0] - len(slow), rule.slope, 2.0 * rule.lr
    key, shift = rule.pattern_key, np.uint64(64 - fast)
    count, c = _load(lanes, arrays, slow, m, on, first - 1), arrays.c[0]
    q, k = np.int64(_word(key, first) >> shift), count + 1.0
    x0, x1, x2, x3, x4 = _bits(q)
    total = _forward(lanes, m, x0, x1, x2, x3, x4, False, slope)
    short = c - table[q]  # all of the error that is known before the units are summed up
    for index in range(losses.size):
        error = total + short
        losses[index] = error * error
        g = rate * error
        q = np.int64(_word(key, first + index + 1) >> shift)
        y0, y1, y2, y3, y4 = _bits(q)
        total = _step(lanes, m, x0, x1, x2, x3, x4, y0, y1, y2, y3, y4, g, k, slope)
        x0, x1, x2, x3, x4 = y0, y1, y2, y3, y4
        c -= g
        short = c - table[q]
    _store(lanes, arrays, slow, m, count, 1.0, first - 1)
    arrays.c[0] = c
    return c


@compiled
def _step_cbp(lanes, m, x0, x1, x2, x3, x4, y0, y1, y2, y3, y4, g, k, slope, eta):
    """`_step`, and between the two what `online_kernel._adaptable_contributions` does; the activations of x go to LAST.

    Returns the sum, and how many units have left their piece of the sum of sizes.
    """
    P, total, crossed = len(lanes), 0.0, 0.0
    moves = k + x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3 + x4 * y4
    for j in range(P):
        h, v = m[H * P + j], m[V * P + j]
        d = g * (v * (1.0 if h > 0.0 else slope))
        z = m[S * P + j] + y0 * m[F * P + j] + y1 * m[(F + 1) * P + j] + y2 * m[(F + 2) * P + j]
        z = (z + y3 * m[(F + 3) * P + j] + y4 * m[(F + 4) * P + j]) - moves * d
        v -= g * h
        m[V * P + j] = v
        s = m[S * P + j] - k * d
        f0, f1 = m[F * P + j] - x0 * d, m[(F + 1) * P + j] - x1 * d
        f2, f3 = m[(F + 2) * P + j] - x2 * d, m[(F + 3) * P + j] - x3 * d
        f4 = m[(F + 4) * P + j] - x4 * d
        m[S * P + j], m[F * P + j], m[(F + 1) * P + j] = s, f0, f1
        m[(F + 2) * P + j], m[(F + 3) * P + j], m[(F + 4) * P + j] = f2, f3, f4
        moved = s - m[S0 * P + j]
        crossed += 1.0 if moved < m[LOW * P + j] else 0.0
        crossed += 1.0 if moved > m[HIGH * P + j] else 0.0
        power, mean = eta * m[POWER * P + j], eta * m[MEAN * P + j] + (1.0 - eta) * h
        known = 1.0 - power
        size = abs(f0) + abs(f1) + abs(f2) + abs(f3) + abs(f4) + (m[BASE * P + j] + m[SLOPE * P + j] * moved)
        worth = abs(h * known - mean) * abs(v) / (known * size)
        m[UTILITY * P + j] = eta * m[UTILITY * P + j] + (1.0 - eta) * worth
        m[POWER * P + j], m[MEAN * P + j], m[LAST * P + j] = power, mean, h
        h = z if z > 0.0 else slope * z
        m[H * P + j] = h
        total += v * h
    return total, crossed


@compiled
def advance_cbp(lanes, arrays, slow, table, first, losses, m, on, rule):
    """What `online_kernel.advance` does, for CBP by adaptable contribution, as published and Dohare's."""
    fast, slope, rate = arrays.w.shape[0] - len(slow), rule.slope, 2.0 * rule.lr
    key, shift = rule.pattern_key, np.uint64(64 - fast)
    count, c, mature, following = _load(lanes, arrays, slow, m, on, first - 1), arrays.c[0], 0.0, -np.inf
    q, k = np.int64(_word(key, first) >> shift), count + 1.0
    x0, x1, x2, x3, x4 = _bits(q)
    total = _forward(lanes, m, x0, x1, x2, x3, x4, False, slope)
    for index in range(losses.size):
        t = first + index
        error = total + (c - table[q])
        losses[index] = error * error
        g = rate * error
        q = np.int64(_word(key, t + 1) >> shift)
        y0, y1, y2, y3, y4 = _bits(q)
        total, crossed = _step_cbp(lanes, m, x0, x1, x2, x3, x4, y0, y1, y2, y3, y4, g, k, slope, rule.decay)
        x0, x1, x2, x3, x4 = y0, y1, y2, y3, y4
        c -= g
        if crossed > 0.0:
            _next_pieces(lanes, m, LAST, rule, on, count, 0.0)
        if t > following:
            mature, following = _mature(lanes, m, rule.maturity, t)
        due = _due(arrays, rule, t, mature)
        if due > 0:
            c += _redraw(lanes, arrays, slow, rule, m, on, count, t, due)
            following = np.float64(t)
            total = _forward(lanes, m, x0, x1, x2, x3, x4, False, slope)
    _store(lanes, arrays, slow, m, count, 1.0, first + losses.size - 1)
    arrays.c[0] = c
    return c
