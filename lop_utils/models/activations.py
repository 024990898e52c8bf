"""Activation modules by the field's names."""

from collections.abc import Callable

from torch import nn

from lop_utils.errors import check_choice

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
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


def activation(name: str, units: int = 1) -> nn.Module:
    """A new activation module; ``prelu`` learns one slope for each of `units` units.

    >>> activation("tanh")
    Tanh()
    """
    check_choice("activation", name, ACTIVATIONS)
    return nn.PReLU(units) if name == "prelu" else ACTIVATIONS[name]()
