"""Dual kernels E[f(X) f(Y)] of a Gaussian pair, their gaps near correlation 1, and the expansion of the gap.

Three routes, from exact to general: a closed form that the activation brings along; its Hermite series, which converges
fast away from |rho| = 1; and nested adaptive quadrature of E (f(X) - f(Y))^2 / 2, which keeps its digits at |rho| -> 1.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from lop_utils.errors import UsageError
from lop_utils.theory.activations import Activation, Function, as_activation
from lop_utils.theory.gaussian import hermite_coefficients, moments, rank_recovery_strength
from lop_utils.theory.quadrature import gaussian_integrals
from lop_utils.theory.validate import Array, within

_EPS = np.finfo(float).eps
_ORDER = 128
_SERIES_ERROR = 1e-12  # the series is used where its truncation bound is below this share of E f^2


@dataclass(frozen=True)
class HermiteSeries:
    """Orthonormal Hermite coefficients c_0 .. c_K of f and the rest of its norm, tail = E f^2 - sum_k c_k^2.

    >>> series = hermite_series("tanh", order=15)
    >>> bool(abs(series.kernel(0.5) - dual_kernel("tanh", 0.5)) <= series.truncation_bound(0.5))
    True
    """

    coefficients: Array
    tail: float

    def kernel(self, rho: ArrayLike, *, centred: bool = False) -> Array:
        """sum_k c_k^2 rho^k (Mehler's formula), without k = 0 if `centred`; shape of rho."""
        weights = self.coefficients**2
        weights[0] *= not centred
        return np.polynomial.polynomial.polyval(within("rho", rho, -1, 1), weights)

    def truncation_bound(self, rho: ArrayLike) -> Array:
        """|E f(X) f(Y) - kernel(rho)| <= |rho|^(K + 1) tail, plus the rounding of the sum."""
        r = np.abs(within("rho", rho, -1, 1))
        return r ** len(self.coefficients) * self.tail + 4 * _EPS * (self.tail + (self.coefficients**2).sum())


def hermite_series(f: Activation | str | Function, order: int = _ORDER) -> HermiteSeries:
    """The series of f to `order`; see `gaussian.hermite_coefficients`.

    >>> series = hermite_series("sin", order=9)
    >>> bool(series.tail < 1e-6)
    True
    """
    f = as_activation(f)
    found = hermite_coefficients(f, order)
    return HermiteSeries(found, max(float(moments(f).second - (found**2).sum()), 0.0))


_cached_series = lru_cache(maxsize=64)(hermite_series)


def kernel_gap(f: Activation | str | Function, eps: ArrayLike) -> Array:
    """E f(X)^2 - E f(X) f(Y) = E (f(X) - f(Y))^2 / 2 for correlation 1 - eps, 0 <= eps <= 2; shape of eps.

    Relative accuracy about 1e-10 also for tiny eps: no difference of kernels is taken where it would cancel.

    >>> bool(abs(kernel_gap("identity", 1e-9) - 1e-9) < 1e-20)
    True
    """
    f = as_activation(f)
    eps = within("eps", eps, 0, 2)
    if f.kernel_gap is not None:
        return np.asarray(f.kernel_gap(eps))
    series, second = _cached_series(f), float(moments(f).second)
    by_series = (eps >= 0.1) & (series.truncation_bound(1 - eps) < _SERIES_ERROR * second)
    out = np.where(by_series, second - series.kernel(1 - eps), 0.0)
    for i in np.argwhere(~by_series & (eps > 0)):
        out[tuple(i)] = _gap_by_quadrature(f, float(eps[tuple(i)]))
    return out


def _gap_by_quadrature(f: Activation, eps: float) -> float:
    """E_x E_w (f(x) - f(rho x + s w))^2 / 2 with s = sqrt(1 - rho^2): the inner mean for all outer nodes at once."""
    rho, s = 1 - eps, max(float(np.sqrt(eps * (2 - eps))), 1e-150)  # s > 0 keeps the cuts finite at rho = -1

    def outer(z: Array, owner: Array) -> Array:
        x = z.ravel()
        fx = f.f(x)

        def inner(w: Array, node: Array) -> Array:
            return ((f.f(rho * x[node, None] + s * w) - fx[node, None]) ** 2)[None]

        def noise(size: Array, nodes: Array) -> Array:
            return 4 * _EPS * (np.abs(fx[nodes]) + np.abs(x[nodes])) * np.sqrt(size)

        cuts = (f.points - rho * x[:, None]) / s
        return gaussian_integrals(inner, points=cuts, noise=noise).value.reshape(1, *z.shape)

    near = [f.points + side * 8 * s for side in (-1, 0, 1)]  # the inner mean bends within a few s of a kink
    rtol = 1e-11 + 64 * _EPS / np.sqrt(2 * eps)
    return float(gaussian_integrals(outer, points=np.concatenate(near).reshape(1, -1), rtol=rtol).value[0, 0]) / 2


def dual_kernel(f: Activation | str | Function, rho: ArrayLike) -> Array:
    """kappa(rho) = E[f(X) f(Y)] for standard normal X, Y of correlation rho in [-1, 1]; shape of rho.

    Closed form for ReLU, LeakyReLU, erf, sin and the identity (Williams 1997; Cho & Saul 2009); else the Hermite series
    where its truncation bound is below 1e-12 E f^2, else E f^2 minus `kernel_gap`. Absolute error below about 1e-11 E
    f^2.

    >>> bool(abs(dual_kernel("erf", 1.0) - 2 / np.pi * np.arcsin(2 / 3)) < 1e-13)
    True
    """
    f = as_activation(f)
    return moments(f).second - kernel_gap(f, 1 - within("rho", rho, -1, 1))


def output_gap(f: Activation | str | Function, eps: ArrayLike, *, centred: bool) -> Array:
    """1 - c of two units with pre-activation correlation 1 - eps: kernel gap / E f^2, or / Var f if `centred`.

    c is the cosine of the activations (un-centred) or their correlation (centred). Raises `UsageError` for constant f.

    >>> bool(abs(output_gap("relu", 1e-6, centred=True) / 1e-6 - np.pi / (np.pi - 1)) < 1e-3)  # 1 + alpha
    True
    """
    f = as_activation(f)
    return kernel_gap(f, eps) / _norm(f, centred)


def output_correlation(f: Activation | str | Function, rho: ArrayLike, *, centred: bool) -> Array:
    """c = 1 - `output_gap` at eps = 1 - rho; shape of rho.

    >>> output_correlation("tanh", [0.0, 1.0], centred=True).round(12).tolist()
    [0.0, 1.0]
    """
    return 1 - output_gap(f, 1 - within("rho", rho, -1, 1), centred=centred)


def _norm(f: Activation, centred: bool) -> float:
    found = moments(f)
    norm = float(found.variance if centred else found.second)
    if norm <= 0:
        raise UsageError(f"{f.name} has {'variance' if centred else 'second moment'} 0", remedy="give a non-constant f")
    return norm


def next_order_coefficient(f: Activation | str | Function, *, centred: bool) -> float:
    """C in 1 - c = (1 + alpha) eps + C eps^1.5 + O(eps^2): C = -(2 / (3 sqrt(pi))) sum_t J_t^2 phi(t) / norm.

    J_t are the jumps of f' at t, norm is E f^2 or Var f. Derivation: kappa'(rho) = E f'(X) f'(Y), and the two slopes
    differ by J_t when X and Y fall on different sides of t, with probability 2 phi(t) sqrt(eps/pi) to leading order.
    Raises `UsageError` for an f that itself jumps, whose gap starts at sqrt(eps).

    >>> round(next_order_coefficient("relu", centred=False), 4), round(next_order_coefficient("relu", centred=True), 4)
    (-0.3001, -0.4402)
    """
    f = as_activation(f)
    if f.breaks:
        raise UsageError(f"{f.name} jumps: its gap starts at sqrt(eps)", remedy="use kernel_gap_expansion")
    return float(-2 / (3 * np.sqrt(np.pi)) * _jump_sum(f.kinks, f.slope_jumps) / _norm(f, centred))


def kernel_gap_expansion(f: Activation | str | Function, eps: ArrayLike, *, centred: bool) -> Array:
    """Leading terms of `output_gap`: (1 + alpha) eps + C eps^1.5; where f jumps, those of order sqrt(eps).

    The paper states 1 + alpha only. Kinked activations need the second term, discontinuous ones another first term:
    sum_t J_t^2 phi(t) sqrt(eps/pi) / norm for jumps J_t of f at t.

    >>> step = Activation.of(np.sign, derivative=np.zeros_like, breaks=[0.0])
    >>> bool(abs(kernel_gap_expansion(step, 1e-4, centred=False) / output_gap(step, 1e-4, centred=False) - 1) < 1e-4)
    True
    """
    f = as_activation(f)
    eps = within("eps", eps, 0, 1)
    if f.breaks:
        return _jump_sum(f.breaks, f.value_jumps) * np.sqrt(eps / np.pi) / _norm(f, centred)
    return (1 + rank_recovery_strength(f, centred=centred)) * eps + next_order_coefficient(
        f, centred=centred
    ) * eps**1.5


def _jump_sum(points: tuple[float, ...], jumps: tuple[float, ...]) -> float:
    t, jump = np.array(points), np.array(jumps)
    return float((jump**2 * np.exp(-(t**2) / 2)).sum() / np.sqrt(2 * np.pi))
