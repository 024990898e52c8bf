"""One task, learned from the same initialisation at many lengths of its hidden weights, with and without normalisation.

Behind a normalisation the networks start as one and the same function. What differs is how far a step turns them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.continual import OPTIMIZERS
from lop_utils.experiments.tidy import tidy
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.norms import NORMS
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.sources import Source, load
from lop_utils.streams.tasks import make_stream, members_task
from lop_utils.training.ensemble import train_ensemble, zero_head

NAME = "weight_scale"


@dataclass(frozen=True)
class Config:
    """`norms` x `optimizers` (name, rate) x `scales` x `seeds`: `steps` steps on one regrouping of the patches."""

    norms: tuple[str, ...] = NORMS
    optimizers: tuple[tuple[str, float], ...] = (("sgd", 0.1), ("adam", 0.003))
    scales: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64)
    widths: tuple[int, ...] = (64, 64, 64)
    steps: int = 240
    batch_size: int = 50
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for norm in self.norms:
            check_choice("norm", norm, NORMS)
        for optimizer, _ in self.optimizers:
            check_choice("optimizer", optimizer, OPTIMIZERS)
        if self.steps < 1 or not self.seeds or not all(scale > 0 for scale in self.scales):
            problem = f"steps {self.steps}, scales {self.scales}, {len(self.seeds)} seeds"
            raise UsageError(problem, remedy="give a step, a seed and positive scales")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"scales": (1, 8, 64), "steps": 20, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "steps": 500, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs; method "<norm> <optimizer>", layer "all", and as step the scale.

    Metrics: online_accuracy over the task, last_loss (on the last minibatch), diverged (1: a loss was not finite; the
    other two are then left out).
    """
    source, rows = load("patches", device), []
    for norm in progress(config.norms):
        for optimizer, lr in config.optimizers:
            rows += _learn(config, source, norm, optimizer, lr)
    return tidy(rows, experiment=NAME, arch="mlp", task="regrouped patches")


def scale_weights(net: MLP, by: float) -> None:
    """Multiply the weights and biases of the hidden layers; a normalisation's gain and shift stay as they are."""
    with torch.no_grad():
        for layer in net.hidden:
            for p in layer.linear.parameters():
                p *= by


def _learn(config: Config, source: Source, norm: str, optimizer: str, lr: float) -> list[tuple]:
    members = [(seed, scale) for seed in config.seeds for scale in config.scales]
    streams = [make_stream("regrouped", source, seed=seed, groups=5, views=1) for seed, _ in members]
    shape = MLPConfig(source.size, config.widths, streams[0].outputs, norm=norm)
    nets: list[nn.Module] = []
    for seed, scale in members:
        nets.append(MLP(shape, seed=seed))
        scale_weights(nets[-1], scale)
    stack = Stack(nets).to(source.inputs.device)
    zero_head(stack)
    task = members_task(streams, 0)
    order = [seed for seed, _ in members]
    stream = member_batches(task.inputs, task.targets, batch_size=config.batch_size, seeds=order)
    rule = OPTIMIZERS[optimizer](stack.parameters(), lr=lr)
    outcome = train_ensemble(stack, rule, stream, steps=config.steps)
    rows: list[tuple] = []
    for i, (seed, scale) in enumerate(members):
        gone = outcome.diverged_at[i] is not None
        measured = {"diverged": float(gone)}
        if not gone:
            measured |= {name: float(getattr(outcome, name)[i]) for name in ("online_accuracy", "last_loss")}
        rows += [(seed, f"{norm} {optimizer}", scale, "all", metric, value) for metric, value in measured.items()]
    return rows
