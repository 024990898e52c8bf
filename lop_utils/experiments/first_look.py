"""The front page's experiment: one small network on the bit-flipping stream, looked into while it grows old.

A few seconds at every profile. The curves come from `experiments.bit_flipping` (see `preset`); `looks` follows a single
network and keeps, at some steps, what its hidden units do and what it answers, beside a fresh network's answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lop_utils.errors import UsageError
from lop_utils.experiments import bit_flipping
from lop_utils.profiles import check as check_profile
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.online import Method, initial, learn

WIDTH = 20
_LOOKS = (1, 3, 10, 20, 30, 50, 70, 100, 150, 200, 300, 400, 500)  # in periods
_FRESH_SEED = 1_000


@dataclass(frozen=True)
class Look:
    """A network after `step` steps, at the end of a period, on all inputs of that period.

    hidden: (inputs, units), activations; target, answer, fresh: (inputs,), what it should answer, what it answers, and
    what a network answers that started `lived` steps before.
    """

    step: int
    hidden: NDArray[np.float64]
    target: NDArray[np.float64]
    answer: NDArray[np.float64]
    fresh: NDArray[np.float64]
    lived: int

    def __format__(self, spec: str) -> str:
        """The step, so that a slider can name its positions."""
        return format(self.step, spec)

    @property
    def silent(self) -> int:
        """How many units are zero on all inputs of the present."""
        return int((self.hidden == 0).all(0).sum())

    @property
    def error(self) -> float:
        """Mean squared error of the answers."""
        return float(np.mean((self.answer - self.target) ** 2))

    @property
    def fresh_error(self) -> float:
        """Mean squared error of the fresh network's answers."""
        return float(np.mean((self.fresh - self.target) ** 2))


def preset(profile: str, seed: int = 0) -> bit_flipping.Config:
    """The runs behind the curves: plain SGD, a linear learner, and fresh networks at equally spaced steps."""
    small = check_profile(profile) == "smoke"
    return bit_flipping.Config(
        steps=1_000_000 if small else 5_000_000,
        widths=(WIDTH,),
        arms=(bit_flipping.BP,),
        seeds=tuple(range(seed, seed + (3 if small else 5))),
        measure_every=100_000,
        checkpoints=5 if small else 10,
        fresh_steps=20_000,
    )


def steps_of(config: bit_flipping.Config) -> tuple[int, ...]:
    """Steps worth a look: the start, ends of periods that lie ever further apart, up to the end.

    >>> steps_of(preset("smoke"))[:3], steps_of(preset("smoke"))[-1]
    ((10000, 30000, 100000), 1000000)
    """
    return tuple(n * config.period for n in _LOOKS if n * config.period <= config.steps)


def looks(steps: Sequence[int], *, seed: int, width: int = WIDTH, lived: int = 20_000) -> list[Look]:
    """Train one network and look into it after each of `steps`; a fresh one starts `lived` steps before each look.

    Raises `UsageError` unless the steps grow and are ends of periods.

    >>> [look.step for look in looks([10_000, 20_000], seed=0, width=3)]
    [10000, 20000]
    """
    stream, method = BitFlipping(seed=seed), Method(width=width)
    if not steps or list(steps) != sorted(set(steps)) or any(step <= 0 or step % stream.period for step in steps):
        raise UsageError(f"steps {list(steps)}", remedy=f"use growing multiples of {stream.period}")
    state, found = initial(method, stream, seed=seed), []
    for step in steps:
        for _ in learn(method, stream, state, steps=step, every=stream.period, seed=seed):
            pass
        start = max(0, step - lived)
        young = initial(method, stream, seed=seed + _FRESH_SEED, step=start)
        for _ in learn(method, stream, young, steps=step, every=stream.period, seed=seed + _FRESH_SEED):
            pass
        inputs, target = stream.present(step - 1)
        hidden = state.hidden(inputs, method)[1]
        answers = state.predict(inputs, method), young.predict(inputs, method)
        found.append(Look(step, hidden, target, *answers, min(lived, step)))
    return found
