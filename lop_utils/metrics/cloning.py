"""How nearly the units of a block are copies of each other: the cloning R^2."""

import torch
from torch import Tensor

from lop_utils.errors import UsageError
from lop_utils.metrics.validate import require_finite


def cloning_r2(signals: Tensor, labels: Tensor, *, layer: str = "signals") -> float:
    """Share of the units' variance that their block's mean unit explains; 1 means perfect clones.

        R^2 = 1 - sum_u ||s_u - m_b(u)||^2 / sum_u ||s_u - mean(s_b(u))||^2

    signals s (rows, units): activations (forward R^2) or their gradients (backward); labels (units,); m_b the mean over
    the units of block b, row by row, and mean(s_b) its mean over rows: a unit's own offset against its block counts as
    a difference. The sums run over all units, so silent units weigh nothing; a layer that does not vary at all has
    R^2 = 1. k independent units in a block score about 1 / k. Paper: "Cloning", there averaged over layers and
    directions. Differs from the public code, which averages 1 - std / std over blocks.

    >>> s = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    >>> cloning_r2(s, torch.tensor([0, 0]))
    1.0
    """
    if labels.shape != (signals.shape[1],):
        problem = f"layer {layer}: labels of shape {tuple(labels.shape)} for {signals.shape[1]} units"
        raise UsageError(problem, remedy="give one label a unit")
    s = require_finite(layer, signals).double()
    residual = s - block_mean(s, labels, 1)
    total = s - block_mean(s.mean(0, keepdim=True), labels, 1)
    explained_of = float(total.square().sum())
    return 1.0 - float(residual.square().sum()) / explained_of if explained_of > 0 else 1.0


def cloning_r2_as_coded(signals: Tensor, labels: Tensor, *, layer: str = "signals", eps: float = 1e-10) -> float:
    """What the public code of arXiv:2510.00304 computes as R^2: 1 - mean of sd within a block / sd over all units.

    For each row and block, the standard deviation over the block's units is divided by that over all units of the row
    (both with n - 1), and the ratios are averaged. A ratio of standard deviations is no share of variance: copies that
    differ by a hundredth of the variance score 0.9 or so. `eps` is added to the denominator, as there.
    Every block needs two units or more. signals (rows, units), labels (units,).

    >>> s = torch.tensor([[1.0, 2.0, 1.0, 2.0], [3.0, 5.0, 3.0, 5.0]])
    >>> cloning_r2_as_coded(s, torch.tensor([0, 1, 0, 1]))
    1.0
    """
    _, dense, counts = torch.unique(labels.to(signals.device), return_inverse=True, return_counts=True)
    if labels.shape != (signals.shape[1],) or int(counts.min()) < 2:
        problem = f"layer {layer}: labels of shape {tuple(labels.shape)}, smallest block {int(counts.min())}"
        raise UsageError(problem, remedy="give one label a unit and two units or more a block")
    s = require_finite(layer, signals).double()
    squares = s.new_zeros(len(s), len(counts)).index_add_(1, dense, (s - block_mean(s, labels, 1)).square())
    within = (squares / (counts - 1)).sqrt()  # (rows, blocks)
    return 1.0 - float((within / (s.std(1, keepdim=True) + eps)).mean())


def block_mean(tensor: Tensor, labels: Tensor | None, axis: int) -> Tensor:
    """Replace every entry along `axis` by the mean over its block; labels (tensor.shape[axis],), None changes nothing.

    >>> block_mean(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 0]), axis=0)
    tensor([2., 2., 2.])
    """
    if labels is None:
        return tensor
    _, dense = torch.unique(labels.to(tensor.device), return_inverse=True)
    counts = torch.bincount(dense).to(tensor.dtype)
    shape, view = [*tensor.shape], [1] * tensor.ndim
    shape[axis] = view[axis] = len(counts)
    sums = tensor.new_zeros(shape).index_add_(axis, dense, tensor)
    return (sums / counts.view(view)).index_select(axis, dense)
