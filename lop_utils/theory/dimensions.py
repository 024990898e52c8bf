"""Dimensions of the spaces of equitable weights: row-wise, column-wise, both, and block-constant.

A block is the part of a weight matrix W[out, in] that joins q units of one block below to p units of one block above.
It is row-wise equitable (RE) if all its row sums are equal, column-wise (CE) if all its column sums are, block-constant
(BC) if all its entries are. Dimensions count weights and biases; a bias must be constant on a block in RE, CE and BC
alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lop_utils.errors import UsageError, check_choice
from lop_utils.theory.validate import at_least

SPACES = ("full", "re", "ce", "re_ce", "bc")


def block_dimension(rows: int, columns: int, space: str) -> int:
    """Dimension of one p x q block: RE pq - p + 1, CE pq - q + 1, RE and CE (p - 1)(q - 1) + 1, BC 1, full pq.

    RE imposes p - 1 equations (all row sums equal the first), CE q - 1; together they are p + q - 2 independent ones,
    because the row sums and the column sums have the same total. Raises `UsageError` for p or q < 1.

    >>> [block_dimension(2, 3, space) for space in SPACES]
    [6, 5, 4, 3, 1]
    """
    check_choice("space", space, SPACES)
    p, q = at_least("rows", rows, 1), at_least("columns", columns, 1)
    equations = {"full": 0, "re": p - 1, "ce": q - 1, "re_ce": p + q - 2, "bc": p * q - 1}
    return p * q - equations[space]


@dataclass(frozen=True)
class Dimensions:
    """Numbers of free parameters of a partitioned network.

    M_D(W) = W + BC, the affine manifold that training from a W in RE and CE cannot leave, has dimension `bc`.
    """

    full: int
    re: int
    ce: int
    re_ce: int
    bc: int


def network_dimensions(blocks: Sequence[Sequence[int]], *, bias: bool = True) -> Dimensions:
    """Dimensions of a fully connected network whose layer l has blocks of the sizes blocks[l]; l = 0 are the inputs.

    >>> network_dimensions([[1, 1], [2], [1]], bias=False)
    Dimensions(full=6, re=4, ce=5, re_ce=3, bc=3)
    """
    if len(blocks) < 2:
        raise UsageError(f"{len(blocks)} layer has no weights", remedy="give the block sizes of at least two layers")
    sizes = [np.array([at_least("block size", s, 1) for s in layer], dtype=object) for layer in blocks]
    totals = dict.fromkeys(SPACES, 0)
    for below, above in pairwise(sizes):
        pairs, units, inputs = len(above) * len(below), above.sum(), below.sum()
        full = units * inputs
        equations_re = len(below) * (units - len(above))  # p - 1 in each of the pairs of blocks
        equations_ce = len(above) * (inputs - len(below))
        free = {
            "re": full - equations_re,
            "ce": full - equations_ce,
            "re_ce": full - equations_re - equations_ce,
            "bc": pairs,
        }
        for space in SPACES:
            totals[space] += full if space == "full" else free[space]
            totals[space] += bias * (units if space == "full" else len(above))
    return Dimensions(**{space: int(total) for space, total in totals.items()})


def cloned_dimensions(widths: Sequence[int], *, factor: int = 2, bias: bool = True) -> Dimensions:
    """Dimensions of a network of base `widths` (inputs, hidden ..., outputs), its hidden layers cloned `factor` times.

    The paper's 3072-128^5-10 doubled: the block-constant space is .44 of the whole, not 1/4, because the first and last
    layers are cloned on one side only.

    >>> cloned_dimensions([3072, 128, 128, 128, 128, 128, 10])
    Dimensions(full=1052426, re=593034, ce=984970, re_ce=526218, bc=460682)
    """
    k, widths = at_least("factor", factor, 1), [at_least("width", w, 1) for w in widths]
    last = len(widths) - 1
    return network_dimensions([[k if 0 < layer < last else 1] * w for layer, w in enumerate(widths)], bias=bias)
