"""What an intervention costs: time of a training step with it over time of one without, timed side by side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time

import pandas as pd
import torch
from torch import Tensor

from lop_utils.experiments.continual import Runner, start
from lop_utils.experiments.league import Config as LeagueConfig
from lop_utils.experiments.league import preset as league_preset
from lop_utils.experiments.league import stream_config
from lop_utils.experiments.league_entrants import ENTRANTS
from lop_utils.experiments.tidy import tidy
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.tasks import members_task
from lop_utils.training.ensemble import train_ensemble

NAME = "league_cost"


@dataclass(frozen=True)
class Config:
    """Every entrant of `league` with its middle setting: `repeats` blocks of `steps` steps, in turn with "none"."""

    league: LeagueConfig = field(default_factory=LeagueConfig)
    repeats: int = 11
    steps: int = 12


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile."""
    sizes = {"smoke": {"repeats": 2, "steps": 3}}.get(check_profile(profile), {})
    return replace(Config(league=league_preset(profile, seed)), **(overrides | sizes))


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (method, block): metric cost, the ratio of the times of two blocks that ran one after the other.

    step is the number of the block; who goes first alternates. Times are those of the process on a CPU, of the
    clock on a GPU. They belong to the machine and the moment: unlike all other results, they differ from run to run.
    All are differentiated automatically, step by step: shortcuts that some entrants allow and others do not would
    count as a cost of the others.
    """
    device, rows = torch.device(device), []
    plain = _trainer(config, "none", device)
    for name in progress([name for name in config.league.entrants if name != "none"]):
        with_it = _trainer(config, name, device)
        for block in range(-1, config.repeats):  # the first is a warm-up
            pair = [plain, with_it] if block % 2 else [with_it, plain]
            seconds = {trainer: _seconds(trainer, device) for trainer in pair}
            if block >= 0:
                rows.append((config.league.seeds[0], name, block, "all", "cost", seconds[with_it] / seconds[plain]))
    return tidy(rows, experiment=NAME, arch="mlp", task="regrouped patches")


def _trainer(config: Config, name: str, device: torch.device) -> Callable[[], object]:
    """A function that trains one entrant for a block of steps."""
    entrant = ENTRANTS[name]
    value = entrant.values[len(entrant.values) // 2]
    runner = start(stream_config(config.league, name, value), device)
    if entrant.install is not None:
        entrant.install(runner.optimizer, runner.stack, value)
    batches, active = _batches(runner)
    settings = {"steps": config.steps, "active": active, "fast": False}
    return lambda: train_ensemble(runner.stack, runner.optimizer, batches, **settings)


def _batches(runner: Runner) -> tuple[Iterator[tuple[Tensor, Tensor]], Tensor]:
    config, task = runner.config, members_task(runner.streams, 0)
    runner.stack.train()
    stream = member_batches(task.inputs, task.targets, batch_size=config.batch_size, seeds=config.seeds)
    return stream, task.active


def _seconds(block: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begun = process_time()
        block()
        return process_time() - begun
    torch.cuda.synchronize(device)
    begun = perf_counter()
    block()
    torch.cuda.synchronize(device)
    return perf_counter() - begun
