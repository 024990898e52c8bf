"""The normal space of the equitable weights: an orthonormal basis of the directions that leave RE and CE.

Write a weight matrix as the four parts of `manifolds.equitable`. The weights in RE and CE are those without row and
without column imbalance, so these two parts (and the imbalance of every bias) *are* the normal space. With C an
orthonormal basis of the vectors that sum to zero in every block, and M the normalised indicators of the blocks,

    row imbalance  = C X M',   column imbalance = M X C',   imbalance of a vector = C x,

and X, x are coordinates in an orthonormal basis. Nothing larger than one C or M is ever stored.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.equitable import labels_of
from lop_utils.manifolds.partition import Partition


@dataclass(frozen=True)
class Piece:
    """One imbalance of one parameter: `rows` (out, a) acts on axis 0, `columns` (in, b) on axis 1 (None: identity)."""

    parameter: str
    kind: str
    rows: Tensor | None
    columns: Tensor | None
    shape: torch.Size  # of the coordinates: (a, b, taps...) or (a,)


@dataclass(frozen=True)
class NormalSpace:
    """Orthonormal coordinates of the directions normal to RE and CE, for one model and partition.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> normal_space(net, Partition.of_clone(net, 2)).dimension  # 2 blocks x (3 inputs + 1 bias + 2 outputs)
    12
    """

    pieces: tuple[Piece, ...]
    full_dimension: int

    @property
    def dimension(self) -> int:
        """Number of normal directions."""
        return sum(piece.shape.numel() for piece in self.pieces)

    def coordinates(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Coordinates (dimension,) of the normal part of a direction, given as parameter name -> tensor."""
        found = [
            _apply(tensors[p.parameter], _transposed(p.rows), _transposed(p.columns)).flatten() for p in self.pieces
        ]
        return torch.cat(found)

    def embed(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The direction in parameter space, as name -> tensor, that has these `coordinates` (dimension,)."""
        direction: dict[str, Tensor] = {}
        parts = coordinates.split([piece.shape.numel() for piece in self.pieces])
        for piece, part in zip(self.pieces, parts, strict=True):
            tensor = _apply(part.view(piece.shape), piece.rows, piece.columns)
            known = direction.get(piece.parameter)
            direction[piece.parameter] = tensor if known is None else known + tensor
        return direction

    def indices(self, parameter: str, kind: str) -> Tensor:
        """Positions in the coordinates of one imbalance ("row" or "column") of one parameter; empty if it has none."""
        start, found = 0, []
        for piece in self.pieces:
            count = piece.shape.numel()
            if (piece.parameter, piece.kind) == (parameter, kind):
                found.append(torch.arange(start, start + count))
            start += count
        return torch.cat(found) if found else torch.arange(0)


def normal_space(model: nn.Module, partition: Partition) -> NormalSpace:
    """The normal space of RE and CE of `model`, in the dtype and on the device of its parameters.

    For a p x q piece of a matrix it has p + q - 2 directions: pq minus the (p-1)(q-1) + 1 dimensions of RE and CE.
    Raises `UsageError` when every block has a single unit, so that nothing is normal.
    """
    parameters, pieces = dict(model.named_parameters()), []
    for name, axes in partition.axis_labels(model).items():
        if name in parameters:
            pieces += _pieces(name, parameters[name], *labels_of(parameters[name], axes))
    if not pieces:
        raise UsageError("every block of the partition has one unit", remedy="give a partition that joins some units")
    return NormalSpace(tuple(pieces), sum(p.numel() for p in parameters.values()))


def contrasts(k: int, *, like: Tensor) -> Tensor:
    """Orthonormal basis (k, k - 1) of the vectors of k entries that sum to zero (Helmert's).

    >>> contrasts(2, like=torch.zeros(()))
    tensor([[ 0.7071],
            [-0.7071]])
    """
    basis = like.new_zeros(k, k - 1)
    for j in range(1, k):
        basis[:j, j - 1] = 1 / math.sqrt(j * (j + 1))
        basis[j, j - 1] = -j / math.sqrt(j * (j + 1))
    return basis


def _pieces(name: str, weight: Tensor, rows: Tensor | None, columns: Tensor | None) -> list[Piece]:
    row_contrasts, row_means = _bases(rows, weight)
    if weight.ndim == 1:
        candidates = [("row", row_contrasts, None)]
    else:
        column_contrasts, column_means = _bases(columns, weight)
        candidates = [("row", row_contrasts, column_means), ("column", row_means, column_contrasts)]
    found = []
    for kind, left, right in candidates:
        if (left if kind == "row" else right) is None:
            continue
        shape = [*weight.shape]
        shape[0] = shape[0] if left is None else left.shape[1]
        if weight.ndim > 1 and right is not None:
            shape[1] = right.shape[1]
        found.append(Piece(name, kind, left, right, torch.Size(shape)))
    return found


def _bases(labels: Tensor | None, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(contrasts within blocks (n, n - m), normalised block indicators (n, m)); (None, None) where all are single."""
    if labels is None:
        return None, None
    _, dense, counts = torch.unique(labels.cpu(), return_inverse=True, return_counts=True)
    if int(counts.max()) == 1:
        return None, None
    n, m, like = len(labels), len(counts), like.detach()
    means, within, column = like.new_zeros(n, m), like.new_zeros(n, n - m), 0
    for block, k in enumerate(counts.tolist()):
        members = torch.nonzero(dense == block).flatten().to(like.device)
        means[members, block] = 1 / math.sqrt(k)
        within[members, column : column + k - 1] = contrasts(k, like=like)
        column += k - 1
    return within, means


def _apply(tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Contract axis 0 with `rows` (new, old) and axis 1 with `columns` (new, old)."""
    if rows is not None:
        tensor = torch.tensordot(rows, tensor, dims=1)
    if columns is not None:
        tensor = torch.tensordot(tensor, columns, dims=([1], [1])).movedim(-1, 1)
    return tensor


def _transposed(matrix: Tensor | None) -> Tensor | None:
    return None if matrix is None else matrix.T
