"""f'(z): how strongly each unit's output follows its input, from a record and the model it was made of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import LayerRecord
from lop_utils.metrics.validate import require_units
from lop_utils.models.spaces import spaces_of


def slopes(model: nn.Module, records: Mapping[str, LayerRecord]) -> dict[str, Tensor]:
    """f'(z) of every recorded space, (rows, units), by automatic differentiation of its activation module.

    At a kink it is what PyTorch takes as the derivative (0 for ReLU at 0). Raises `UsageError` naming the layer when a
    record has no pre-activations or they are not finite.

    >>> from lop_utils.metrics.record import record
    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2, activation="identity"), seed=0)
    >>> slopes(net, record(net, torch.zeros(5, 3)))["hidden.0"].unique()
    tensor([1.])
    """
    modules = {space.name: space.activation for space in spaces_of(model)}
    return {name: derivative(model.get_submodule(modules[name]), layer) for name, layer in records.items()}


def derivative(activation: nn.Module, layer: LayerRecord) -> Tensor:
    """f'(z) of one layer for an activation that acts on each entry alone."""
    if layer.pre_activation is None:
        raise UsageError(
            f"layer {layer.name}: no pre-activations recorded", remedy="declare the space's pre_activation"
        )
    with torch.enable_grad():
        z = require_units(layer.name, layer.pre_activation).detach().clone().requires_grad_()
        return torch.autograd.grad(activation(z).sum(), z)[0]
