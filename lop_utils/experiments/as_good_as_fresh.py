"""Is a network that has escaped from its clones as good as a fresh one?

The set-up is that of `experiments.cloning`: a base network, widened exactly. Every route out of the clones' manifold is
open for the first `escape` steps after cloning; from then on all networks are trained alike, by plain SGD, for long,
beside wide networks that were never cloned and had the same budget. At the end all of them, and newly initialised ones,
learn further tasks. All seeds and arms of one shape are one stack.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.escape_arms import with_dropout
from lop_utils.experiments.fresh_measures import FRESH, STUCK, lines, measure, scores
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.clone import widen
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.reset import reset_units
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches, shared_batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.ensemble import train_ensemble
from lop_utils.training.loop import probe_steps

NAME = "as_good_as_fresh"
NEW = "new"
ROUTES = ("noisy step", "noisy sgd", "dropout", "redrawn", "cbp")
ARMS = (STUCK, *ROUTES, FRESH)
TASKS = ("permuted inputs", "random labels")
_FRESH_SEEDS, _NEW_SEEDS, _TASK_SEEDS = 10_000, 20_000, 30_000


@dataclass(frozen=True)
class Config:
    """`seeds` x ARMS networks: `base_steps` of the base, `escape` steps of the route, SGD up to step `steps`.

    The fresh networks of the clone's width train base_steps + steps. Then `task_steps` on each of `tasks` from the same
    networks; random labels are for the first `random_images` images. `lr` and `batch_size` are those of every phase.
    """

    source: str = "mnist1d"
    widths: tuple[int, ...] = (16, 16, 16)
    activation: str = "relu"
    lr: float = 0.2
    batch_size: int = 128
    base_steps: int = 1000
    escape: int = 1000
    steps: int = 8000
    probes: int = 17
    sigma: float = 0.01
    decay: float = 0.999
    dropout: float = 0.1
    replacement_rate: float = 0.001
    tasks: tuple[str, ...] = TASKS
    task_steps: int = 3000
    random_images: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for task in self.tasks:
            check_choice("task", task, TASKS)
        if not 0 < self.escape < self.steps or min(self.base_steps, self.task_steps, len(self.seeds)) < 1:
            problem = f"{self.escape} of {self.steps} steps of escape, {len(self.seeds)} seeds"
            raise UsageError(problem, remedy="choose 0 < escape < steps, steps of every phase, and a seed")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    few = {"base_steps": 50, "escape": 50, "steps": 150, "probes": 4, "task_steps": 50, "random_images": 500}
    sizes: dict[str, object] = {
        "smoke": few | {"seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "base_steps": 20_000, "escape": 20_000, "steps": 100_000,
                  "task_steps": 20_000, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]  # fmt: skip
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All networks; one row per (seed, method, step, layer, metric). Step 0 is the cloning.

    Layer "all": train_loss, test_accuracy; "mean" over layers: r2 (forward, of the clone's partition; not for fresh
    networks) and the effective rank of raw activations. At the last step also, layer "line to fresh" and "line to
    clone": barrier, and distance (of the weights, over the norm of the network it is to), units matched; layer "line to
    other seed": the same for fresh networks among themselves. Further tasks: layer is the task, step the step in it,
    metrics train_loss, and online_loss and test_accuracy at the end; method "new" are networks born at that moment.
    """
    source, rows = load(config.source, device), []
    bases = _train(config, Stack(_born(config, source, config.seeds)), source, steps=config.base_steps)
    wide = _escaped(config, source, bases, rows)
    _train(config, wide, source, steps=config.steps - config.escape, shift=2, note=(rows, config.escape))
    rows += lines(wide, source, seeds=config.seeds, methods=ARMS, step=config.steps)
    new = [_wide(config, source, seed + _NEW_SEEDS) for seed in config.seeds]
    nets = [*wide.unstacked(), *new]
    for task in progress(config.tasks):
        rows += _further(config, source, Stack(nets), task)
    return tidy(rows, experiment=NAME, arch="mlp", task=config.source)


def _born(config: Config, source: Source, seeds: tuple[int, ...]) -> list[MLP]:
    shape = MLPConfig(source.size, config.widths, source.classes, activation=config.activation)
    return [MLP(shape, seed=seed).to(source.inputs) for seed in seeds]


def _wide(config: Config, source: Source, seed: int) -> MLP:
    """A new network of the clone's shape."""
    return _born(replace(config, widths=tuple(2 * width for width in config.widths)), source, (seed,))[0]


def _data(config: Config, source: Source, stack: Stack, shift: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same minibatches for every arm of a seed; members stand arm by arm."""
    seeds = [seed + 100_000 * shift for seed in config.seeds] * (stack.members // len(config.seeds))
    return shared_batches(source.inputs.flatten(1), source.targets, batch_size=config.batch_size, seeds=seeds)


def _train(
    config: Config,
    stack: Stack,
    source: Source,
    *,
    steps: int,
    shift: int = 0,
    note: tuple[list[tuple], int] | None = None,
    install: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    methods: tuple[str, ...] = ARMS,
) -> Stack:
    """Train `stack` in place by SGD; `note` = (rows, first step) measures it at the probes on the way."""
    optimizer = torch.optim.SGD(stack.parameters(), lr=config.lr, fused=source.inputs.device.type in ("cpu", "cuda"))
    install(optimizer)
    share = max(2, round(config.probes * steps / config.steps))
    due = () if note is None else probe_steps(steps, share)

    def probe(step: int) -> None:
        if step or note[1] == 0:
            note[0].extend(measure(stack, source, seeds=config.seeds, methods=methods, step=note[1] + step))

    stack.train()
    train_ensemble(stack, optimizer, _data(config, source, stack, shift), steps=steps, probe=probe, probe_at=due)
    return stack


def _escaped(config: Config, source: Source, bases: Stack, rows: list[tuple]) -> Stack:
    """The networks of all arms, arm by arm, `escape` steps after cloning."""
    n = len(config.seeds)
    clones = [widen(bases.member(i), 2) for i in range(n)]
    redrawn = Stack(clones)
    copies = {f"hidden.{i}": torch.arange(2 * w) >= w for i, w in enumerate(config.widths)}
    masks = {name: mask.expand(n, -1).to(source.inputs.device) for name, mask in copies.items()}
    reset_units(redrawn, masks, generators=[torch.Generator(source.inputs.device).manual_seed(s) for s in config.seeds])
    fresh = Stack([_wide(config, source, seed + _FRESH_SEEDS) for seed in config.seeds])
    _train(config, fresh, source, steps=config.base_steps)
    plain = [*clones * 3, *redrawn.unstacked(), *fresh.unstacked()]
    sigma = [0.0] * n + [config.sigma] * 2 * n + [0.0] * 2 * n
    decay = [0.0] * 2 * n + [config.decay] * n + [0.0] * 2 * n
    noise = lambda o: GradientNoise(o, sigma=sigma, decay=decay, seed=[*config.seeds] * 5, stacked=True)  # noqa: E731
    options = {"steps": config.escape, "shift": 1, "note": (rows, 0)}
    order = (STUCK, "noisy step", "noisy sgd", "redrawn", FRESH)
    main = _train(config, Stack(plain), source, install=noise, methods=order, **options)
    dropped = Stack([with_dropout(net, config.dropout) for net in clones], seeds=config.seeds)
    _train(config, dropped, source, methods=("dropout",), **options)
    replaced = Stack(clones)
    cbp = lambda o: ContinualBackprop(o, replaced, replacement_rate=config.replacement_rate, seed=config.seeds)  # noqa: E731
    _train(config, replaced, source, install=cbp, methods=("cbp",), **options)
    found = dict(zip(order, _groups(main.unstacked(), n), strict=True))
    found |= {"dropout": [with_dropout(net, 0.0) for net in dropped.unstacked()], "cbp": replaced.unstacked()}
    return Stack([net for arm in ARMS for net in found[arm]])


def _groups(nets: list[nn.Module], size: int) -> list[list[nn.Module]]:
    return [nets[i : i + size] for i in range(0, len(nets), size)]


def _further(config: Config, source: Source, stack: Stack, task: str) -> list[tuple]:
    """All members learn one further task: loss at the probes, online loss and test accuracy at the end."""
    methods = (*ARMS, NEW)
    parts = [_task(config, source, task, seed) for seed in config.seeds]
    x, y, test_x, test_y = (torch.cat([torch.stack(part)] * len(methods)) for part in zip(*parts, strict=True))
    stream = member_batches(
        x, y, batch_size=config.batch_size, seeds=[s + _TASK_SEEDS for s in config.seeds] * len(methods)
    )
    optimizer = torch.optim.SGD(stack.parameters(), lr=config.lr, fused=x.device.type in ("cpu", "cuda"))
    rows: list[tuple] = []

    def add(step: int, metric: str, values: list[float]) -> None:
        names = [(seed, method, step, task, metric) for method in methods for seed in config.seeds]
        rows.extend((*where, float(value)) for where, value in zip(names, values, strict=True))

    def probe(step: int) -> None:
        stack.eval()
        loss, accuracy = scores(stack, x, y, test_x, test_y)
        stack.train()
        add(step, "train_loss", loss)
        if step == config.task_steps:
            add(step, "test_accuracy", accuracy)

    due = probe_steps(config.task_steps, config.probes)
    outcome = train_ensemble(stack, optimizer, stream, steps=config.task_steps, probe=probe, probe_at=due)
    add(config.task_steps, "online_loss", outcome.online_loss.tolist())
    return rows


def _task(config: Config, source: Source, task: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels of a further task, and its test images and labels."""
    generator = torch.Generator().manual_seed(seed + _TASK_SEEDS)
    x, test_x = source.inputs.flatten(1), source.test_inputs.flatten(1)
    if task == "permuted inputs":
        order = torch.randperm(source.size, generator=generator).to(x.device)
        return x[:, order], source.targets, test_x[:, order], source.test_targets
    draw = lambda count: torch.randint(source.classes, (count,), generator=generator).to(x.device)  # noqa: E731
    x = x[: config.random_images]
    return x, draw(len(x)), test_x, draw(len(test_x))
