"""L2 Init: a penalty on the distance from the start instead of from zero."""

import torch

from lop_utils.errors import UsageError
from lop_utils.optim.intervention import Intervention


class L2Init(Intervention):
    """Before each step, g <- g + strength (theta - theta_0), theta_0 the parameters now (Kumar et al. 2023).

    This is the gradient of loss + strength / 2 ||theta - theta_0||^2, member by member in a stack.

    >>> p = torch.nn.Parameter(torch.zeros(1)); optimizer = torch.optim.SGD([p], lr=0.1)
    >>> pull = L2Init(optimizer, strength=2.0)
    >>> with torch.no_grad(): _ = p.add_(1.0)
    >>> p.grad = torch.zeros(1); optimizer.step(); p.data
    tensor([0.8000])
    """

    kept = ("start",)

    def __init__(self, optimizer: torch.optim.Optimizer, *, strength: float):
        if not strength >= 0:
            raise UsageError(f"strength {strength}", remedy="choose a strength of 0 or more")
        super().__init__()
        self.strength = strength
        self.start = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
        self._handles = [optimizer.register_step_pre_hook(self._pull)]

    @torch.no_grad()
    def _pull(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for p, start in zip(parameters, self.start, strict=True):
            if p.grad is not None:
                p.grad = p.grad + self.strength * (p - start)
