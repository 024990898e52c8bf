"""A network on a stream of tasks: how far its pre-activations drift, what freezes, and what alpha its units have.

Regrouped patches: every task gives the same 200 image patches new labels, five random groups. Nothing about the inputs
changes, so all drift is the network's own doing. The networks of all seeds are trained side by side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.record import LayerRecord, record
from lop_utils.metrics.slopes import derivative
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.sources import load
from lop_utils.theory.gaussian import both_strengths
from lop_utils.training.ensemble import train_ensemble, zero_head
from lop_utils.training.side_by_side import side_by_side

NAME = "frozen_stream"
_REACH = 6.0  # |mean / sd| of a unit's pre-activations is taken as at most this when its alpha is computed


@dataclass(frozen=True)
class Config:
    """`activations` x `seeds` MLPs on `tasks` tasks of `steps` Adam steps; the readout is set to 0 at each task.

    `views`: images a class of patches; `groups`: labels; `tolerance`: |f'| below which a unit-input pair is frozen.
    """

    activations: tuple[str, ...] = ("relu", "tanh")
    widths: tuple[int, ...] = (64, 64, 64, 64)
    lr: float = 0.005
    tasks: int = 10
    steps: int = 150
    batch_size: int = 50
    groups: int = 5
    views: int = 2
    tolerance: float = 1e-4
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        if min(self.tasks, self.steps, self.groups - 1, len(self.seeds)) < 1 or not 1 <= self.views <= 10:
            problem = f"tasks {self.tasks}, steps {self.steps}, groups {self.groups}, views {self.views}"
            raise UsageError(problem, remedy="give at least 1 task, step and seed, 2 groups, and 1 to 10 views")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"tasks": 2, "steps": 30, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "lr": 0.001, "tasks": 40, "steps": 500, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs; one row per (seed, method, step, layer, metric): method the activation, step the tasks done so far.

    Metrics by layer and as their mean (layer "mean"): pre_activation_sd (mean over units of the standard deviation over
    inputs), frozen (share of unit-input pairs with |f'(z)| < tolerance), frozen_units (share of units with that on
    every input), alpha (median over units of the centred alpha of f at a Gaussian with the unit's mean and standard
    deviation). For layer "all": accuracy at the end of the task, on the task's images.
    """
    parts = [(config, activation, torch.device(device)) for activation in config.activations]
    found = side_by_side(_train_stream, parts, device=device, progress=progress)
    return tidy([row for rows in found for row in rows], experiment=NAME, arch="mlp", task="regrouped patches")


def unit_strengths(activation: str, mean: Tensor, sd: Tensor) -> np.ndarray:
    """Centred alpha of f at N(mean, sd^2), one value a unit; constant units are left out.

    >>> unit_strengths("relu", torch.zeros(2), torch.tensor([1.0, 0.0])).round(4).tolist()
    [0.4669]
    """
    varied = sd > 0
    a, b = sd[varied].double().cpu().numpy(), mean[varied].double().cpu().numpy()
    a = a.clip(1e-3, 1e3)
    return both_strengths(activation, a, a * (b / a).clip(-_REACH, _REACH))[1]


def _train_stream(config: Config, activation: str, device: torch.device) -> list[tuple]:
    source = load("patches", device)
    chosen = torch.cat([torch.arange(source.classes) * 10 + view for view in range(config.views)]).to(device)
    x, patch = source.inputs[chosen].flatten(1), source.targets[chosen]  # (N, inputs), (N,)
    shape = MLPConfig(source.size, config.widths, config.groups, activation=activation)
    stack = Stack([MLP(shape, seed=seed).to(device) for seed in config.seeds])
    optimizer = torch.optim.Adam(stack.parameters(), lr=config.lr)
    generators = [torch.Generator().manual_seed(seed) for seed in config.seeds]
    rows = _measure(config, activation, stack, x, task=0)
    for task in range(1, config.tasks + 1):
        labels = torch.stack([torch.randint(config.groups, (source.classes,), generator=g) for g in generators])
        y = labels.to(device)[:, patch]  # (seeds, N)
        zero_head(stack)
        train_ensemble(stack, optimizer, _minibatches(config, x, y, generators), steps=config.steps)
        with torch.no_grad():
            hits = (stack(x.expand(stack.members, *x.shape)).argmax(-1) == y).double().mean(1)  # (seeds,)
        rows += [
            (seed, activation, task, "all", "accuracy", float(h)) for seed, h in zip(config.seeds, hits, strict=True)
        ]
        rows += _measure(config, activation, stack, x, task=task)
    return rows


def _minibatches(
    config: Config, x: Tensor, y: Tensor, generators: list[torch.Generator]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One task's minibatches for all seeds, drawn with replacement: (seeds, batch, inputs) and (seeds, batch)."""
    for _ in range(config.steps):
        drawn = [torch.randint(len(x), (config.batch_size,), generator=g) for g in generators]
        picks = torch.stack(drawn).to(x.device)
        yield x[picks], y.gather(1, picks)


def _measure(config: Config, activation: str, stack: Stack, x: Tensor, *, task: int) -> list[tuple]:
    rows = []
    for member, seed in enumerate(config.seeds):
        net = stack.member(member)
        by_metric: dict[str, list[float]] = {}
        for i, (name, layer) in enumerate(record(net, x).items()):
            for metric, value in _layer(config, activation, net.hidden[i].activation, layer).items():
                rows.append((seed, activation, task, name, metric, value))
                by_metric.setdefault(metric, []).append(value)
        rows += [(seed, activation, task, "mean", metric, float(np.mean(v))) for metric, v in by_metric.items()]
    return rows


def _layer(config: Config, activation: str, module: nn.Module, layer: LayerRecord) -> dict[str, float]:
    z = layer.pre_activation  # (N, units)
    quiet = derivative(module, layer).abs() < config.tolerance
    return {
        "pre_activation_sd": float(z.std(0).mean()),
        "frozen": float(quiet.double().mean()),
        "frozen_units": float(quiet.all(0).double().mean()),
        "alpha": float(np.median(unit_strengths(activation, z.mean(0), z.std(0)))),
    }
