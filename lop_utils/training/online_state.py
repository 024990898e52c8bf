"""What an online learner is (`Method`) and what it knows (`State`): plain arrays, for any engine to go on with."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_utils.errors import UsageError, check_choice
from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import BitFlipping

ACTIVATIONS = ("relu", "leaky_relu", "tanh")
CBP = ("none", "as_published", "as_coded", "dohare")
UTILITIES = ("adaptable_contribution", "contribution")
SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "tanh": 0.0}
INIT, DROPOUT, REDRAW, NOISE, COUNT, PERTURB, REDO = range(16, 23)  # purposes of the learner's random streams


@dataclass(frozen=True)
class Method:
    """A network of one hidden layer, trained by SGD on single samples, with at most a few additions.

    cbp: continual backpropagation with `utility`, `decay` (of the running averages), replacement `rate` and `maturity`.
    as_published is Dohare et al.'s algorithm; dohare is their public code (number of replacements drawn at random, bias
    compensation with an average that has just been zeroed); as_coded is the public code of arXiv:2510.00304 (one unit
    in every step with a mature one, incoming weights kept, every hidden bias zeroed).
    l2, l2_init: strength of the pull to 0 or to the start. dropout: probability on hidden units. gradient_noise: sigma
    of Noisy SGD, per tensor, times noise_decay^t; weight_noise: sd of the noise on every parameter in every step.
    shrink, perturb: at every change of the slow bits, theta <- shrink * theta + perturb * (fresh initial weights).
    redo_every, redo_tau: ReDo, on the inputs of the present, every so many steps.
    """

    width: int = 5
    activation: str = "relu"
    lr: float = 0.01
    cbp: str = "none"
    utility: str = "adaptable_contribution"
    rate: float = 1e-4
    maturity: int = 100
    decay: float = 0.99
    dropout: float = 0.0
    l2: float = 0.0
    l2_init: float = 0.0
    gradient_noise: float = 0.0
    noise_decay: float = 1.0
    weight_noise: float = 0.0
    shrink: float = 1.0
    perturb: float = 0.0
    redo_every: int = 0
    redo_tau: float = 0.1

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("cbp", self.cbp, CBP)
        check_choice("utility", self.utility, UTILITIES)
        if self.width < 1 or not 0 <= self.dropout < 1 or not 0 < self.decay < 1:
            problem = f"width {self.width}, dropout {self.dropout}, decay {self.decay}"
            raise UsageError(problem, remedy="use width >= 1, 0 <= dropout < 1, 0 < decay < 1")
        strengths = (self.dropout, self.l2, self.l2_init, self.gradient_noise, self.weight_noise)
        if min(strengths) < 0:
            raise UsageError(f"{self} has a negative strength", remedy="use strengths of 0 or more")
        if (self.cbp != "none") + sum(strength > 0 for strength in strengths) > 1:
            raise UsageError(f"{self} combines additions within a step", remedy="use one of them at a time")

    @property
    def slope(self) -> float:
        """f'(z) for z < 0 of the piecewise linear activations."""
        return SLOPES[self.activation]

    def bound(self, inputs: int) -> float:
        """Initial incoming weights are uniform in +- this: gain * sqrt(3 / inputs) (He et al. 2015)."""
        gain = {"relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + 0.01**2)), "tanh": 5 / 3}[self.activation]
        return gain * math.sqrt(3 / inputs)


@dataclass
class State:
    """Everything a run needs to go on: weights, the start of `l2_init`, CBP's bookkeeping, the step count.

    w (inputs, width), b (width,), v (width,) outgoing, c (1,); start: the same four, flat. Of each hidden unit, for
    CBP: utility, mean activation, decay^age, age, as rows of units (4, width); owed (1,): fractions of units that are
    still to be replaced. Engines change the arrays in place.
    """

    w: NDArray[np.float64]
    b: NDArray[np.float64]
    v: NDArray[np.float64]
    c: NDArray[np.float64]
    start: NDArray[np.float64]
    units: NDArray[np.float64]
    owed: NDArray[np.float64]
    step: int = 0

    def hidden(self, inputs: NDArray, method: Method) -> tuple[NDArray, NDArray]:
        """Pre-activations and activations (n, width) on inputs (n, inputs)."""
        z = inputs @ self.w + self.b
        return z, np.tanh(z) if method.activation == "tanh" else np.where(z > 0, z, method.slope * z)

    def predict(self, inputs: NDArray, method: Method) -> NDArray:
        """Outputs (n,) on inputs (n, inputs), without dropout."""
        return self.hidden(inputs, method)[1] @ self.v + self.c[0]

    def save(self, path: Path) -> None:
        """Write to `path` (npz)."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            parts = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**parts, "step": int(parts["step"])})

    def copy(self) -> "State":
        """An independent copy."""
        return replace(self, **{f.name: getattr(self, f.name).copy() for f in fields(self) if f.name != "step"})


def initial(method: Method, stream: BitFlipping, *, seed: int, step: int = 0) -> State:
    """A new network at `step` of the stream: He-uniform incoming weights, sqrt(3 / width) outgoing ones, zero biases.

    >>> initial(Method(width=5), BitFlipping(), seed=0).w.shape
    (20, 5)
    """
    w, v = fresh_weights(method, stream.width, seed=seed, draw=0)
    zero = np.zeros(method.width)
    start = np.concatenate([w.ravel(), zero, v, [0.0]])
    units = np.zeros((4, method.width))
    units[2] = 1.0  # decay ** age
    return State(w, zero.copy(), v, np.zeros(1), start, units, np.zeros(1), step)


def fresh_weights(method: Method, inputs: int, *, seed: int, draw: int) -> tuple[NDArray, NDArray]:
    """The `draw`-th initial incoming (inputs, width) and outgoing (width,) weights of this seed."""
    count = (inputs + 1) * method.width
    drawn = 2.0 * counter.uniform(counter.key(seed, INIT), draw * count + np.arange(count)) - 1.0
    w, v = drawn[: inputs * method.width].reshape(inputs, method.width), drawn[inputs * method.width :]
    return w * method.bound(inputs), v * math.sqrt(3 / method.width)
