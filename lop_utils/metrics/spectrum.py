"""The rank family: one float64 spectrum of a layer's activations, and every rank in use computed from it.

"Effective rank" and "stable rank" name several different numbers in the literature: of singular values or of covariance
eigenvalues (their squares), of raw or of centred activations. On one layer they can differ tenfold. So a metric's name
here carries its spectrum and its centring: `effective_rank_singular_raw`, `participation_ratio_centred`, ...
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.metrics.record import require_finite


@dataclass(frozen=True)
class Spectrum:
    """Singular values, descending, float64, of activations H (rows, units): raw and with each unit's mean removed."""

    raw: Tensor
    centred: Tensor
    rows: int
    units: int

    def values(self, centring: str) -> Tensor:
        check_choice("centring", centring, ("raw", "centred"))
        return self.raw if centring == "raw" else self.centred


def spectrum(activations: Tensor, *, layer: str = "activations") -> Spectrum:
    """Both spectra of H (rows, units), through one Gram matrix of the smaller side in float64.

    Squaring costs half the digits, so singular values below about 1e-7 of the largest are set to exactly 0; what is
    left is accurate to 1e-7 of the largest one. Raises `UsageError` naming `layer` for non-finite or empty input.

    >>> spectrum(torch.eye(3)).raw
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    if activations.ndim != 2 or 0 in activations.shape:
        raise UsageError(f"layer {layer}: shape {tuple(activations.shape)}", remedy="give (rows, units), neither empty")
    h = require_finite(layer, activations).double()  # (rows, units)
    rows, units = h.shape
    if rows <= units:
        gram = h @ h.T  # (rows, rows); centring removes its row and column means
        mean = gram.mean(0, keepdim=True)
        centred = gram - mean - mean.T + gram.mean()
    else:
        gram, mean = h.T @ h, h.mean(0)  # (units, units)
        centred = gram - rows * torch.outer(mean, mean)
    scale = float(gram.diagonal().sum())
    return Spectrum(_roots(gram, scale), _roots(centred, scale), rows, units)


def _roots(gram: Tensor, scale: float) -> Tensor:
    """Square roots of the eigenvalues; those below the rounding error of the Gram matrix are exactly 0."""
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0)
    noise = torch.finfo(gram.dtype).eps * len(gram) * max(float(eigenvalues[0]), 1e-3 * scale)
    return torch.where(eigenvalues > noise, eigenvalues, 0.0).sqrt()


def effective_rank(values: Tensor) -> float:
    """exp(H(p)), p = values / sum(values), H in nats; values (n,) >= 0. All-zero values have effective rank 0.

    Roy & Vetterli 2007 take singular values; the same formula on their squares is the rank of the covariance spectrum.

    >>> round(effective_rank(torch.ones(7)), 6), effective_rank(torch.zeros(7))
    (7.0, 0.0)
    """
    total = values.double().sum()
    if total == 0:
        return 0.0
    p = values.double() / total
    return float(torch.exp(torch.special.entr(p).sum()))


def participation_ratio(values: Tensor) -> float:
    """(sum s^2)^2 / sum s^4 of singular values s; 0 if all are 0. The paper's appendix calls it "stable rank"."""
    powers = values.square()
    return float(powers.sum().square() / powers.square().sum()) if powers.any() else 0.0


def stable_rank(values: Tensor) -> float:
    """||H||_F^2 / ||H||_2^2 from singular values (n,); 0 if all are 0."""
    return float(values.square().sum() / values.max().square()) if values.any() else 0.0


def srank(values: Tensor, *, delta: float = 0.01) -> int:
    """Smallest k whose k largest singular values hold a share >= 1 - delta of their sum (Kumar et al. 2020)."""
    total = values.sum()
    return int((torch.cumsum(values, 0) < (1 - delta) * total).sum()) + 1 if total > 0 else 0


def numerical_rank(values: Tensor, *, tolerance: float = 1e-6) -> int:
    """How many singular values exceed `tolerance` times the largest."""
    return int((values > tolerance * values.max()).sum()) if values.any() else 0


_ON_SINGULAR_VALUES: Mapping[str, Callable[[Tensor], float]] = {
    "effective_rank_singular": effective_rank,
    "effective_rank_covariance": lambda values: effective_rank(values.square()),
    "participation_ratio": participation_ratio,
    "stable_rank": stable_rank,
    "srank_01": srank,
    "numerical_rank": numerical_rank,
}

RANK_METRICS: Mapping[str, Callable[[Spectrum], float]] = {
    f"{name}_{centring}": lambda s, metric=metric, centring=centring: float(metric(s.values(centring)))
    for name, metric in _ON_SINGULAR_VALUES.items()
    for centring in ("raw", "centred")
}
"""Every rank metric by its full name: a function of a `Spectrum`."""


def ranks(activations: Tensor, *, layer: str = "activations") -> dict[str, float]:
    """All `RANK_METRICS` of H (rows, units) from one spectrum.

    >>> ranks(torch.eye(4))["effective_rank_singular_raw"]
    4.0
    """
    found = spectrum(activations, layer=layer)
    return {name: metric(found) for name, metric in RANK_METRICS.items()}
