"""Activation modules by the field's names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lop_utils.errors import check_choice

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "leaky_relu_01": lambda: nn.LeakyReLU(0.1),
    "leaky_relu_03": lambda: nn.LeakyReLU(0.3),
    "prelu": nn.PReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


class CReLU(nn.Module):
    """concat(relu(z), relu(-z)) on the last axis: two numbers a unit, one of which is never 0 (Shang et al. 2016).

    ``(..., units)`` -> ``(..., 2 units)``, entry o * units + u belonging to unit u: readers of such a space have
    ``outer = 2``. Source for plasticity: Abbas et al. 2023. Only models that widen their readers accept it.

    >>> CReLU()(torch.tensor([1.0, -2.0]))
    tensor([1., 0., 0., 2.])
    """

    def forward(self, z: Tensor) -> Tensor:  # (..., units) -> (..., 2 units)
        return torch.cat([z.relu(), (-z).relu()], -1)


def activation(name: str, units: int = 1) -> nn.Module:
    """A new activation module; ``prelu`` learns one slope for each of `units` units.

    >>> activation("tanh")
    Tanh()
    """
    check_choice("activation", name, ACTIVATIONS)
    return nn.PReLU(units) if name == "prelu" else ACTIVATIONS[name]()
