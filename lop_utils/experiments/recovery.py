"""Can lost plasticity be brought back? Networks worn by a stream of tasks, each remedy, and what they learn afterwards.

The stream is that of `experiments.continual`: the same images, grouped anew for every task. After `tasks` tasks every
remedy gets the same worn networks and their optimizer's state, and learns `further` tasks of the stream with the same
budget; newly initialised networks learn each of these tasks beside them.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments import continual
from lop_utils.experiments.continual import FRESH_SEEDS, Runner, learn, start
from lop_utils.experiments.continual_reading import select
from lop_utils.experiments.recovery_remedies import FRESH, REMEDIES, WORN
from lop_utils.experiments.tidy import tidy
from lop_utils.profiles import check as check_profile
from lop_utils.streams.tasks import Task, members_task
from lop_utils.training.checkpoint import current
from lop_utils.training.side_by_side import side_by_side

NAME = "recovery"


@dataclass(frozen=True)
class Config:
    """MLPs on `tasks` regroupings of the patches, then `further` ones under every remedy; Adam; head zeroed each task.

    Within a further task the accuracy on the task's images is taken every `every` steps; `threshold` is the accuracy
    whose first step is noted.
    """

    remedies: tuple[str, ...] = tuple(REMEDIES)
    source: str = "patches"
    widths: tuple[int, ...] = (64, 64, 64, 64)
    lr: float = 0.005
    batch_size: int = 50
    steps: int = 200
    tasks: int = 36
    further: int = 4
    every: int = 10
    threshold: float = 0.5
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name in self.remedies:
            check_choice("remedy", name, REMEDIES)
        if min(self.tasks, self.further, len(self.seeds)) < 1 or not 1 <= self.every <= self.steps:
            problem = f"tasks {self.tasks}, further {self.further}, every {self.every} of {self.steps} steps"
            raise UsageError(problem, remedy="give at least 1 task of either kind and seed, and 1 <= every <= steps")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes: dict[str, object] = {
        "smoke": {"tasks": 2, "further": 2, "steps": 20, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {
            "widths": (128,) * 5, "lr": 0.001, "steps": 480, "tasks": 40, "seeds": tuple(range(seed, seed + 5)),
        },
    }[check_profile(profile)]  # fmt: skip
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """Wear, then all remedies; one row per (seed, method, step, layer, metric), step the number of the task.

    method: "worn" (the untreated networks, in the tasks 1, 2, ... of the wear as well), "fresh" (new networks for each
    further task) or a remedy. Metrics are those of `experiments.continual`, and for further tasks in layer "all"
    steps_to_threshold (steps + every when it was not reached) and, in layers "after 10", ..., learning_accuracy: the
    accuracy on the task's images so many steps into the task.
    """
    worn = wear(config, torch.device(device))
    parts = [(config, worn, name) for name in (WORN, *config.remedies, FRESH)]
    found = side_by_side(_further_rows, parts, device=device, progress=progress)
    rows = worn.rows + [row for part in found for row in part]
    return tidy(rows, experiment=NAME, arch="mlp", task=f"regrouped {config.source}")


def _further_rows(config: Config, worn: Runner, name: str) -> list[tuple]:
    """The rows of the further tasks: of the worn networks under one remedy, or of fresh ones in each."""
    if name == FRESH:
        return [
            row for index in further(config) for row in learn_timed(config, newborn(worn, FRESH, index), index).rows
        ]
    runner = treated(config, worn, name)
    for index in further(config):
        learn_timed(config, runner, index)
    return runner.rows


def further(config: Config) -> range:
    """Indices (0, 1, ...) of the tasks after the wear."""
    return range(config.tasks, config.tasks + config.further)


def wear(config: Config, device: torch.device) -> Runner:
    """The networks of all seeds at the end of the stream, with their optimizer's state and the rows of the way there.

    The units are measured at the end of the first and of the last task.
    """
    stream = continual.Config(
        settings=(("groups", 5), ("views", 1)), source=config.source, widths=config.widths, lr=config.lr,
        batch_size=config.batch_size, steps=config.steps, tasks=config.tasks, measured=config.tasks, fresh=(),
        seeds=config.seeds,
    )  # fmt: skip
    runner = start(stream, device, method=WORN)
    kept = current().place("wear", stream)
    for index in range(runner.resume(kept.load()), config.tasks):
        learn(runner, members_task(runner.streams, index))
        kept.save(partial(runner.state, index + 1), last=index + 1 == config.tasks)
    runner.config = replace(stream, measured=1)
    return runner


def treated(config: Config, worn: Runner, name: str) -> Runner:
    """A copy of the worn networks, optimizer's state included, with one remedy in place; `worn` stays as it is."""
    check_choice("remedy", name, (WORN, *REMEDIES))
    if name == WORN:
        return copied(worn, WORN)
    remedy = REMEDIES[name]
    if remedy.anew:
        return newborn(worn, name, config.tasks)
    runner = copied(worn, name, dropout=remedy.dropout, weight_decay=remedy.weight_decay)
    if remedy.apply is not None:
        remedy.apply(runner, next_images(runner))
    return runner


def next_images(runner: Runner) -> Tensor:
    """The images of the first task after the wear, (members, N, ...)."""
    return members_task(runner.streams, runner.config.tasks).inputs


def copied(worn: Runner, method: str, **changes: float) -> Runner:
    """The networks of `worn` and their optimizer's state, as new objects, with `changes` of its configuration."""
    runner = start(replace(worn.config, **changes), worn.source.inputs.device, method=method)
    with torch.no_grad():
        for name, tensor in runner.stack.tensors.items():
            tensor.copy_(worn.stack.tensors[name])
    runner.optimizer.load_state_dict(deepcopy(worn.optimizer.state_dict()))
    for group in runner.optimizer.param_groups:
        group["weight_decay"] = runner.config.weight_decay
    runner.gone = None if worn.gone is None else worn.gone.clone()
    return runner


def newborn(worn: Runner, method: str, index: int) -> Runner:
    """Newly initialised networks with a new optimizer, of the same shape and on the same streams, for task `index`.

    Those called "fresh" and others are different draws.
    """
    shift = (1 if method == FRESH else 2) * FRESH_SEEDS + index
    return start(worn.config, worn.source.inputs.device, method=method, shift=shift)


def learn_timed(config: Config, runner: Runner, index: int) -> Runner:
    """One task, with its learning curve; the rows are added to the runner's."""
    task, curve = members_task(runner.streams, index), []
    taken = iter(range(1, config.steps + 1))

    def look(*_: object) -> None:
        if next(taken) % config.every == 0:
            curve.append(accuracy_on(runner, task))

    handle = runner.optimizer.register_step_post_hook(look)
    learn(runner, task)
    handle.remove()
    reached = torch.stack(curve) >= config.threshold  # (looks, members)
    first = torch.where(reached.any(0), reached.double().argmax(0) + 1, len(curve) + 1)
    runner.add(index + 1, "all", "steps_to_threshold", first * config.every)
    for i, values in enumerate(curve):
        runner.add(index + 1, f"after {(i + 1) * config.every}", "learning_accuracy", values)
    return runner


@torch.no_grad()
def accuracy_on(runner: Runner, task: Task) -> Tensor:
    """Accuracy of every member on the images of its task, (members,)."""
    outputs = runner.stack.eval()(task.inputs)
    runner.stack.train()
    return (outputs.argmax(-1) == task.targets).double().mean(1)


def further_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks after the wear: those that fresh networks learn too."""
    return frame[frame["step"] >= frame.loc[frame["method"] == FRESH, "step"].min()]


def values(frame: pd.DataFrame, method: str, metric: str, *, layer: str | None = None) -> pd.Series:
    """Mean over the further tasks, a value a seed; layer as in `continual_reading.select` unless given.

    The metrics that only this experiment has are of layer "all".
    """
    layer = layer or ("all" if metric == "steps_to_threshold" else None)
    rows = select(further_rows(frame), metric, layer=layer, method=method)
    if rows.empty:
        raise UsageError(f"no {metric} of {method} in the further tasks", remedy="see the columns metric and method")
    return rows.groupby("seed")["value"].mean()


def gaps(frame: pd.DataFrame, metric: str = "accuracy", *, layer: str | None = None) -> pd.DataFrame:
    """Fresh minus method, means over the further tasks, paired by seed; columns method, seed, value."""
    fresh = values(frame, FRESH, metric, layer=layer)
    found = {m: fresh - values(frame, m, metric, layer=layer) for m in frame["method"].unique() if m != FRESH}
    return pd.concat([gap.rename("value").reset_index().assign(method=m) for m, gap in found.items()])[
        ["method", "seed", "value"]
    ]
