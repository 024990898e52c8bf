"""Effective ranks: exact for equicorrelated Gaussians, the paper's formula, the next order; and linear chains.

Effective rank here is exp(entropy) of the normalised *eigenvalues of a covariance* (or of the un-centred second
moments), not of singular values of the activations, whose scale is another one altogether.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import entr

from lop_utils.errors import UsageError, check_choice
from lop_utils.theory.activations import Activation, Function
from lop_utils.theory.gaussian import rank_recovery_strength
from lop_utils.theory.kernels import output_gap
from lop_utils.theory.validate import Array, at_least, finite, within


def effective_rank(values: ArrayLike) -> float:
    """exp(H(p)), p = values / sum(values), H in nats (Roy & Vetterli 2007); 0 for all-zero values.

    Raises `UsageError` for non-finite or negative values.

    >>> round(effective_rank([2, 2, 2, 0]), 12)
    3.0
    """
    values = finite("values", values)
    if (values < 0).any():
        raise UsageError(f"values contain {values.min():g}", remedy="give eigenvalues or singular values >= 0")
    total = values.sum()
    return float(np.exp(entr(values / total).sum())) if total > 0 else 0.0


def equicorrelated_effective_rank(gap: ArrayLike, units: int) -> Array:
    """(n - 1)^s exp(h(s)), s = (1 - 1/n) gap, h the binary entropy: n units whose every pair has correlation 1 - gap.

    Exact: the correlation matrix has eigenvalue 1 + (n - 1)(1 - gap) once and gap n - 1 times. Shape of `gap`, which
    must lie in [0, n/(n - 1)]. Raises `UsageError` for units < 2.

    >>> float(equicorrelated_effective_rank(0.1, 100).round(3)), float(equicorrelated_effective_rank(1.0, 100).round(9))
    (2.177, 100.0)
    """
    n = at_least("units", units, 2)
    s = (1 - 1 / n) * within("gap", gap, 0, n / (n - 1) * (1 + 1e-12))
    return np.exp(s * np.log(n - 1) + entr(s) + entr(np.maximum(1 - s, 0.0)))


def output_effective_rank(f: Activation | str | Function, eps: ArrayLike, units: int, *, centred: bool) -> Array:
    """Exact effective rank after f of n standard normal units with pairwise correlation 1 - eps, 0 < eps <= 1.

    Equal correlations stay equal under f, so this is `equicorrelated_effective_rank` at the gap of f's dual kernel: of
    the covariance of the activations if `centred`, else of their second-moment matrix.

    >>> [float(output_effective_rank("relu", 0.1, 100, centred=c).round(3)) for c in (False, True)]  # input: 2.177
    [2.04, 2.698]
    """
    n = at_least("units", units, 2)
    return equicorrelated_effective_rank(output_gap(f, within("eps", eps, 0, 1, open_low=True), centred=centred), n)


def paper_effective_rank(f: Activation | str | Function, eps: ArrayLike, units: int, *, centred: bool = False) -> Array:
    """The paper's formula r(C) (1 + alpha eps ln(n/eps)) with its un-centred alpha or the centred one.

    >>> float(paper_effective_rank("tanh", 0.1, 100).round(3))  # exact: 2.395
    2.444
    """
    eps, n = within("eps", eps, 0, 1, open_low=True), at_least("units", units, 2)
    alpha = rank_recovery_strength(f, centred=centred)
    return equicorrelated_effective_rank(eps, n) * (1 + alpha * eps * np.log(n / eps))


def next_order_effective_rank(f: Activation | str | Function, eps: ArrayLike, units: int, *, centred: bool) -> Array:
    """r(C) exp(d), d = (1 - 1/n) eps (alpha ln(n/eps) + alpha - (1 + alpha) ln(1 + alpha)): one order past the paper's.

    Error O(eps^1.5 ln(n/eps)) for kinked f, O(eps^2 ln(n/eps)) for smooth ones.

    >>> exact = output_effective_rank("tanh", 1e-4, 100, centred=True)
    >>> bool(abs(next_order_effective_rank("tanh", 1e-4, 100, centred=True) - exact) < 1e-6 * exact)
    True
    """
    eps, n = within("eps", eps, 0, 1, open_low=True), at_least("units", units, 2)
    alpha = rank_recovery_strength(f, centred=centred)
    change = alpha * np.log(n / eps) + alpha - (1 + alpha) * np.log1p(alpha)
    return equicorrelated_effective_rank(eps, n) * np.exp((1 - 1 / n) * eps * change)


def eps_of_effective_rank(rank: float, units: int) -> float:
    """The eps in (0, 1] at which n units of correlation 1 - eps have the given effective rank, 1 < rank <= n.

    >>> round(eps_of_effective_rank(float(equicorrelated_effective_rank(0.1, 100)), 100), 9)
    0.1
    """
    n = at_least("units", units, 2)
    rank = float(within("rank", rank, 1, n, open_low=True))
    if rank == n:
        return 1.0
    return float(
        np.exp(brentq(lambda x: np.log(equicorrelated_effective_rank(np.exp(x), n) / rank), -650, 0, xtol=1e-13))
    )


def small_excess_rank(alpha: float, eta: float, *, corrected: bool) -> float:
    """Effective rank after f of inputs of effective rank 1 + eta, for small eta.

    The paper states 1 + alpha eta; corrected, it is 1 + (1 + alpha) eta.

    >>> small_excess_rank(0.25, 0.5, corrected=True), small_excess_rank(0.25, 0.5, corrected=False)
    (1.625, 1.125)
    """
    return float(1 + (finite("alpha", alpha) + bool(corrected)) * finite("eta", eta))


def linear_chain_effective_ranks(
    width: int, depths: Sequence[int], *, seed: int = 0, spectrum: str = "singular"
) -> list[float]:
    """Effective ranks of products of 1, 2, ... independent Gaussian (width, width) matrices, at the given `depths`.

    `spectrum` is "singular" (values) or "covariance" (their squares). The rank of a product is at most that of any
    factor; the effective rank falls with depth because the singular values spread exponentially (Lyapunov exponents).

    >>> ranks = linear_chain_effective_ranks(16, [1, 4, 16])
    >>> ranks == sorted(ranks, reverse=True)
    True
    """
    check_choice("spectrum", spectrum, ("singular", "covariance"))
    depths, n = [at_least("depth", d, 1) for d in depths], at_least("width", width, 1)
    if depths != sorted(set(depths)):
        raise UsageError(f"depths = {depths} do not rise", remedy="give each depth once, in rising order")
    rng, product, found, power = np.random.default_rng(seed), np.eye(n), [], 1 if spectrum == "singular" else 2
    for depth in range(1, max(depths) + 1):
        product = rng.standard_normal((n, n)) @ product
        product /= np.linalg.norm(product)
        if depth in depths:
            found.append(effective_rank(np.linalg.svd(product, compute_uv=False) ** power))
    return found


def linear_chain_hard_rank(widths: Sequence[int]) -> int:
    """Rank of a generic product of matrices of the given widths: the smallest of them.

    >>> linear_chain_hard_rank([50, 10, 30])
    10
    """
    return min(at_least("width", w, 1) for w in widths)
