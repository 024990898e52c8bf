"""Adaptive Gauss-Kronrod quadrature against the standard normal density, for many integrals at once.

Every integral ("owner") starts from fixed panels of [-14, 14], cut at the owner's own points (kinks, jumps). Panels
whose 21-point Kronrod rule and 10-point Gauss rule disagree are halved, all owners together, until each meets its
tolerance. So kinks cost nothing, steep functions only some extra rounds, and 10,000 integrals are as easy to ask for as
one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lop_utils.errors import UsageError
from lop_utils.theory.validate import Array

Noise = Callable[[Array, Array], Array]
Integrand = Callable[[Array, Array], Array]
"""(z (panels, nodes), owner (panels,) of int) -> values (components, panels, nodes), without the Gaussian weight."""

RTOL = 1e-12
_SHARE = 16  # a panel may keep 1/16 of its owner's tolerance: only the few panels at a feature come near it
_ROUNDS = 64  # halvings: enough to close in on an undeclared kink to 1e-18
_BUDGET = 512  # bad panels of one owner in one round: more means noise or divergence, and the error estimate says so
_CHUNK = 2000  # owners at a time, so that the arrays stay in cache
_FAR = 38.0  # the density underflows beyond
_HALF = np.array([1, 2, 3, 4.5, 6, 8, 10, 12, 14.0])
_EDGES = np.concatenate([-_HALF[::-1], [0.0], _HALF])

_HALF_NODES = np.array(
    [
        0.9956571630258080807,
        0.9739065285171717200,
        0.9301574913557082260,
        0.8650633666889845107,
        0.7808177265864168970,
        0.6794095682990244062,
        0.5627571346686046833,
        0.4333953941292471907,
        0.2943928627014601981,
        0.1488743389816312108,
        0,
    ]
)
_HALF_WEIGHTS = np.array(
    [
        0.0116946388673718742,
        0.0325581623079647274,
        0.0547558965743519960,
        0.0750396748109199527,
        0.0931254545836976055,
        0.1093871588022976418,
        0.1234919762620658510,
        0.1347092173114733259,
        0.1427759385770600807,
        0.1477391049013384913,
        0.1494455540029169056,
    ]
)
NODES = np.concatenate([-_HALF_NODES, _HALF_NODES[-2::-1]])  # (21,)
KRONROD = np.concatenate([_HALF_WEIGHTS, _HALF_WEIGHTS[-2::-1]])  # (21,) exact to degree 31
GAUSS = np.zeros(21)  # the 10-point rule sits on every second node; exact to degree 19
GAUSS[1::2] = np.polynomial.legendre.leggauss(10)[1]


@dataclass(frozen=True)
class Integrals:
    """Integrals against the normal density, with error estimate and size E|g|; each (components, owners)."""

    value: Array
    error: Array
    size: Array


def gaussian_integrals(
    integrand: Integrand,
    *,
    points: Array,
    rtol: float = RTOL,
    noise: Noise | None = None,
    tilt: Array | None = None,
) -> Integrals:
    """E[g_c(Z)] for all components c of every owner, Z ~ N(0, 1); `points` (owners, k) are where to cut.

    The error of an owner's component is brought below rtol * E|g_c(Z)|, or below `noise(size, owners)`, the absolute
    error that rounding inside g makes unavoidable. `tilt` (owners,) multiplies an owner's integrals by exp(tilt), for
    integrands that vanish except far out. Raises `UsageError` for non-finite values and for integrands that outgrow the
    density.

    >>> z2 = gaussian_integrals(lambda z, owner: (z**2)[None], points=np.zeros((1, 1)))
    >>> bool(abs(z2.value[0, 0] - 1) < 1e-13)
    True
    """
    chunks = [np.arange(i, min(i + _CHUNK, len(points))) for i in range(0, len(points), _CHUNK)]
    parts = [_integrate(integrand, points, owners, rtol, noise, tilt) for owners in chunks]
    return Integrals(
        *(np.concatenate([getattr(part, name) for part in parts], 1) for name in ("value", "error", "size"))
    )


def _integrate(
    integrand: Integrand, points: Array, owners: Array, rtol: float, noise: Noise | None, tilt: Array | None
) -> Integrals:
    """Halve the bad panels of all `owners` together until none is left."""
    shift = np.zeros(len(owners)) if tilt is None else tilt[owners]
    lo, hi, owner = _first_panels(points[owners], far=_FAR if tilt is None else np.inf)
    kept = None
    for step in range(_ROUNDS):
        found = _apply_rule(integrand, lo, hi, owners[owner], shift[owner])  # (3, components, panels)
        if kept is None:
            kept = np.zeros((3, found.shape[1], len(owners)))
            _refuse_heavy_tails(found[2], lo, hi, owner, points[owners], tilt)
        size = kept[2] + _per_owner(found[2], owner, len(owners))
        allowed = rtol * size + (0 if noise is None else noise(size, owners))
        bad = (found[1] > allowed[:, owner] / _SHARE).any(0)
        crowded = np.bincount(owner[bad], minlength=len(owners)) > _BUDGET
        bad &= ~crowded[owner] & (step < _ROUNDS - 1)
        kept += np.stack([_per_owner(found[i][:, ~bad], owner[~bad], len(owners)) for i in range(3)])
        if not bad.any():
            break
        middle = (lo[bad] + hi[bad]) / 2
        lo, hi = np.concatenate([lo[bad], middle]), np.concatenate([middle, hi[bad]])
        owner = np.concatenate([owner[bad], owner[bad]])
    return Integrals(*kept)


def _first_panels(points: Array, *, far: float) -> tuple[Array, Array, Array]:
    """Panels (lo, hi, owner): the fixed edges, and around each point the cut itself and its neighbourhood."""
    centres = np.clip(points, -far, far)
    around = np.concatenate([centres + d for d in (-6.0, -1.0, 0.0, 1.0, 6.0)], 1) if centres.size else centres
    edges = np.sort(np.concatenate([np.broadcast_to(_EDGES, (len(points), len(_EDGES))), around], 1), 1)
    owner = np.broadcast_to(np.arange(len(points))[:, None], edges[:, 1:].shape)
    wide = edges[:, 1:] > edges[:, :-1]
    return edges[:, :-1][wide], edges[:, 1:][wide], owner[wide]


def _apply_rule(integrand: Integrand, lo: Array, hi: Array, owner: Array, shift: Array) -> Array:
    """Kronrod value, its distance to Gauss as error, and integral of the absolute value: (3, components, panels).

    Pessimistic for smooth integrands, by design: QUADPACK's power law for it is fooled by some undeclared kinks.
    """
    half = (hi - lo) / 2
    z = (lo + half)[:, None] + half[:, None] * NODES  # (panels, 21)
    weight = np.exp(np.minimum(shift[:, None] - z**2 / 2, 600.0)) / np.sqrt(2 * np.pi)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        g = integrand(z, owner)
        g = np.where(weight > 0, g * weight, 0.0)  # (components, panels, 21)
    if not np.isfinite(g).all():
        _, panel, node = np.argwhere(~np.isfinite(g))[0]
        raise UsageError(
            f"the integrand is not finite at z = {z[panel, node]:.6g}", remedy="give a function finite everywhere"
        )
    value, size = _dot(g, KRONROD) * half, _dot(np.abs(g), KRONROD) * half
    error = np.abs(value - _dot(g, GAUSS) * half)
    return np.stack([value, np.maximum(error, 10 * np.finfo(float).eps * size), size])


def _dot(g: Array, weights: Array) -> Array:
    return np.einsum("cpn,n->cp", g, weights)  # not BLAS, whose threads cost more than they bring at 21 nodes


def _per_owner(values: Array, owner: Array, owners: int) -> Array:
    return np.stack([np.bincount(owner, row, owners) for row in values])


def _refuse_heavy_tails(size: Array, lo: Array, hi: Array, owner: Array, points: Array, tilt: Array | None) -> None:
    """Raise where |z| > 12 holds a visible share of an integral although no cut lies out there: it must diverge."""
    if tilt is not None:
        return
    outer = _per_owner(size * ((lo >= 12) | (hi <= -12)), owner, len(points))
    inner = _per_owner(size, owner, len(points))
    heavy = (outer > 1e-8 * inner) & (np.abs(points) < 8).all(1)
    if heavy.any():
        problem = "the integrand outgrows the Gaussian density: most of its mass lies at |z| > 12"
        raise UsageError(problem, remedy="give a function that is square-integrable against N(0, 1)")
