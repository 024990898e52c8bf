"""Forgetting is not loss of plasticity: two tasks, one after the other, and a fresh network beside the second.

Handwritten digits, first 0 to 4 and then 5 to 9, one network with ten outputs: the textbook set-up of catastrophic
forgetting. What is asked here besides: does the network learn the second task as well as a network that starts there?
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.experiments.tidy import tidy
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.loop import probe_steps, train

NAME = "two_tasks"
TASKS = ("first", "second")


@dataclass(frozen=True)
class Config:
    """`steps` SGD steps on each of two tasks, for each seed; test accuracies at `probes` steps a task."""

    source: str = "digits"
    width: int = 100
    lr: float = 0.1
    batch_size: int = 32
    steps: int = 600
    probes: int = 31
    seeds: tuple[int, ...] = tuple(range(10))

    def __post_init__(self) -> None:
        if not self.seeds or self.steps < 1:
            raise UsageError(f"{len(self.seeds)} seeds, {self.steps} steps", remedy="have a seed and a step")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ...; there is no paper's size."""
    count = 2 if check_profile(profile) == "smoke" else 10
    sizes = {"steps": 60, "probes": 7} if profile == "smoke" else {}
    return replace(Config(seeds=tuple(range(seed, seed + count)), **sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """Test accuracy on each task (layer "all", metric accuracy_first, accuracy_second) of two methods.

    continual: trained on the first task and then on the second; fresh: on the second alone, from step `steps` on.
    """
    source, rows = load(config.source, device), []
    for seed in progress(config.seeds):
        network = _network(config, source, seed)
        rows += _train(config, source, network, "continual", 0, seed)
        rows += _train(config, source, network, "continual", 1, seed)
        rows += _train(config, source, _network(config, source, seed + 1_000), "fresh", 1, seed)
    return tidy(rows, experiment=NAME, arch=f"mlp {config.width}", task=config.source)


def _network(config: Config, source: Source, seed: int) -> nn.Module:
    shape = MLPConfig(source.size, (config.width,), source.classes)
    return MLP(shape, seed=seed).to(source.inputs)


def _train(config: Config, source: Source, network: nn.Module, method: str, task: int, seed: int) -> list[tuple]:
    """Train on one task; rows of both accuracies, at steps counted from the start of the first task."""
    rows: list[tuple] = []
    mine = _belongs(source.targets, source.classes, task)
    stream = batches(source.inputs[mine], source.targets[mine], batch_size=config.batch_size, seed=seed)

    def probe(step: int) -> None:
        with torch.no_grad():
            right = network(source.test_inputs).argmax(1) == source.test_targets
        for number, name in enumerate(TASKS):
            among = right[_belongs(source.test_targets, source.classes, number)]
            where = (seed, method, task * config.steps + step, "all", f"accuracy_{name}")
            rows.append((*where, float(among.double().mean())))

    optimizer = torch.optim.SGD(network.parameters(), lr=config.lr)
    due = probe_steps(config.steps, config.probes)[task if method == "continual" else 0 :]
    train(network, optimizer, stream, steps=config.steps, seed=seed, probe=probe, probe_at=due)
    return rows


def _belongs(targets: torch.Tensor, classes: int, task: int) -> torch.Tensor:
    """Which samples are of the task: the lower half of the classes, or the upper."""
    return (targets >= classes // 2) == bool(task)
