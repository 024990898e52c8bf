"""Continual learning: one network on a stream of tasks, beside fresh networks that get the same tasks and budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.networks import ARCHITECTURES, network
from lop_utils.experiments.symptoms import symptoms
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.trainability import diagnose
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.sources import Source, load
from lop_utils.streams.tasks import Stream, Task, make_stream, members_task
from lop_utils.training.checkpoint import current
from lop_utils.training.ensemble import mask, member_cross_entropy, train_ensemble, zero_head
from lop_utils.training.resuming import hooked, restore, state_of

NAME = "continual"
CONVENTIONS = ("as_published", "as_coded")
HEADS = ("zero", "keep")
FRESH_SEEDS = 20_000  # fresh networks are drawn from the run's seed plus this plus the task's index
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Config:
    """One architecture on one stream, `tasks` tasks of `steps` steps, all seeds at once.

    stream, settings: a name of `streams.tasks.STREAMS` and its keyword arguments; head: set to ``zero`` at each task as
    the paper does, or ``keep``. convention: accuracy over the task's classes (as_published) or over all outputs
    (as_coded); the loss is over the task's classes in both. measured: every so many tasks the units are measured at the
    task's end, on at most `samples` of its images. fresh: tasks (1, 2, ...) that fresh networks are trained on too;
    diagnosed: tasks at whose start the network is examined before it learns.
    """

    stream: str = "regrouped"
    settings: tuple[tuple[str, int], ...] = (("groups", 5), ("views", 2))
    source: str = "patches"
    arch: str = "mlp"
    widths: tuple[int, ...] = (128,) * 5
    blocks: int = 1
    activation: str = "relu"
    norm: str = "none"
    affine: bool = True
    dropout: float = 0.0
    gain: float = 1.0
    optimizer: str = "adam"
    lr: float = 0.001
    weight_decay: float = 0.0
    batch_size: int = 50
    tasks: int = 40
    steps: int = 480
    head: str = "zero"
    convention: str = "as_published"
    measured: int = 1
    samples: int = 500
    fresh: tuple[int, ...] = (20, 40)
    diagnosed: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_choice("architecture", self.arch, ARCHITECTURES)
        check_choice("head", self.head, HEADS)
        check_choice("convention", self.convention, CONVENTIONS)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if min(self.tasks, self.steps, self.measured, len(self.seeds)) < 1:
            problem = f"tasks {self.tasks}, steps {self.steps}, measured {self.measured}, seeds {self.seeds}"
            raise UsageError(problem, remedy="give at least one of each")

    @property
    def method(self) -> str:
        """Normalisation and what else differs from the plain network, as a label."""
        return self.norm if self.affine or self.norm == "none" else f"{self.norm} without affine"


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ...; tasks beyond the stream's end are dropped."""
    sizes: dict[str, object] = {
        "smoke": {"tasks": 3, "steps": 30, "fresh": (3,), "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    config = replace(Config(), **(overrides | sizes if profile == "smoke" else sizes | overrides))
    within = {name: tuple(t for t in getattr(config, name) if t <= config.tasks) for name in ("fresh", "diagnosed")}
    return replace(config, **within)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs; one row per (seed, method, step, layer, metric), step the number of the task, 1, 2, ...

    Layer "all": online_accuracy and online_loss (each minibatch before its update, mean over the task), accuracy, loss
    and test_accuracy at the task's end, diverged (1 from the task on in which a loss was not finite). By layer and as
    their mean ("mean"): the `symptoms`, at the task's end and, with the prefix start_, at the start of diagnosed tasks,
    there with the diagnostics of `metrics.trainability` (layer "all"). Methods: `config.method`, and the same with
    "fresh " in front for the fresh networks, which have accuracies and losses only.
    """
    return tidy(
        train_stream(config, torch.device(device), progress=progress),
        experiment=NAME,
        arch=config.arch,
        task=f"{config.stream} {config.source}",
    )


@dataclass
class Runner:
    """All members of one configuration in the middle of their streams."""

    config: Config
    source: Source
    streams: list[Stream]
    stack: Stack
    optimizer: torch.optim.Optimizer
    method: str
    rows: list[tuple] = field(default_factory=list)
    gone: Tensor | None = None  # members that have diverged

    def add(self, step: int, layer: str, metric: str, values: Sequence[float] | Tensor) -> None:
        """One row a member."""
        listed = values.tolist() if torch.is_tensor(values) else values
        pairs = zip(self.config.seeds, listed, strict=True)
        self.rows += [(seed, self.method, step, layer, metric, float(value)) for seed, value in pairs]

    def state(self, done: int) -> dict:
        """All that is needed to go on after `done` tasks."""
        return {"done": done, "rows": self.rows, "gone": self.gone, **state_of(self.stack, self.optimizer)}

    def resume(self, state: dict | None) -> int:
        """Go on from `state()` and return how many tasks are done; 0 and nothing else for None."""
        if state is None:
            return 0
        self.rows, self.gone = state["rows"], state["gone"]
        restore(self.stack, self.optimizer, state)
        return state["done"]


def start(config: Config, device: torch.device, *, method: str | None = None, shift: int = 0) -> Runner:
    """Networks at their initialisation (drawn from seed + shift) with their optimizer and streams."""
    source = load(config.source, device)
    streams = [make_stream(config.stream, source, seed=seed, **dict(config.settings)) for seed in config.seeds]
    seeds = [seed + shift for seed in config.seeds]
    stack = Stack([network(config, source, streams[0].outputs, seed) for seed in seeds], seeds=seeds).to(device)
    rule = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": device.type in ("cpu", "cuda")}
    optimizer = OPTIMIZERS[config.optimizer](stack.parameters(), **rule)
    return Runner(config, source, streams, stack, optimizer, method or config.method)


def train_stream(
    config: Config,
    device: torch.device,
    *,
    method: str | None = None,
    install: Callable[[torch.optim.Optimizer, Stack], Callable[[int], None] | None] | None = None,
    progress: Callable = iter,
) -> list[tuple]:
    """The rows (seed, method, step, layer, metric, value) of one configuration; `run` makes a frame of them.

    `install(optimizer, stack)` puts an intervention in place; what it returns, if anything, is called with the index of
    each task (0, 1, ...) before it is learned. After a task the run leaves a checkpoint if it is time for one, and goes
    on from there when it is called again; what is installed must therefore keep its state as `resuming.hooked` says.
    """
    runner = start(config, device, method=method)
    at_task = install(runner.optimizer, runner.stack) if install else None
    kept = current().place(NAME, config, runner.method)
    for index in progress(range(runner.resume(kept.load()), config.tasks)):
        task = members_task(runner.streams, index)
        if at_task is not None:
            at_task(index)
        learn(runner, task)
        if index + 1 in config.fresh:
            fresh = start(config, device, method=f"fresh {runner.method}", shift=FRESH_SEEDS + index)
            learn(fresh, task, measured=False)
            runner.rows += fresh.rows
        if hooked(runner.optimizer) is not None:
            kept.save(partial(runner.state, index + 1), last=index + 1 == config.tasks)
    return runner.rows


def learn(runner: Runner, task: Task, *, measured: bool = True) -> None:
    """One task: head, diagnosis, training, and the rows of its end."""
    config, step = runner.config, task.index + 1
    if measured and step in config.diagnosed:
        _examine(runner, task, step)
    if config.head == "zero":
        zero_head(runner.stack)
    batch_seeds = [seed * 1_000 + task.index for seed in config.seeds]
    stream = member_batches(task.inputs, task.targets, batch_size=config.batch_size, seeds=batch_seeds)
    scored = task.active if config.convention == "as_published" else torch.ones_like(task.active)
    runner.stack.train()
    outcome = train_ensemble(
        runner.stack, runner.optimizer, stream, steps=config.steps, active=task.active, scored=scored
    )
    _note_outcome(runner, task, step, outcome.online_accuracy, outcome.online_loss, scored)
    now = torch.tensor([at is not None for at in outcome.diverged_at])
    runner.gone = now if runner.gone is None else runner.gone | now
    runner.add(step, "all", "diverged", runner.gone.double())
    if measured and (step % config.measured == 0 or step == 1):
        _note_symptoms(runner, task, step)


@torch.no_grad()
def _note_outcome(
    runner: Runner, task: Task, step: int, online_accuracy: Tensor, online_loss: Tensor, scored: Tensor
) -> None:
    runner.add(step, "all", "online_accuracy", online_accuracy)
    runner.add(step, "all", "online_loss", online_loss)
    stack = runner.stack.eval()
    outputs = _evaluate(stack, task.inputs)
    runner.add(step, "all", "loss", member_cross_entropy(outputs, task.targets, task.active))
    runner.add(step, "all", "accuracy", _accuracy(outputs, task.targets, scored))
    if task.test_inputs.shape[1]:
        outputs = _evaluate(stack, task.test_inputs)
        runner.add(step, "all", "test_accuracy", _accuracy(outputs, task.test_targets, scored))


def _evaluate(stack: Stack, x: Tensor, rows: int = 1000) -> Tensor:
    return torch.cat([stack(part) for part in x.split(rows, dim=1)], dim=1)


def _accuracy(outputs: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    return (mask(outputs, scored).argmax(-1) == targets).double().mean(1)


def _note_symptoms(runner: Runner, task: Task, step: int, prefix: str = "") -> None:
    """The symptoms of every member that has not diverged."""
    for i, seed in enumerate(runner.config.seeds):
        if runner.gone is None or not runner.gone[i]:
            x, y = task.inputs[i, : runner.config.samples], task.targets[i, : runner.config.samples]
            found = symptoms(runner.stack.member(i), x, y, active=task.active[i])
            runner.rows += [(seed, runner.method, step, layer, prefix + name, value) for layer, name, value in found]


def _examine(runner: Runner, task: Task, step: int) -> None:
    """What is known of the network before it learns: symptoms on the new images, and its diagnosis."""
    _note_symptoms(runner, task, step, prefix="start_")
    for i, seed in enumerate(runner.config.seeds):
        if runner.gone is None or not runner.gone[i]:
            x, y = task.inputs[i, : runner.config.samples], task.targets[i, : runner.config.samples]
            for name, value in diagnose(_probing(runner.stack.member(i), seed), x, y).items():
                runner.rows.append((seed, runner.method, step, "all", f"start_{name}", value))


def _probing(net: nn.Module, seed: int) -> nn.Module:
    """`net` with a newly drawn head: behind a head of zeros no hidden layer has a gradient to speak of."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.head.parameters():
            bound = net.head.in_features**-0.5
            p.copy_((torch.rand(p.shape, generator=generator) * 2 - 1) * bound)
    return net
