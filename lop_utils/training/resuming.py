"""The state of a training that can go on later: weights, batch statistics, generators, optimizer, interventions."""

from collections.abc import Mapping
from typing import Protocol

import torch

from lop_utils.models.stack import Stack


class Resumable(Protocol):
    """What can hand out its state and take it back."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


def hooked(optimizer: torch.optim.Optimizer) -> list[Resumable] | None:
    """What acts from hooks of `optimizer`, in the order of its coming; None if the state of some of it is unknown.

    An intervention, or any other object with `state_dict` and `load_state_dict` whose methods are the hooks, is known.

    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = torch.optim.SGD([p])
    >>> hooked(optimizer)
    []
    >>> _ = optimizer.register_step_post_hook(lambda *_: None)
    >>> hooked(optimizer) is None
    True
    """
    hooks = {**optimizer._optimizer_step_pre_hooks, **optimizer._optimizer_step_post_hooks}  # ids are never given twice
    owners = {
        id(owner): owner for _, hook in sorted(hooks.items()) if (owner := getattr(hook, "__self__", hook)) is not None
    }
    known = all(hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict") for owner in owners.values())
    return list(owners.values()) if known else None


def state_of(stack: Stack, optimizer: torch.optim.Optimizer) -> dict:
    """All that decides how the training of `stack` goes on. Raises `ValueError` for hooks of unknown state."""
    owners = hooked(optimizer)
    if owners is None:
        raise ValueError("something without a state_dict acts from the optimizer's hooks")
    return {
        "tensors": stack.tensors,
        "generators": [generator.get_state() for generator in stack.generators],
        "optimizer": optimizer.state_dict(),
        "hooked": [owner.state_dict() for owner in owners],
    }


@torch.no_grad()
def restore(stack: Stack, optimizer: torch.optim.Optimizer, state: Mapping) -> None:
    """Go on from `state_of` of a stack and optimizer that were made and equipped in the same way."""
    for name, tensor in stack.tensors.items():
        tensor.copy_(state["tensors"][name])
    for generator, saved in zip(stack.generators, state["generators"], strict=True):
        generator.set_state(saved)
    optimizer.load_state_dict(state["optimizer"])
    for owner, saved in zip(hooked(optimizer) or [], state["hooked"], strict=True):
        owner.load_state_dict(saved)
