"""One activation function: value, derivative, where either jumps, and closed forms where they exist."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lop_utils.errors import UsageError
from lop_utils.theory.derivative import numerical_derivative, one_sided_values
from lop_utils.theory.validate import Array, finite

Function = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Activation:
    """A function R -> R with what exact integration needs to know about it.

    `kinks` are the points where the derivative jumps, by `slope_jumps` = f'(t+) - f'(t-); `breaks` those where f itself
    jumps, by `value_jumps`. `bends` are other points worth cutting an integral at (f is smooth there, but steep once
    scaled up). `scale` is the length over which f varies, `limits` its limits at -inf and +inf (None: has none, or
    unknown). `quiet(level)` gives the set |f'| < level as intervals (k, 2), and `kernel_gap(eps)` the dual kernel's
    gap, both in closed form. `slope_noise` is the relative rounding error of `df`, 0 for a derivative written by hand.

    >>> from lop_utils.theory.activations import ACTIVATIONS
    >>> ACTIVATIONS["relu"].kinks, ACTIVATIONS["relu"].slope_jumps
    ((0.0,), (1.0,))
    >>> ACTIVATIONS["relu"](np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    name: str
    f: Function
    df: Function
    kinks: tuple[float, ...] = ()
    slope_jumps: tuple[float, ...] = ()
    breaks: tuple[float, ...] = ()
    value_jumps: tuple[float, ...] = ()
    bends: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    limits: tuple[float, float] | None = None
    quiet: Callable[[float], Array] | None = None
    kernel_gap: Function | None = None
    slope_noise: float = 0.0

    def __call__(self, z: Array) -> Array:
        return self.f(np.asarray(z, dtype=np.float64))

    @property
    def points(self) -> Array:
        """Where to cut an integral over f: kinks, breaks and bends, ascending, each once."""
        return np.unique(np.array(self.kinks + self.breaks + self.bends))

    @classmethod
    def of(
        cls,
        function: Function,
        *,
        derivative: Function | None = None,
        kinks: Sequence[float] = (),
        breaks: Sequence[float] = (),
        bends: Sequence[float] = (0.0,),
        limits: tuple[float, float] | None = None,
        scale: float = 1.0,
        name: str | None = None,
    ) -> "Activation":
        """An activation from a function of numpy arrays; its derivative and its jumps are measured where not given.

        Declare all `kinks`: with an undeclared one E f'^2 is off by about 1e-6 and the kernel gap's eps^1.5 term is
        missing. Undeclared jumps of the function itself are refused. `scale` is the length over which the function
        varies (1/1000 for tanh(1000 z)). Raises `UsageError` if it returns another shape or a non-finite value.

        >>> hat = Activation.of(lambda z: np.abs(z), kinks=[0.0], name="abs")
        >>> round(hat.slope_jumps[0], 6), hat.df(np.array([-2.0, 3.0])).round(9).tolist()
        (2.0, [-1.0, 1.0])
        """
        name = name or getattr(function, "__name__", "f")
        kinks, breaks = sorted(finite("kinks", list(kinks)).tolist()), sorted(finite("breaks", list(breaks)).tolist())
        _probe(name, function, scale)
        cuts = np.unique(np.array(kinks + breaks))
        _refuse_hidden_jumps(name, function, np.array(breaks))
        slope = derivative or partial(numerical_derivative, function, cuts=cuts, scale=scale)
        if derivative is not None:
            _probe(f"the derivative of {name}", derivative, scale)
        left, right = one_sided_values(slope, np.array(kinks), cuts, scale)
        below, above = one_sided_values(function, np.array(breaks), cuts, scale)
        return cls(
            name,
            function,
            slope,
            kinks=tuple(kinks),
            slope_jumps=tuple((right - left).tolist()),
            breaks=tuple(breaks),
            value_jumps=tuple((above - below).tolist()),
            bends=tuple(bends),
            scale=scale,
            limits=limits,
            slope_noise=0.0 if derivative else 1e-10,
        )


def _probe(name: str, function: Function, scale: float) -> None:
    """Raise `UsageError` unless `function` maps a probe array to finite values of its shape."""
    z = np.concatenate([np.linspace(-8, 8, 161), scale * np.linspace(-4, 4, 80)]) + 1e-3
    try:
        values = np.asarray(function(z), dtype=np.float64)
    except (TypeError, AttributeError, ValueError) as problem:
        raise UsageError(f"{name} cannot be called on a numpy array: {problem}", remedy="use numpy functions") from None
    if values.shape != z.shape:
        raise UsageError(f"{name} maps shape {z.shape} to {values.shape}", remedy="act on each entry of the array")
    if not np.isfinite(values).all():
        at = z[~np.isfinite(values)][0]
        raise UsageError(f"{name} is not finite at z = {at:.6g}", remedy="give a function finite everywhere")


def _refuse_hidden_jumps(name: str, function: Function, breaks: Array) -> None:
    """Raise `UsageError` where one of the five largest steps on a fine grid stays a step when bisected 40 times."""
    z = np.linspace(-8.0003, 8.0001, 16001)
    step = np.abs(np.diff(function(z)))
    declared = np.searchsorted(z, breaks) - 1
    step[declared[(declared >= 0) & (declared < len(step))]] = 0.0
    at = np.argsort(step)[-5:]
    lo, hi = z[at], z[at + 1]
    for _ in range(40):
        middle = (lo + hi) / 2
        below = np.abs(function(middle) - function(lo)) > np.abs(function(hi) - function(middle))
        lo, hi = np.where(below, lo, middle), np.where(below, middle, hi)
    jump = np.abs(function(hi) - function(lo)) > 1e-3 * max(float(step.max()), 1e-12)
    if jump.any():
        raise UsageError(f"{name} jumps near z = {hi[jump][0]:.6g}", remedy="name that point in breaks")
