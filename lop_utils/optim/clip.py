"""Gradient clipping as something that an optimizer does before each of its steps."""

import torch
from torch.utils.hooks import RemovableHandle

from lop_utils.errors import UsageError
from lop_utils.optim.norms import joint_norm, times, with_gradients


def clip_by_norm(optimizer: torch.optim.Optimizer, limit: float, *, stacked: bool = False) -> RemovableHandle:
    """Before each step, g <- g min(1, limit / ||g||), ||g|| over all parameters (Pascanu et al. 2013).

    With `stacked`, axis 0 of every parameter runs over independent networks, and each is clipped by its own norm.
    Returns a handle whose ``remove()`` ends the clipping. Raises `UsageError` unless limit > 0.

    >>> p = torch.nn.Parameter(torch.zeros(2)); p.grad = torch.tensor([3.0, 4.0])
    >>> optimizer = torch.optim.SGD([p], lr=1.0)
    >>> handle = clip_by_norm(optimizer, 1.0); optimizer.step(); p.data
    tensor([-0.6000, -0.8000])
    """
    _check(limit)

    def clip(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        parameters = list(with_gradients(optimizer))
        factor = (limit / joint_norm((p.grad for p in parameters), stacked=stacked)).clamp(max=1)
        for p in parameters:
            p.grad = times(p.grad, factor)

    return optimizer.register_step_pre_hook(clip)


def clip_by_value(optimizer: torch.optim.Optimizer, limit: float) -> RemovableHandle:
    """Before each step, cut every entry of the gradient to [-limit, limit].

    Returns a handle whose ``remove()`` ends the clipping. Raises `UsageError` unless limit > 0.

    >>> p = torch.nn.Parameter(torch.zeros(2)); p.grad = torch.tensor([3.0, -0.5])
    >>> optimizer = torch.optim.SGD([p], lr=1.0)
    >>> handle = clip_by_value(optimizer, 1.0); optimizer.step(); p.data
    tensor([-1.0000,  0.5000])
    """
    _check(limit)

    def clip(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        torch.nn.utils.clip_grad_value_(list(with_gradients(optimizer)), limit)

    return optimizer.register_step_pre_hook(clip)


def _check(limit: float) -> None:
    if not limit > 0:
        raise UsageError(f"clipping limit {limit}", remedy="choose a limit above 0")
