"""The tension: does what helps a network on a fixed task hurt it on the next one?

Small MLPs learn task A (half of the classes) in settings that differ in one knob at a time: initial scale, decoupled
weight decay, L2, label noise, width, training length. How far each has compressed its representation is measured; then
a copy of each learns task B (the other half), another copy random labels, both with a new head, a new optimizer, no
regularisation, and the same budget; so does the network that the setting started from, which has learned nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tension_data import RANDOM_LABELS, HalvedTasks, accuracy, repeated
from lop_utils.experiments.tension_settings import SETTINGS, Setting, networks, regularise, rescaled, start_of
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.collapse import neural_collapse
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import RANK_METRICS
from lop_utils.models.mlp import MLP
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.sources import load
from lop_utils.training.ensemble import train_ensemble, zero_head

NAME = "tension"
RAW, CENTRED = "effective_rank_singular_raw", "effective_rank_singular_centred"


@dataclass(frozen=True)
class Config:
    """`settings` (names of `SETTINGS`) x `seeds` on one source; a seed draws the classes of A and B and the images.

    `samples` training images of a task; all other images of its classes are its test set. `steps` minibatches of task A
    (times a setting's length), `steps_b` and `steps_random` of what follows. `rescale`: also learn random labels from
    networks of the usual width with equal norms.
    """

    source: str = "digits"
    depth: int = 3
    samples: int = 300
    batch_size: int = 30
    lr: float = 0.001
    steps: int = 1000
    steps_b: int = 200
    steps_random: int = 300
    settings: tuple[str, ...] = tuple(SETTINGS)
    rescale: bool = True
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name in self.settings:
            check_choice("setting", name, SETTINGS)
        if not self.seeds or not self.settings or min(self.steps, self.steps_b, self.steps_random) < 1:
            problem = f"seeds {self.seeds}, settings {self.settings}, steps {self.steps}"
            raise UsageError(problem, remedy="give at least one of each")


def preset(profile: str, seed: int = 0, source: str = "digits", **overrides: object) -> Config:
    """The configuration of a profile for a source, with seeds `seed`, `seed + 1`, ..."""
    few = ("usual", "scale 0.5", "scale 2", "l2 0.003", "decay 1", "noise 0.4", "width 32", "width 128", "length 0.1")
    few += ("length 4", "scale 2.8")
    harder = {"mnist1d": {"samples": 600, "steps_b": 300}}
    sizes: dict[str, object] = (
        harder.get(source, {})
        | {
            "smoke": {"steps": 30, "steps_b": 15, "steps_random": 15, "settings": few, "seeds": (seed, seed + 1)},
            "laptop": {"seeds": tuple(range(seed, seed + 5))},
            "paper": {"steps": 4000, "seeds": tuple(range(seed, seed + 20))},
        }[check_profile(profile)]
    )
    return replace(Config(source=source, **sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs; one row per (seed, method, task, layer, metric). Methods: a setting's name for networks that learned A;
    "fresh, " and a setting's name (see `start_of`) for networks as they were before it; "rescaled, " and a setting's
    name for those of the usual width that learned A and were then given the usual one's weight norms (see `rescaled`).

    Task "A", step the steps taken: accuracy (on clean training labels), test_accuracy, weight_norm; of each hidden
    layer and as their "mean" RAW, CENTRED (on A's training images) and dead; of the last nc1. Tasks "B" and "random":
    online_accuracy (each minibatch before its update), accuracy (training images) and for B test_accuracy, at the end;
    the same ranks of the network before it learned B, on B's training images, as task "B", step 0.
    """
    data, frames = HalvedTasks(load(config.source, device), samples=config.samples, seeds=config.seeds), []
    for width in progress(sorted({SETTINGS[name].width for name in config.settings})):
        names = [name for name in config.settings if SETTINGS[name].width == width]
        learned = _learned(config, data, names)
        rows = {"A": _after_a(config, data, learned), "B": _next(config, data, _unscaled(learned), "B")}
        rows["random"] = _next(config, data, learned, "random")
        frames += [tidy(found, experiment=NAME, arch="mlp", task=task) for task, found in rows.items()]
    return pd.concat(frames, ignore_index=True)


def _unscaled(learned: dict[str, list[MLP]]) -> dict[str, list[MLP]]:
    return {method: nets for method, nets in learned.items() if not method.startswith("rescaled")}


def _new(config: Config, data: HalvedTasks, setting: Setting) -> list[MLP]:
    nets = networks(setting, data.size, seeds=config.seeds, depth=config.depth)
    return [net.to(data.A[0].device) for net in nets]


def _learned(config: Config, data: HalvedTasks, names: Sequence[str]) -> dict[str, list[MLP]]:
    """One network a seed for every setting after task A, and for every start before it."""
    lasting = [name for name in names if SETTINGS[name].knob in ("none", "length")]  # one run, stopped at each length
    others = [name for name in names if name not in lasting]
    found: dict[str, list[MLP]] = {}
    for group in filter(None, (lasting, others)):
        found |= _train_a(config, data, group)
    if "usual" in names and config.rescale:
        found |= {f"rescaled, {name}": list(map(rescaled, nets, found["usual"])) for name, nets in found.items()}
    starts = dict.fromkeys(start_of(name) for name in names if SETTINGS[start_of(name)].width == SETTINGS[name].width)
    return found | {f"fresh, {name}": _new(config, data, SETTINGS[name]) for name in starts}


def _train_a(config: Config, data: HalvedTasks, names: Sequence[str]) -> dict[str, list[MLP]]:
    """Learn task A in the settings `names`, all at once; settings that differ only in length are one run."""
    runs = list(dict.fromkeys(replace(SETTINGS[name], knob="none", value=0.0, length=1.0) for name in names))
    stack = Stack([net for setting in runs for net in _new(config, data, setting)])
    optimizer = torch.optim.Adam(stack.parameters(), lr=config.lr, fused=True)
    regularise(optimizer, [setting for setting in runs for _ in config.seeds])
    zero_head(stack)
    ends = {name: max(1, round(SETTINGS[name].length * config.steps)) for name in names}
    kept: dict[str, list[MLP]] = {}

    def keep(step: int) -> None:
        for name in (name for name in names if ends[name] == step):
            first = runs.index(replace(SETTINGS[name], knob="none", value=0.0, length=1.0)) * len(config.seeds)
            kept[name] = [stack.member(first + i) for i in range(len(config.seeds))]

    x, y = repeated(data.A[0], len(runs)), data.noisy([setting.noise for setting in runs])
    stream = member_batches(x, y, batch_size=config.batch_size, seeds=config.seeds * len(runs))
    steps = max(ends.values())
    train_ensemble(
        stack, optimizer, stream, steps=steps, active=_active(data, stack), probe=keep, probe_at=ends.values()
    )
    return kept


def _active(data: HalvedTasks, stack: Stack) -> Tensor:
    """The outputs of tasks A and B: the first half of the head's."""
    active = torch.arange(RANDOM_LABELS, device=data.A[0].device) < data.classes
    return active.expand(stack.members, -1)


def _after_a(config: Config, data: HalvedTasks, learned: dict[str, list[MLP]]) -> list[tuple]:
    """Rows of what every network is after task A (fresh ones: at step 0)."""
    rows = []
    for method, nets in learned.items():
        step = 0 if method not in SETTINGS else max(1, round(SETTINGS[method].length * config.steps))
        for i, (seed, net) in enumerate(zip(config.seeds, nets, strict=True)):
            x, y, test_x, test_y = (part[i] for part in data.A)
            found = [("all", "accuracy", accuracy(net, x, y, classes=data.classes))]
            found.append(("all", "test_accuracy", accuracy(net, test_x, test_y, classes=data.classes)))
            norm = torch.cat([p.detach().flatten() for p in net.parameters()]).norm()
            found.append(("all", "weight_norm", float(norm)))
            rows += [(seed, method, step, *row) for row in [*found, *_representation(net, x, y)]]
    return rows


def _representation(net: MLP, x: Tensor, y: Tensor) -> list[tuple[str, str, float]]:
    """(layer, metric, value): ranks and dead units of each hidden layer and their means, NC1 of the last."""
    rows = []
    layers = list(record(net, x).values())
    for layer in layers:
        values = layer.spectrum
        rows += [(layer.name, metric, RANK_METRICS[metric](values)) for metric in (RAW, CENTRED)]
        rows.append((layer.name, "dead", float((layer.activation == 0).all(0).double().mean())))
    means = {metric: [v for _, m, v in rows if m == metric] for metric in (RAW, CENTRED, "dead")}
    rows += [("mean", metric, sum(values) / len(values)) for metric, values in means.items()]
    last = layers[-1]
    return [*rows, (last.name, "nc1", neural_collapse(last.activation, y, layer=last.name).nc1)]


def _next(config: Config, data: HalvedTasks, learned: dict[str, list[MLP]], task: str) -> list[tuple]:
    """Rows of copies of all networks that learn `task`, with a new head, a new optimizer and no regularisation."""
    parts = getattr(data, task)
    owners = [
        (seed, method, net, i)
        for method, nets in learned.items()
        for i, (seed, net) in enumerate(zip(config.seeds, nets, strict=True))
    ]
    rows = []
    if task == "B":
        for seed, method, net, i in owners:
            rows += [
                (seed, method, 0, *row) for row in _representation(net, parts[0][i], parts[1][i]) if row[1] != "nc1"
            ]
    steps = {"B": config.steps_b, "random": config.steps_random}[task]
    stack = Stack([net for _, _, net, _ in owners])
    zero_head(stack)
    optimizer = torch.optim.Adam(stack.parameters(), lr=config.lr, fused=True)
    x, y = (repeated(part, len(learned)) for part in parts[:2])
    stream = member_batches(x, y, batch_size=config.batch_size, seeds=config.seeds * len(learned))
    active = _active(data, stack) if task == "B" else None
    outcome = train_ensemble(stack, optimizer, stream, steps=steps, active=active)
    count = data.classes if task == "B" else RANDOM_LABELS
    found = {"online_accuracy": outcome.online_accuracy.tolist(), "accuracy": _accuracies(stack, x, y, count)}
    if task == "B":
        found["test_accuracy"] = _accuracies(stack, *(repeated(part, len(learned)) for part in parts[2:]), count)
    owned = [(k, seed, method) for k, (seed, method, _, _) in enumerate(owners)]
    return rows + [(seed, method, steps, "all", name, v[k]) for k, seed, method in owned for name, v in found.items()]


@torch.no_grad()
def _accuracies(stack: Stack, x: Tensor, y: Tensor, classes: int) -> list[float]:
    """Of every member of a stack, over its first outputs: x (members, N, ...), y (members, N)."""
    return (stack.eval()(x)[..., :classes].argmax(-1) == y).double().mean(1).tolist()
