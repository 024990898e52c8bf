"""A league of interventions on one classification stream: tuned on some seeds, judged on others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain

import pandas as pd
import torch

from lop_utils.experiments.continual import Config as StreamConfig
from lop_utils.experiments.continual import train_stream
from lop_utils.experiments.league_entrants import ENTRANTS, Entrant, entrant
from lop_utils.experiments.tidy import tidy
from lop_utils.profiles import check as check_profile
from lop_utils.training.side_by_side import side_by_side

NAME = "league"
TUNING, JUDGED = "tuning", "judged"


@dataclass(frozen=True)
class Config:
    """Regrouped patches, one view of each of 200 classes in 5 random groups a task; Adam; MLP of `widths`; zeroed head.

    Tuning: each value of an entrant runs for `tuning_tasks` tasks on every seed of `tuning_seeds`; the value with the
    highest accuracy at the task's end, averaged over the last `late` of those tasks and the seeds, is the entrant's.
    Judging: `tasks` tasks on every seed of `seeds`. Fresh plain networks learn the last `late` tasks with the same
    budget. Every entrant has at most as many settings as runs in the tuning: an equal budget.
    """

    entrants: tuple[str, ...] = tuple(ENTRANTS)
    widths: tuple[int, ...] = (32,) * 6
    lr: float = 0.007
    batch_size: int = 100
    steps: int = 100
    tasks: int = 24
    tuning_tasks: int = 10
    late: int = 4
    tuning_seeds: tuple[int, ...] = (100, 101)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name in self.entrants:
            entrant(name)


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile: judged seeds `seed`, `seed` + 1, ..., tuning seeds 100 above them."""
    small = {"steps": 20, "tasks": 3, "tuning_tasks": 2, "late": 1, "tuning_seeds": (seed + 100,)}
    sizes: dict[str, object] = {
        "smoke": small | {"seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5)), "tuning_seeds": (seed + 100, seed + 101)},
        "paper": {
            "seeds": tuple(range(seed, seed + 10)),
            "tuning_seeds": (seed + 100, seed + 101, seed + 102),
            "widths": (128,) * 5, "lr": 0.001, "batch_size": 50, "steps": 480, "tasks": 40, "tuning_tasks": 40,
        },
    }[check_profile(profile)]  # fmt: skip
    return replace(Config(), **(overrides | sizes if profile == "smoke" else sizes | overrides))


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """Tuning and judging of all entrants; one row per (seed, method, layer, step, metric), step the task's number.

    method: the entrant, or "fresh". layer: "tuning 0.01" (the value tried) or "judged". Metrics: accuracy and
    online_accuracy of every task; chosen (step 0, layer "judged"): the value that tuning chose; of the last judged task
    the means over layers of dead, duplicate, effective_rank and pre_activation_sd, and the weight_norm of the network.
    """
    parts = [(config, name, device) for name in config.entrants]
    found = side_by_side(_entered, parts, device=device, progress=progress)
    return tidy(chain.from_iterable(found), experiment=NAME, arch="mlp", task="regrouped patches")


def _entered(config: Config, name: str, device: torch.device | str) -> list[tuple]:
    """Tuning and judging of one entrant."""
    tried = {value: _tuning(config, name, value, device) for value in _tried(ENTRANTS[name])}
    rows = [row for found in tried.values() for row in found]
    chosen = max(tried, key=lambda value: _late(tried[value], config.late)) if tried else ENTRANTS[name].values[0]
    rows += [(seed, name, 0, JUDGED, "chosen", chosen) for seed in config.seeds]
    return rows + _judged(config, name, chosen, device)


def stream_config(config: Config, name: str, value: float) -> StreamConfig:
    """The run of one entrant with one value, on the judged seeds."""
    change = dict(ENTRANTS[name].change(value))
    lr = config.lr * change.pop("lr_factor", 1.0)
    shape = {"widths": config.widths, "lr": lr, "batch_size": config.batch_size, "steps": config.steps}
    length = {"tasks": config.tasks, "measured": config.tasks, "fresh": (), "seeds": config.seeds}
    return StreamConfig(settings=(("groups", 5), ("views", 1)), **(shape | length | change))


def _tried(entrant: Entrant) -> tuple[float, ...]:
    """The values that are compared: none where there is nothing to choose."""
    return entrant.values if len(entrant.values) > 1 else ()


def _train(run: StreamConfig, name: str, value: float, device: torch.device | str) -> list[tuple]:
    install = ENTRANTS[name].install
    put = None if install is None else lambda optimizer, stack: install(optimizer, stack, value)
    return train_stream(run, torch.device(device), method=name, install=put)


def _tuning(config: Config, name: str, value: float, device: torch.device | str) -> list[tuple]:
    run = replace(stream_config(config, name, value), tasks=config.tuning_tasks, seeds=config.tuning_seeds)
    found = _train(replace(run, measured=run.tasks + 1), name, value, device)
    layer = f"{TUNING} {value:g}"
    return [(seed, name, step, layer, metric, v) for seed, _, step, _, metric, v in found if metric == "accuracy"]


def _late(rows: list[tuple], late: int) -> float:
    """Mean accuracy over seeds and the last `late` tasks."""
    last = max(step for _, _, step, _, _, _ in rows)
    values = [value for _, _, step, _, _, value in rows if step > last - late]
    return sum(values) / len(values)


_SYMPTOMS = {"dead": "mean", "duplicate": "mean", "effective_rank": "mean", "pre_activation_sd": "mean"}
_KEPT = _SYMPTOMS | dict.fromkeys(("weight_norm", "accuracy", "online_accuracy", "diverged"), "all")


def _judged(config: Config, name: str, value: float, device: torch.device | str) -> list[tuple]:
    """The judged rows of one entrant; those of "none" have the fresh networks beside them."""
    run = stream_config(config, name, value)
    if name == "none":
        run = replace(run, fresh=tuple(range(config.tasks - config.late + 1, config.tasks + 1)))
    rows = []
    for seed, method, step, layer, metric, v in _train(run, name, value, device):
        if _KEPT.get(metric) == layer and (step == config.tasks or metric not in (*_SYMPTOMS, "weight_norm")):
            rows.append((seed, "fresh" if method.startswith("fresh") else name, step, JUDGED, metric, v))
    return rows
