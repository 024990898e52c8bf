"""Norms over all parameters, of one network or of a stack of networks that train side by side."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def joint_norm(tensors: Iterable[Tensor], *, stacked: bool = False) -> Tensor:
    """Euclidean norm of all `tensors` together, shape (); with `stacked` one norm a network, shape (networks,).

    In a stack, axis 0 of every tensor runs over independent networks.

    >>> joint_norm([torch.tensor([3.0]), torch.tensor([4.0])])
    tensor(5.)
    >>> joint_norm([torch.tensor([[3.0], [0.0]]), torch.tensor([[4.0], [2.0]])], stacked=True)
    tensor([5., 2.])
    """
    squares = [t.square().flatten(1).sum(1) if stacked else t.square().sum() for t in tensors]
    return torch.stack(squares).sum(0).sqrt()


def times(tensor: Tensor, factor: Tensor) -> Tensor:
    """`tensor` times a factor () or, network by network, (networks,).

    >>> times(torch.ones(2, 2), torch.tensor([1.0, 3.0]))
    tensor([[1., 1.],
            [3., 3.]])
    """
    return tensor * factor.view(-1, *[1] * (tensor.ndim - 1)) if factor.ndim else tensor * factor


def with_gradients(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The parameters of `optimizer` that have a gradient."""
    return (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
