"""The cloning experiment: train a small network, widen it exactly, and see whether training leaves the manifold.

Source: arXiv:2510.00304, "Cloning". A base network is trained for a while, then cloned; base and clone, and variants of
the clone, are trained on with the same minibatches. Differences from the paper at laptop size: an MLP on an embedded
data set instead of CIFAR-10, thousands of steps instead of 500 epochs, plain SGD without momentum throughout.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import distance
from lop_utils.manifolds.partition import Partition
from lop_utils.manifolds.rates import matched_groups
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import ranks
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.loop import probe_steps, train
from lop_utils.training.side_by_side import side_by_side

NAME = "cloning"
ARMS = ("base", "clone", "clone_matched", "noisy_step", "noisy_sgd", "dropout", "fresh")
ARCHITECTURES = ("mlp", "cnn", "resnet", "vit")
RANK = "effective_rank_singular_raw"


@dataclass(frozen=True)
class Config:
    """One cloning experiment: `seeds` x `arms` runs of `steps` steps after `base_steps` of the base alone.

    Arms: base (the small network goes on), clone (SGD at the base's rate), clone_matched (SGD at the rates that make it
    the base), noisy_step (one Noisy SGD step of size sigma, then SGD), noisy_sgd (sigma in every step), dropout,
    fresh (a newly initialised network of the clone's width, trained base_steps + steps).

    `widths` are the hidden layers of an MLP, the channels of a CNN's convolutions and its fully connected layer, the
    channels of a ResNet's stages (one block each), and of a ViT the residual stream, the MLP, and nothing more (two
    heads of a quarter of the stream each).
    """

    source: str = "mnist1d"
    arch: str = "mlp"
    widths: tuple[int, ...] = (16, 16, 16)
    activation: str = "relu"
    norm: str = "none"
    factor: int = 2
    lr: float = 0.2
    batch_size: int = 128
    base_steps: int = 1000
    steps: int = 4000
    probes: int = 41
    sigma: float = 0.01
    dropout: float = 0.1
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choice("architecture", self.arch, ARCHITECTURES)
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if self.factor < 2 or not self.seeds:
            raise UsageError(f"factor {self.factor}, {len(self.seeds)} seeds", remedy="use factor >= 2 and a seed")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"base_steps": 100, "steps": 200, "probes": 5, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "base_steps": 20_000, "steps": 100_000, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs of `config`; one row per (seed, method, step, layer, metric), layer "all" for whole-network metrics.

    Metrics: train_loss and test_accuracy; r2_forward, r2_backward (per layer and their mean), off_manifold (largest
    off-block entry of W - W at cloning), effective_rank_singular_raw, per layer and mean. Step 0 is the cloning.
    """
    found = side_by_side(_run_seed, [(config, seed, device) for seed in config.seeds], device=device, progress=progress)
    return tidy(chain.from_iterable(found), experiment=NAME, arch=config.arch, task=config.source)


def _run_seed(config: Config, seed: int, device: torch.device | str) -> list[tuple]:
    source = load(config.source, device)
    base = _trained_base(config, source, seed)
    return [row for arm in config.arms for row in _run_arm(config, source, base, arm, seed)]


def _trained_base(config: Config, source: Source, seed: int) -> nn.Module:
    base = _network(config, source, seed)
    optimizer = torch.optim.SGD(base.parameters(), lr=config.lr)
    train(base, optimizer, _batches(config, source, seed), steps=config.base_steps, seed=seed)
    return base


def _network(config: Config, source: Source, seed: int) -> nn.Module:
    """The base network of `config.arch` in the sizes of `config.widths`, for the shape of the source's inputs."""
    widths, out = config.widths, source.classes
    image = {"image_channels": source.shape[0], "outputs": out, "activation": config.activation, "norm": config.norm}
    if config.arch == "mlp":
        shape = MLPConfig(source.size, widths, out, activation=config.activation, norm=config.norm)
        model: nn.Module = MLP(shape, seed=seed)
    elif config.arch == "cnn":
        model = CNN(CNNConfig(side=source.shape[-1], channels=widths[:-1], fc=widths[-1], **image), seed=seed)
    elif config.arch == "resnet":
        model = ResNet(ResNetConfig(stages=widths, blocks=(1,) * len(widths), **image), seed=seed)
    else:
        sizes = {"width": widths[0], "mlp": widths[1], "heads": 2, "head_dim": widths[0] // 4, "depth": 1, "patch": 4}
        model = ViT(ViTConfig(side=source.shape[-1], **sizes, **image), seed=seed)
    return model.to(device=source.inputs.device, dtype=getattr(torch, config.dtype))


def _batches(config: Config, source: Source, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    inputs = source.inputs.to(getattr(torch, config.dtype))
    return batches(inputs, source.targets, batch_size=config.batch_size, seed=seed)


def _run_arm(config: Config, source: Source, base: nn.Module, arm: str, seed: int) -> list[tuple]:
    model, optimizer = _arm(config, source, base, arm, seed)
    partition = None if arm in ("base", "fresh") else Partition.of_clone(model, config.factor)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows: list[tuple] = []

    def probe(step: int) -> None:
        rows.extend((seed, arm, step, *row) for row in _measure(config, source, model, partition, start))

    warm_up = config.base_steps if arm == "fresh" else 0
    stream = _batches(config, source, seed)
    train(model, optimizer, stream, steps=warm_up, seed=seed)
    for _ in range(config.base_steps - warm_up):
        next(stream)  # every arm sees the same minibatches after cloning
    due = probe_steps(config.steps, config.probes)
    train(model, optimizer, stream, steps=config.steps, seed=seed + 1, probe=probe, probe_at=due)
    return rows


def _arm(
    config: Config, source: Source, base: nn.Module, arm: str, seed: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and the optimizer of one arm, at the moment of cloning."""
    if arm == "base":
        model = deepcopy(base)
    elif arm == "fresh":
        model = _rebuilt(widen(base, config.factor), seed=seed + 10_000)
    else:
        model = widen(base, config.factor)
    if arm == "dropout":
        weights = model.state_dict()
        model = _rebuilt(model, seed=0, dropout=config.dropout)
        model.load_state_dict(weights)
    if arm == "clone_matched":
        return model, torch.optim.SGD(matched_groups(model, config.factor, lr=config.lr))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    if arm in ("noisy_step", "noisy_sgd"):
        GradientNoise(optimizer, sigma=config.sigma, decay=float(arm == "noisy_sgd"), seed=seed)
    return model, optimizer


def _rebuilt(model: nn.Module, *, seed: int, **changes: object) -> nn.Module:
    """A newly initialised network of the same class, shape, device and dtype, with some of its settings changed."""
    return type(model)(replace(model.config, **changes), seed=seed).to(next(model.parameters()))


def _measure(
    config: Config, source: Source, model: nn.Module, partition: Partition | None, start: dict[str, Tensor]
) -> list[tuple[str, str, float]]:
    """(layer, metric, value) of one network: loss over the training set, accuracy over the test set, units' metrics."""
    x, y = source.inputs.to(next(model.parameters()).dtype), source.targets
    layers = record(model, x[:1000], y[:1000])
    training, model_x = model.training, source.test_inputs.to(x)
    model.eval()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x), y)
        accuracy = (model(model_x).argmax(1) == source.test_targets).double().mean()
    model.train(training)
    found = [("all", "train_loss", float(loss)), ("all", "test_accuracy", float(accuracy))]
    by_metric: dict[str, list[float]] = {}
    for name, layer in layers.items():
        values = {RANK: ranks(layer.activation, layer=name)[RANK]}
        if partition is not None:
            labels = partition.labels[name]
            values["r2_forward"] = cloning_r2(layer.activation, labels, layer=name)
            values["r2_backward"] = cloning_r2(layer.gradient, labels, layer=name)
        found += [(name, metric, value) for metric, value in values.items()]
        for metric, value in values.items():
            by_metric.setdefault(metric, []).append(value)
    if partition is not None:
        found.append(("all", "off_manifold", distance(model, partition, reference=start).block_constant_max))
        by_metric["r2"] = by_metric["r2_forward"] + by_metric["r2_backward"]
    return found + [("mean", metric, sum(values) / len(values)) for metric, values in by_metric.items()]
