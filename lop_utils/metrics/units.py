"""What is wrong with single units: dead, dormant, frozen, saturated, duplicate.

Every function takes activations H, gradients G or derivatives D of shape (rows, units), rows being samples (times
positions), and returns a boolean tensor of shape (units,), group labels or a share. Definitions and their sources
stand in the docstrings; the defaults are those of arXiv:2510.00304.
"""

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lop_utils.errors import UsageError


def dead_units(activations: Tensor, *, threshold: float = 1e-7, share: float = 0.95) -> Tensor:
    """Units with |h| < threshold on more than `share` of the rows; threshold 0 means h = 0, share 1 means every row.

    >>> dead_units(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([ True, False])
    """
    _check_share("share", share)
    size = activations.abs()
    silent = (size == 0 if threshold == 0 else size < threshold).double().mean(0)
    return silent == 1 if share == 1 else silent > share


def dormant_units(activations: Tensor, *, tau: float = 0.1) -> Tensor:
    """Units with s_j = E|h_j| / mean_k E|h_k| <= tau (Sokar et al. 2023).

    In an all-zero layer every unit is dormant.
    """
    size = activations.abs().double().mean(0)
    return size <= tau * size.mean()


def frozen_units(derivatives: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Units whose activation has |f'(z)| < epsilon on every row: no row moves their incoming weights."""
    return derivatives.abs().amax(0) < epsilon


def saturated_units(
    activations: Tensor, gradients: Tensor, *, threshold: float = 1e-4, share: float = 0.99, floor: float = 1e-12
) -> Tensor:
    """Units with |dL/dh| / max(mean |h|, floor) < threshold on more than `share` of the rows (arXiv:2510.00304).

    The gradient is that of the loss as given; a loss that averages over the batch makes it scale with 1 / batch size.
    """
    _check_share("share", share)
    scale = activations.abs().mean(0).clamp(min=floor)
    return ((gradients.abs() / scale) < threshold).double().mean(0) > share


def similarity(activations: Tensor, *, centred: bool = False) -> Tensor:
    """Cosine similarity between units, (units, units); Pearson correlation with `centred=True`.

    Units with zero norm (dead; with `centred`, constant) have similarity 0 to all units, themselves included.
    """
    h = activations.double()
    h = h - h.mean(0) if centred else h
    norms = h.norm(dim=0)
    noise = torch.finfo(torch.float32).eps * activations.double().norm(dim=0)  # what centring leaves of a constant unit
    unit = torch.where(norms > noise, h / norms.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return unit.T @ unit


def duplicate_units(activations: Tensor, *, threshold: float = 0.95, centred: bool = False) -> Tensor:
    """Units that have a partner in the layer with similarity above `threshold` (signed).

    >>> duplicate_units(torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0]]))
    tensor([ True,  True, False])
    """
    pairs = similarity(activations, centred=centred)
    return (pairs.fill_diagonal_(0.0) > threshold).any(0)


def duplicate_groups(activations: Tensor, *, threshold: float = 0.95) -> Tensor:
    """Group label of each unit: connected components of |Pearson correlation| > threshold."""
    near = similarity(activations, centred=True).abs() > threshold
    first, second = near.nonzero(as_tuple=True)
    graph = coo_matrix((torch.ones(len(first)).numpy(), (first.cpu(), second.cpu())), shape=tuple(near.shape))
    return torch.as_tensor(connected_components(graph, directed=False)[1], dtype=torch.long)


def redundancy(activations: Tensor, *, threshold: float = 0.95) -> float:
    """1 - groups / units: 0 when no two units are duplicates, (m - 1) / m when each comes m-fold.

    >>> redundancy(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 6.0]]))
    0.5
    """
    groups = duplicate_groups(activations, threshold=threshold)
    return 1.0 - (int(groups.max()) + 1) / len(groups)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value} is no share", remedy="choose a number from 0 to 1")
