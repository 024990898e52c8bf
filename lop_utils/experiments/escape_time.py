"""How long an escape takes: one noisy step of size sigma, then plain SGD, beside what the normal Hessian predicts.

A perturbation normal to the manifold obeys c <- (I - lr H_t) c while it is small, with H_t the Hessian of step t's
minibatch on the normal space of the clone that nobody perturbed (its base at the rates of `manifolds.rates`). It is
proportional to sigma, and 1 - R^2 is quadratic in it: 1 - R^2 = sigma^2 q_t, with q_t the same for every sigma. One
propagation therefore predicts the escape time of every sigma: the first step at which sigma^2 q_t reaches the
threshold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.escape_signals import loss_and_accuracy, mean_r2, r2_by_space, signals
from lop_utils.experiments.networks import ARCHITECTURES, network
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import labels_of, split
from lop_utils.manifolds.partition import Partition
from lop_utils.models.stack import Stack
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import shared_batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble

NAME = "escape_time"
LINEAR = "linear"  # the method under which q_t stands
_REACH = 1e-4  # length of the displacement at which q_t is measured


@dataclass(frozen=True)
class Config:
    """Every `sigma` x `seeds`: a base trained for `base_steps`, doubled, one noisy step, then SGD for up to `steps`.

    A seed draws the same noise for every sigma. 1 - R^2 is measured every `every` steps on `rows` training samples; the
    run ends when it has passed `threshold` everywhere. `predict`: propagate the linear equation beside it. Float64.
    """

    source: str = "mnist1d"
    arch: str = "mlp"
    widths: tuple[int, ...] = (16, 16)
    blocks: int = 1
    activation: str = "tanh"
    norm: str = "none"
    affine: bool = True
    dropout: float = 0.0
    gain: float = 1.0
    lr: float = 0.2
    batch_size: int = 64
    base_steps: int = 1000
    steps: int = 1500
    every: int = 20
    rows: int = 200
    sigmas: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    threshold: float = 0.001
    predict: bool = True
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_choice("architecture", self.arch, ARCHITECTURES)
        if not self.seeds or not self.sigmas or not min(self.sigmas) > 0:
            problem = f"{len(self.seeds)} seeds, sigmas {self.sigmas}"
            raise UsageError(problem, remedy="give at least one seed, and sigmas above 0")
        if not 1 <= self.every <= self.steps or not 0 < self.threshold < 1:
            problem = f"every {self.every}, {self.steps} steps, threshold {self.threshold}"
            raise UsageError(problem, remedy="choose 1 <= every <= steps and a threshold between 0 and 1")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"base_steps": 60, "steps": 40, "rows": 100, "sigmas": (1e-1, 1e-3), "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (64,) * 3, "steps": 4000, "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (seed, method, step, layer, metric); the method is a sigma, as "1e-05", or "linear" for predictions.

    spread: 1 - R^2, mean over spaces and directions (layer "mean") and by space; escape: the step at which spread
    passes the threshold, at step 0, missing if it never does. Method "linear": q, the predicted spread / sigma^2, and
    loss, the training loss of the network that nobody perturbed.
    """
    source = load(config.source, device)
    source = replace(source, inputs=source.inputs.double())
    bases, stream = _bases(config, source)
    clones = [widen(base, 2) for base in bases]
    pair = _Pair(config, source, clones)
    for step in progress(range(config.steps + 1)):
        if step % config.every == 0 and pair.probe(step):
            break
        if step < config.steps:
            pair.step(*next(stream))
    return tidy(pair.rows + escapes(pair.rows, config), experiment=NAME, arch=config.arch, task=config.source)


def crossing(steps: list[int], values: list[float], level: float) -> float | None:
    """The first step at which values pass `level` from below, ln values taken as linear in between; None if never.

    >>> crossing([0, 10, 20], [1e-4, 1e-3, 1e-1], 1e-2)
    15.0
    """
    for i, value in enumerate(values):
        if value > level:
            before = values[i - 1] if i else 0.0
            if before <= 0:
                return float(steps[i])
            share = math.log(level / before) / math.log(value / before)
            return steps[i - 1] + share * (steps[i] - steps[i - 1])
    return None


def escapes(rows: list[tuple], config: Config) -> list[tuple]:
    """Rows "escape", and with predictions "escape_predicted", one a seed and sigma, from the rows of a run."""
    series: dict[tuple, list[tuple[int, float]]] = {}
    for seed, method, step, layer, metric, value in rows:
        if (layer, metric) in (("mean", "spread"), ("mean", "q")):
            series.setdefault((seed, method), []).append((step, value))
    found = []
    for seed in config.seeds:
        for sigma in config.sigmas:
            name = f"{sigma:g}"
            levels = {"escape": (name, config.threshold), "escape_predicted": (LINEAR, config.threshold / sigma**2)}
            for metric, (method, level) in levels.items():
                if (seed, method) in series:
                    at = crossing(*map(list, zip(*series[seed, method], strict=True)), level)
                    found += [] if at is None else [(seed, name, 0, "all", metric, at)]
    return found


def _bases(config: Config, source: Source) -> tuple[list[nn.Module], object]:
    stack = Stack([network(config, source, source.classes, seed) for seed in config.seeds]).to(source.inputs)
    stream = shared_batches(source.inputs, source.targets, batch_size=config.batch_size, seeds=config.seeds)
    train_ensemble(stack, torch.optim.SGD(stack.parameters(), lr=config.lr), stream, steps=config.base_steps)
    return stack.unstacked(), stream


class _Pair:
    """The noisy clones (sigmas x seeds) and, with predictions, the quiet ones (seeds) with their linear equation."""

    def __init__(self, config: Config, source: Source, clones: list[nn.Module]):
        self.config, self.source, self.rows, self.direction = config, source, [], {}
        self.probed = source.inputs[: config.rows], source.targets[: config.rows]
        self.noisy, self.quiet = Stack(clones * len(config.sigmas)), Stack(clones)
        self.partition = Partition.of_clone(clones[0], 2)
        self.optimizers = [torch.optim.SGD(stack.parameters(), lr=config.lr) for stack in (self.noisy, self.quiet)]
        sigmas = [sigma for sigma in config.sigmas for _ in clones]
        seeds = list(config.seeds) * len(config.sigmas)
        GradientNoise(self.optimizers[0], sigma=sigmas, decay=0.0, seed=seeds, stacked=True)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One update of all networks, and one factor I - lr H of the equation, for minibatches (seeds, B, ...)."""
        if self.direction:
            product = curvature_product(self.quiet, x, y, self.direction)
            self.direction = {name: v - self.config.lr * product[name] for name, v in self.direction.items()}
        many = len(self.config.sigmas)
        _descend(self.noisy, self.optimizers[0], x.repeat(many, *[1] * (x.ndim - 1)), y.repeat(many, 1))
        if self.config.predict:
            _descend(self.quiet, self.optimizers[1], x, y)
            self.direction = self.direction or self._start()

    def probe(self, step: int) -> bool:
        """Note where everybody is; whether all have passed the threshold."""
        config, r2 = self.config, r2_by_space(signals(self.noisy, *self.probed), 2)
        spread = 1 - mean_r2(r2)
        by_space = {name: 1 - (a + b) / 2 for name, (a, b) in r2.items()}
        for layer, values in ({"mean": spread} | by_space).items():
            owners = [(seed, f"{sigma:g}") for sigma in config.sigmas for seed in config.seeds]
            self.rows += [(*o, step, layer, "spread", float(v)) for o, v in zip(owners, values, strict=True)]
        if self.direction:
            self._note(step, "mean", "q", self._predicted())
            self._note(step, "all", "loss", loss_and_accuracy(self.quiet, *self.probed)[0])
        return bool((spread > config.threshold).all())

    def _note(self, step: int, layer: str, metric: str, values: Tensor) -> None:
        pairs = zip(self.config.seeds, values.tolist(), strict=True)
        self.rows += [(seed, LINEAR, step, layer, metric, value) for seed, value in pairs]

    def _start(self) -> dict[str, Tensor]:
        """What the noisy step did to the normal coordinates, over sigma: the same for every sigma."""
        axes, count, sigma = (
            self.partition.axis_labels(self.quiet.skeleton),
            len(self.config.seeds),
            self.config.sigmas[0],
        )
        found = {}
        for name, quiet in self.quiet.named_parameters():
            name = name.replace("/", ".")
            moved = (self.noisy.tensors[name][:count] - quiet).detach() / sigma
            normal = [split(part, *labels_of(part, axes[name])) for part in moved] if name in axes else []
            parts = [part.row_imbalance + part.column_imbalance for part in normal]
            found[name] = torch.stack(parts) if parts else torch.zeros_like(moved)
        return found

    def _predicted(self) -> Tensor:
        """q (seeds,): 1 - R^2 of the quiet clones moved a little along the direction, over the square of the move."""
        square = sum(v.flatten(1).square().sum(1) for v in self.direction.values())
        scale = _REACH / square.sqrt()
        moved = Stack(self.quiet.unstacked())
        with torch.no_grad():
            for name, v in self.direction.items():
                moved.tensors[name].add_(v * scale.view(-1, *[1] * (v.ndim - 1)))
        return (1 - mean_r2(r2_by_space(signals(moved, *self.probed), 2))) / scale.square()


def curvature_product(stack: Stack, x: Tensor, y: Tensor, direction: dict[str, Tensor]) -> dict[str, Tensor]:
    """H v of every member for its own minibatch x (members, B, ...): the derivative of the gradient along v.

    `direction` and the result: parameter name -> (members, ...).
    """
    skeleton = stack.skeleton
    tensors = {name: tensor.detach() for name, tensor in stack.tensors.items()}

    def one(state: dict[str, Tensor], v: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        rest = {name: tensor for name, tensor in state.items() if name not in v}
        objective = lambda p: nn.functional.cross_entropy(  # noqa: E731
            functional_call(skeleton, p | rest, (inputs,)), targets
        )
        return jvp(grad(objective), ({name: state[name] for name in v},), (v,))[1]

    return vmap(one)(tensors, direction, x, y)


def _descend(stack: Stack, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    member_cross_entropy(stack(x), y).sum().backward()
    optimizer.step()
