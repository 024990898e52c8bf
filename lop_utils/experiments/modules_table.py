"""Which modules keep cloned units: normalisation, skips, convolution, attention; and which uses of them do not.

Every network here has a partition of its units, and weights that are block-constant for it (BC) or equitable (RE and
CE, with interaction noise Z). It trains on random data and labels, full batch; its distance to M_D(start) is followed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import distance, jitter, labels_of, split
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.record import record
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.seeding import seeded
from lop_utils.models.spaces import Link, Space
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.profiles import check as check_profile
from lop_utils.training.loop import train

NAME = "modules_table"
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.001, foreach=True),
}
STARTS = ("block-constant", "equitable")
INPUTS, UNITS, CLASSES, IMAGE = 6, 12, 3, (3, 8, 8)
PAIRS = (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
UNEQUAL = (0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5)
ACROSS = (0, 0, 1, 1, 2, 3, 2, 3, 4, 4, 5, 5)  # groups of six cut blocks 2 and 3


class Probe(nn.Module):
    """tanh(norm(second(h)) + skip h) on h = tanh(norm(first(x))), then a head: two spaces of 12 units each.

    `norm` is none, batch, layer or group (two groups of six units); `skip` none, identity, or mixing (unit u receives
    from unit u - 1).
    """

    def __init__(self, *, norm: str = "none", skip: str = "none", seed: int):
        super().__init__()
        make = {
            "none": nn.Identity,
            "batch": lambda: nn.BatchNorm1d(UNITS),
            "layer": lambda: nn.LayerNorm(UNITS),
            "group": lambda: nn.GroupNorm(2, UNITS),
        }[norm]
        with seeded(seed):
            self.first, self.second = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, UNITS)
            self.head = nn.Linear(UNITS, CLASSES)
        self.norm1, self.norm2, self.activation1, self.activation2 = make(), make(), nn.Tanh(), nn.Tanh()
        eye = torch.eye(UNITS)
        self.register_buffer("skip", {"none": 0 * eye, "identity": eye, "mixing": eye.roll(1, 0)}[skip])

    def forward(self, x: Tensor) -> Tensor:  # (N, INPUTS) -> (N, CLASSES)
        h = self.activation1(self.norm1(self.first(x)))
        return self.head(self.activation2(self.norm2(self.second(h)) + h @ self.skip.T))

    def spaces(self) -> tuple[Space, ...]:
        links = (("hidden.0", "first", "second", "1"), ("hidden.1", "second", "head", "2"))
        return tuple(
            Space(name, UNITS, (Link(writer),), (Link(reader),), (f"norm{i}",), f"norm{i}", f"activation{i}")
            for name, writer, reader, i in links
        )

    def resized(self, sizes: Mapping[str, int]) -> "Probe":
        """A probe has one size."""
        raise UsageError(f"probe of sizes {dict(sizes)}", remedy="probes are partitioned, not widened")


@dataclass(frozen=True)
class Case:
    """One row: a network and its partition from a seed, the theorem's word on it, the shape of its inputs."""

    label: str
    kept: bool
    make: Callable[[int], tuple[nn.Module, Partition]]
    shape: tuple[int, ...] = (INPUTS,)


def _probe(blocks: tuple[int, ...] = PAIRS, **settings: str) -> Callable[[int], tuple[nn.Module, Partition]]:
    """A probe whose parameters are the block-constant parts of random ones, for the same blocks in both spaces."""

    def make(seed: int) -> tuple[nn.Module, Partition]:
        net = Probe(seed=seed, **settings).double()
        partition = Partition(dict.fromkeys(("hidden.0", "hidden.1"), torch.tensor(blocks)))
        with torch.no_grad():
            for name, axes in partition.axis_labels(net).items():
                if name in dict(net.named_parameters()):
                    p = net.get_parameter(name)
                    p.copy_((2.0 if p.ndim > 1 else 1.0) * split(p, *labels_of(p, axes)).block_constant)
        return net, partition

    return make


def _unequal_gains(seed: int) -> tuple[nn.Module, Partition]:
    net, partition = _probe(norm="layer")(seed)
    with torch.no_grad():
        net.norm2.weight[0] += 0.5
    return net, partition


def _doubled(build: Callable[[int], nn.Module]) -> Callable[[int], tuple[nn.Module, Partition]]:
    def make(seed: int) -> tuple[nn.Module, Partition]:
        net = widen(build(seed).double(), 2)
        return net, Partition.of_clone(net, 2)

    return make


def _mlp(seed: int) -> nn.Module:
    return MLP(MLPConfig(INPUTS, (8, 8), CLASSES, activation="tanh"), seed=seed)


def _cnn(seed: int) -> nn.Module:
    return CNN(CNNConfig(3, 8, CLASSES, channels=(2, 4), fc=4, activation="tanh"), seed=seed)


def _vit(units: str) -> Callable[[int], nn.Module]:
    sizes = {"patch": 4, "width": 4, "depth": 1, "heads": 2, "head_dim": 2, "mlp": 4}
    return lambda seed: ViT(ViTConfig(3, 8, CLASSES, attention_units=units, **sizes), seed=seed)


CASES: dict[str, Case] = {
    "mlp": Case("multilayer perceptron, no module", True, _doubled(_mlp)),
    "batch": Case("batch normalisation", True, _probe(norm="batch")),
    "layer": Case("layer normalisation", True, _probe(norm="layer")),
    "group": Case("group normalisation, blocks inside groups", True, _probe(norm="group")),
    "skip": Case("identity skip", True, _probe(skip="identity")),
    "unequal": Case(
        "identity skip + layer normalisation, unequal blocks", True, _probe(UNEQUAL, norm="layer", skip="identity")
    ),
    "conv": Case("convolution, pooling, flatten", True, _doubled(_cnn), IMAGE),
    "heads": Case("attention, cloned heads", True, _doubled(_vit("heads")), IMAGE),
    "dimensions": Case("attention, widened heads", True, _doubled(_vit("dimensions")), IMAGE),
    "mixing": Case("skip that mixes blocks", False, _probe(skip="mixing")),
    "gains": Case("layer normalisation, unequal gains in a block", False, _unequal_gains),
    "cut": Case("group normalisation, groups cut blocks", False, _probe(ACROSS, norm="group")),
}


@dataclass(frozen=True)
class Config:
    """`cases` x `optimizers` x `seeds` runs of `steps` full-batch steps on `samples` inputs, from one kind of start.

    `scale` is the standard deviation of the interaction noise Z of the equitable start.
    """

    cases: tuple[str, ...] = tuple(CASES)
    optimizers: tuple[str, ...] = tuple(OPTIMIZERS)
    start: str = "equitable"
    scale: float = 0.2
    samples: int = 16
    steps: int = 300
    dtype: str = "float64"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        for kind, names, known in (("case", self.cases, CASES), ("optimizer", self.optimizers, OPTIMIZERS)):
            for name in names:
                check_choice(kind, name, known)


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"steps": 5, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (case, optimizer, seed, step, metric): arch is the case, method the optimizer, task the start.

    Metrics at steps 1, 10 and the last one: off_manifold (largest entry of theta - theta_0 off BC); at the last step
    also r2, the cloning R^2 averaged over layers and over activations and gradients, and change, the largest entry of
    theta - theta_0 at all. CPU whatever `device` is: rounding is part of what counts.
    """
    rows = []
    for case in progress(config.cases):
        for optimizer in config.optimizers:
            for seed in config.seeds:
                found = _train(config, CASES[case], optimizer, seed)
                rows += [(case, seed, optimizer, config.start, *row) for row in found]
    frame = pd.DataFrame(rows, columns=["arch", "seed", "method", "task", "step", "metric", "value"])
    frame.insert(0, "experiment", NAME)
    frame.insert(6, "layer", "all")
    return frame


def _train(config: Config, case: Case, optimizer: str, seed: int) -> list[tuple[int, str, float]]:
    net, partition = case.make(seed)
    if config.start == "equitable":
        jitter(net, partition, scale=config.scale, seed=seed)
    net = net.to(getattr(torch, config.dtype))
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(config.samples, *case.shape, generator=generator, dtype=torch.float64).to(start["head.weight"])
    y = torch.randint(CLASSES, (config.samples,), generator=generator)
    rows: list[tuple[int, str, float]] = []

    def probe(step: int) -> None:
        rows.append((step, "off_manifold", distance(net, partition, reference=start).block_constant_max))

    def endless():
        while True:
            yield x, y

    train(
        net, OPTIMIZERS[optimizer](net.parameters()), endless(),
        steps=config.steps, seed=seed, probe=probe, probe_at=(1, 10, config.steps),
    )  # fmt: skip
    layers = record(net, x, y, training=True)
    signals = [(s, name) for name, layer in layers.items() for s in (layer.activation, layer.gradient)]
    r2 = [cloning_r2(s, partition.labels[name], layer=name) for s, name in signals]
    change = max(float((p - start[name]).detach().abs().max()) for name, p in net.named_parameters())
    return [*rows, (config.steps, "r2", sum(r2) / len(r2)), (config.steps, "change", change)]
