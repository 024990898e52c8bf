"""The compiled engine: some thousand steps of one run inside one period of the bit-flipping stream.

Inside a period the slow inputs do not change. So their weights need not be touched one by one: every one of the k that
are on takes the same step as the bias, and the pre-activation they add up to, s = b + sum w_i, moves k + 1 times as
far. The kernel keeps s and the rows of the five fast bits, and writes the slow rows back at the end (`_store`).

Everything it works on lies in one aligned block of rows of P numbers, P = width rounded up to whole vector registers
and known when the kernel is compiled (the length of a tuple), so that its loops become a handful of instructions.
"""

from typing import NamedTuple

import numpy as np

from lop_utils.training.compiled import compiled

FAST = 5  # rows of fast bits in the block
LANES = 8  # float64 numbers in a vector register; 16 where one register would hold the whole layer
S, V, H, F, S0, IDLE, UTILITY, MEAN, POWER, BORN, MASK, A_S, A_V, A_F, BASE, SLOPE, LOW, HIGH, ROWS = (
    0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 22, 23, 24, 25, 26,
)  # fmt: skip
PUBLISHED, CODED, DOHARE = 1, 2, 3
NO_PIECE = (1.0, 0.0, np.inf, -np.inf)  # no sum of sizes lies in it; its value divides, and must not be 0

RULE = np.dtype(
    [
        ("lr", "f8"),
        ("tanh", "?"),
        ("slope", "f8"),
        ("keep", "f8"),  # 1 - dropout
        ("kept", "f8"),  # what the pull to the anchor leaves in one step: 1 - lr * strength
        ("gradient_noise", "f8"),
        ("noise_decay", "f8"),
        ("weight_noise", "f8"),
        ("cbp", "i8"),
        ("adaptable", "?"),
        ("decay", "f8"),
        ("rate", "f8"),
        ("maturity", "f8"),
        ("width", "i8"),
        ("bound", "f8"),
        ("pattern_key", "u8"),
        ("dropout_key", "u8"),
        ("redraw_key", "u8"),
        ("noise_key", "u8"),
        ("count_key", "u8"),
    ]
)
"""The method as one record of numbers, which costs nothing to pass; keys are those of `streams.counter`."""


class Arrays(NamedTuple):
    """The padded state: w (inputs, P), b, v (P,), c (1,), start (inputs + 2, P) and (1,), units (4, P), owed (1,);
    normal: the table that noise is drawn from."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: np.ndarray
    start: np.ndarray
    start_c: np.ndarray
    units: np.ndarray
    owed: np.ndarray
    normal: np.ndarray


@compiled
def _word(key, counter):
    x = key + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _bits(pattern):
    """The five lowest bits of an integer as numbers."""
    x0, x1, x2 = np.float64(pattern & 1), np.float64((pattern >> 1) & 1), np.float64((pattern >> 2) & 1)
    return x0, x1, x2, np.float64((pattern >> 3) & 1), np.float64((pattern >> 4) & 1)


@compiled
def _uniform(key, counter):
    return np.float64(_word(key, counter) >> np.uint64(11)) * 2.0**-53


@compiled
def _load(lanes, arrays, slow, m, on, now):
    """Fill the block from the arrays; the rows of slow inputs that are on go to `on`. Returns how many are on.

    Row BORN is the step after which a unit was drawn, so that its age after step `now` is now - BORN.
    """
    P, count, first = len(lanes), 0, len(slow)
    for j in range(P):
        m[S * P + j], m[A_S * P + j], m[IDLE * P + j] = arrays.b[j], arrays.start[-2, j], 0.0
        m[V * P + j], m[A_V * P + j] = arrays.v[j], arrays.start[-1, j]
        m[UTILITY * P + j], m[MEAN * P + j] = arrays.units[0, j], arrays.units[1, j]
        m[POWER * P + j], m[BORN * P + j] = arrays.units[2, j], now - arrays.units[3, j]
    for i in range(first):
        for j in range(P):
            if slow[i] > 0:
                on[count * P + j] = arrays.w[i, j]
                m[S * P + j] += arrays.w[i, j]
                m[A_S * P + j] += arrays.start[i, j]
            else:
                m[IDLE * P + j] += abs(arrays.w[i, j])
        count += slow[i] > 0
    for i in range(arrays.w.shape[0] - first):
        for j in range(P):
            m[(F + i) * P + j], m[(A_F + i) * P + j] = arrays.w[first + i, j], arrays.start[first + i, j]
    for j in range(P):
        m[S0 * P + j] = m[S * P + j]
        m[BASE * P + j], m[SLOPE * P + j], m[LOW * P + j], m[HIGH * P + j] = NO_PIECE
    return count


@compiled
def _store(lanes, arrays, slow, m, count, left, now):
    """Write the block back. `left`: what the pull to the anchor has left of what was loaded, kept ** steps."""
    P, first = len(lanes), len(slow)
    for j in range(P):
        base = left * m[S0 * P + j] + (1.0 - left) * m[A_S * P + j]
        moved = (m[S * P + j] - base) / (count + 1)
        arrays.b[j] = left * arrays.b[j] + (1.0 - left) * arrays.start[-2, j] + moved
        for i in range(first):
            arrays.w[i, j] = left * arrays.w[i, j] + (1.0 - left) * arrays.start[i, j] + slow[i] * moved
        for i in range(arrays.w.shape[0] - first):
            arrays.w[first + i, j] = m[(F + i) * P + j]
        arrays.v[j] = m[V * P + j]
        arrays.units[0, j], arrays.units[1, j] = m[UTILITY * P + j], m[MEAN * P + j]
        arrays.units[2, j], arrays.units[3, j] = m[POWER * P + j], now - m[BORN * P + j]


@compiled
def _forward(lanes, m, x0, x1, x2, x3, x4, tanh, slope):
    """Activations of one input into row H; returns their sum weighted by row V."""
    P, total = len(lanes), 0.0
    for j in range(P):
        z = m[j] + x0 * m[F * P + j] + x1 * m[(F + 1) * P + j] + x2 * m[(F + 2) * P + j]
        z = z + x3 * m[(F + 3) * P + j] + x4 * m[(F + 4) * P + j]
        h = z if z > 0.0 else slope * z
        m[H * P + j] = z if tanh else h
        total += m[V * P + j] * h
    if tanh:
        total = 0.0
        for j in range(P):
            h = np.tanh(m[H * P + j])
            m[H * P + j] = h
            total += m[V * P + j] * h
    return total


@compiled
def _update(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope):
    """One SGD step; g = learning rate times the loss's derivative by the output, k = slow inputs on, plus the bias."""
    P = len(lanes)
    for j in range(P):
        h, v = m[H * P + j], m[V * P + j]
        fp = 1.0 if h > 0.0 else slope
        d = g * v * (1.0 - h * h if tanh else fp)
        m[V * P + j] = v - g * h
        m[j] -= k * d
        m[F * P + j] -= x0 * d
        m[(F + 1) * P + j] -= x1 * d
        m[(F + 2) * P + j] -= x2 * d
        m[(F + 3) * P + j] -= x3 * d
        m[(F + 4) * P + j] -= x4 * d


@compiled
def _update_pulled(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope, kept):
    """One SGD step with a pull to the anchor: theta <- kept theta + (1 - kept) anchor - lr gradient."""
    P, pull = len(lanes), 1.0 - kept
    for j in range(P):
        h, v = m[H * P + j], m[V * P + j]
        fp = 1.0 if h > 0.0 else slope
        d = g * v * (1.0 - h * h if tanh else fp)
        m[V * P + j] = kept * v + pull * m[A_V * P + j] - g * h
        m[j] = kept * m[j] + pull * m[A_S * P + j] - k * d
        m[F * P + j] = kept * m[F * P + j] + pull * m[A_F * P + j] - x0 * d
        m[(F + 1) * P + j] = kept * m[(F + 1) * P + j] + pull * m[(A_F + 1) * P + j] - x1 * d
        m[(F + 2) * P + j] = kept * m[(F + 2) * P + j] + pull * m[(A_F + 2) * P + j] - x2 * d
        m[(F + 3) * P + j] = kept * m[(F + 3) * P + j] + pull * m[(A_F + 3) * P + j] - x3 * d
        m[(F + 4) * P + j] = kept * m[(F + 4) * P + j] + pull * m[(A_F + 4) * P + j] - x4 * d


@compiled
def _update_dropped(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope):
    """One SGD step with dropout: row MASK holds 0 or 1 / keep."""
    P = len(lanes)
    for j in range(P):
        h, v, mask = m[H * P + j], m[V * P + j], m[MASK * P + j]
        fp = 1.0 if h > 0.0 else slope
        d = g * v * mask * (1.0 - h * h if tanh else fp)
        m[V * P + j] = v - g * h * mask
        m[j] -= k * d
        m[F * P + j] -= x0 * d
        m[(F + 1) * P + j] -= x1 * d
        m[(F + 2) * P + j] -= x2 * d
        m[(F + 3) * P + j] -= x3 * d
        m[(F + 4) * P + j] -= x4 * d


@compiled
def _masked(lanes, m, width, keep, key, t):
    """Draw the dropout mask of step t into row MASK; returns the sum of row H weighted by row V and the mask."""
    P, total = len(lanes), 0.0
    for j in range(width):
        m[MASK * P + j] = 1.0 / keep if _uniform(key, t * width + j) < keep else 0.0
        total += m[V * P + j] * m[H * P + j] * m[MASK * P + j]
    return total


@compiled
def _add_noise(arrays, rule, t, sizes):
    """Normal noise of sd `sizes` on w, b, v, c, numbered in this order, w row by row; returns what c gets."""
    width, inputs, drawn, word = rule.width, arrays.w.shape[0], 0.0, np.uint64(0)
    count = (inputs + 2) * width + 1
    first = t * ((count + 3) // 4)
    for row in range(inputs + 3):
        for j in range(width if row < inputs + 2 else 1):
            n = row * width + j
            if n % 4 == 0:
                word = _word(rule.noise_key, first + n // 4)
            drawn = arrays.normal[np.int64(word & np.uint64(0xFFFF))]
            word >>= np.uint64(16)
            if row < inputs:
                arrays.w[row, j] += sizes[0] * drawn
            elif row == inputs:
                arrays.b[j] += sizes[1] * drawn
            elif row == inputs + 1:
                arrays.v[j] += sizes[2] * drawn
    return sizes[3] * drawn


@compiled
def _noise_sizes(lanes, m, rule, t, g, on_inputs):
    """Standard deviations of the noise on w, b, v, c after step t (before the update: rows H and V)."""
    P = len(lanes)
    if rule.weight_noise > 0:
        return rule.weight_noise, rule.weight_noise, rule.weight_noise, rule.weight_noise
    d2, h2 = 0.0, 0.0
    for j in range(P):
        h = m[H * P + j]
        fp = 1.0 - h * h if rule.tanh else (1.0 if h > 0.0 else rule.slope)
        d2 += (m[V * P + j] * fp) ** 2
        h2 += h * h
    sigma = abs(g) * rule.gradient_noise * rule.noise_decay**t
    return sigma * np.sqrt(on_inputs * d2), sigma * np.sqrt(d2), sigma * np.sqrt(h2), sigma


@compiled
def _piece(lanes, m, on, count, j):
    """Find the linear piece of the sum of |slow weights| in which unit j lies: its value at S0, its slope, its ends."""
    P = len(lanes)
    moved = (m[S * P + j] - m[S0 * P + j]) / (count + 1)
    base, slope, low, high = m[IDLE * P + j], 0.0, -np.inf, np.inf
    for i in range(count):
        weight = on[i * P + j]
        positive = weight + moved >= 0.0  # no branches: which weights are positive is not to be foretold
        sign = 1.0 if positive else -1.0
        base, slope = base + sign * weight, slope + sign
        below, above = -weight if positive else -np.inf, np.inf if positive else -weight
        low, high = below if below > low else low, above if above < high else high
    m[BASE * P + j], m[SLOPE * P + j] = base, slope / (count + 1)
    m[LOW * P + j], m[HIGH * P + j] = low * (count + 1), high * (count + 1)


@compiled
def _magnitude(lanes, m, j):
    """Sum of |incoming weights| of unit j, the bias left out, if it still lies in its piece."""
    P = len(lanes)
    fast = abs(m[F * P + j]) + abs(m[(F + 1) * P + j]) + abs(m[(F + 2) * P + j])
    fast = fast + abs(m[(F + 3) * P + j]) + abs(m[(F + 4) * P + j])
    return fast + (m[BASE * P + j] + m[SLOPE * P + j] * (m[S * P + j] - m[S0 * P + j]))


@compiled
def _adaptable_contributions(lanes, m, rule, on, count, offset):
    """Update running mean activation and running utility, |h - mean| |v| / magnitude.

    The slow weights of a unit all move alike, so that the sum of their sizes is linear in how far they have moved until
    one of them changes sign; then the next piece is looked up.
    """
    P, eta, crossed = len(lanes), rule.decay, 0.0
    for j in range(P):
        moved = m[S * P + j] - m[S0 * P + j]
        crossed += 1.0 if moved < m[LOW * P + j] else 0.0
        crossed += 1.0 if moved > m[HIGH * P + j] else 0.0
        h, power = m[H * P + j], eta * m[POWER * P + j]
        mean, known = eta * m[MEAN * P + j] + (1.0 - eta) * h, 1.0 - power
        size = known * (_magnitude(lanes, m, j) + offset)  # mean / known is the mean; one division does for both
        worth = abs(h * known - mean) * abs(m[V * P + j]) / size
        m[UTILITY * P + j] = eta * m[UTILITY * P + j] + (1.0 - eta) * worth
        m[POWER * P + j] = power
        m[MEAN * P + j] = mean
    if crossed > 0.0:
        _next_pieces(lanes, m, H, rule, on, count, offset)


@compiled
def _next_pieces(lanes, m, row, rule, on, count, offset):
    """Find the pieces of units that have left theirs, and correct their utilities; `row`: activations of this step."""
    P, eta = len(lanes), rule.decay
    for j in range(P):
        moved = m[S * P + j] - m[S0 * P + j]
        if moved < m[LOW * P + j] or moved > m[HIGH * P + j]:
            known, stale = 1.0 - m[POWER * P + j], _magnitude(lanes, m, j) + offset
            _piece(lanes, m, on, count, j)
            worth = abs(m[row * P + j] * known - m[MEAN * P + j]) * abs(m[V * P + j]) / known
            m[UTILITY * P + j] += (1.0 - eta) * worth * (1.0 / (_magnitude(lanes, m, j) + offset) - 1.0 / stale)


@compiled
def _contributions(lanes, m, rule):
    """Update running mean activation and running utility, |h| |v|."""
    P, eta = len(lanes), rule.decay
    for j in range(P):
        h = m[H * P + j]
        m[UTILITY * P + j] = eta * m[UTILITY * P + j] + (1.0 - eta) * abs(h) * abs(m[V * P + j])
        m[POWER * P + j] = eta * m[POWER * P + j]
        m[MEAN * P + j] = eta * m[MEAN * P + j] + (1.0 - eta) * h


@compiled
def _mature(lanes, m, maturity, t):
    """How many units are older than `maturity` after step t, and after which step there will be more of them."""
    P, count, following = len(lanes), 0.0, np.inf
    for j in range(P):
        limit = m[BORN * P + j] + maturity
        count += 1.0 if limit < t else 0.0
        following = min(following, limit if limit >= t else np.inf)
    return count, following


@compiled
def _worst(lanes, m, rule, t):
    """The mature unit of least utility, -1 if there is none."""
    P, best, least, born = len(lanes), -1, np.inf, t - rule.maturity
    for j in range(rule.width):
        if m[BORN * P + j] < born:  # few are where units are replaced often: no division for the others
            worth = m[UTILITY * P + j] / (1.0 - m[POWER * P + j])
            if worth < least:
                best, least = j, worth
    return best


@compiled
def _replaced(lanes, arrays, slow, rule, m, on, t, j):
    """Draw unit j anew, in the block; returns what its removal adds to the output's bias."""
    P, first, row, total, idle = len(lanes), len(slow), 0, 0.0, 0.0
    expected = m[V * P + j] * m[MEAN * P + j] / (1.0 - m[POWER * P + j])
    for i in range(arrays.w.shape[0]):
        drawn = (2.0 * _uniform(rule.redraw_key, (t * rule.width + j) * arrays.w.shape[0] + i) - 1.0) * rule.bound
        if i >= first:
            m[(F + i - first) * P + j] = drawn
            continue
        arrays.w[i, j] = drawn
        if slow[i] > 0:
            on[row * P + j] = drawn
            row, total = row + 1, total + drawn
        else:
            idle += abs(drawn)
    arrays.b[j] = 0.0
    m[S * P + j], m[S0 * P + j], m[IDLE * P + j], m[V * P + j] = total, total, idle, 0.0
    m[UTILITY * P + j], m[MEAN * P + j], m[POWER * P + j], m[BORN * P + j] = 0.0, 0.0, 1.0, t
    m[BASE * P + j], m[SLOPE * P + j], m[LOW * P + j], m[HIGH * P + j] = NO_PIECE
    return 0.0 if rule.cbp == DOHARE else expected


@compiled
def _replaced_as_coded(lanes, arrays, m, count, t, j):
    """The same of the public code, in the block: outgoing weight and every bias zeroed, incoming weights kept."""
    P, share = len(lanes), 1.0 / (count + 1)
    expected = m[V * P + j] * m[MEAN * P + j] / (1.0 - m[POWER * P + j])
    m[V * P + j], m[UTILITY * P + j], m[MEAN * P + j], m[POWER * P + j], m[BORN * P + j] = 0.0, 0.0, 0.0, 1.0, t
    for i in range(P):  # what the slow rows have moved stays on record, the bias that moved with them becomes 0
        moved = (m[S * P + i] - m[S0 * P + i]) * share
        bias = arrays.b[i] + moved
        arrays.b[i] = -moved
        m[S * P + i] -= bias
        m[S0 * P + i] -= bias
    return expected


@compiled
def _redraw(lanes, arrays, slow, rule, m, on, count, t, due):
    """Replace the `due` worst mature units; returns what the output's bias gets."""
    gained = 0.0
    for _ in range(due):
        worst = _worst(lanes, m, rule, t)
        if worst >= 0 and rule.cbp == CODED:
            gained += _replaced_as_coded(lanes, arrays, m, count, t, worst)
        elif worst >= 0:
            gained += _replaced(lanes, arrays, slow, rule, m, on, t, worst)
    return gained


@compiled
def _due(arrays, rule, t, mature):
    """How many units to replace in this step."""
    if rule.cbp == CODED:
        return max(1, int(rule.width * rule.rate)) if mature > 0 else 0
    share = rule.rate * mature
    if rule.cbp == DOHARE:
        return 1 if share < 1 and _uniform(rule.count_key, t) <= share and mature > 0 else int(share)
    owed = arrays.owed[0] + share
    due = int(owed) if owed >= 1.0 else 0
    arrays.owed[0] = owed - due
    return due


@compiled
def advance(lanes, arrays, slow, table, first, losses, m, on, rule):
    """Train on steps first, first + 1, ... and write each step's loss (before its update, without dropout) to losses.

    lanes: a tuple of P numbers; arrays: the padded state; slow: the slow inputs; table: targets by pattern of fast
    bits; m, on: aligned scratch of ROWS * P and len(slow) * P numbers. Returns the output's bias.
    """
    fast = arrays.w.shape[0] - len(slow)
    lr, tanh, slope, kept, cbp = rule.lr, rule.tanh, rule.slope, rule.kept, rule.cbp
    key, shift, dropped = rule.pattern_key, np.uint64(64 - fast), rule.keep < 1.0
    noisy, offset = rule.gradient_noise > 0.0 or rule.weight_noise > 0.0, 1e-10 if cbp == CODED else 0.0
    before = first if cbp == CODED and first == 0 else first - 1  # there the first step does not count
    count, left, c, mature, following = _load(lanes, arrays, slow, m, on, before), 1.0, arrays.c[0], 0.0, -np.inf
    k = count + 1.0
    for index in range(losses.size):
        t = first + index
        q = np.int64(_word(key, t) >> shift)
        x0, x1, x2, x3, x4 = _bits(q)
        error = c + _forward(lanes, m, x0, x1, x2, x3, x4, tanh, slope) - table[q]
        losses[index] = error * error
        g = 2.0 * lr * error
        if dropped:
            g = 2.0 * lr * (c + _masked(lanes, m, rule.width, rule.keep, rule.dropout_key, t) - table[q])
            _update_dropped(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope)
        elif kept < 1.0:
            _update_pulled(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope, kept)
            left *= kept
            c = kept * c + (1.0 - kept) * arrays.start_c[0]
        elif noisy:
            ones = count + x0 + x1 + x2 + x3 + x4
            sizes = _noise_sizes(lanes, m, rule, t, g, ones)
            _update(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope)
            _store(lanes, arrays, slow, m, count, 1.0, before)
            c += _add_noise(arrays, rule, t, sizes)
            _load(lanes, arrays, slow, m, on, before)
        else:
            _update(lanes, m, x0, x1, x2, x3, x4, g, k, tanh, slope)
        c -= g
        if cbp == 0 or (cbp == CODED and t == 0):
            continue
        if cbp == CODED:
            _forward(lanes, m, x0, x1, x2, x3, x4, tanh, slope)
        if rule.adaptable:
            _adaptable_contributions(lanes, m, rule, on, count, offset)
        else:
            _contributions(lanes, m, rule)
        if t > following:
            mature, following = _mature(lanes, m, rule.maturity, t)
        due = _due(arrays, rule, t, mature)
        if due > 0:
            c += _redraw(lanes, arrays, slow, rule, m, on, count, t, due)
            following = np.float64(t)
    _store(lanes, arrays, slow, m, count, left, first + losses.size - 1 if cbp else before)
    arrays.c[0] = c
    return c


def padded(width: int) -> int:
    """Numbers in a row of the block for a layer of `width` units.

    >>> padded(5), padded(10), padded(100)
    (16, 16, 104)
    """
    return max(2 * LANES, -(-width // LANES) * LANES)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, float64, that start at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    raw = np.zeros(size + 8)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + size].reshape(shape)
