"""Row-wise equitable, column-wise equitable and block-constant tensors: split, project, measure.

Take a matrix W[out, in], a partition of its rows and one of its columns, and let A and B average over row blocks and
over column blocks. Then W is the sum of four mutually orthogonal parts:

    W = A W B  +  (I - A) W B  +  A W (I - B)  +  (I - A) W (I - B)
        block-     row             column         interaction,
        constant   imbalance       imbalance      zero row and column sums in every block

W is row-wise equitable (RE) iff its row imbalance is zero, column-wise equitable (CE) iff its column imbalance is zero,
block-constant (BC) iff all but the first part are zero. Everything below is one of these parts or a norm of them.
Convolution kernels are treated tap by tap; vectors (biases, gains) have the block-constant part and a row imbalance.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import block_mean


@dataclass(frozen=True)
class Parts:
    """The four orthogonal parts of a tensor; they add up to it."""

    block_constant: Tensor
    row_imbalance: Tensor
    column_imbalance: Tensor
    interaction: Tensor


def split(tensor: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> Parts:
    """The four parts of `tensor` (out, in, taps...) or (units,) for the given row and column labels.

    >>> parts = split(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    >>> parts.block_constant, parts.interaction
    (tensor([[2., 2.],
            [2., 2.]]), tensor([[-1.,  1.],
            [ 1., -1.]]))
    """
    by_rows = block_mean(tensor, rows, 0)
    if tensor.ndim == 1:
        if columns is not None:
            raise UsageError("a vector has no columns", remedy="give row labels only")
        zero = torch.zeros_like(tensor)
        return Parts(by_rows, tensor - by_rows, zero, zero)
    by_columns, both = block_mean(tensor, columns, 1), block_mean(by_rows, columns, 1)
    return Parts(both, by_columns - both, by_rows - both, tensor - by_rows - by_columns + both)


def is_equitable(tensor: Tensor, rows: Tensor | None, columns: Tensor | None, *, tolerance: float) -> tuple[bool, bool]:
    """Whether `tensor` is (RE, CE): largest imbalance at most `tolerance` (in the weights' own units)."""
    parts = split(tensor, rows, columns)
    return _largest(parts.row_imbalance) <= tolerance, _largest(parts.column_imbalance) <= tolerance


@dataclass(frozen=True)
class Distance:
    """Largest absolute entry (`_max`) and Euclidean norm (`_norm`) outside BC and outside RE and CE, over a model."""

    block_constant_max: float
    block_constant_norm: float
    equitable_max: float
    equitable_norm: float


def distance(model: nn.Module, partition: Partition, *, reference: Mapping[str, Tensor] | None = None) -> Distance:
    """How far the parameters of `model` are from BC, and from RE and CE, under `partition`.

    With `reference` (an earlier ``state_dict``), the block-constant distance is that of W - W_reference: the distance
    to the affine manifold M_D(W_reference) = W_reference + BC in which gradient training stays (paper, "Cloning").
    The distance to RE and CE is always that of W itself. Buffers are not parameters and do not count.
    """
    off_bc, off_equitable = [], []
    parameters = dict(model.named_parameters())
    for name, axes in partition.axis_labels(model).items():
        if name not in parameters:
            continue
        weight = parameters[name].detach()
        rows, columns = labels_of(weight, axes)
        moved = weight - reference[name].to(weight) if reference is not None else weight
        parts = split(weight, rows, columns)
        off_bc.append((moved - split(moved, rows, columns).block_constant).flatten())
        off_equitable.append((parts.row_imbalance + parts.column_imbalance).flatten())
    if not off_bc:
        return Distance(0.0, 0.0, 0.0, 0.0)
    bc, equitable = torch.cat(off_bc), torch.cat(off_equitable)
    return Distance(_largest(bc), float(bc.norm()), _largest(equitable), float(equitable.norm()))


def labels_of(tensor: Tensor, axes: Mapping[int, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """(row labels, column labels) of a tensor from its per-axis labels; a vector's only axis, or the last axis of a
    bare parameter such as a position embedding, plays the part of its own kind."""
    return axes.get(0), axes.get(1) if tensor.ndim > 1 else None


def jitter(model: nn.Module, partition: Partition, *, scale: float, seed: int, inside: bool = True) -> None:
    """Move `model` off BC, in place, by Gaussian noise of standard deviation about `scale`.

    `inside=True` adds only interaction noise (zero row and column sums in every block): the model stays in RE and CE,
    computes the same function, and its M_D(W) is another one. `inside=False` adds unrestricted noise to every
    parameter that a block touches: it leaves RE and CE.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, axes in sorted(partition.axis_labels(model).items()):
            if name in parameters:
                weight = parameters[name]
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight) * scale
                weight += split(noise, *labels_of(weight, axes)).interaction if inside else noise


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0
