"""The metric lab: every definition on layers whose truth is known, and on one network while it trains.

Tasks of the frame: `specimen` (layer: group of units; method: definition; value: share of the group that it marks),
`errors` (measured minus true, absolute), `independent` (method: activation), `copies` (method: m), `fresh` (a sigmoid
network before training), `ranks` (one ReLU matrix), `batch` (step: number of inputs measured on; method: state of the
network) and `training` (step: training step; metric: preset and metric, as in "paper.dead").
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.experiments.specimens import GROUPS, Specimen, paired_units, specimen
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.collapse import neural_collapse
from lop_utils.metrics.definitions import Dead, Dormant, Duplicate, Frozen, Redundancy, Saturated, UnitDefinition
from lop_utils.metrics.growth import weight_growth
from lop_utils.metrics.presets import PRESETS, rows
from lop_utils.metrics.record import LayerRecord, record
from lop_utils.metrics.slopes import slopes
from lop_utils.metrics.spectrum import ranks
from lop_utils.metrics.units import similarity
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import Source, load
from lop_utils.theory.gaussian import moments
from lop_utils.training.loop import probe_steps, train

NAME = "metric_lab"
PAPER_BATCH = 128
DEFINITIONS: dict[str, UnitDefinition] = {
    "dead, paper": Dead(1e-7, 0.95),
    "dead, Dohare": Dead(0.0, 1.0),
    "dormant, Dohare's code": Dead(0.0, 0.99),
    "dormant, Sokar τ = 0.1": Dormant(0.1),
    "dormant, Sokar τ = 0.025": Dormant(0.025),
    "frozen, f'(z) = 0": Frozen(1e-6),
    "saturated, paper, batch 128": Saturated(),
    "saturated, paper, all inputs": Saturated(),
    "duplicate, paper": Duplicate(0.95),
    "duplicate, paper's code": Duplicate(0.95, count="lower"),
    "duplicate, |Pearson|": Duplicate(0.95, centred=True, absolute=True),
}
TRUTH: dict[str, tuple[str, ...]] = {
    name: ("copied",) if name.startswith("dup") else ("quiet", "rare", "dead") if "Sokar" in name else ("dead",)
    for name in DEFINITIONS
}
"""Which groups of a specimen each definition should mark, going by its name, and no others."""


@dataclass(frozen=True)
class Config:
    """Sizes of the lab; see the module for its parts."""

    activations: tuple[str, ...] = ("tanh", "elu", "silu", "gelu", "relu", "softplus", "sigmoid")
    inputs: int = 4000
    units: int = 64
    many_inputs: int = 10_000
    matrix: tuple[int, int, int] = (1024, 64, 512)  # inputs, their dimension, units
    copies: tuple[int, ...] = (2, 3, 4)
    source: str = "mnist1d"
    widths: tuple[int, ...] = (64, 64, 64)
    steps: int = 1000
    probes: int = 11
    lr: float = 0.01
    tanh_steps: int = 500
    tanh_lr: float = 0.001
    batch_sizes: tuple[int, ...] = (4, 16, 64, 250, 1000, 4000)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        if not self.seeds or not self.activations or self.steps < 1 or self.inputs < PAPER_BATCH:
            problem = f"seeds {self.seeds}, activations {self.activations}, {self.steps} steps, {self.inputs} inputs"
            raise UsageError(problem, remedy=f"give a seed, an activation, a step and {PAPER_BATCH} inputs at least")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {
            "inputs": 1000,
            "many_inputs": 2000,
            "steps": 60,
            "probes": 3,
            "tanh_steps": 20,
            "seeds": (seed, seed + 1),
        },
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"steps": 20_000, "probes": 41, "widths": (128,) * 5, "seeds": tuple(range(seed, seed + 10))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All parts for all seeds, one row per (task, method, seed, step, layer, metric)."""
    source, found = load(config.source, device), []
    parts = (_specimen, _errors, _independent, _copies, _fresh, _ranks)
    for seed in progress(config.seeds):
        for part in parts:
            found += [(part.__name__[1:], seed, *row) for row in part(config, seed)]
        found += [("batch", seed, *row) for row in _batch(config, source, seed)]
        found += [("training", seed, *row) for row in _training(config, source, seed)]
    frame = pd.DataFrame(found, columns=["task", "seed", "method", "step", "layer", "metric", "value"])
    frame.insert(0, "experiment", NAME)
    frame.insert(1, "arch", "mlp")
    return frame[["experiment", "arch", "method", "seed", "task", "step", "layer", "metric", "value"]]


def marks(config: Config, seed: int) -> tuple[Specimen, dict[str, Tensor]]:
    """The specimen of a seed and which of its units each definition marks."""
    whole, part = (specimen(config.inputs, seed, batch=batch) for batch in (None, PAPER_BATCH))
    chosen = {name: part if name.endswith("batch 128") else whole for name in DEFINITIONS}
    return whole, {name: d.units(chosen[name].layer, chosen[name].slope) for name, d in DEFINITIONS.items()}


def relu_matrix(config: Config, seed: int) -> Tensor:
    """Activations (inputs, units) of a ReLU layer with Gaussian weights on Gaussian inputs, z of variance 1."""
    inputs, dimension, units = config.matrix
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(n, dimension, generator=generator, dtype=torch.float64) for n in (inputs, units))
    return (x @ w.T / dimension**0.5).relu()


def _specimen(config: Config, seed: int) -> Iterator[tuple]:
    whole, marked = marks(config, seed)
    for name, units in marked.items():
        for group in GROUPS:
            yield name, 0, group, "share", whole.share(units, group)
        yield name, 0, "all", "share", float(units.double().mean())


def _errors(config: Config, seed: int) -> Iterator[tuple]:
    """|measured - true|: shares on the specimen, effective rank over true dimension, 1 - R^2 of perfect clones."""
    whole, marked = marks(config, seed)
    pairs = {
        "dead_error": "dead, paper",
        "duplicate_error": "duplicate, paper",
        "saturated_error": "saturated, paper, all inputs",
        "field_dead_error": "dead, Dohare",
        "field_duplicate_error": "duplicate, |Pearson|",
        "field_frozen_error": "frozen, f'(z) = 0",
    }
    for metric, name in pairs.items():
        truth = sum(whole.members(group) for group in TRUTH[name])
        yield "", 0, "specimen", metric, abs(float(marked[name].double().mean() - truth.double().mean()))
    h, _ = paired_units("relu", rows=config.many_inputs, units=config.units, correlation=0.0, seed=seed)
    found = ranks(h)
    yield "", 0, "independent", "rank_error", abs(found["effective_rank_singular_raw"] / config.units - 1)
    yield "", 0, "independent", "field_rank_error", abs(found["effective_rank_singular_centred"] / config.units - 1)
    labels = torch.arange(config.units).repeat(2)
    yield "", 0, "clones", "clone_r2_gap", abs(1 - cloning_r2(h.repeat(1, 2), labels))


def _independent(config: Config, seed: int) -> Iterator[tuple]:
    for name in config.activations:
        h, _ = paired_units(name, rows=config.many_inputs, units=config.units, correlation=0.0, seed=seed)
        first, second = torch.triu_indices(config.units, config.units, 1)
        exact = moments(name)
        yield name, 0, "units", "cosine", float(similarity(h)[first, second].mean())
        yield name, 0, "units", "formula", float(exact.mean**2 / exact.second)
        yield name, 0, "units", "pearson", float(similarity(h, centred=True)[first, second].abs().mean())


def _copies(config: Config, seed: int) -> Iterator[tuple]:
    h, _ = paired_units("relu", rows=config.inputs, units=config.units, correlation=0.0, seed=seed)
    definitions = {"text": Duplicate(0.95), "code": Duplicate(0.95, count="lower"), "redundancy": Redundancy(0.95)}
    for m in config.copies:
        layer = LayerRecord("copies", None, h.repeat(1, m))
        for metric, definition in definitions.items():
            yield str(m), 0, "units", metric, definition(layer)


def _fresh(config: Config, seed: int) -> Iterator[tuple]:
    net = MLP(MLPConfig(config.units, (128, 128), 10, activation="sigmoid"), seed=seed)
    x = torch.randn(config.inputs, config.units, generator=torch.Generator().manual_seed(seed))
    layer = record(net, x)["hidden.1"]
    yield "sigmoid", 0, layer.name, "cosine_share", Duplicate(0.95)(layer)
    yield "sigmoid", 0, layer.name, "pearson_share", Duplicate(0.95, centred=True, absolute=True)(layer)


def _ranks(config: Config, seed: int) -> Iterator[tuple]:
    for metric, value in ranks(relu_matrix(config, seed)).items():
        yield "relu", 0, "matrix", metric, value


def _network(config: Config, source: Source, activation: str, seed: int) -> MLP:
    shape = MLPConfig(source.size, config.widths, source.classes, activation=activation)
    return MLP(shape, seed=seed).to(source.inputs.device)


def _trained(config: Config, source: Source, net: nn.Module, seed: int, **probing: object) -> None:
    stream = batches(source.inputs, source.targets, batch_size=PAPER_BATCH, seed=seed)
    train(net, torch.optim.Adam(net.parameters(), lr=config.lr), stream, steps=config.steps, seed=seed, **probing)


def _batch(config: Config, source: Source, seed: int) -> Iterator[tuple]:
    """The paper's saturated share of one tanh network against the number of inputs it is measured on."""
    net = _network(config, source, "tanh", seed)
    order = torch.randperm(len(source.inputs), generator=torch.Generator().manual_seed(seed)).to(source.inputs.device)
    for state in ("fresh", "trained", "zeroed head"):
        if state == "trained":
            _trained(replace(config, steps=config.tanh_steps, lr=config.tanh_lr), source, net, seed)
        if state == "zeroed head":
            nn.init.zeros_(net.head.weight)
            nn.init.zeros_(net.head.bias)
        for size in config.batch_sizes:
            layers = record(net, source.inputs[order[:size]], source.targets[order[:size]])
            slope = slopes(net, layers)
            for metric, definition in (("saturated", Saturated()), ("frozen", Frozen())):
                values = [definition(layer, slope[name]) for name, layer in layers.items()]
                yield state, min(size, len(order)), "mean", metric, sum(values) / len(values)


def _training(config: Config, source: Source, seed: int) -> list[tuple]:
    """Every preset, neural collapse and weight growth of one ReLU network along its training."""
    net = _network(config, source, "relu", seed)
    start = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    x, y = source.inputs, source.targets
    found: list[tuple] = []

    def probe(step: int) -> None:
        layers = record(net, x, y)
        slope = slopes(net, layers)
        for name in PRESETS:
            found.extend(("relu", step, layer, f"{name}.{m}", v) for layer, m, v in rows(layers, name, slopes=slope))
        last = list(layers.values())[-1]
        collapse = neural_collapse(last.activation, y, head=(net.head.weight, net.head.bias), layer=last.name)
        found.extend(("relu", step, last.name, metric, value) for metric, value in vars(collapse).items())
        found.append(("relu", step, "all", "weight_ratio", weight_growth(net, start)["all"].ratio))
        found.append(("relu", step, "all", "train_accuracy", float((net(x).argmax(1) == y).double().mean())))

    _trained(config, source, net, seed, probe=probe, probe_at=probe_steps(config.steps, config.probes))
    return [row for row in found if isfinite(row[-1])]
