"""Modulation h(z) = f(a z + b): how alpha grows with gain and shift, how much of h freezes, and maps of both.

Two families: a *half-vanishing* f (one side tends to a constant, the other grows) and a *plateauing* f (both sides tend
to constants). For both, alpha -> infinity drives h' to 0 almost everywhere. In general it does not: see
`activations.sine` and `activations.tilted_step`.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import ndtr

from lop_utils.errors import UsageError, check_choice
from lop_utils.theory.activations import Activation, Function, as_activation
from lop_utils.theory.gaussian import alpha_as_coded, both_strengths
from lop_utils.theory.validate import Array, finite, non_zero

DERIVATIVES = ("activation", "modulated")
SHIFTS = ("outer", "inner")
_GRID, _MOST = 0.01, 4_000_000  # grid step in units of f's own scale; most grid points


def family(f: Activation | str | Function) -> str:
    """ "half-vanishing", "plateauing" or "neither", read off the limits of f at -inf and +inf.

    >>> [family(f) for f in ("relu", "tanh", "leaky_relu")]
    ['half-vanishing', 'plateauing', 'neither']
    """
    f = as_activation(f)
    flat = sum(np.isfinite(f.limits)) if f.limits else 0
    return "half-vanishing" if flat == 1 else "plateauing" if flat == 2 and f.limits[0] != f.limits[1] else "neither"


def half_vanishing_law(a: ArrayLike, b: ArrayLike, *, p: float = 1.0) -> Array:
    """alpha ~ p / (2 (2p - 1)) (b/a)^2 for f that vanishes on the left and grows like z^p on the right, b/a -> -inf.

    Un-centred where f's floor is 0, centred otherwise. Corrects the paper's (b/a)^2. It is a law of max(z, 0)^p; other
    members follow it while a is large (their bend is then sharp); at fixed a an exponential tail such as ELU's ends it,
    since the tail outweighs the Gaussian's: the centred alpha of ELU tends to a^2/(1 - exp(-a^2)) - 1 as b -> -inf.

    >>> float(half_vanishing_law(1.0, -4.0))  # exact for ReLU: 9.249
    8.0
    """
    if not p > 0.5:
        raise UsageError(f"p = {p} makes E f'^2 infinite", remedy="give p > 1/2")
    return p / (2 * (2 * p - 1)) * (finite("b", b) / non_zero("a", a)) ** 2


def plateauing_law(f: Activation | str | Function, a: ArrayLike, b: ArrayLike = 0.0, *, centred: bool) -> Array:
    """alpha ~ |a| I2 phi(K) / C1 - 1 as |a| grows with K = -b/a fixed; I2 = integral of f'^2 over the real line.

    C1 is the limit of E h^2 (or Var h, if `centred`): h tends to a step from f(-inf) to f(inf) at z = K.
    Raises `UsageError` unless f is plateauing.

    >>> float(plateauing_law("tanh", 100.0, centred=False).round(2))  # exact: 52.62
    52.19
    """
    f = as_activation(f)
    if family(f) != "plateauing":
        raise UsageError(f"{f.name} is {family(f)}", remedy="give a plateauing activation, with its limits")
    a = non_zero("a", a)
    k = -finite("b", b) / a
    low, high = f.limits
    below = np.where(a > 0, ndtr(k), ndtr(-k))  # share of inputs on the low plateau
    spread = (high - low) ** 2 * below * (1 - below)
    bottom = spread if centred else spread + (low * below + high * (1 - below)) ** 2
    if np.any(bottom <= 0):
        raise UsageError("the limiting step has second moment 0", remedy="choose a shift b closer to 0")
    return np.abs(a) * _slope_energy(f) * np.exp(-(k**2) / 2) / np.sqrt(2 * np.pi) / bottom - 1


def _slope_energy(f: Activation) -> float:
    """Integral of f'(u)^2 over the real line, piece by piece between the cuts."""
    edges = np.concatenate([[-np.inf], f.points if f.points.size else [0.0], [np.inf]])
    slope = lambda u: float(f.df(np.array([u]))[0]) ** 2  # noqa: E731
    return sum(quad(slope, lo, hi, epsabs=0, epsrel=1e-11, limit=200)[0] for lo, hi in pairwise(edges))


def quiet_set(f: Activation | str | Function, level: float, *, reach: tuple[float, float] = (-40.0, 40.0)) -> Array:
    """{u : |f'(u)| < level} as disjoint ascending intervals (k, 2); in closed form where f brings one.

    Otherwise the crossings of +-level on a grid of step scale/100 over `reach`, bisected to machine precision; a set
    reaching the end of `reach` is taken to go on for ever.

    >>> quiet_set("relu", 1e-4).tolist()
    [[-inf, 0.0]]
    >>> quiet_set("gelu", 1e-4).round(4).tolist()
    [[-inf, -4.4102], [-0.752, -0.7516]]
    """
    f = as_activation(f)
    if not level > 0:
        raise UsageError(f"level = {level} is not positive", remedy="give a threshold > 0")
    if f.quiet is not None:
        return f.quiet(level)
    points = int((reach[1] - reach[0]) / (_GRID * f.scale)) + 2
    if points > _MOST:
        raise UsageError(f"{f.name} is too steep for this reach ({points} grid points)", remedy="give a smaller gain a")
    u = np.unique(
        np.concatenate([np.linspace(*reach, points), f.points[(f.points > reach[0]) & (f.points < reach[1])]])
    )
    cuts = np.sort(np.concatenate([_crossings(f, u, level), _crossings(f, u, -level)]))
    edges = np.concatenate([[reach[0]], cuts, [reach[1]]])
    inside = np.abs(f.df((edges[:-1] + edges[1:]) / 2)) < level
    steps = np.diff(np.concatenate([[0], inside.astype(int), [0]]))
    ends = np.concatenate([[-np.inf], cuts, [np.inf]])
    return np.stack([ends[np.flatnonzero(steps == 1)], ends[np.flatnonzero(steps == -1)]], 1)


def _crossings(f: Activation, u: Array, level: float) -> Array:
    """Where f' - level changes sign between neighbours of the grid u, by bisection of all brackets at once."""
    above = f.df(u) > level
    at = np.flatnonzero(above[1:] != above[:-1])
    lo, hi, start = u[at], u[at + 1], above[at]
    for _ in range(60):
        middle = (lo + hi) / 2
        same = (f.df(middle) > level) == start
        lo, hi = np.where(same, middle, lo), np.where(same, hi, middle)
    return (lo + hi) / 2


def frozen_fraction(
    f: Activation | str | Function,
    a: ArrayLike = 1.0,
    b: ArrayLike = 0.0,
    *,
    tolerance: float = 1e-4,
    derivative: str = "activation",
) -> Array:
    """P(|f'(a Z + b)| < tolerance), Z ~ N(0, 1); shape of the broadcast (a, b).

    With derivative="modulated" the slope of h(z) = f(a z + b) itself is tested, P(|a f'(a Z + b)| < tolerance), as in
    the paper's public code; the first is the factor that gates a unit's incoming gradient. Exact up to rounding: the
    set |f'| < tolerance does not depend on a and b, and its Gaussian measure is a sum of normal probabilities.

    >>> frozen_fraction("relu", 1.0, [0.0, -1.0, -2.0]).round(4).tolist()
    [0.5, 0.8413, 0.9772]
    >>> frozen_fraction("tanh", [5.0, 10.0, 100.0], derivative="modulated").round(3).tolist()
    [0.222, 0.519, 0.939]
    """
    f = as_activation(f)
    check_choice("derivative", derivative, DERIVATIVES)
    a, b = np.broadcast_arrays(non_zero("a", a), finite("b", b))
    far = float(np.max(9 * np.abs(a) + np.abs(b)))
    share = np.zeros(a.shape)
    levels = tolerance / np.abs(a) if derivative == "modulated" else np.full(a.shape, tolerance)
    for level in np.unique(levels):
        here = levels == level
        gain, shift = np.abs(a[here])[:, None], b[here][:, None]
        ends = quiet_set(f, float(level), reach=(-far, far))  # (k, 2)
        share[here] = _normal_mass((ends[:, 0] - shift) / gain, (ends[:, 1] - shift) / gain).sum(1)
    return share


def _normal_mass(lo: Array, hi: Array) -> Array:
    """P(lo < Z < hi), from the tail that loses no digits."""
    return np.where(lo > 0, ndtr(-lo) - ndtr(-hi), ndtr(hi) - ndtr(lo))


@dataclass(frozen=True)
class ModulationMap:
    """Maps over gains a (A,) and shifts b (B,); every map has shape (A, B)."""

    a: Array
    b: Array
    alpha: Array
    alpha_centred: Array
    alpha_as_coded: Array
    frozen: Array


def modulation_map(
    f: Activation | str | Function,
    a: ArrayLike,
    b: ArrayLike,
    *,
    shift: str = "outer",
    tolerance: float = 1e-4,
    derivative: str = "activation",
) -> ModulationMap:
    """alpha, its centred form, the public code's version, and the frozen fraction over gains and shifts.

    shift="outer" modulates as f(a z + b), "inner" as f(a (z + b)), the paper's form for tanh and sigmoid.
    Raises `UsageError` naming the first (a, b) where f has gone constant in float64.

    >>> found = modulation_map("tanh", [1.0, 10.0], [0.0])
    >>> found.alpha.round(3).tolist(), found.frozen.shape
    ([[0.178], [4.769]], (2, 1))
    """
    f = as_activation(f)
    check_choice("shift", shift, SHIFTS)
    a, b = np.atleast_1d(non_zero("a", a)), np.atleast_1d(finite("b", b))
    gain = np.broadcast_to(a[:, None], (len(a), len(b)))
    offset = gain * b if shift == "inner" else np.broadcast_to(b, gain.shape)
    return ModulationMap(
        a,
        b,
        *both_strengths(f, gain, offset),
        alpha_as_coded(f, gain, offset),
        frozen_fraction(f, gain, offset, tolerance=tolerance, derivative=derivative),
    )
