"""Moments of f(a Z + b), Z standard normal, and what follows: rank recovery strength, Hermite coefficients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lop_utils.errors import UsageError
from lop_utils.theory.activations import Activation, Function, as_activation
from lop_utils.theory.quadrature import RTOL, Integrals, gaussian_integrals
from lop_utils.theory.validate import Array, at_least, finite, non_zero

_EPS = np.finfo(float).eps
_WORST = 1e-6  # a relative error estimate above this is refused
_CODED_FLOOR = 1e-10


@dataclass(frozen=True)
class Estimate:
    """A value with the quadrature's own estimate of its absolute error."""

    value: float
    error: float


def expect(g: Callable[[Array], Array], *, points: Sequence[float] = (), rtol: float = RTOL) -> Estimate:
    """E[g(Z)], Z ~ N(0, 1); `points` are where g has kinks or jumps.

    Unnamed kinks are closed in on. Name every jump: an unnamed one may hide between the end of a panel and its last
    node, and then costs up to 1e-3 of its height. Raises `UsageError` for a non-finite, divergent or unresolved
    integrand.

    >>> round(expect(np.abs, points=[0.0]).value, 12) == round(float(np.sqrt(2 / np.pi)), 12)
    True
    """
    cuts = finite("points", list(points)).reshape(1, -1)
    found = gaussian_integrals(lambda z, owner: np.asarray(g(z), dtype=np.float64)[None], points=cuts, rtol=rtol)
    value, error, size = (float(x[0, 0]) for x in (found.value, found.error, found.size))
    if error > _WORST * size:
        raise UsageError(
            f"E g(Z) did not converge (error {error:.1e} of {size:.1e})", remedy="name the kinks in points"
        )
    return Estimate(value, error)


@dataclass(frozen=True)
class Moments:
    """Moments of h(Z) = f(a Z + b), each of the broadcast shape of (a, b).

    mean = E h, second = E h^2, variance = Var h, slope_second = E h'^2 (inf where f jumps), error = the largest
    relative error estimate of the last three. All second moments of h - h(0) are multiplied by exp(tilt) where tilt >
    0, that is where they would underflow; ratios of variance and slope_second are right all the same.
    """

    mean: Array
    second: Array
    variance: Array
    slope_second: Array
    error: Array
    tilt: Array


def moments(f: Activation | str | Function, a: ArrayLike = 1.0, b: ArrayLike = 0.0) -> Moments:
    """Mean, second moment, variance and E h'^2 of h(Z) = f(a Z + b); a and b broadcast.

    The variance is integrated about h(0), so it keeps its digits where it is far smaller than the mean.
    Raises `UsageError` for non-finite a or b, a = 0, or an f that is not finite everywhere.

    >>> m = moments("relu")
    >>> bool(abs(m.second - 0.5) < 1e-14), bool(abs(m.mean - 1 / np.sqrt(2 * np.pi)) < 1e-14)
    (True, True)
    """
    f = as_activation(f)
    a, b = np.broadcast_arrays(non_zero("a", a), finite("b", b))
    gain, shift = a.ravel(), b.ravel()
    points = (f.points - shift[:, None]) / gain[:, None]  # (owners, cuts)
    base = _values(f, shift)
    found = _integrals(f, gain, shift, base, points)
    tilt = np.zeros(len(gain))
    lost = found.size[1] < 1e-280  # underflow: h is h(0) all over the bulk
    found.error[1, lost] = np.inf
    far = np.flatnonzero(lost & _flat_up_to_cut(f, gain, base, points))
    if far.size:  # look at its nearest cut instead, with the density there scaled to 1
        tilt[far] = np.abs(points[far]).min(1) ** 2 / 2
        again = _integrals(f, gain[far], shift[far], base[far], points[far], tilt[far])
        for name in ("value", "error", "size"):
            getattr(found, name)[:, far] = getattr(again, name)
    return _summary(f, found, base, tilt, a.shape)


def _flat_up_to_cut(f: Activation, gain: Array, base: Array, points: Array) -> Array:
    """Where h is exactly h(0) from 0 to its nearest cut and on the mirror image, so that all variation lies beyond."""
    if not points.size:
        return np.zeros(len(gain), bool)
    nearest = np.abs(points).argmin(1)
    z = np.take_along_axis(points, nearest[:, None], 1) * np.linspace(-0.999, 0.999, 41)  # (owners, 41)
    u = gain[:, None] * z + (f.points[nearest] - gain * points[np.arange(len(gain)), nearest])[:, None]
    return (f.f(u) == base[:, None]).all(1)


def _integrals(
    f: Activation, gain: Array, shift: Array, base: Array, points: Array, tilt: Array | None = None
) -> Integrals:
    """Integrals of h - h(0), (h - h(0))^2 and h'^2."""

    def integrand(z: Array, owner: Array) -> Array:
        u = gain[owner, None] * z + shift[owner, None]
        h = f.f(u) - base[owner, None]
        slope = np.zeros_like(h) if f.breaks else gain[owner, None] * f.df(u)
        return np.stack([h, h * h, slope * slope])

    def noise(size: Array, owners: Array) -> Array:
        rounding = 2 * _EPS * np.abs(base[owners])
        return np.stack([rounding, rounding * np.sqrt(size[1]), f.slope_noise * size[2]])

    return gaussian_integrals(integrand, points=points, noise=noise, tilt=tilt)


def _summary(f: Activation, found: Integrals, base: Array, tilt: Array, shape: tuple[int, ...]) -> Moments:
    first, square, slope = found.value
    mean = base + first * (tilt == 0)
    variance = np.maximum(square - first**2 * np.exp(-tilt), 0.0)
    second = variance + mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = [
            found.error[1] / variance,
            found.error[2] / found.size[2],
            2 * _EPS * np.abs(base) * np.sqrt(square) / variance,
        ]
    error = np.nan_to_num(np.max(relative, axis=0), nan=0.0, posinf=np.inf)
    slope = np.full_like(slope, np.inf) if f.breaks else slope
    return Moments(*(x.reshape(shape) for x in (mean, second, variance, slope, error, tilt)))


def _values(f: Activation, z: Array) -> Array:
    values = np.asarray(f.f(z), dtype=np.float64)
    if not np.isfinite(values).all():
        raise UsageError(
            f"{f.name} is not finite at z = {z[~np.isfinite(values)][0]:.6g}", remedy="give a finite function"
        )
    return values


def rank_recovery_strength(
    f: Activation | str | Function, a: ArrayLike = 1.0, b: ArrayLike = 0.0, *, centred: bool
) -> float | Array:
    """alpha = E h'(Z)^2 / E h(Z)^2 - 1 of h(z) = f(a z + b), or with Var h(Z) below the line if `centred`.

    The paper's "rank recovery strength" is the un-centred one. The centred one is >= 0 and 0 only for affine h
    (Poincaré's inequality), and it is the one that belongs to a centred covariance. inf where f jumps. Relative error
    of 1 + alpha about 1e-12; raises `UsageError` where h is constant in float64 or the error estimate exceeds 1e-6.

    >>> bool(abs(rank_recovery_strength("relu", centred=True) - 1 / (np.pi - 1)) < 1e-12)
    True
    >>> bool(abs(rank_recovery_strength("relu", centred=False)) < 1e-12)
    True
    """
    f = as_activation(f)
    return _plain(_alpha(f, moments(f, a, b), a, b, centred))


def both_strengths(f: Activation | str | Function, a: ArrayLike = 1.0, b: ArrayLike = 0.0) -> tuple[Array, Array]:
    """Un-centred and centred `rank_recovery_strength` from one set of moments.

    >>> [bool(abs(x - y) < 1e-12) for x, y in zip(both_strengths("relu"), (0, 1 / (np.pi - 1)))]
    [True, True]
    """
    f = as_activation(f)
    found = moments(f, a, b)
    return _alpha(f, found, a, b, False), _alpha(f, found, a, b, True)


def _alpha(f: Activation, found: Moments, a: ArrayLike, b: ArrayLike, centred: bool) -> Array:
    bottom = found.variance if centred else found.second
    name = "variance" if centred else "second moment"
    _refuse(f, bottom <= 0, a, b, f"has {name} 0 in float64", "choose a and b that move it off its plateau")
    lost = "lost its digits to rounding"
    _refuse(f, found.error > _WORST, a, b, lost, "choose a less extreme a or b, or name the kinks")
    if centred:
        return found.slope_second / bottom - 1
    hidden = (found.tilt > 0) & (found.mean != 0)  # a tilted variance is invisible beside an untilted mean^2
    return np.where(hidden, 0.0, found.slope_second / bottom) - 1


def _refuse(f: Activation, where: Array, a: ArrayLike, b: ArrayLike, problem: str, remedy: str) -> None:
    if np.any(where):
        a, b = (np.broadcast_to(x, np.shape(where))[where][0] for x in (a, b))
        raise UsageError(f"{f.name}({a:g} z {b:+g}) {problem}", remedy=remedy)


def _plain(values: Array) -> float | Array:
    return float(values) if np.ndim(values) == 0 else values


def alpha_as_coded(
    f: Activation | str | Function, a: ArrayLike = 1.0, b: ArrayLike = 0.0, *, nodes: int = 100
) -> float | Array:
    """Un-centred alpha as the paper's public code computes it for its 2-D maps: wrong on purpose.

    Gauss-Hermite nodes x (weight exp(-x^2)) must be stretched to z = sqrt(2) x; the code takes z = x / sqrt(2) and so
    averages over N(0, 1/4). It also ignores kinks and returns 0 where E h^2 <= 1e-10. For ReLU it gives 3 instead of 0.

    >>> round(alpha_as_coded("relu"), 9)
    3.0
    """
    f = as_activation(f)
    a, b = np.broadcast_arrays(finite("a", a), finite("b", b))
    x, w = np.polynomial.hermite.hermgauss(at_least("nodes", nodes, 1))
    u = a[..., None] * (x / np.sqrt(2)) + b[..., None]
    second = f.f(u) ** 2 @ w / np.sqrt(np.pi)
    slope = (a[..., None] * f.df(u)) ** 2 @ w / np.sqrt(np.pi)
    kept = second > _CODED_FLOOR
    return _plain(np.where(kept, slope / np.where(kept, second, 1.0) - 1, 0.0))


def hermite_coefficients(f: Activation | str | Function, order: int) -> Array:
    """c_0 .. c_order with f = sum_k c_k He_k / sqrt(k!) in L2 of N(0, 1): c_k = E[f(Z) He_k(Z)] / sqrt(k!).

    Probabilists' polynomials, made orthonormal, so E f(X) f(Y) = sum_k c_k^2 rho^k for correlation rho (Mehler) and
    E f'^2 = sum_k k c_k^2. Absolute error about 1e-13 ||f||. Shape (order + 1,).

    >>> hermite_coefficients(lambda z: z**2, 3).round(9).tolist()[:3] == [1.0, 0.0, round(2**0.5, 9)]
    True
    """
    f, order = as_activation(f), at_least("order", order, 0)
    if order > 200:
        raise UsageError(f"order = {order} needs |z| beyond the quadrature's reach", remedy="give order <= 200")

    def integrand(z: Array, owner: Array) -> Array:
        rows = np.empty((order + 1, *z.shape))
        rows[0], lower, upper = 1.0, np.zeros_like(z), np.ones_like(z)
        for k in range(order):
            lower, upper = upper, (z * upper - np.sqrt(k) * lower) / np.sqrt(k + 1)
            rows[k + 1] = upper
        return rows * f.f(z)

    return gaussian_integrals(integrand, points=f.points.reshape(1, -1), rtol=1e-11).value[:, 0]
