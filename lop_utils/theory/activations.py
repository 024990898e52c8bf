"""The registry of activations as the theory sees them, constructors for the families, and modulation f(a z + b)."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from scipy.special import erf, expit, ndtr

from lop_utils.errors import UsageError, check_choice
from lop_utils.theory import closed_forms as closed
from lop_utils.theory.function import Activation, Function
from lop_utils.theory.validate import Array, finite, non_zero

__all__ = ["ACTIVATIONS", "Activation", "Function", "as_activation", "elu", "leaky_relu", "modulate"]
__all__ += ["polynomial", "rectified_power", "sine", "tilted_step"]


def modulate(f: Activation | str | Function, a: float, b: float) -> Activation:
    """The activation z -> f(a z + b) of a unit with gain a and shift b; kinks, jumps and limits move with it.

    A kink t of f with jump J becomes (t - b)/a with jump |a| J; a break keeps its size, with the sign of a.

    >>> shifted = modulate("relu", 2.0, -1.0)
    >>> shifted.kinks, shifted.slope_jumps
    ((0.5,), (2.0,))
    """
    f = as_activation(f)
    a, b = float(non_zero("a", a)), float(finite("b", b))
    order = slice(None, None, 1 if a > 0 else -1)
    quiet = None if f.quiet is None else lambda level: np.sort((f.quiet(level / abs(a)) - b) / a, axis=1)[order]
    return dataclasses.replace(
        f,
        name=f"{f.name}({a:g} z {b:+g})",
        f=lambda z: f.f(a * z + b),
        df=lambda z: a * f.df(a * z + b),
        kinks=tuple((t - b) / a for t in f.kinks[order]),
        slope_jumps=tuple(abs(a) * jump for jump in f.slope_jumps[order]),
        breaks=tuple((t - b) / a for t in f.breaks[order]),
        value_jumps=tuple(np.sign(a) * jump for jump in f.value_jumps[order]),
        bends=tuple((t - b) / a for t in f.bends[order]),
        scale=f.scale / abs(a),
        limits=f.limits and f.limits[order],
        quiet=quiet,
        kernel_gap=None,
    )


def as_activation(f: Activation | str | Function) -> Activation:
    """`f` itself, the registered activation of that name, or `Activation.of(f)` for a bare function.

    >>> as_activation("tanh").name
    'tanh'
    """
    if isinstance(f, Activation):
        return f
    if isinstance(f, str):
        check_choice("activation", f, ACTIVATIONS)
        return ACTIVATIONS[f]
    return Activation.of(f)


def leaky_relu(slope: float) -> Activation:
    """max(z, 0) + slope * min(z, 0).

    >>> leaky_relu(0.2).slope_jumps
    (0.8,)
    """
    s = float(finite("slope", slope))
    return Activation(
        f"leaky_relu({s:g})",
        lambda z: np.maximum(z, 0.0) + s * np.minimum(z, 0.0),
        lambda z: np.where(z > 0, 1.0, s),
        kinks=(0.0,),
        slope_jumps=(1 - s,),
        limits=(0.0 if s == 0 else -np.copysign(np.inf, s), np.inf),
        quiet=partial(closed.quiet_relu, slope=s),
        kernel_gap=partial(closed.leaky_relu_gap, slope=s),
    )


def elu(alpha: float = 1.0, gain: float = 1.0, name: str | None = None) -> Activation:
    """gain * z for z > 0 and gain * alpha * (exp(z) - 1) below; kinked unless alpha = 1."""
    left = gain * alpha
    return Activation(
        name or f"elu({alpha:g}, {gain:g})",
        lambda z: np.where(z > 0, gain * z, left * np.expm1(np.minimum(z, 0.0))),
        lambda z: np.where(z > 0, gain, left * np.exp(np.minimum(z, 0.0))),
        kinks=() if alpha == 1 else (0.0,),
        slope_jumps=() if alpha == 1 else (gain - left,),
        limits=(-left, np.inf),
        quiet=partial(closed.quiet_exponential, left=left, right=gain),
    )


def sine(frequency: float = 1.0) -> Activation:
    """sin(s z): E f^2 -> 1/2 and alpha ~ s^2, with f' small almost nowhere: high alpha need not freeze."""
    s = float(non_zero("frequency", frequency))
    return Activation(
        "sin" if s == 1 else f"sin({s:g} z)",
        lambda z: np.sin(s * z),
        lambda z: s * np.cos(s * z),
        bends=(),
        scale=1 / abs(s),
        kernel_gap=partial(closed.sin_gap, frequency=s),
    )


def tilted_step(steepness: float) -> Activation:
    """z + tanh(s z): monotone, f' >= 1 everywhere, and still alpha ~ s - the monotone counterexample."""
    step = modulate("tanh", steepness, 0.0)
    return Activation(
        f"z + tanh({steepness:g} z)",
        lambda z: z + step.f(z),
        lambda z: 1 + step.df(z),
        scale=step.scale,
        limits=(-np.inf, np.inf),
    )


def rectified_power(p: float) -> Activation:
    """max(z, 0)^p, p > 1/2: the limit of every half-vanishing activation that grows like z^p, seen from far away."""
    if not p > 0.5:
        raise UsageError(f"p = {p} makes E f'^2 infinite", remedy="give p > 1/2")
    return Activation(
        f"relu^{p:g}",
        lambda z: np.maximum(z, 0.0) ** p,
        lambda z: np.where(z > 0, p * np.where(z > 0, z, 1.0) ** (p - 1), 0.0),
        kinks=(0.0,) if p == 1 else (),
        slope_jumps=(1.0,) if p == 1 else (),
        limits=(0.0, np.inf),
    )


def polynomial(coefficients: Sequence[float]) -> Activation:
    """sum_k coefficients[k] z^k.

    >>> polynomial([0, 0, 1])(np.array([3.0]))
    array([9.])
    """
    p = np.polynomial.Polynomial(finite("coefficients", list(coefficients)))
    return Activation(f"polynomial({', '.join(f'{c:g}' for c in p.coef)})", p, p.deriv(), bends=())


def _normal_density(z: Array) -> Array:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _sigmoid_slope(z: Array) -> Array:
    t = np.exp(-np.abs(z))
    return t / (1 + t) ** 2  # relative accuracy in the tails, which s (1 - s) loses


_SELU = {"alpha": 1.6732632423543772, "gain": 1.0507009873554805}  # Klambauer et al. 2017

ACTIVATIONS: Mapping[str, Activation] = {
    "identity": Activation(
        "identity",
        lambda z: z * 1.0,
        np.ones_like,
        limits=(-np.inf, np.inf),
        quiet=partial(closed.quiet_relu, slope=1.0),
        kernel_gap=closed.identity_gap,
    ),
    "relu": dataclasses.replace(leaky_relu(0.0), name="relu"),
    "leaky_relu": dataclasses.replace(leaky_relu(0.01), name="leaky_relu"),
    "tanh": Activation(
        "tanh", np.tanh, lambda z: 4 * _sigmoid_slope(2 * z), limits=(-1.0, 1.0), quiet=closed.quiet_tanh
    ),
    "erf": Activation(
        "erf",
        erf,
        lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2)),
        limits=(-1.0, 1.0),
        quiet=closed.quiet_erf,
        kernel_gap=closed.erf_gap,
    ),
    "gelu": Activation("gelu", lambda z: z * ndtr(z), lambda z: ndtr(z) + z * _normal_density(z), limits=(0.0, np.inf)),
    "sigmoid": Activation("sigmoid", expit, _sigmoid_slope, limits=(0.0, 1.0), quiet=closed.quiet_sigmoid),
    "elu": elu(name="elu"),
    "selu": elu(**_SELU, name="selu"),
    "silu": Activation("silu", lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)), limits=(0.0, np.inf)),
    "softplus": Activation(
        "softplus", lambda z: np.logaddexp(0.0, z), expit, limits=(0.0, np.inf), quiet=closed.quiet_softplus
    ),
    "sin": sine(),
}
"""Every activation by the field's name; `leaky_relu(slope)`, `elu(alpha, gain)`, `sine(s)`, ... make the others."""
