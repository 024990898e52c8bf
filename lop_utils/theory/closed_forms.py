"""Closed forms that single activations bring along: kernel gaps, and the sets where the derivative is small.

A kernel gap is E[f(X)^2] - E[f(X) f(Y)] = E[(f(X) - f(Y))^2] / 2 for standard normal X, Y of correlation 1 - eps. The
forms below keep their relative accuracy as eps -> 0, where a difference of two kernels would lose it.
"""

import numpy as np
from scipy.special import logit

from lop_utils.theory.validate import Array


def identity_gap(eps: Array) -> Array:
    """eps: the kernel of f(z) = z is the correlation itself."""
    return eps * 1.0


def relu_gap(eps: Array) -> Array:
    """(eps - (sin t - t cos t) / pi) / 2 with cos t = 1 - eps: the arc-cosine kernel of order 1 (Cho & Saul 2009).

    >>> float(relu_gap(np.array(2.0)))  # X = -Y: E max(X, 0)^2 = 1/2, E max(X, 0) max(-X, 0) = 0
    0.5
    """
    t = 2 * np.arcsin(np.sqrt(eps / 2))
    return (eps - (np.sin(t) - t * np.cos(t)) / np.pi) / 2


def leaky_relu_gap(eps: Array, slope: float) -> Array:
    """slope * eps + (1 - slope)^2 relu_gap(eps), from f(z) = slope * z + (1 - slope) relu(z)."""
    return slope * eps + (1 - slope) ** 2 * relu_gap(eps)


def erf_gap(eps: Array) -> Array:
    """(2/pi) (asin(2/3) - asin(2 (1 - eps)/3)): Williams 1997."""
    x, y = 2 / 3, 2 * (1 - eps) / 3
    p, q = x * np.sqrt(1 - y**2), y * np.sqrt(1 - x**2)
    sine = np.where(y > 0, x**2 * eps * (2 - eps) / (p + np.abs(q)), p - q)  # sin(asin x - asin y) without cancellation
    cosine = np.sqrt((1 - x**2) * (1 - y**2)) + x * y
    return 2 / np.pi * np.arctan2(sine, cosine)


def sin_gap(eps: Array, frequency: float = 1.0) -> Array:
    """exp(-s^2) (sinh s^2 - sinh(s^2 (1 - eps))) for f(z) = sin(s z), written without overflow or cancellation."""
    s2 = frequency**2
    return -np.expm1(-s2 * eps) * (1 + np.exp(-s2 * (2 - eps))) / 2


def quiet_relu(level: float, slope: float = 0.0) -> Array:
    """Where max(u, slope * u) has a derivative of size below `level`, as intervals (k, 2)."""
    return _negatives_if(abs(slope) < level, level > 1)


def quiet_exponential(level: float, left: float, right: float) -> Array:
    """Where f' = left * exp(u) for u < 0 and right for u > 0 is below `level` (ELU, SELU)."""
    below = min(np.log(level / left), 0.0)
    intervals = [[-np.inf, below]] + ([[0.0, np.inf]] if right < level else [])
    return np.array(intervals)


def quiet_tanh(level: float) -> Array:
    """sech(u)^2 < level outside |u| = acosh(level^-1/2)."""
    return _outside(np.arccosh(level**-0.5)) if level < 1 else _EVERYWHERE


def quiet_erf(level: float) -> Array:
    """(2/sqrt(pi)) exp(-u^2) < level outside |u| = sqrt(log(2 / (level sqrt(pi))))."""
    return _outside(np.sqrt(np.log(2 / (level * np.sqrt(np.pi))))) if level < 2 / np.sqrt(np.pi) else _EVERYWHERE


def quiet_sigmoid(level: float) -> Array:
    """s (1 - s) < level outside |u| = -logit of the smaller root."""
    return _outside(-logit(2 * level / (1 + np.sqrt(1 - 4 * level)))) if level < 0.25 else _EVERYWHERE


def quiet_softplus(level: float) -> Array:
    """The derivative is the sigmoid, below `level` left of logit(level)."""
    return np.array([[-np.inf, logit(level)]]) if level < 1 else _EVERYWHERE


_EVERYWHERE = np.array([[-np.inf, np.inf]])


def _outside(u: float) -> Array:
    return np.array([[-np.inf, -u], [u, np.inf]])


def _negatives_if(left: bool, right: bool) -> Array:
    sides = [[-np.inf, 0.0]] * left + [[0.0, np.inf]] * right
    return np.array(sides).reshape(-1, 2)
