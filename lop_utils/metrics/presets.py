"""Whose definition? The thresholds of the paper, its code, and two other lines of work, as data; and `measure`.

records = record(model, inputs, targets)
measure(records["hidden.0"], "paper")                                  # {"dead": ..., "duplicate": ..., ...}
measure(records["hidden.0"], "book", slope=slopes(model, records)["hidden.0"])
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.metrics.definitions import (
    Dead,
    Definition,
    Dormant,
    Duplicate,
    Frozen,
    GradientFrozen,
    Rank,
    Redundancy,
    Saturated,
)
from lop_utils.metrics.record import LayerRecord


@dataclass(frozen=True)
class Preset:
    """A named set of metric definitions and where they come from; `definitions` are (metric, definition) pairs."""

    name: str
    source: str
    definitions: tuple[tuple[str, Definition], ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in order."""
        return tuple(name for name, _ in self.definitions)

    def only(self, *metrics: str) -> "Preset":
        """The same preset with these metrics alone. Raises `UsageError` for one that it lacks.

        >>> PAPER.only("dead").metrics
        ('dead',)
        """
        for metric in metrics:
            check_choice(f"metric of preset {self.name}", metric, self.metrics)
        return replace(self, definitions=tuple(pair for pair in self.definitions if pair[0] in metrics))


PAPER = Preset(
    "paper",
    "arXiv:2510.00304, the appendix with the definitions of the metrics",
    (
        ("dead", Dead(threshold=1e-7, share=0.95)),
        ("duplicate", Duplicate(threshold=0.95)),
        ("saturated", Saturated(threshold=1e-4, share=0.99)),
        ("effective_rank", Rank("effective_rank_singular_raw")),
        ("stable_rank", Rank("participation_ratio_centred")),
    ),
)
PAPER_CODE = Preset(
    "paper_code",
    "the public code of arXiv:2510.00304, continual learning: one index of each duplicate pair is counted",
    (
        ("dead", Dead(threshold=1e-7, share=0.95)),
        ("duplicate", Duplicate(threshold=0.95, count="lower")),
        ("saturated", Saturated(threshold=1e-4, share=0.99)),
        ("effective_rank", Rank("effective_rank_singular_raw")),
    ),
)
DOHARE = Preset(
    "dohare",
    "Dohare et al. 2024: dead on every probe input (permuted MNIST), dormant below 1% of them (CIFAR-100, code)",
    (
        ("dead", Dead(threshold=0.0, share=1.0)),
        ("dormant", Dead(threshold=0.0, share=0.99)),
        ("effective_rank", Rank("effective_rank_singular_raw")),
        ("stable_rank", Rank("srank_01_raw")),
    ),
)
SOKAR = Preset(
    "sokar",
    "Sokar et al. 2023: tau-dormant units, tau 0.1 and 0.025; tau 0 is exactly dead",
    (("dormant", Dormant(0.1)), ("dormant_025", Dormant(0.025)), ("dead", Dormant(0.0))),
)
BOOK = Preset(
    "book",
    "this book: exact zeros, derivatives, centred similarity and centred ranks",
    (
        ("dead", Dead(threshold=0.0, share=1.0)),
        ("frozen", Frozen(1e-6)),
        ("gradient_frozen", GradientFrozen(0.0)),
        ("duplicate", Duplicate(threshold=0.95, centred=True, absolute=True)),
        ("redundancy", Redundancy(0.95)),
        ("effective_rank", Rank("effective_rank_singular_centred")),
        ("participation_ratio", Rank("participation_ratio_centred")),
    ),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (PAPER, PAPER_CODE, DOHARE, SOKAR, BOOK)}


def measure(layer: LayerRecord, preset: Preset | str, *, slope: Tensor | None = None) -> dict[str, float]:
    """The preset's metrics of one layer: shares of units from 0 to 1, and ranks.

    Raises `UsageError` naming the layer for input that is not finite or empty, and when a definition needs gradients
    (`record` with targets) or f'(z) (`slope`) that are not there. Degenerate layers: see `metrics.units`, `spectrum`.

    >>> import torch
    >>> layer = LayerRecord("hidden.0", None, torch.tensor([[0.0, 1.0, 2.0, 1.0], [0.0, 2.0, 4.0, -1.0]]))
    >>> measure(layer, "sokar")
    {'dormant': 0.25, 'dormant_025': 0.25, 'dead': 0.25}
    >>> measure(layer, PAPER.only("dead", "duplicate"))
    {'dead': 0.25, 'duplicate': 0.5}
    """
    return {name: float(definition(layer, slope)) for name, definition in _resolve(preset).definitions}


def rows(
    records: Mapping[str, LayerRecord] | Iterable[LayerRecord],
    preset: Preset | str,
    *,
    slopes: Mapping[str, Tensor] | None = None,
) -> list[tuple[str, str, float]]:
    """(layer, metric, value) for every layer and, as layer "mean", the mean over layers: rows of a tidy frame.

    >>> import torch
    >>> rows([LayerRecord(name, None, torch.zeros(2, 3)) for name in ("a", "b")], SOKAR.only("dead"))
    [('a', 'dead', 1.0), ('b', 'dead', 1.0), ('mean', 'dead', 1.0)]
    """
    layers = list(records.values() if isinstance(records, Mapping) else records)
    if not layers:
        raise UsageError("no layer is recorded", remedy="record at least one unit space")
    found = {layer.name: measure(layer, preset, slope=(slopes or {}).get(layer.name)) for layer in layers}
    listed = [(layer, metric, value) for layer, values in found.items() for metric, value in values.items()]
    metrics = _resolve(preset).metrics
    return listed + [("mean", m, sum(values[m] for values in found.values()) / len(found)) for m in metrics]


def _resolve(preset: Preset | str) -> Preset:
    if isinstance(preset, Preset):
        return preset
    check_choice("preset", preset, PRESETS)
    return PRESETS[preset]
