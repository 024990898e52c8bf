"""Sharpness-aware minimisation: the gradient of a point uphill, applied here."""

from collections.abc import Callable

import torch
from torch import Tensor

from lop_utils.errors import UsageError
from lop_utils.optim.norms import joint_norm, times, with_gradients


class SAM:
    """Steps of any torch optimizer with the gradient at theta + rho g / ||g|| (Foret et al. 2021).

    ||g|| is over all parameters; with `stacked`, axis 0 of every parameter runs over independent networks, and each has
    its own. At g = 0 the point uphill is theta itself.

    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> sam = SAM(torch.optim.SGD([p], lr=0.1), rho=0.5)  # loss p^2: gradient 2 at p, 3 at p + 0.5
    >>> _ = sam.step(lambda: p.square().sum()); p.data
    tensor([0.7000])
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, rho: float = 0.05, stacked: bool = False):
        if not rho >= 0:
            raise UsageError(f"rho {rho}", remedy="choose a radius of 0 or more")
        self.optimizer, self.rho, self.stacked = optimizer, rho, stacked

    def step(self, loss: Callable[[], Tensor]) -> Tensor:
        """One update; `loss()` computes the loss (without backward) and is called twice. Returns that of the start."""
        value = self._gradient(loss)
        parameters = list(with_gradients(self.optimizer))
        norm = joint_norm((p.grad for p in parameters), stacked=self.stacked)
        factor = torch.where(norm > 0, self.rho / norm, 0.0)
        here = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p in parameters:
                p += times(p.grad, factor)
        self._gradient(loss)
        with torch.no_grad():
            for p, start in zip(parameters, here, strict=True):
                p.copy_(start)
        self.optimizer.step()
        return value

    def _gradient(self, loss: Callable[[], Tensor]) -> Tensor:
        self.optimizer.zero_grad()
        with torch.enable_grad():
            value = loss()
            value.backward()
        return value.detach()
