"""Muon: momentum whose matrix is replaced by the nearest matrix with equal singular values."""

import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steep at 0, roughly 1 on the rest of [0, 1]


def polar(m: Tensor, *, tolerance: float | None = None) -> Tensor:
    """U V^T of the singular value decomposition M = U S V^T, over singular values that are not zero; (..., out, in).

    Zero means at most `tolerance` times the largest; default: the root of the dtype's rounding unit (1.5e-8, 3.5e-4).
    U V^T over *all* singular vectors is not a function of a singular M: the vectors of singular value 0 are arbitrary.

    >>> polar(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 0.]])
    """
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    tolerance = torch.finfo(m.dtype).eps ** 0.5 if tolerance is None else tolerance
    kept = (s > tolerance * s[..., :1]).to(m.dtype)
    return (u * kept[..., None, :]) @ vh


def newton_schulz(m: Tensor, *, steps: int = 5) -> Tensor:
    """Muon's stand-in for `polar`: X <- a X + b X X^T X + c (X X^T)^2 X from X = M / ||M||_F; M (..., out, in).

    Singular values of at least about 0.01 ||M||_F come out between 0.7 and 1.2; smaller ones are multiplied by up to
    a^steps (485 for 5 steps), zero stays zero. Computes in M's own dtype; torch.optim.Muon uses bfloat16 here.

    >>> m = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> torch.linalg.svdvals(newton_schulz(m)).round(decimals=1)
    tensor([1.1000, 0.8000])
    """
    a, b, c = COEFFICIENTS
    tall = m.shape[-2] > m.shape[-1]
    x = m.mT if tall else m
    x = x / x.flatten(-2).norm(dim=-1)[..., None, None].clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


ORTHOGONALISERS = {"newton_schulz": newton_schulz, "polar": polar}


class Muon(torch.optim.Optimizer):
    """W <- W - lr sqrt(max(1, out / in)) O(mu m + (1 - mu) g), after m <- mu m + (1 - mu) g (Jordan et al. 2024).

    O is `newton_schulz` or the exact `polar` factor. Parameters are matrices (out, in) or stacks (..., out, in), each
    matrix for itself; give vectors to another optimizer. Raises `UsageError` for a vector.

    >>> w = torch.nn.Parameter(torch.zeros(2, 2)); w.grad = torch.diag(torch.tensor([5.0, 0.1]))
    >>> Muon([w], lr=0.5, orthogonalise="polar").step(); w.data
    tensor([[-0.5000,  0.0000],
            [ 0.0000, -0.5000]])
    """

    def __init__(self, params, *, lr: float = 0.02, momentum: float = 0.95, orthogonalise: str = "newton_schulz"):
        check_choice("orthogonalise", orthogonalise, ORTHOGONALISERS)
        if not lr >= 0 or not 0 <= momentum < 1:
            raise UsageError(f"learning rate {lr}, momentum {momentum}", remedy="choose lr >= 0 and 0 <= momentum < 1")
        super().__init__(params, {"lr": lr, "momentum": momentum, "orthogonalise": orthogonalise})
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise UsageError(f"Muon got a tensor of shape {tuple(p.shape)}", remedy="give it matrices only")

    @torch.no_grad()
    def step(self, closure=None):
        """One update; `closure`, if given, computes the gradient first and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            orthogonalise, mu = ORTHOGONALISERS[group["orthogonalise"]], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("average", torch.zeros_like(p)).lerp_(p.grad, 1 - mu)
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.sub_(orthogonalise(p.grad.lerp(m, mu)), alpha=group["lr"] * scale)
        return loss
