"""The conserved quantities of ReLU units over a stream of tasks: how far they drift, and whether they foretell death.

Q_u = ||w_u||^2 + b_u^2 - ||a_u||^2 (w incoming, a outgoing weights of a hidden unit) is constant under gradient flow,
whatever the data. A step of SGD with L2 of strength c changes it to (1 - lr c)^2 Q_u + lr^2 q_u, with q_u the same
expression in the gradients: exactly. Networks learn random labels of the same images again and again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments import continual
from lop_utils.experiments.tidy import tidy
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.tasks import Task, members_task
from lop_utils.training.side_by_side import side_by_side

NAME = "conserved"
RULES: dict[str, tuple[str, float, float]] = {
    "SGD .2": ("sgd", 0.2, 0.0),
    "SGD .1": ("sgd", 0.1, 0.0),
    "SGD .05": ("sgd", 0.05, 0.0),
    "SGD .1, L2": ("sgd", 0.1, 1e-3),
    "Adam": ("adam", 0.003, 0.0),
    "Adam, L2": ("adam", 0.003, 1e-4),
}
"""Name -> optimizer, learning rate, strength of L2."""
PREDICTORS = ("level", "imbalance", "incoming", "outgoing")


@dataclass(frozen=True)
class Config:
    """`seeds` networks under each of `rules`, `tasks` tasks; SGD for `time` = steps x rate a task, Adam for `steps`."""

    rules: tuple[str, ...] = tuple(RULES)
    source: str = "digits"
    samples: int = 200
    widths: tuple[int, ...] = (32, 32)
    time: float = 25.0
    steps: int = 250
    tasks: int = 16
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for rule in self.rules:
            check_choice("rule", rule, RULES)
        if not self.time > 0 or min(self.steps, self.tasks, len(self.seeds)) < 1:
            problem = f"time {self.time}, steps {self.steps}, tasks {self.tasks}, seeds {self.seeds}"
            raise UsageError(problem, remedy="give a positive time, a step, a task and a seed")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes: dict[str, object] = {
        "smoke": {"time": 2.0, "steps": 20, "tasks": 2, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128, 128), "tasks": 40, "time": 50.0, "steps": 500,
                  "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]  # fmt: skip
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (method = rule, seed, step = number of the task, layer, metric); step 0 is the initialisation.

    Layer "mean", over all hidden units: level_sd (standard deviation of Q), drift (root mean square of Q minus its
    start), size (root mean square of ||w||^2 + b^2 + ||a||^2), dead (share of units silent on the images), negative
    (share with Q < 0), and for SGD predicted_error: the largest gap to the prediction in units of drift. Layer "all":
    online_accuracy and the other metrics of `experiments.continual`. At the last step, layer "auc <predictor>": metric
    auc, how well *low* values of the predictor before a task say which living units are dead after it (0.5: not at
    all; absent when none died); layer "all", metric deaths: how many did.
    """
    parts = [(config, rule, torch.device(device)) for rule in config.rules]
    found = side_by_side(_stream, parts, device=device, progress=progress)
    return tidy(
        [row for rows in found for row in rows], experiment=NAME, arch="mlp", task=f"random_labels {config.source}"
    )


def stream_config(config: Config, rule: str) -> continual.Config:
    """The stream of `experiments.continual` that a rule's networks learn; the head stays from task to task."""
    optimizer, lr, decay = RULES[rule]
    steps = round(config.time / lr) if optimizer == "sgd" else config.steps
    return continual.Config(
        stream="random_labels", settings=(("labels", 10), ("samples", config.samples)), source=config.source,
        widths=config.widths, optimizer=optimizer, lr=lr, weight_decay=decay, steps=steps, tasks=config.tasks,
        head="keep", fresh=(), seeds=config.seeds,
    )  # fmt: skip


def parts(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """||w||^2 + b^2 and ||a||^2 of all hidden units of a stack, layer after layer: two of (members, units), float64."""
    names = [name.removesuffix(".weight") for name in tensors if name.endswith("linear.weight")]
    into, out = [], []
    for name, reader in zip(names, [*names[1:], "head"], strict=True):
        w, b, a = (tensors[key].detach().double() for key in (f"{name}.weight", f"{name}.bias", f"{reader}.weight"))
        into.append(w.square().sum(2) + b.square())
        out.append(a.square().sum(1))
    return torch.cat(into, 1), torch.cat(out, 1)


class Prediction:
    """Follows Q through every step of SGD from the gradients alone; `level` is what it should be now."""

    def __init__(self, stack: Stack, optimizer: torch.optim.Optimizer):
        into, out = parts(stack.tensors)
        self.stack, self.level = stack, into - out
        optimizer.register_step_pre_hook(self._step)

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        group = optimizer.param_groups[0]
        into, out = parts({name: p.grad for name, p in self.stack.tensors.items()})
        self.level = (1 - group["lr"] * group["weight_decay"]) ** 2 * self.level + group["lr"] ** 2 * (into - out)


def _stream(config: Config, rule: str, device: torch.device) -> list[tuple]:
    runner = continual.start(stream_config(config, rule), device, method=rule)
    predicted = Prediction(runner.stack, runner.optimizer) if RULES[rule][0] == "sgd" else None
    first = members_task(runner.streams, 0)
    start, silent = _units(runner.stack)["level"], _silent(runner.stack, first)
    _note(runner, 0, start, silent, None)
    fates: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
    for index in range(config.tasks):
        task, before, was = members_task(runner.streams, index), _units(runner.stack), silent
        continual.learn(runner, task, measured=False)
        silent = _silent(runner.stack, task)
        fates.append((before, ~was, silent))
        _note(runner, index + 1, start, silent, predicted)
    for i, seed in enumerate(config.seeds):
        deaths = sum(int((living[i] & dead[i]).sum()) for _, living, dead in fates)
        runner.rows.append((seed, rule, config.tasks, "all", "deaths", float(deaths)))
        for name in PREDICTORS:
            groups = [(-before[name][i][living[i]], dead[i][living[i]]) for before, living, dead in fates]
            if any(died.any() and not died.all() for _, died in groups):
                runner.rows.append((seed, rule, config.tasks, f"auc {name}", "auc", auc(groups)))
    return runner.rows


def _units(stack: Stack) -> dict[str, Tensor]:
    into, out = parts(stack.tensors)
    level = into - out
    return {"level": level, "imbalance": level / (into + out), "incoming": into, "outgoing": out}


@torch.no_grad()
def _silent(stack: Stack, task: Task) -> Tensor:
    """Units with no positive pre-activation on the task's images, (members, units)."""
    h, found, t = task.inputs.flatten(2), [], stack.tensors
    for i in range(len(stack.skeleton.hidden)):
        z = torch.baddbmm(t[f"hidden.{i}.linear.bias"][:, None], h, t[f"hidden.{i}.linear.weight"].mT)
        found.append((z <= 0).all(1))
        h = z.relu()
    return torch.cat(found, 1)


def _note(runner: continual.Runner, step: int, start: Tensor, silent: Tensor, predicted: Prediction | None) -> None:
    into, out = parts(runner.stack.tensors)
    level = into - out
    drift = (level - start).square().mean(1).sqrt()
    values = {"level_sd": level.std(1), "drift": drift, "size": (into + out).square().mean(1).sqrt()}
    values |= {"dead": silent.double().mean(1), "negative": (level < 0).double().mean(1)}
    if predicted is not None:
        values["predicted_error"] = (level - predicted.level).abs().amax(1) / drift
    for metric, value in values.items():
        runner.add(step, "mean", metric, value)


def auc(groups: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Probability that a positive has the higher score than a negative of its own group, ties counted half.

    `groups` are (scores, positive) pairs; groups (tasks) are not compared with each other, since both scores and deaths
    change along a stream. The Mann-Whitney statistic, over all pairs within groups.

    >>> auc([(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True]))])
    0.75
    """
    wins, pairs = 0.0, 0
    for scores, positive in groups:
        ranks, n = rankdata(scores.cpu().numpy()), int(positive.sum())
        wins += float(ranks[positive.cpu().numpy()].sum()) - n * (n + 1) / 2
        pairs += n * (len(ranks) - n)
    return wins / pairs
