"""Lion: the sign of an interpolation between the gradient and its moving average."""

import torch

from lop_utils.errors import UsageError


class Lion(torch.optim.Optimizer):
    """theta <- (1 - lr wd) theta - lr sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g (Chen et al. 2023).

    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.tensor([7.0, -0.1])
    >>> Lion([p], lr=0.5).step(); p.data
    tensor([0.5000, 1.5000])
    """

    def __init__(
        self, params, *, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ):
        if not lr >= 0 or not weight_decay >= 0:
            raise UsageError(f"learning rate {lr}, weight decay {weight_decay}", remedy="choose both 0 or more")
        if not all(0 <= beta < 1 for beta in betas):
            raise UsageError(f"betas {betas}", remedy="choose both from 0 to below 1")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One update; `closure`, if given, computes the gradient first and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, (b1, b2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("average", torch.zeros_like(p))
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(torch.lerp(p.grad, m, b1).sign(), alpha=lr)
                m.lerp_(p.grad, 1 - b2)
        return loss
