"""What moves a unit whose gradient is exactly zero? Dead ReLU units, every remedy, and how many of them fire again.

Three cases. part: units of both hidden layers are killed by their biases, a share of each. layer: the last hidden layer
is killed as a whole. worn: units that died by themselves on the stream of `experiments.recovery`. In the first two the
network has been trained on one task and is killed on the images of the next, permuted inputs, which it then learns by
SGD; in the third it learns the next task of its stream by Adam, whose state has been emptied (old moments move dead
rows too, see the chapter on frozen units).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments import recovery
from lop_utils.experiments.recovery_remedies import silent_masks
from lop_utils.experiments.revival_arms import ARMS, DECAY, trained
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.frozen import moved_by
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.sources import load
from lop_utils.streams.tasks import Task, make_stream, members_task
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble, zero_head
from lop_utils.training.loop import probe_steps
from lop_utils.training.side_by_side import side_by_side

NAME = "revival"
PART, LAYER, WORN_CASE = "part", "layer", "worn"
CASES: Mapping[str, str] = {
    PART: "a share of both layers killed",
    LAYER: "the whole last layer killed",
    WORN_CASE: "worn by a stream",
}


@dataclass(frozen=True)
class Config:
    """Every case with every arm, all seeds side by side, measured about `probes` times.

    share: of each hidden layer's units in the case "part"; margin: how far below zero a killed unit's largest
    pre-activation is, in its standard deviations. `worn`: the stream of the case "worn", whose next task is learned.
    """

    cases: tuple[str, ...] = tuple(CASES)
    arms: tuple[str, ...] = tuple(ARMS)
    source: str = "mnist1d"
    widths: tuple[int, ...] = (64, 64)
    share: float = 0.75
    margin: float = 0.5
    lr: float = 0.1
    batch_size: int = 64
    warm_up: int = 300
    steps: int = 800
    probes: int = 17
    worn: recovery.Config = field(default_factory=recovery.Config)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for case in self.cases:
            check_choice("case", case, CASES)
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if not 0 < self.share < 1 or self.margin <= 0 or min(self.warm_up, self.steps, len(self.seeds)) < 1:
            problem = f"share {self.share}, margin {self.margin}, steps {self.steps}, {len(self.seeds)} seeds"
            raise UsageError(problem, remedy="give 0 < share < 1, margin > 0, at least 1 step and seed")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes: dict[str, object] = {
        "smoke": {"warm_up": 10, "steps": 20, "probes": 2, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128, 128), "steps": 20_000, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    worn = recovery.preset(profile, seed, remedies=())
    return replace(Config(**sizes, worn=worn), **overrides)


@dataclass
class Start:
    """Networks with dead units in front of a task: all that an arm begins from."""

    nets: list[nn.Module]
    whole: list[nn.Module]  # before the killing
    masks: dict[str, Tensor]  # space -> bool (members, units)
    task: Task
    optimizer: Callable[[list[Tensor]], Optimizer]
    batch_size: int
    steps: int
    seeds: tuple[int, ...]
    zeroed: bool  # whether the head starts at zero


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All cases and arms; one row per (seed, method, task, step, layer, metric): method the arm, task the case.

    By layer and over all of them (layer "all"): killed (dead units at the start), alive_again (share of those that fire
    on some image of the task now), moved (largest change of an incoming weight or bias of theirs). For the arm "bias
    decay" in the first layer also alive_predicted. At the end, layer "all": train_loss, train_accuracy, test_accuracy.
    """
    starts = {case: _start(config, case, torch.device(device)) for case in config.cases}
    entered = [(case, name) for case in starts for name in config.arms if case != WORN_CASE or ARMS[name].killed]
    parts = [(config, starts[case], name) for case, name in entered]
    found = side_by_side(_run_arm, parts, device=device, progress=progress)
    frames = [tidy(r, experiment=NAME, arch="mlp", task=case) for (case, _), r in zip(entered, found, strict=True)]
    return pd.concat(frames, ignore_index=True)


@torch.no_grad()
def kill_units(net: MLP, inputs: Tensor, *, shares: Sequence[float], margin: float) -> None:
    """Lower the biases of the first units of each hidden layer, the share `shares[i]` of layer i, until they are dead.

    Layer by layer; afterwards such a unit's largest pre-activation on `inputs` is `margin` standard deviations below 0
    (of a unit that had been constant, `margin` below 0).
    """
    for i, (share, layer) in enumerate(zip(shares, net.hidden, strict=True)):
        name = f"hidden.{i}"
        z = record(net, inputs, spaces=[name])[name].pre_activation  # (N, units), layers below killed already
        some, spread = slice(0, round(share * z.shape[1])), z.std(0)
        layer.linear.bias[some] -= (z.amax(0) + margin * torch.where(spread > 0, spread, 1.0))[some]


def _start(config: Config, case: str, device: torch.device) -> Start:
    return _worn(config, device) if case == WORN_CASE else _killed(config, case, device)


def _worn(config: Config, device: torch.device) -> Start:
    runner = recovery.wear(config.worn, device)
    task, stack, worn = members_task(runner.streams, config.worn.tasks), runner.stack, config.worn
    nets = stack.unstacked()
    make = lambda parameters: Adam(parameters, lr=worn.lr)  # noqa: E731
    return Start(
        nets, nets, silent_masks(stack, task.inputs), task, make, worn.batch_size, worn.steps, worn.seeds, True
    )


def _killed(config: Config, case: str, device: torch.device) -> Start:
    source = load(config.source, device)
    streams = [make_stream("permuted_inputs", source, seed=seed) for seed in config.seeds]
    shape = MLPConfig(source.size, config.widths, source.classes)
    stack = Stack([MLP(shape, seed=seed).to(device) for seed in config.seeds], seeds=config.seeds)
    make, old, new = lambda parameters: SGD(parameters, lr=config.lr), *(members_task(streams, i) for i in (0, 1))
    stream = member_batches(old.inputs, old.targets, batch_size=config.batch_size, seeds=config.seeds)
    train_ensemble(stack, make(list(stack.parameters())), stream, steps=config.warm_up)
    nets, whole = stack.unstacked(), stack.unstacked()
    none = [0.0] * (len(config.widths) - 1)
    shares = [config.share] * len(config.widths) if case == PART else [*none, 1.0]
    for net, x in zip(nets, new.inputs, strict=True):
        kill_units(net, x, shares=shares, margin=config.margin)
    masks = silent_masks(Stack(nets), new.inputs)
    return Start(nets, whole, masks, new, make, config.batch_size, config.steps, config.seeds, False)


def awake_after(stack: Stack, task: Task, masks: Mapping[str, Tensor], factor: float) -> Tensor:
    """Share of the first layer's killed units that fire once their biases are `factor` times what they are, (members,).

    b < 0 wakes on the image x as soon as factor b + w x > 0: the largest w x over the images decides. nan where no unit
    was killed.
    """
    weight, bias = (stack.tensors[f"hidden.0.linear.{kind}"].detach() for kind in ("weight", "bias"))
    largest = (task.inputs.flatten(2) @ weight.mT).amax(1)  # (members, units)
    mask = masks["hidden.0"]
    return ((factor * bias + largest > 0) & mask).sum(1) / mask.sum(1)


def _run_arm(config: Config, start: Start, name: str) -> list[tuple]:
    """One arm on the task, from the networks of `start`."""
    arm, task, rows = ARMS[name], start.task, []
    stack = Stack(start.nets if arm.killed else start.whole, seeds=start.seeds)
    first = Stack(start.nets, seeds=start.seeds)
    if start.zeroed:
        zero_head(stack)
    stack.train()
    optimizer = start.optimizer(trained(stack, arm))
    if arm.install is not None:
        arm.install(optimizer, stack, start.masks)

    def add(step: int, layer: str, metric: str, values: Tensor) -> None:
        pairs = zip(start.seeds, values.tolist(), strict=True)
        rows.extend((seed, name, step, layer, metric, value) for seed, value in pairs if value == value)  # not nan

    def probe(step: int) -> None:
        if not arm.killed:
            return
        for layer, metric, values in _alive(stack, first, start):
            add(step, layer, metric, values)
        if name == "bias decay":
            kept = (1 - optimizer.param_groups[0]["lr"] * DECAY) ** step
            add(step, "hidden.0", "alive_predicted", awake_after(first, task, start.masks, kept))

    stream = member_batches(task.inputs, task.targets, batch_size=start.batch_size, seeds=start.seeds)
    due = probe_steps(start.steps, config.probes)
    train_ensemble(stack, optimizer, stream, steps=start.steps, active=task.active, probe=probe, probe_at=due)
    for metric, values in _scores(stack, task).items():
        add(start.steps, "all", metric, values)
    return rows


def _alive(stack: Stack, first: Stack, start: Start) -> list[tuple[str, str, Tensor]]:
    """(layer, metric, values (members,)) of the units that were killed; nan where there were none."""
    silent, found = silent_masks(stack, start.task.inputs), []
    before, moved = [first.member(i).state_dict() for i in range(first.members)], []
    for i, net in enumerate(stack.unstacked()):
        moved.append(moved_by(net, {layer: mask[i] for layer, mask in start.masks.items()}, before[i]))
    killed = {layer: mask.sum(1) for layer, mask in start.masks.items()}
    again = {layer: (mask & ~silent[layer]).sum(1) for layer, mask in start.masks.items()}
    shift = {layer: torch.tensor([member[layer] for member in moved]) for layer in start.masks}
    killed["all"], again["all"] = (torch.stack(list(counts.values())).sum(0) for counts in (killed, again))
    shift["all"] = torch.stack(list(shift.values())).amax(0)
    for layer, count in killed.items():
        there = shift[layer].to(count.device).where(count > 0, torch.nan)
        found += [(layer, "killed", count), (layer, "alive_again", again[layer] / count), (layer, "moved", there)]
    return found


@torch.no_grad()
def _scores(stack: Stack, task: Task) -> dict[str, Tensor]:
    """Loss and accuracies at the end, (members,) each."""
    stack.eval()
    outputs, unseen = stack(task.inputs), stack(task.test_inputs)
    hit = lambda shown, targets: (shown.argmax(-1) == targets).double().mean(1)  # noqa: E731
    loss = member_cross_entropy(outputs, task.targets, task.active)
    return {
        "train_loss": loss,
        "train_accuracy": hit(outputs, task.targets),
        "test_accuracy": hit(unseen, task.test_targets),
    }
