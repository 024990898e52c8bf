"""What is wrong with single units: dead, dormant, frozen, saturated, duplicate.

Every function takes activations H, gradients G = dL/dH or derivatives D = f'(Z) of shape (rows, units), rows being
samples (times positions), and returns a boolean tensor of shape (units,), group labels or a share. The defaults are
those of arXiv:2510.00304. Input that is empty, not finite or not two-dimensional raises `UsageError` naming `layer`.
What degenerate layers give: a layer of zeros is all dead and all dormant and has no duplicates; a constant unit has
Pearson correlation 0 with all others; with one row the cosine of two units is +1 or -1 and Pearson's correlation 0; a
single unit is never dormant by comparison (unless it is zero) and has no duplicate.
"""

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.metrics.validate import require_units

COUNTS = ("both", "lower")


def dead_units(
    activations: Tensor, *, threshold: float = 1e-7, share: float = 0.95, layer: str = "activations"
) -> Tensor:
    """Units with |h| < threshold on more than `share` of the rows; threshold 0 means h = 0, share 1 means every row.

    >>> dead_units(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([ True, False])
    """
    _check_share("share", share)
    size = require_units(layer, activations).abs()
    silent = (size == 0 if threshold == 0 else size < threshold).double().mean(0)
    return silent == 1 if share == 1 else silent > share


def dormant_units(activations: Tensor, *, tau: float = 0.1, layer: str = "activations") -> Tensor:
    """Units with s_j = E|h_j| / mean_k E|h_k| <= tau (Sokar et al. 2023); in an all-zero layer, every unit.

    >>> dormant_units(torch.tensor([[1.0, -1.0, 0.05]]))
    tensor([False, False,  True])
    """
    size = require_units(layer, activations).abs().double().mean(0)
    return size <= tau * size.mean()


def frozen_units(derivatives: Tensor, *, epsilon: float = 1e-6, layer: str = "derivatives") -> Tensor:
    """Units whose activation has |f'(z)| < epsilon on every row: whatever the loss, no row moves their weights.

    >>> frozen_units(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    tensor([ True, False])
    """
    return require_units(layer, derivatives).abs().amax(0) < epsilon


def gradient_frozen_units(
    gradients: Tensor, derivatives: Tensor, *, epsilon: float = 0.0, layer: str = "gradients"
) -> Tensor:
    """Units with |dL/dz| = |dL/dh f'(z)| <= epsilon on every row: this loss, here, does not move their weights.

    Weaker than `frozen_units`: it also holds when nothing reads the unit, or when the loss is already stationary.

    >>> gradient_frozen_units(torch.zeros(2, 1), torch.ones(2, 1))
    tensor([True])
    """
    slope = require_units(layer, derivatives, like=gradients)
    return (require_units(layer, gradients) * slope).abs().amax(0) <= epsilon


def saturated_units(
    activations: Tensor,
    gradients: Tensor,
    *,
    threshold: float = 1e-4,
    share: float = 0.99,
    floor: float = 1e-12,
    layer: str = "activations",
) -> Tensor:
    """Units with |dL/dh| / max(mean |h|, floor) < threshold on more than `share` of the rows (arXiv:2510.00304).

    The gradient is that of the loss as given; a loss that averages over the batch makes it scale with 1 / batch size.
    f' does not occur, so saturation of the activation is not what this measures.

    >>> saturated_units(torch.ones(2, 2), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    tensor([ True, False])
    """
    _check_share("share", share)
    scale = require_units(layer, activations).abs().double().mean(0).clamp(min=floor)
    ratio = require_units(layer, gradients, like=activations).abs() / scale
    return (ratio < threshold).double().mean(0) > share


def similarity(activations: Tensor, *, centred: bool = False, layer: str = "activations") -> Tensor:
    """Cosine similarity between units, (units, units) float64; Pearson correlation with `centred=True`.

    Units with zero norm (dead; with `centred`, constant) have similarity 0 to all units, themselves included.

    >>> similarity(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).round(decimals=3)[0, 1].item()
    0.707
    """
    raw = require_units(layer, activations).double()
    raw = raw / raw.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)  # squares neither over- nor underflow
    h = raw - raw.mean(0) if centred else raw
    norms = h.norm(dim=0)
    noise = torch.finfo(torch.float32).eps * raw.norm(dim=0)  # what centring leaves of a constant unit
    unit = torch.where(norms > noise, h / norms.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return unit.T @ unit


def duplicate_units(
    activations: Tensor,
    *,
    threshold: float = 0.95,
    centred: bool = False,
    absolute: bool = False,
    count: str = "both",
    layer: str = "activations",
) -> Tensor:
    """Units that have a partner in the layer with similarity (its size, with `absolute`) above `threshold`.

    count "lower" marks only the lower index of each pair, as the public code of arXiv:2510.00304 does: a layer in which
    every unit comes m-fold then has a share of (m - 1) / m instead of 1.

    >>> h = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0]])
    >>> duplicate_units(h), duplicate_units(h, count="lower")
    (tensor([ True,  True, False]), tensor([ True, False, False]))
    """
    check_choice("count", count, COUNTS)
    pairs = similarity(activations, centred=centred, layer=layer).fill_diagonal_(0.0)
    near = (pairs.abs() if absolute else pairs) > threshold
    return (near.triu() if count == "lower" else near).any(1)


def duplicate_groups(activations: Tensor, *, threshold: float = 0.95, layer: str = "activations") -> Tensor:
    """Group label of each unit: connected components of |Pearson correlation| > threshold.

    >>> duplicate_groups(torch.tensor([[1.0, 0.0, -2.0], [2.0, 1.0, -4.0], [3.0, 0.0, -6.0]]))
    tensor([0, 1, 0])
    """
    near = similarity(activations, centred=True, layer=layer).abs() > threshold
    first, second = near.nonzero(as_tuple=True)
    graph = coo_matrix((torch.ones(len(first)).numpy(), (first.cpu(), second.cpu())), shape=tuple(near.shape))
    return torch.as_tensor(connected_components(graph, directed=False)[1], dtype=torch.long)


def redundancy(activations: Tensor, *, threshold: float = 0.95, layer: str = "activations") -> float:
    """1 - groups / units: 0 when no two units are duplicates, (m - 1) / m when each comes m-fold.

    >>> redundancy(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 6.0]]))
    0.5
    """
    groups = duplicate_groups(activations, threshold=threshold, layer=layer)
    return 1.0 - (int(groups.max()) + 1) / len(groups)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value} is no share", remedy="choose a number from 0 to 1")
