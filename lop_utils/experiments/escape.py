"""Ways out of a clone: which additions to SGD set copies free, and how far below the base do they lead?

Source: arXiv:2510.00304, "Cloning", with its grids over the noise scale, the noise decay and the dropout probability.
All arms and seeds of one shape train side by side. The control is the base itself, trained on at its own rate: by
`manifolds.rates` it is the clone at matched rates, to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.escape_arms import ARMS, Batches, arm_batches, grouped, install, with_dropout
from lop_utils.experiments.escape_signals import RANK, loss_and_accuracy, mean_r2, mean_rank, r2_by_space, signals
from lop_utils.experiments.networks import ARCHITECTURES, network
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import normal_extremes
from lop_utils.manifolds.normal_space import normal_space
from lop_utils.manifolds.partition import Partition
from lop_utils.models.stack import Stack
from lop_utils.optim.sam import SAM
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import shared_batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble
from lop_utils.training.loop import probe_steps
from lop_utils.training.side_by_side import side_by_side

NAME = "escape"


@dataclass(frozen=True)
class Config:
    """`seeds` bases trained for `base_steps`, doubled, and every arm trained for `steps` more on the same minibatches.

    The network is that of `experiments.networks`; `rows` training samples are used for signals, all for the loss.
    Plain SGD at rate `lr` for all, float32. `base`: the base goes on beside the arms; `curvature`: note the smallest
    eigenvalue of the Hessian on the normal space of the clone at step 0.
    """

    source: str = "mnist1d"
    arch: str = "mlp"
    widths: tuple[int, ...] = (16, 16, 16)
    blocks: int = 1
    activation: str = "relu"
    norm: str = "none"
    affine: bool = True
    dropout: float = 0.0
    gain: float = 1.0
    lr: float = 0.2
    batch_size: int = 128
    base_steps: int = 1000
    steps: int = 3000
    probes: int = 13
    rows: int = 500
    arms: tuple[str, ...] = tuple(ARMS)
    base: bool = True
    curvature: bool = False
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_choice("architecture", self.arch, ARCHITECTURES)
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if not self.seeds or not self.arms or min(self.base_steps, self.steps) < 1:
            problem = f"{len(self.seeds)} seeds, {len(self.arms)} arms, {self.base_steps} and {self.steps} steps"
            raise UsageError(problem, remedy="give at least one of each")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"base_steps": 40, "steps": 60, "probes": 4, "rows": 200, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "base_steps": 20_000, "steps": 100_000, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All arms and the base; one row per (seed, method, step, layer, metric); step 0 is the cloning.

    Layer "all": train_loss, test_accuracy; lambda_min of method "sgd" at step 0. Layer "mean": r2 (over spaces, forward
    and backward; of a fresh network too, whose pairs are no copies), effective_rank_singular_raw. By space: r2_forward,
    r2_backward.
    """
    source = load(config.source, device)
    base = Stack([network(config, source, source.classes, seed) for seed in config.seeds]).to(source.inputs.device)
    _train(config, base, _batches(config, source), config.base_steps)
    bases = base.unstacked()
    rows = _curvature(config, source, bases) if config.curvature else []
    groups = [["base"]] if config.base else []
    parts = [(config, bases, names, device) for names in groups + grouped(config.arms)]
    found = side_by_side(_run_group, parts, device=device, progress=progress)
    return tidy(rows + [row for part in found for row in part], experiment=NAME, arch=config.arch, task=config.source)


def _start(config: Config, source: Source, bases: list[nn.Module], name: str) -> list[nn.Module]:
    """The networks of one arm at step 0, one a seed."""
    clones, arm = [widen(base, 2) for base in bases], ARMS[name]
    if arm.start == "fresh":
        pairs = zip(clones, config.seeds, strict=True)
        stack = Stack([type(net)(net.config, seed=10_000 + seed).to(next(net.parameters())) for net, seed in pairs])
        _train(config, stack, _batches(config, source), config.base_steps)
        return stack.unstacked()
    return [with_dropout(clone, arm.dropout) for clone in clones] if arm.dropout else clones


def _batches(config: Config, source: Source, *, skip: int = 0) -> Batches:
    """(seeds, B, ...) minibatches, the same for every arm; the first `skip` are left out."""
    stream = shared_batches(source.inputs, source.targets, batch_size=config.batch_size, seeds=config.seeds)
    for _ in range(skip):
        next(stream)
    return stream


def _run_group(config: Config, bases: list[nn.Module], names: list[str], device: torch.device | str) -> list[tuple]:
    """Train one stack of arms x seeds after the cloning, or the bases themselves, and measure it on the way."""
    source = load(config.source, device)
    nets = bases if names == ["base"] else [net for name in names for net in _start(config, source, bases, name)]
    stack = Stack(nets, seeds=list(config.seeds) * len(names))
    stream, rows = _batches(config, source, skip=config.base_steps), []
    optimizer = torch.optim.SGD(stack.parameters(), lr=config.lr)
    owners, copies, radius = [(seed, name) for name in names for seed in config.seeds], 1, 0.0
    if names != ["base"]:
        install(stack, optimizer, names, config.seeds)
        stream = arm_batches(stream, names, config.seeds, source.classes)
        copies, radius = 2, ARMS[names[0]].sam

    def probe(step: int) -> None:
        for layer, metric, values in _measure(config, source, stack, copies):
            pairs = zip(owners, values.tolist(), strict=True)
            rows.extend((*owner, step, layer, metric, value) for owner, value in pairs)

    due = sorted({1, *probe_steps(config.steps, config.probes)})  # after step 1 the first kick shows
    if radius:
        _train_uphill(stack, SAM(optimizer, rho=radius, stacked=True), stream, config.steps, probe, set(due))
    else:
        train_ensemble(stack, optimizer, stream, steps=config.steps, probe=probe, probe_at=due)
    return rows


def _curvature(config: Config, source: Source, bases: list[nn.Module]) -> list[tuple]:
    """The smallest normal curvature of every clone, in double precision."""
    x, y, rows = source.inputs[: config.rows].double(), source.targets[: config.rows], []
    for seed, base in zip(config.seeds, bases, strict=True):
        clone = widen(base, 2).double()
        found = normal_extremes(clone, normal_space(clone, Partition.of_clone(clone, 2)), x, y)
        rows.append((seed, "sgd", 0, "all", "lambda_min", found.smallest))
    return rows


def _train(config: Config, stack: Stack, stream: Batches, steps: int) -> None:
    train_ensemble(stack, torch.optim.SGD(stack.parameters(), lr=config.lr), stream, steps=steps)


def _train_uphill(
    stack: Stack, sam: SAM, stream: Batches, steps: int, probe: Callable[[int], None], due: set[int]
) -> None:
    """`train_ensemble` for SAM, whose step needs the loss twice."""
    for step in range(steps + 1):
        if step in due:
            probe(step)
        if step < steps:
            x, y = next(stream)
            sam.step(lambda x=x, y=y: member_cross_entropy(stack(x), y).sum())


def _measure(config: Config, source: Source, stack: Stack, copies: int) -> list[tuple[str, str, Tensor]]:
    """(layer, metric, values (members,)) of a stack; R^2 only where there are copies."""
    loss, _ = loss_and_accuracy(stack, source.inputs, source.targets)
    _, accuracy = loss_and_accuracy(stack, source.test_inputs, source.test_targets)
    found = signals(stack, source.inputs[: config.rows], source.targets[: config.rows])
    measured = [("all", "train_loss", loss), ("all", "test_accuracy", accuracy), ("mean", RANK, mean_rank(found))]
    if copies > 1:
        r2 = r2_by_space(found, copies)
        measured.append(("mean", "r2", mean_r2(r2)))
        for name, (forward, backward) in r2.items():
            measured += [(name, "r2_forward", forward), (name, "r2_backward", backward)]
    return measured
