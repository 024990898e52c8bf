"""Neural collapse: how far a layer's activations have shrunk to one point per class, and how the points lie.

Source: Papyan, Han & Donoho 2020, NC1 to NC4. Collapse is what compression looks like at the end of training.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lop_utils.errors import UsageError
from lop_utils.metrics.validate import require_units

_NULL = 1e-10  # singular values of the class means below this share of the largest count as 0


@dataclass(frozen=True)
class Collapse:
    """All tend to 0 under collapse, except `nc4`, which tends to 0 as a share of disagreements.

    nc1: variability within classes against between them. nc2_norms: coefficient of variation of the lengths of the
    centred class means. nc2_angles: mean of |cosine + 1 / (K - 1)| over pairs of them. nc3: distance of the head's
    weights from the centred class means, both scaled to norm 1 (None without head). nc4: share of samples for which the
    head and the nearest class mean disagree (None without head).
    """

    nc1: float
    nc2_norms: float
    nc2_angles: float
    nc3: float | None = None
    nc4: float | None = None


def neural_collapse(
    activations: Tensor,
    labels: Tensor,
    *,
    head: tuple[Tensor, Tensor] | None = None,
    layer: str = "activations",
) -> Collapse:
    """NC1 to NC4 of H (rows, units) with `labels` (rows,) of K >= 2 classes; `head` is (weight (K, units), bias (K,)).

        NC1 = tr(S_W S_B^+) / K,  S_W = mean over samples of (h - mu_c)(h - mu_c)^T,  S_B = mean over classes of
        (mu_c - mu)(mu_c - mu)^T,  mu = mean of the class means

    If the class means coincide (as in a layer of dead or constant units) nothing separates the classes: nc1 and nc2 are
    inf. One sample a class gives nc1 = 0. With `head`, labels must be 0..K-1. Raises `UsageError` naming the layer.

    >>> h = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> found = neural_collapse(h, torch.tensor([0, 0, 1, 1]))
    >>> found.nc1, found.nc2_norms, found.nc2_angles < 1e-9
    (0.0, 0.0, True)
    """
    h = require_units(layer, activations).double()
    if labels.shape != (len(h),):
        shapes = f"labels of shape {tuple(labels.shape)} for {len(h)} rows"
        raise UsageError(f"layer {layer}: {shapes}", remedy="give one label a row")
    classes, index = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f"layer {layer}: {len(classes)} class", remedy="neural collapse needs two classes or more")
    counts = torch.bincount(index).double()
    means = h.new_zeros(len(classes), h.shape[1]).index_add_(0, index, h) / counts[:, None]  # (K, units)
    centred = means - means.mean(0)
    nc3, nc4 = (None, None) if head is None else _against_head(h, means, centred, classes, head, layer)
    if float(centred.norm()) <= _NULL * float(means.norm()):
        return Collapse(math.inf, math.inf, math.inf, nc3, nc4)
    return Collapse(_nc1(h - means[index], centred), *_nc2(centred), nc3, nc4)


def _nc1(residuals: Tensor, centred: Tensor) -> float:
    """tr(S_W S_B^+) / K from residuals (rows, units) and centred means (K, units): only their span matters."""
    _, s, axes = torch.linalg.svd(centred, full_matrices=False)  # axes (K or fewer, units)
    kept = s > _NULL * s[0]
    within = (residuals @ axes[kept].T).square().mean(0)  # variance of the residuals along each axis
    between = s[kept].square() / len(centred)
    return float((within / between).sum() / len(centred))


def _nc2(centred: Tensor) -> tuple[float, float]:
    norms = centred.norm(dim=1)
    unit = centred / norms.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    k = len(centred)
    off = ~torch.eye(k, dtype=torch.bool, device=centred.device)
    deviation = ((unit @ unit.T)[off] + 1 / (k - 1)).abs().mean()
    return float(norms.std(correction=0) / norms.mean()), float(deviation)


def _against_head(
    h: Tensor, means: Tensor, centred: Tensor, classes: Tensor, head: tuple[Tensor, Tensor], layer: str
) -> tuple[float, float]:
    weight, bias = (part.detach().double() for part in head)
    if weight.shape != means.shape or not torch.equal(classes, torch.arange(len(classes), device=classes.device)):
        problem = f"head {tuple(weight.shape)} for {len(classes)} classes and {h.shape[1]} units"
        raise UsageError(f"layer {layer}: {problem}", remedy="give the head that reads this layer and labels 0..K-1")
    if float(weight.norm()) == 0 or float(centred.norm()) == 0:
        nc3 = math.inf
    else:
        nc3 = float((weight / weight.norm() - centred / centred.norm()).norm())
    nearest = torch.cdist(h, means).argmin(1)
    return nc3, float(((h @ weight.T + bias).argmax(1) != nearest).double().mean())
