"""Extreme eigenvalues of a symmetric operator that is known only by its products with vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lop_utils.errors import UsageError


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest eigenvalue, with bounds: an eigenvalue lies within `*_error` of each."""

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    products: int
    converged: bool


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], like: Tensor, *, tolerance: float = 1e-3, products: int = 300, seed: int = 0
) -> Extremes:
    """Both ends of the spectrum of a symmetric operator by Lanczos' method, every vector made orthogonal to all before.

    product(v) maps (n,) to (n,); `like` (n,) gives size, dtype and device. Stops when both residual bounds
    beta |s_last| are at most `tolerance` times their eigenvalue (an end that is zero against the other is held to a
    millionth of the other), or after `products` products: then `converged` is False and the bounds say how far it got.
    Source: Paige 1972; the bound is that of Parlett, "The symmetric eigenvalue problem".

    >>> diagonal = torch.tensor([-2.0, 0.0, 1.0, 5.0])
    >>> found = extreme_eigenvalues(lambda v: diagonal * v, torch.zeros(4))
    >>> round(found.smallest, 4), round(found.largest, 4), found.converged
    (-2.0, 5.0, True)
    """
    if like.ndim != 1 or not len(like) or tolerance <= 0 or products < 1:
        problem = f"shape {tuple(like.shape)}, tolerance {tolerance}, {products} products"
        raise UsageError(problem, remedy="give a vector of one entry or more, tolerance > 0 and products >= 1")
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(len(like), generator=generator, dtype=torch.float64).to(like)
    basis, alphas, betas = [v / v.norm()], [], []
    for done in range(1, min(products, len(like)) + 1):
        w = product(basis[-1])
        alphas.append(float(basis[-1] @ w))
        stack = torch.stack(basis)
        for _ in range(2):  # twice is enough (Kahan & Parlett)
            w = w - stack.T @ (stack @ w)
        betas.append(float(w.norm()))
        found = _ends(alphas, betas, tolerance, torch.finfo(like.dtype).eps)
        if found.converged:
            break
        if done < min(products, len(like)):
            basis.append(w / betas[-1])
    return found


def _ends(alphas: list[float], betas: list[float], tolerance: float, eps: float) -> Extremes:
    """Ritz values of the tridiagonal matrix at both ends, and their residual bounds."""
    off = torch.diag(torch.tensor(betas[:-1], dtype=torch.float64), 1)
    values, vectors = torch.linalg.eigh(torch.diag(torch.tensor(alphas, dtype=torch.float64)) + off + off.T)
    low, high = float(values[0]), float(values[-1])
    errors = [betas[-1] * abs(float(vectors[-1, end])) for end in (0, -1)]
    scale = max(abs(low), abs(high))
    allowed = [tolerance * max(abs(end), 1e-6 * scale) for end in (low, high)]
    exhausted = betas[-1] <= 100 * eps * scale or (scale == 0 and betas[-1] == 0)
    converged = exhausted or all(error <= most for error, most in zip(errors, allowed, strict=True))
    return Extremes(low, high, *errors, products=len(alphas), converged=converged)
