"""Sign descent: a step of the same size in every coordinate."""

import torch

from lop_utils.errors import UsageError


class SignDescent(torch.optim.Optimizer):
    """theta <- theta - lr sign(g), with sign(0) = 0 (Bernstein et al. 2018).

    >>> p = torch.nn.Parameter(torch.zeros(3)); p.grad = torch.tensor([7.0, -0.1, 0.0])
    >>> SignDescent([p], lr=0.5).step(); p.data
    tensor([-0.5000,  0.5000,  0.0000])
    """

    def __init__(self, params, *, lr: float = 1e-3):
        if not lr >= 0:
            raise UsageError(f"learning rate {lr}", remedy="choose a rate of 0 or more")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        """One update; `closure`, if given, computes the gradient first and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"])
        return loss
