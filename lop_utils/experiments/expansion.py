"""The expansion experiment: does training first expand a representation and then compress it, and when?

Source: arXiv:2510.00304 tells this as the story of training, with an early rise and a later fall of the effective rank.
Here small MLPs are followed over logarithmically spaced steps in settings that differ in one thing at a time: the
scale of the initial weights, the activation, weight decay, the step size, the optimizer, and the labels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.collapse import neural_collapse
from lop_utils.metrics.record import LayerRecord, record
from lop_utils.metrics.spectrum import RANK_METRICS
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.loop import train

NAME = "expansion"
RAW, CENTRED = "effective_rank_singular_raw", "effective_rank_singular_centred"
CRITICAL = {"relu": math.sqrt(2), "tanh": 1.0}  # scale 1: standard deviation of weights times sqrt(fan in)
_PROBED = 1000  # training inputs on which units are recorded


@dataclass(frozen=True)
class Arm:
    """One setting. `scale` multiplies the hidden weights that keep signals at their size (He for ReLU, Glorot-like for
    tanh); `random_labels` replaces every training label by a fixed random one."""

    activation: str = "relu"
    scale: float = 1.0
    lr: float = 0.05
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    random_labels: bool = False


ARMS = {
    f"{activation}_{name}": Arm(activation, scale)
    for activation in CRITICAL
    for name, scale in (("small", 0.5), ("medium", 1.0), ("large", 2.0))
} | {
    "decay": Arm(weight_decay=0.01),
    "large_decay": Arm(scale=2.0, weight_decay=0.01),
    "long_steps": Arm(lr=0.2),
    "adam": Arm(lr=0.001, optimizer="adam"),
    "random_labels": Arm(random_labels=True),
}


@dataclass(frozen=True)
class Config:
    """`seeds` x `arms` (names of `ARMS`) on one source, an MLP of hidden sizes `widths`, `steps` minibatches each."""

    source: str = "digits"
    widths: tuple[int, ...] = (64, 64, 64)
    batch_size: int = 32
    steps: int = 1024
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if not self.seeds or not self.arms or self.steps < 1:
            problem = f"{len(self.seeds)} seeds, {len(self.arms)} arms, {self.steps} steps"
            raise UsageError(problem, remedy="give at least one of each")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"steps": 16, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "steps": 65_536, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def log_steps(steps: int) -> list[int]:
    """0, the powers of two (and, from 2 on, the steps half-way between two on a log axis), and `steps`.

    >>> log_steps(10)
    [0, 1, 2, 3, 4, 6, 8, 10]
    """
    powers = [2 ** (i / 2) for i in range(2 * steps.bit_length())]
    return sorted({0, steps} | {round(p) for p in powers if p <= steps})


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs of `config`; one row per (seed, method, step, layer, metric), layer "all" for whole-network metrics.

    Metrics: train_loss, train_accuracy, test_accuracy; per layer effective_rank_singular_raw and _centred, active
    (share of z > 0), shift (mean over units of mean(z) / sd(z), 0 for a constant unit); nc1 of the last layer, for the
    labels trained on.
    """
    source = load(config.source, device)
    rows = [
        row for seed in progress(config.seeds) for name in config.arms for row in _run_arm(config, source, name, seed)
    ]
    return tidy(rows, experiment=NAME, arch="mlp", task=config.source)


def network(arm: Arm, source: Source, widths: tuple[int, ...], seed: int) -> MLP:
    """The MLP of one arm: weights of the hidden layers of standard deviation scale * critical / sqrt(fan in).

    >>> net = network(Arm("tanh", scale=2.0), load("digits"), (1000,), seed=0)
    >>> round(float(net.hidden[0].linear.weight.detach().std() * 8), 1)
    2.0
    """
    check_choice("activation", arm.activation, CRITICAL)
    gain = (
        arm.scale * CRITICAL[arm.activation] * math.sqrt(3)
    )  # torch's default has standard deviation sqrt(1/3 fan in)
    return MLP(MLPConfig(source.size, widths, source.classes, activation=arm.activation, gain=gain), seed=seed)


def _optimizer(arm: Arm, net: nn.Module) -> torch.optim.Optimizer:
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    check_choice("optimizer", arm.optimizer, kinds)
    return kinds[arm.optimizer](net.parameters(), lr=arm.lr, weight_decay=arm.weight_decay)


def _run_arm(config: Config, source: Source, name: str, seed: int) -> list[tuple]:
    arm, targets, rows = ARMS[name], source.targets, []
    if arm.random_labels:
        drawn = torch.randint(source.classes, targets.shape, generator=torch.Generator().manual_seed(seed))
        targets = drawn.to(targets)
    net = network(arm, source, config.widths, seed).to(source.inputs.device)
    optimizer = _optimizer(arm, net)

    def probe(step: int) -> None:
        rows.extend((seed, name, step, *row) for row in _measure(net, source, targets))

    stream = batches(source.inputs, targets, batch_size=config.batch_size, seed=seed)
    train(net, optimizer, stream, steps=config.steps, seed=seed, probe=probe, probe_at=log_steps(config.steps))
    return rows


def _measure(net: MLP, source: Source, targets: Tensor) -> list[tuple[str, str, float]]:
    """(layer, metric, value) of one network."""
    with torch.no_grad():
        logits = net(source.inputs)
        found = [
            ("all", "train_loss", float(nn.functional.cross_entropy(logits, targets))),
            ("all", "train_accuracy", _accuracy(logits, targets)),
            ("all", "test_accuracy", _accuracy(net(source.test_inputs), source.test_targets)),
        ]
    rows = torch.linspace(0, len(targets) - 1, min(_PROBED, len(targets)), device=targets.device).long()
    layers = list(record(net, source.inputs[rows]).values())
    for layer in layers:
        found += [(layer.name, metric, value) for metric, value in _layer_metrics(layer).items()]
    last = layers[-1]
    return [*found, (last.name, "nc1", neural_collapse(last.activation, targets[rows], layer=last.name).nc1)]


def _layer_metrics(layer: LayerRecord) -> dict[str, float]:
    z, values = layer.pre_activation.double(), layer.spectrum
    spread = z.std(0)
    return {
        RAW: RANK_METRICS[RAW](values),
        CENTRED: RANK_METRICS[CENTRED](values),
        "active": float((z > 0).double().mean()),
        "shift": float(torch.where(spread > 0, z.mean(0) / spread.clamp(min=1e-30), 0.0).mean()),
    }


def _accuracy(logits: Tensor, targets: Tensor) -> float:
    return float((logits.argmax(1) == targets).double().mean())


def swing(frame: pd.DataFrame, method: str, *, metric: str = RAW, layer: str = "hidden.2") -> pd.DataFrame:
    """How a metric of one arm moved, one row a seed (index): start, top, top_step, low, end, rise, fall, late.

    rise = top / start - 1; fall = 1 - end / top, from the top to the end; late = end / low - 1, from the lowest point.
    """
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric) & (frame["layer"] == layer)]
    if rows.empty:
        raise UsageError(f"no {metric} of {method} in {layer}", remedy="name an arm, metric and layer of the frame")
    table = rows.pivot(index="seed", columns="step", values="value")
    start, end, top, low = table.iloc[:, 0], table.iloc[:, -1], table.max(axis=1), table.min(axis=1)
    moved = {"start": start, "top": top, "top_step": table.idxmax(axis=1), "low": low, "end": end}
    return pd.DataFrame(moved | {"rise": top / start - 1, "fall": 1 - end / top, "late": end / low - 1})
