"""Activation modules by the field's names."""

from collections.abc import Callable

from torch import nn

from lop_utils.errors import check_choice

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """A new activation module.

    >>> activation("tanh")
    Tanh()
    """
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
