"""What the chapters on streams show of a network: its symptoms, layer by layer."""

import torch
from torch import Tensor, nn

from lop_utils.metrics.presets import PAPER, rows
from lop_utils.metrics.record import LayerRecord, record
from lop_utils.metrics.slopes import derivative
from lop_utils.metrics.units import frozen_units
from lop_utils.models.spaces import spaces_of
from lop_utils.training.ensemble import mask

_MOST_ROWS = 4_000  # images x positions of a layer that enter its metrics
_PAPER = PAPER.only("dead", "duplicate", "saturated", "effective_rank")


def symptoms(net: nn.Module, x: Tensor, y: Tensor, *, active: Tensor | None = None) -> list[tuple[str, str, float]]:
    """(layer, metric, value) for every recorded space and, as layer "mean", the mean over layers.

    Metrics: dead, duplicate, saturated, effective_rank in the paper's definitions; frozen (share of units with
    |f'(z)| < 1e-6 on every input, for the spaces with a non-linearity), pre_activation_sd (mean over units of the
    standard deviation over inputs), weight_norm (Frobenius norm of what writes into the space), and for layer "all" the
    weight_norm of the whole network. `active`: the outputs that the loss is over.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> sorted({metric for _, metric, _ in symptoms(net, torch.eye(3), torch.tensor([0, 1, 0]))})[:4]
    ['dead', 'duplicate', 'effective_rank', 'frozen']
    """
    loss = lambda outputs, targets: nn.functional.cross_entropy(mask(outputs[None], _one(active))[0], targets)  # noqa: E731
    records = {name: _thinned(layer) for name, layer in record(net, x, y, loss=loss).items()}
    found = rows(records, _PAPER) + _extras(net, records)
    squares = torch.stack([p.detach().double().square().sum() for p in net.parameters()])
    return [*found, ("all", "weight_norm", float(squares.sum().sqrt()))]


def _one(active: Tensor | None) -> Tensor | None:
    return None if active is None else active[None]


def _thinned(layer: LayerRecord) -> LayerRecord:
    """At most `_MOST_ROWS` rows, evenly spaced: images have many positions."""
    step = -(-len(layer.activation) // _MOST_ROWS) | 1  # odd, so that it does not pick the same columns of each image
    parts = (layer.pre_activation, layer.activation, layer.gradient)
    return LayerRecord(layer.name, *(None if part is None else part[::step] for part in parts))


def _extras(net: nn.Module, records: dict[str, LayerRecord]) -> list[tuple[str, str, float]]:
    found: list[tuple[str, str, float]] = []
    for space in spaces_of(net):
        if space.name not in records:
            continue
        layer = records[space.name]
        writers = [net.get_submodule(link.module) for link in space.writers if link.module in dict(net.named_modules())]
        norm = sum(float(module.weight.detach().double().square().sum()) for module in writers) ** 0.5
        found.append((space.name, "weight_norm", norm))
        if layer.pre_activation is not None:
            slope = derivative(net.get_submodule(space.activation), layer)
            found.append((space.name, "frozen", float(frozen_units(slope, layer=space.name).double().mean())))
            found.append((space.name, "pre_activation_sd", float(layer.pre_activation.std(0).mean())))
    means: dict[str, list[float]] = {}
    for _, metric, value in found:
        means.setdefault(metric, []).append(value)
    return found + [("mean", metric, sum(values) / len(values)) for metric, values in means.items()]
