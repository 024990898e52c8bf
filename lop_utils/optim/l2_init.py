"""L2 Init: a penalty on the distance from the start instead of from zero."""

import torch

from lop_utils.errors import UsageError
from lop_utils.optim.norms import with_gradients


class L2Init:
    """Before each step, g <- g + strength (theta - theta_0), theta_0 the parameters now (Kumar et al. 2023).

    This is the gradient of loss + strength / 2 ||theta - theta_0||^2. ``remove()`` ends it.

    >>> p = torch.nn.Parameter(torch.zeros(1)); optimizer = torch.optim.SGD([p], lr=0.1)
    >>> pull = L2Init(optimizer, strength=2.0)
    >>> with torch.no_grad(): _ = p.add_(1.0)
    >>> p.grad = torch.zeros(1); optimizer.step(); p.data
    tensor([0.8000])
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, strength: float):
        if not strength >= 0:
            raise UsageError(f"strength {strength}", remedy="choose a strength of 0 or more")
        self.strength = strength
        self._start = {p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]}
        self._handle = optimizer.register_step_pre_hook(self._pull)

    @torch.no_grad()
    def _pull(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        for p in with_gradients(optimizer):
            p.grad = p.grad + self.strength * (p - self._start[p])

    def remove(self) -> None:
        """Stop pulling."""
        self._handle.remove()
