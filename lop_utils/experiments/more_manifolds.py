"""Three further manifolds: mirrored units, proportional ReLU units, and the curved level sets of ReLU networks.

Small networks with one hidden layer, full batch, random labels, float64. Unit u + n of a start of 2 n units is c times
unit u in its incoming weights, bias and outgoing weights: c = -1 with tanh (mirrored), c > 0 with ReLU (proportional).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from lop_utils.errors import UsageError
from lop_utils.experiments.stacks import Stack
from lop_utils.experiments.update_rules import NOISE, RULES, check_rules
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.seeding import seeded
from lop_utils.profiles import check as check_profile

NAME = "more_manifolds"
INPUTS, UNITS, OUTPUTS, SAMPLES = 6, 4, 3, 64
MIRRORED, PROPORTIONAL, LEVEL = "mirrored", "proportional", "level set"
COORDINATEWISE = ("clip_value", "rmsprop", "adagrad", "adam", "sign", "lion", "adamw", "adam_l2")
PROBED = (1, 10)


@dataclass(frozen=True)
class Config:
    """`rules` from both starts for `steps` steps; plain gradient descent for `time` = steps x rate at every rate.

    `ratio` is the c of proportional units.
    """

    rules: tuple[str, ...] = tuple(RULES)
    steps: int = 300
    ratio: float = 1.7
    rates: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    time: float = 10.0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_rules(self.rules)
        if not self.ratio > 0 or self.ratio == 1:
            raise UsageError(f"ratio {self.ratio}", remedy="choose a ratio above 0 and not 1")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"steps": 10, "time": 1.0, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"steps": 1000, "time": 50.0, "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def kept(rule: str, manifold: str) -> bool:
    """What the theory says: updates that commute with a unit's mirror image keep mirrored units, and so does every rule
    without noise on units; proportional units need updates that commute with a rotation of units, as coordinate-wise
    ones do not.

    >>> kept("adam", "mirrored"), kept("adam", "proportional"), kept("muon", "proportional")
    (True, False, True)
    """
    quiet = RULES[rule].tier != NOISE
    return quiet and (manifold == MIRRORED or rule not in COORDINATEWISE)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (manifold, method, seed, step, metric); task is the manifold, method the rule or the learning rate.

    deviation: largest |theta_(u + n) - c theta_u| over units; drift: largest change over units of
    Q_u = ||w_u||^2 + b_u^2 - ||a_u||^2 (w incoming, a outgoing), and predicted_drift: the largest absolute sum over
    steps of rate^2 (||dL/dw_u||^2 + (dL/db_u)^2 - ||dL/da_u||^2). CPU whatever `device` is.
    """
    rows: list[tuple] = []
    for rule in progress(config.rules):
        for manifold in (MIRRORED, PROPORTIONAL):
            for step, values in _deviations(config, rule, manifold):
                found = zip(config.seeds, values.tolist(), strict=True)
                rows += [(s, rule, manifold, step, "deviation", v) for s, v in found]
    for rate in config.rates:
        for metric, step, values in _drifts(config, rate):
            found = zip(config.seeds, values.tolist(), strict=True)
            rows += [(s, f"{rate:g}", LEVEL, step, metric, v) for s, v in found]
    frame = pd.DataFrame(rows, columns=["seed", "method", "task", "step", "metric", "value"])
    frame.insert(0, "experiment", NAME)
    frame.insert(1, "arch", "mlp")
    frame.insert(5, "layer", "all")
    return frame


def _deviations(config: Config, rule: str, manifold: str) -> Iterator[tuple[int, Tensor]]:
    """(step, largest deviation from theta_(u + n) = c theta_u of each network) at the probed steps and the last."""
    activation, c = ("tanh", -1.0) if manifold == MIRRORED else ("relu", config.ratio)
    stack, x, y = _stack(config, activation, units=2 * UNITS)
    with torch.no_grad():
        for parts in _by_unit(stack):
            parts[:, UNITS:] = c * parts[:, :UNITS]
    with seeded(config.seeds[0]):
        for step, now in enumerate(RULES[rule].train(stack, x, y, steps=config.steps, seed=config.seeds[0])):
            if step in (*PROBED, config.steps):
                off = [(p[:, UNITS:] - c * p[:, :UNITS]).detach().abs().flatten(1).amax(1) for p in _by_unit(now)]
                yield step, torch.stack(off).amax(0)


def _drifts(config: Config, rate: float) -> Iterator[tuple[str, int, Tensor]]:
    """Measured and predicted drift of the level sets under gradient descent at one rate, each (networks,)."""
    stack, x, y = _stack(config, "relu", units=UNITS)
    signs, steps = (1.0, 1.0, -1.0), round(config.time / rate)

    def level(parts: list[Tensor]) -> Tensor:  # (networks, units)
        return sum(sign * p.detach().square().flatten(2).sum(2) for sign, p in zip(signs, parts, strict=True))

    start, predicted = level(_by_unit(stack)), 0.0
    for _ in range(steps):
        stack.zero_grad()
        stack.loss(x, y).backward()
        with torch.no_grad():
            gradients = [stack.weights[0].grad, stack.biases[0].grad[..., None], stack.weights[1].grad.mT]
            predicted = predicted + rate**2 * level(gradients)
            for p in stack.parameters():
                p -= rate * p.grad
    yield "drift", steps, (level(_by_unit(stack)) - start).abs().amax(1)
    yield "predicted_drift", steps, predicted.abs().amax(1)


def _by_unit(stack: Stack) -> list[Tensor]:
    """Views of w, b and a of the hidden units, each (networks, units, entries)."""
    return [stack.weights[0], stack.biases[0][..., None], stack.weights[1].mT]


def _stack(config: Config, activation: str, *, units: int) -> tuple[Stack, Tensor, Tensor]:
    """One network a seed with `units` hidden units, and its data: Gaussian inputs and random labels."""
    nets, xs, ys = [], [], []
    for seed in config.seeds:
        nets.append(MLP(MLPConfig(INPUTS, (units,), OUTPUTS, activation=activation, gain=2.0), seed=seed).double())
        generator = torch.Generator().manual_seed(seed)
        xs.append(torch.randn(SAMPLES, INPUTS, generator=generator, dtype=torch.float64))
        ys.append(torch.randint(OUTPUTS, (SAMPLES,), generator=generator))
    return Stack(nets), torch.stack(xs), torch.stack(ys)
