"""Frozen units: certificates that no input can wake a ReLU unit, and the test of whether training did.

A unit u with f'(z_u(x)) = 0 on every input x of a data set gets no gradient in its incoming weights and bias. While the
inputs of its layer stay what they are, gradient descent is confined to the affine space in which those parameters are
constant. Nothing is said about other data, nor about a layer whose inputs move because the layers below are trained;
a certificate says it for all inputs of a box, or for every non-negative input.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import record
from lop_utils.metrics.units import dead_units
from lop_utils.metrics.validate import require_finite
from lop_utils.models.spaces import WRITES, axis_uses

Masks = Mapping[str, Tensor]


def largest_pre_activation(weight: Tensor, bias: Tensor, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """max of w x + b over x in [low, high]^d for each row of weight (units, d); shape (units,).

    b + sum_i max(low w_i, high w_i): a linear function on a box is largest at a vertex, found entry by entry.
    Raises `UsageError` for an empty box, shapes that do not fit and values that are not finite.

    >>> largest_pre_activation(torch.tensor([[1.0, -2.0]]), torch.tensor([-0.5]))
    tensor([0.5000])
    """
    _check(weight, bias)
    if not low <= high:
        raise UsageError(f"box [{low}, {high}] is empty", remedy="give low <= high")
    return bias + torch.maximum(low * weight, high * weight).sum(1)


def certified_dead(weight: Tensor, bias: Tensor, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Which ReLU units are dead for every input of the box [low, high]^d, bool (units,); exact, not only sufficient.

    For [0, 1]^d the condition is b + sum_i max(w_i, 0) <= 0.

    >>> certified_dead(torch.tensor([[1.0, -2.0], [1.0, -2.0]]), torch.tensor([-0.5, -1.0]))
    tensor([False,  True])
    """
    return largest_pre_activation(weight, bias, low=low, high=high) <= 0


def certified_above_relu(weight: Tensor, bias: Tensor) -> Tensor:
    """Which ReLU units are dead for every input >= 0, so for every setting of the ReLU layers below; bool (units,).

    Exactly those with b <= 0 and all w_i <= 0: one positive weight could be fed as much as it takes.

    >>> certified_above_relu(torch.tensor([[-1.0, 0.0], [-1.0, 0.1]]), torch.tensor([-0.5, -9.0]))
    tensor([ True, False])
    """
    _check(weight, bias)
    return (bias <= 0) & (weight <= 0).all(1)


def silent_units(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """For every space of `model`, the units with h = 0 on every one of `inputs`, bool (units,).

    For ReLU these are the frozen ones: f'(z) = 0 on all inputs.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=2, widths=(3,), outputs=1), seed=0)
    >>> _ = net.hidden[0].linear.bias.data.copy_(torch.tensor([-9.0, 9.0, -9.0]))
    >>> silent_units(net, torch.ones(4, 2))["hidden.0"]
    tensor([ True, False,  True])
    """
    layers = record(model, inputs)
    return {name: dead_units(layer.activation, threshold=0, share=1, layer=name) for name, layer in layers.items()}


def revived_units(model: nn.Module, inputs: Tensor, silent: Masks) -> dict[str, int]:
    """For every space, how many of the units marked in `silent` fire on some of `inputs` now."""
    now = silent_units(model, inputs)
    return {name: int((mask & ~now[name]).sum()) for name, mask in silent.items()}


def moved_by(model: nn.Module, silent: Masks, start: Mapping[str, Tensor]) -> dict[str, float]:
    """For every space, the largest change since `start` of an incoming weight or bias of a unit marked in `silent`.

    `start`: a copied `state_dict`. 0 is the frozen-unit manifold, exactly; it is 0 too where no unit is marked.
    Raises `UsageError` naming a parameter that `start` lacks.
    """
    found = dict.fromkeys(silent, 0.0)
    tensors = model.state_dict()
    for name, uses in axis_uses(model).items():
        for use in uses:
            if use.role != WRITES or use.space not in silent:
                continue
            if name not in start:
                raise UsageError(f"parameter {name} has no start", remedy="copy the state_dict before training")
            marked = silent[use.space][use.units()].to(tensors[name].device)
            change = (tensors[name] - start[name]).abs().movedim(use.axis, 0)[marked]
            if change.numel():
                found[use.space] = max(found[use.space], float(change.max()))
    return found


def _check(weight: Tensor, bias: Tensor) -> None:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        shapes = f"weight {tuple(weight.shape)}, bias {tuple(bias.shape)}"
        raise UsageError(shapes, remedy="give weight (units, inputs) and bias (units,)")
    require_finite("weight", weight)
    require_finite("bias", bias)
