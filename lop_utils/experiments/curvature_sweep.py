"""What decides how strongly a manifold of clones repels? The most negative normal curvature over shapes and tasks.

One-at-a-time sweeps around a central network: activation, depth and width, at initialisation, along a first task, and
just before and just after the labels change. The curvature is that of the network's two-fold clone, in closed form
(`manifolds.unit_blocks`); the clone itself is never built.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.unit_blocks import spectrum_of, unit_hessians
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import shared_batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.ensemble import train_ensemble

NAME = "curvature_sweep"
AXES = ("activation", "depth", "width")


@dataclass(frozen=True)
class Config:
    """`seeds` networks for every value of an axis, the others at the first value of theirs; SGD at `lr`.

    Probed at the steps `probes`, the last of which is the switch of labels: there before and after it. `rows` images.
    """

    source: str = "digits"
    activations: tuple[str, ...] = ("tanh", "relu", "leaky_relu_01", "gelu", "silu")
    depths: tuple[int, ...] = (2, 1, 3, 4)
    widths: tuple[int, ...] = (16, 8, 32, 64)
    lr: float = 0.2
    batch_size: int = 128
    probes: tuple[int, ...] = (0, 100, 300, 800)
    rows: int = 500
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        if not all((self.activations, self.depths, self.widths, self.probes, self.seeds)):
            raise UsageError("an axis, the probes or the seeds are empty", remedy="give each at least one value")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    small = {"activations": ("tanh", "relu"), "depths": (2, 1), "widths": (16, 8), "probes": (0, 60)}
    sizes: dict[str, object] = {
        "smoke": small | {"seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (16, 8, 32, 64, 128), "depths": (2, 1, 3, 4, 5), "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def shapes(config: Config) -> Iterator[tuple[str, str, int, int]]:
    """(axis, activation, depth, width): the centre under the name "centre", then every other value of every axis."""
    centre = (config.activations[0], config.depths[0], config.widths[0])
    yield "centre", *centre
    for i, values in enumerate((config.activations, config.depths, config.widths)):
        for value in values[1:]:
            shape = list(centre)
            shape[i] = value
            yield AXES[i], *shape


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (seed, method, step, layer, metric): the method names the shape, "relu 2 x 16", the layer the axis.

    Metrics: lambda_min, lambda_max, negative (share of negative eigenvalues among those beyond 1e-9 of the largest),
    trace_share (trace over the sum of absolute eigenvalues), residual (root mean square over images of
    ||softmax - label||) and train_loss. Step s + 1 of the last probe s is the same network under the new labels.
    """
    source, rows = load(config.source, device), []
    for axis, activation, depth, width in progress(list(shapes(config))):
        name = f"{activation} {depth} x {width}"
        nets = [MLP(MLPConfig(source.size, (width,) * depth, source.classes, activation=activation), seed=s)
                for s in config.seeds]  # fmt: skip
        stack = Stack([net.to(source.inputs) for net in nets])
        rows += [(seed, name, step, axis, *row) for seed, step, row in _timeline(config, source, stack)]
    return tidy(rows, experiment=NAME, arch="mlp", task=config.source)


def _timeline(config: Config, source: Source, stack: Stack) -> list[tuple[int, int, tuple[str, float]]]:
    x, found = source.inputs.flatten(1), []
    stream = shared_batches(x, source.targets, batch_size=config.batch_size, seeds=config.seeds)
    some, y, last = x[: config.rows].double(), source.targets[: config.rows], config.probes[-1]

    def probe(step: int) -> None:
        for i, seed in enumerate(config.seeds):
            net = stack.member(i).double()
            found.extend((seed, step, row) for row in curvature(net, some, y))
            if step == last:
                generator = torch.Generator().manual_seed(seed)
                relabelled = torch.randperm(source.classes, generator=generator).to(y.device)[y]
                found.extend((seed, step + 1, row) for row in curvature(net, some, relabelled))

    optimizer = torch.optim.SGD(stack.parameters(), lr=config.lr)
    train_ensemble(stack, optimizer, stream, steps=last, probe=probe, probe_at=config.probes)
    return found


def curvature(net: MLP, x: Tensor, y: Tensor) -> list[tuple[str, float]]:
    """(metric, value) of one base network: the normal spectrum of its two-fold clone, and its residual."""
    with torch.no_grad():
        outputs = net(x)
        residual = outputs.softmax(1) - nn.functional.one_hot(y, outputs.shape[1])
        loss = nn.functional.cross_entropy(outputs, y)
    values = spectrum_of(unit_hessians(net, 2, x, y))
    size = values.abs().max()
    counted = values[values.abs() > 1e-9 * size]
    return [
        ("lambda_min", float(values[0])),
        ("lambda_max", float(values[-1])),
        ("negative", float((counted < 0).double().mean())),
        ("trace_share", float(values.sum() / values.abs().sum())),
        ("residual", float(residual.square().sum(1).mean().sqrt())),
        ("train_loss", float(loss)),
    ]
