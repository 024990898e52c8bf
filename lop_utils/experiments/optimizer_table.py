"""Which optimizers keep cloned units: every update rule, from three kinds of start, in two precisions.

Small tanh networks, full batch, random labels. Each start is made from a widened base network: the clone itself
(block-constant, BC), the clone plus interaction noise Z (equitable, RE and CE, but not BC), and the clone plus
unrestricted noise (not equitable). All networks of one rule and precision train side by side as one stack.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.stacks import Stack, distances
from lop_utils.experiments.update_rules import GRADIENT, RULES, SHRINKAGE, WEIGHTS, Rule, check_rules
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import jitter
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.seeding import seeded
from lop_utils.profiles import check as check_profile

NAME = "optimizer_table"
STARTS = ("block-constant", "equitable", "not equitable")
DTYPES = ("float64", "float32")
KEPT, LEAVES = "kept", "leaves"
EARLY = (0, 1, 2, 5, 10)


@dataclass(frozen=True)
class Config:
    """`rules` x `starts` x `dtypes` x `seeds` runs of `steps` full-batch steps on `samples` Gaussian inputs.

    The base has the hidden layers `widths`; every unit is copied `factor` times. `scale` is the standard deviation of
    the noise that makes the equitable and the not equitable starts. A factor of 2 hides tier 3: every RE and CE piece
    of two by two is [[p, q], [q, p]], and so is what a coordinate-wise rule makes of it. Layers of 8 units fill whole
    vector registers; where a rest is computed by other instructions, copies may differ in their last bit.
    """

    rules: tuple[str, ...] = tuple(RULES)
    starts: tuple[str, ...] = STARTS
    dtypes: tuple[str, ...] = DTYPES
    inputs: int = 6
    widths: tuple[int, ...] = (2, 2)
    outputs: int = 3
    factor: int = 4
    samples: int = 64
    scale: float = 0.3
    steps: int = 1000
    every: int = 10
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_rules(self.rules)
        for kind, names, known in (("start", self.starts, STARTS), ("dtype", self.dtypes, DTYPES)):
            for name in names:
                check_choice(kind, name, known)
        if self.steps < 10 or self.every < 1:
            raise UsageError(f"{self.steps} steps, probed every {self.every}", remedy="use at least 10 and 1")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"steps": 20, "every": 10, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"steps": 5000, "every": 50, "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def predicted(tier: str, start: str) -> dict[str, str | None]:
    """What the theorem says of M_D(start) (`off_manifold`) and of RE and CE (`off_equitable`): kept, leaves, or None.

    None: a start that is not equitable has no RE and CE to keep. "leaves" is what the theorem does not forbid and, for
    the noise tier and the start that is not equitable, what generic data make certain.

    >>> predicted("gradients only", "equitable")
    {'off_manifold': 'kept', 'off_equitable': 'kept'}
    >>> predicted("scalar shrinkage", "equitable")["off_manifold"]
    'leaves'
    """
    if start == "not equitable":
        return {"off_manifold": LEAVES, "off_equitable": None}
    clone = start == "block-constant"
    manifold = tier == GRADIENT or (clone and tier in (SHRINKAGE, WEIGHTS))
    return {
        "off_manifold": KEPT if manifold else LEAVES,
        "off_equitable": KEPT if manifold or tier == SHRINKAGE else LEAVES,
    }


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (rule, start, dtype, seed, step, metric): method is the rule, task the start, layer the dtype.

    Metrics: off_manifold, off_equitable, interaction (see `stacks.distances`), train_loss, and at the last step the
    cloning R^2, r2. The networks are tiny and train on the CPU whatever `device` is: rounding is part of what counts.
    """
    rows = []
    for rule in progress(config.rules):
        for dtype in config.dtypes:
            for step, metric, values in _train(config, RULES[rule], dtype):
                keys = ((start, seed) for start in config.starts for seed in config.seeds)
                rows += [(s, rule, start, step, dtype, metric, v) for (start, s), v in zip(keys, values, strict=True)]
    frame = pd.DataFrame(rows, columns=["seed", "method", "task", "step", "layer", "metric", "value"])
    frame.insert(0, "experiment", NAME)
    frame.insert(1, "arch", "mlp")
    return frame


def start_network(config: Config, start: str, seed: int) -> MLP:
    """The widened network of one start, float64."""
    shape = MLPConfig(config.inputs, config.widths, config.outputs, activation="tanh", gain=2.0)
    net = widen(MLP(shape, seed=seed).double(), config.factor)
    if start != "block-constant":
        jitter(net, Partition.of_clone(net, config.factor), scale=config.scale, seed=seed, inside=start == "equitable")
    return net


def _train(config: Config, rule: Rule, dtype: str) -> Iterator[tuple[int, str, list[float]]]:
    """Yield (step, metric, one value for each start and seed) while a stack of all starts and seeds trains."""
    nets = [start_network(config, start, seed) for start in config.starts for seed in config.seeds]
    stack = Stack(nets).to(getattr(torch, dtype))
    data = [_data(config, seed) for _ in config.starts for seed in config.seeds]
    x, y = torch.stack([x for x, _ in data]).to(getattr(torch, dtype)), torch.stack([y for _, y in data])
    origin, partition = stack.tensors(), Partition.of_clone(nets[0], config.factor)
    labels = partition.axis_labels(nets[0])
    due = set(EARLY) | set(range(0, config.steps + 1, config.every)) | {config.steps}
    with seeded(config.seeds[0]):
        for step, now in enumerate(rule.train(stack, x, y, steps=config.steps, seed=config.seeds[0])):
            if step in due:
                for metric, values in distances(now, labels, origin).items():
                    yield step, metric, values.tolist()
                yield step, "train_loss", _losses(now, x, y).tolist()
        yield config.steps, "r2", [_r2(now.network(i), partition, x[i], y[i]) for i in range(len(nets))]


def _data(config: Config, seed: int) -> tuple[Tensor, Tensor]:
    """Gaussian inputs (samples, inputs) and random labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(config.samples, config.inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(config.outputs, (config.samples,), generator=generator)


def _r2(net: MLP, partition: Partition, x: Tensor, y: Tensor) -> float:
    """Cloning R^2, the mean over layers and over activations and their gradients."""
    layers = record(net, x, y)
    signals = ((signal, name) for name, layer in layers.items() for signal in (layer.activation, layer.gradient))
    return sum(cloning_r2(signal, partition.labels[name], layer=name) for signal, name in signals) / (2 * len(layers))


@torch.no_grad()
def _losses(stack: Stack, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of every network without dropout, shape (networks,)."""
    training = stack.training
    log_p = torch.log_softmax(stack.eval()(x), dim=-1)
    stack.train(training)
    return -log_p.gather(-1, y[..., None])[..., 0].mean(1)
