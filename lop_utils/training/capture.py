"""One step's forward and backward pass of a stack as a CUDA graph: small networks cost launches, not arithmetic."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from lop_utils.models.stack import Stack

log = logging.getLogger(__name__)
_WARM_UP = 3


class Captured:
    """``losses, outputs = captured(x, y)`` leaves the gradients in the parameters, as a backward pass does.

    x and y must keep the shapes and types of the first call; `objective` gives the members' losses. What the graph
    reads besides (weights, batch statistics, masks of active outputs) must stay in place. Optimizers and what hooks
    into their steps run outside the graph, so any of them can be used.
    """

    def __init__(self, stack: Stack, objective: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor):
        self.x, self.y = x.clone(), y.clone()
        self.parameters = [p for p in stack.parameters() if p.requires_grad]
        kept = [buffer.clone() for buffer in stack.buffers()]  # warming up moves the batch statistics
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._pass(stack, objective)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses, self.outputs = self._pass(stack, objective)
        self.gradients = [p.grad for p in self.parameters]
        with torch.no_grad():
            for buffer, before in zip(stack.buffers(), kept, strict=True):
                buffer.copy_(before)

    def _pass(self, stack: Stack, objective: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        for p in self.parameters:
            p.grad = None
        outputs = stack(self.x)
        losses = objective(outputs, self.y)
        losses.sum().backward()
        return losses.detach(), outputs.detach()

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.x.copy_(x)
        self.y.copy_(y)
        self.graph.replay()
        for p, gradient in zip(self.parameters, self.gradients, strict=True):
            p.grad = gradient  # a hook may have put another tensor there
        return self.losses, self.outputs


def capturable(stack: Stack, x: Tensor) -> bool:
    """On a GPU, without dropout (its masks come from generators of their own) and unobserved."""
    drops = any(getattr(module, "p", 0) for module in stack.skeleton.modules())
    return x.is_cuda and isinstance(stack, Stack) and stack.training and not drops and not stack.observed


def captured(stack: Stack, objective: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Captured | None:
    """The captured step, or None after a warning where the graph cannot be made: then step by step."""
    try:
        return Captured(stack, objective, x, y)
    except RuntimeError as error:
        log.warning("the training step is not captured as a CUDA graph, which is slower: %s", error)
        return None
