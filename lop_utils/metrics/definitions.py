"""Metric definitions as data: a definition is a frozen dataclass of thresholds that can be called on a layer.

`UnitDefinition`s say yes or no to each unit (`units`), and their value is the share of units; `Redundancy` and `Rank`
give one number a layer. All are called as ``definition(layer, slope)`` with a `LayerRecord` and, where they need it,
the derivative f'(z) of `metrics.slopes`.
"""

from dataclasses import dataclass

from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.metrics.record import LayerRecord
from lop_utils.metrics.spectrum import RANK_METRICS
from lop_utils.metrics.units import (
    dead_units,
    dormant_units,
    duplicate_units,
    frozen_units,
    gradient_frozen_units,
    redundancy,
    saturated_units,
)


@dataclass(frozen=True)
class UnitDefinition:
    """A property that each unit has or lacks; called on a layer it gives the share of units that have it."""

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        """Which units of the layer have the property, bool (units,)."""
        raise NotImplementedError

    def __call__(self, layer: LayerRecord, slope: Tensor | None = None) -> float:
        return float(self.units(layer, slope).double().mean())


@dataclass(frozen=True)
class Dead(UnitDefinition):
    """|h| < threshold (threshold 0: h = 0) on more than `share` of the rows (share 1: on all)."""

    threshold: float = 1e-7
    share: float = 0.95

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        return dead_units(layer.activation, threshold=self.threshold, share=self.share, layer=layer.name)


@dataclass(frozen=True)
class Dormant(UnitDefinition):
    """E|h_j| at most `tau` times the layer's mean of it."""

    tau: float = 0.1

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        return dormant_units(layer.activation, tau=self.tau, layer=layer.name)


@dataclass(frozen=True)
class Frozen(UnitDefinition):
    """|f'(z)| < epsilon on every row. Needs the slope."""

    epsilon: float = 1e-6

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        return frozen_units(_slope(layer, slope), epsilon=self.epsilon, layer=layer.name)


@dataclass(frozen=True)
class GradientFrozen(UnitDefinition):
    """|dL/dz| <= epsilon on every row. Needs the slope and recorded gradients."""

    epsilon: float = 0.0

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        gradients, slope = _gradient(layer), _slope(layer, slope)
        return gradient_frozen_units(gradients, slope, epsilon=self.epsilon, layer=layer.name)


@dataclass(frozen=True)
class Saturated(UnitDefinition):
    """|dL/dh| / mean|h| < threshold on more than `share` of the rows. Needs recorded gradients."""

    threshold: float = 1e-4
    share: float = 0.99

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        gradients = _gradient(layer)
        return saturated_units(
            layer.activation, gradients, threshold=self.threshold, share=self.share, layer=layer.name
        )


@dataclass(frozen=True)
class Duplicate(UnitDefinition):
    """A partner with cosine (centred: Pearson correlation; absolute: its size) above `threshold`."""

    threshold: float = 0.95
    centred: bool = False
    absolute: bool = False
    count: str = "both"

    def units(self, layer: LayerRecord, slope: Tensor | None = None) -> Tensor:
        return duplicate_units(
            layer.activation,
            threshold=self.threshold,
            centred=self.centred,
            absolute=self.absolute,
            count=self.count,
            layer=layer.name,
        )


@dataclass(frozen=True)
class Redundancy:
    """1 - groups / units, groups being connected components of |Pearson correlation| > threshold."""

    threshold: float = 0.95

    def __call__(self, layer: LayerRecord, slope: Tensor | None = None) -> float:
        return redundancy(layer.activation, threshold=self.threshold, layer=layer.name)


@dataclass(frozen=True)
class Rank:
    """One of `RANK_METRICS`, by its full name."""

    metric: str

    def __post_init__(self) -> None:
        check_choice("rank metric", self.metric, RANK_METRICS)

    def __call__(self, layer: LayerRecord, slope: Tensor | None = None) -> float:
        return RANK_METRICS[self.metric](layer.spectrum)


Definition = UnitDefinition | Redundancy | Rank


def _slope(layer: LayerRecord, slope: Tensor | None) -> Tensor:
    if slope is None:
        raise UsageError(f"layer {layer.name}: f'(z) is needed", remedy="pass slope=slopes(model, records)[name]")
    return slope


def _gradient(layer: LayerRecord) -> Tensor:
    if layer.gradient is None:
        raise UsageError(f"layer {layer.name}: dL/dh is needed", remedy="record the layer with targets")
    return layer.gradient
