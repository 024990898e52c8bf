"""Derivatives of a user's function, measured: Chebyshev interpolation in windows that never straddle a kink."""

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev

from lop_utils.theory.validate import Array

_DEGREE = 8
_T = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))  # Chebyshev points
_TO_COEFFICIENTS = np.linalg.inv(chebyshev.chebvander(_T, _DEGREE)).T
_SHRINK, _TRIES = 0.25, 8


def numerical_derivative(function: Callable[[Array], Array], z: Array, *, cuts: Array, scale: float = 1.0) -> Array:
    """f'(z) for any shape of z, from the degree-8 interpolant of f on a window of half width scale/20 around z.

    Windows are pushed aside so that no cut (kink or jump of f) lies inside; where the interpolant has not converged the
    window shrinks. Relative error about 1e-11 for analytic f; at a cut itself the right-hand derivative.

    >>> bool(abs(numerical_derivative(np.sin, np.array([0.3]), cuts=np.array([])) - np.cos(0.3)) < 1e-11)
    True
    """
    flat = np.asarray(z, dtype=np.float64).ravel()
    slope, todo = np.empty_like(flat), np.arange(len(flat))
    width = 0.05 * scale
    for attempt in range(_TRIES):
        centre = _window(flat[todo], width, cuts)
        values = np.asarray(function(centre[:, None] + width * _T), dtype=np.float64)
        coefficients = values @ _TO_COEFFICIENTS  # (points, 9)
        x = (flat[todo] - centre) / width
        slope[todo] = chebyshev.chebval(x, chebyshev.chebder(coefficients.T), tensor=False) / width
        last, size = np.abs(coefficients[:, -2:]).max(1), np.abs(values).max(1)
        rough = last > 1e-13 * np.maximum(size, 1e-300) + 1e-12 * np.abs(slope[todo]) * width
        if attempt == _TRIES - 1 or not rough.any():
            break
        todo, width = todo[rough], width * _SHRINK
    return slope.reshape(np.shape(z))


def _window(z: Array, width: float, cuts: Array) -> Array:
    """Centres of windows of half width `width` that hold z and lie between two neighbouring cuts."""
    if not cuts.size:
        return z
    k = np.searchsorted(cuts, z, side="right")
    left = np.concatenate([[-np.inf], cuts])[k]
    right = np.concatenate([cuts, [np.inf]])[k]
    return np.where(z - left < right - z, np.maximum(z, left + width), np.minimum(z, right - width))


def one_sided_values(
    function: Callable[[Array], Array], points: Array, cuts: Array, scale: float
) -> tuple[Array, Array]:
    """Limits (from the left, from the right) of `function` at `points`, extrapolated linearly from close by."""
    if not points.size:
        return np.empty(0), np.empty(0)
    gaps = np.diff(cuts)
    step = 1e-5 * min(scale, *gaps) if gaps.size else 1e-5 * scale
    return tuple(2 * function(points + side * step) - function(points + 2 * side * step) for side in (-1, 1))
