"""The rank family: one float64 spectrum of a layer's activations, and every rank in use computed from it.

"Effective rank" and "stable rank" name several different numbers in the literature: of singular values or of covariance
eigenvalues (their squares), of raw or of centred activations. On one layer they can differ tenfold. So a metric's name
here carries its spectrum and its centring: `effective_rank_singular_raw`, `participation_ratio_centred`, ...
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from lop_utils.errors import check_choice
from lop_utils.metrics.validate import require_units


@dataclass(frozen=True)
class Spectrum:
    """Singular values, descending, float64, of activations H (rows, units): raw and with each unit's mean removed.

    Made by `spectrum`; each of the two is computed when it is first asked for. scaled: H / size in float64.
    """

    scaled: Tensor
    size: float

    @property
    def rows(self) -> int:
        return len(self.scaled)

    @property
    def units(self) -> int:
        return self.scaled.shape[1]

    @cached_property
    def raw(self) -> Tensor:
        """Singular values of H, (min(rows, units),)."""
        return self.size * _roots(self._grams[0], self._scale)

    @cached_property
    def centred(self) -> Tensor:
        """Singular values of H without the mean over its rows, (min(rows, units),)."""
        return self.size * _roots(self._grams[1], self._scale)

    def values(self, centring: str) -> Tensor:
        check_choice("centring", centring, ("raw", "centred"))
        return self.raw if centring == "raw" else self.centred

    @cached_property
    def _grams(self) -> tuple[Tensor, Tensor]:
        """Gram matrices of the smaller side, raw and centred; on the CPU only their lower triangles."""
        mean = self.scaled.mean(0)
        c = self.scaled - mean
        if self.rows <= self.units:
            centred, along = _gram(c), c @ mean  # (rows, rows), (rows,)
            return centred + along + along[:, None] + mean @ mean, centred
        centred = _gram(c.T)  # (units, units)
        return centred + self.rows * torch.outer(mean, mean), centred  # adding the mean back cancels nothing

    @cached_property
    def _scale(self) -> float:
        return float(self._grams[0].diagonal().sum())


def spectrum(activations: Tensor, *, layer: str = "activations") -> Spectrum:
    """Both spectra of H (rows, units), through one Gram matrix of the smaller side in float64.

    Squaring costs half the digits, so singular values below about 1e-7 of the largest are set to exactly 0; what is
    left is accurate to 1e-7 of the largest one. Constant units have centred singular values of exactly 0. Raises
    `UsageError` naming `layer` for non-finite or empty input.

    >>> spectrum(torch.eye(3)).raw.round(decimals=9)
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    h = require_units(layer, activations).double()  # (rows, units)
    size = 2.0 ** math.frexp(float(h.abs().max()))[1]  # a power of two: scaling rounds nothing
    return Spectrum(h / size, size)  # squares neither over- nor underflow


def _gram(c: Tensor) -> Tensor:
    """c c^T for c (n, m); on the CPU only its lower triangle is computed, which costs half, and the upper is zero."""
    if c.device.type != "cpu":
        return c @ c.T
    a = c.numpy()
    lower = dsyrk(1.0, a, lower=1) if a.flags.f_contiguous else dsyrk(1.0, a.T, trans=1, lower=1)
    return torch.from_numpy(lower)


def _roots(gram: Tensor, scale: float) -> Tensor:
    """Square roots of the eigenvalues of a Gram matrix, of which the lower triangle is read; those below their
    rounding, or below that of the mean, are exactly 0."""
    if gram.device.type == "cpu":
        ascending = torch.from_numpy(np.linalg.eigvalsh(gram.numpy()))
    else:
        ascending = torch.linalg.eigvalsh(gram)
    eigenvalues, eps = ascending.flip(0), torch.finfo(gram.dtype).eps
    noise = eps * max(len(gram) * float(eigenvalues[0]), 1e4 * eps * scale)
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
    powers = _relative(values).square()
    return float(powers.sum().square() / powers.square().sum()) if powers.any() else 0.0


def stable_rank(values: Tensor) -> float:
    """||H||_F^2 / ||H||_2^2 from singular values (n,); 0 if all are 0."""
    return float(_relative(values).square().sum())


def srank(values: Tensor, *, delta: float = 0.01) -> int:
    """Smallest k whose k largest singular values hold a share >= 1 - delta of their sum (Kumar et al. 2020)."""
    total = values.sum()
    return int((torch.cumsum(values, 0) < (1 - delta) * total).sum()) + 1 if total > 0 else 0


def numerical_rank(values: Tensor, *, tolerance: float = 1e-6) -> int:
    """How many singular values exceed `tolerance` times the largest."""
    return int((values > tolerance * values.max()).sum()) if values.any() else 0


def _relative(values: Tensor) -> Tensor:
    """values / their maximum, so that squares neither over- nor underflow; zeros stay zeros."""
    return values / values.max() if values.any() else values


_ON_SINGULAR_VALUES: Mapping[str, Callable[[Tensor], float]] = {
    "effective_rank_singular": effective_rank,
    "effective_rank_covariance": lambda values: effective_rank(_relative(values).square()),
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
