"""How far is a network from the nearest manifold of cloned, and of frozen, units?

Cloned: for a partition of the units into blocks the equitable networks (RE and CE) are a linear space, and the distance
to it is `equitable.distance`. What is sought is the partition with the least distance. For one pair of units it is
found exactly; for many blocks by clustering, which gives an upper bound. Frozen: the weights (w, b) with which a
ReLU unit is silent on given inputs form a convex cone, and the distance to it is found exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import nnls
from torch import Tensor

from lop_utils.errors import UsageError
from lop_utils.manifolds.equitable import distance
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import block_mean
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP


@dataclass(frozen=True)
class Nearest:
    """The nearest equitable networks that were found: their partition, the Euclidean distance, and `relative`, that
    distance over the norm of all weights and hidden biases. `start`: what was clustered first, weights or activations.
    """

    partition: Partition
    distance: float
    relative: float
    start: str


@dataclass(frozen=True)
class Pair:
    """The two units of one layer that are most nearly clones, see `nearest_pair`."""

    space: str
    units: tuple[int, int]
    distance: float
    relative: float


def nearest_clone(
    model: MLP, blocks: Mapping[str, int] | float = 0.5, *, inputs: Tensor | None = None, sweeps: int = 3
) -> Nearest:
    """The equitable networks nearest to `model` with so many blocks of units in every hidden layer, as clustering says.

    `blocks`: space name -> number of blocks, or their share of the units. Ward's method clusters the units of a layer
    by their incoming weights, bias and outgoing weights; then, `sweeps` times, by those averaged over the blocks of the
    layers at the other end, which is what the distance to RE and CE sees. With `inputs` a second start clusters what
    the units do on them. The best partition met on the way is returned: an upper bound on the distance to the nearest.
    Raises `UsageError` for numbers of blocks that a layer cannot have.

    >>> from lop_utils.manifolds.clone import widen
    >>> from lop_utils.models.mlp import MLPConfig
    >>> clone = widen(MLP(MLPConfig(inputs=3, widths=(4, 4), outputs=2), seed=0), 2)
    >>> nearest_clone(clone).distance < 1e-6
    True
    """
    counts, best = _counts(model, blocks), None
    starts = {"weights": dict.fromkeys(counts)}
    if inputs is not None:
        layers = record(model, inputs)
        starts["activations"] = {name: _ward(layers[name].activation.T, k) for name, k in counts.items()}
    norm = float(
        torch.cat([p.detach().double().flatten() for n, p in model.named_parameters() if n != "head.bias"]).norm()
    )
    for start, labels in starts.items():
        for sweep in range(sweeps + 1):
            if sweep or start == "weights":
                labels = {name: _ward(_features(model, i, labels), k) for i, (name, k) in enumerate(counts.items())}
            partition = Partition(dict(labels))
            found = distance(model, partition).equitable_norm
            if best is None or found < best.distance:
                best = Nearest(partition, found, found / max(norm, 1e-30), start)
    return best


def nearest_pair(model: MLP) -> Pair:
    """The pair of units (of one hidden layer) whose own clone manifold is nearest, relative to the size of the two.

    With only u and v in one block, the distance from RE and CE is ||theta_u - theta_v|| / sqrt(2), where theta_u are
    the incoming weights, bias and outgoing weights of u: exact. `relative` is
    ||theta_u - theta_v|| / sqrt(||theta_u||^2 + ||theta_v||^2): 0 for clones, 1 for orthogonal ones, at most sqrt(2).

    >>> from lop_utils.models.mlp import MLPConfig
    >>> net = MLP(MLPConfig(inputs=2, widths=(3,), outputs=1), seed=0)
    >>> with torch.no_grad():
    ...     for p in (net.hidden[0].linear.weight, net.hidden[0].linear.bias, net.head.weight.T): p[2] = p[0]
    >>> nearest_pair(net).units
    (0, 2)
    """
    best: Pair | None = None
    for i in range(len(model.hidden)):
        theta = _features(model, i, {f"hidden.{j}": None for j in range(len(model.hidden))})
        apart, square = torch.cdist(theta, theta, compute_mode="donot_use_mm_for_euclid_dist"), theta.square().sum(1)
        relative = apart / (square[:, None] + square).clamp(min=1e-30).sqrt()
        if len(theta) < 2:
            continue
        relative.fill_diagonal_(torch.inf)
        u, v = sorted(divmod(int(relative.argmin()), len(theta)))
        if best is None or relative[u, v] < best.relative:
            best = Pair(f"hidden.{i}", (u, v), float(apart[u, v]) / 2**0.5, float(relative[u, v]))
    if best is None:
        raise UsageError("no hidden layer has two units", remedy="give a wider network")
    return best


def frozen_distances(weight: Tensor, bias: Tensor, inputs: Tensor) -> Tensor:
    """How far (w, b) of each unit is from being silent on all of `inputs`, Euclidean; (units,), 0 for silent ones.

    The silent ones are the cone of all v with X v <= 0, X = (inputs, 1) row by row. By Moreau's decomposition the
    distance to it is the norm of the projection on the cone that the rows of X span, a non-negative least-squares
    problem: min over lambda >= 0 of ||X^T lambda - (w, b)||. Exact. weight (units, d), bias (units,), inputs (N, d).

    >>> frozen_distances(torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, -1.0]), torch.tensor([[0.0], [1.0]]))
    tensor([0.7071, 0.0000], dtype=torch.float64)
    """
    if weight.ndim != 2 or inputs.ndim != 2 or weight.shape[1] != inputs.shape[1] or len(bias) != len(weight):
        shapes = f"weight {tuple(weight.shape)}, bias {tuple(bias.shape)}, inputs {tuple(inputs.shape)}"
        raise UsageError(shapes, remedy="give (units, d), (units,) and (N, d)")
    rows = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1).double().cpu()
    units = torch.cat([weight, bias[:, None]], dim=1).detach().double().cpu()
    found = []
    for unit in units:
        active = rows @ unit > 0
        if not active.any():
            found.append(0.0)
            continue
        share, _ = nnls(rows.T.numpy(), unit.numpy(), maxiter=50 * len(rows))
        found.append(float(np.linalg.norm(share @ rows.numpy())))
    return torch.tensor(found, dtype=torch.float64)


def _counts(model: MLP, blocks: Mapping[str, int] | float) -> dict[str, int]:
    sizes = {f"hidden.{i}": width for i, width in enumerate(model.config.widths)}
    if not isinstance(blocks, Mapping):
        blocks = {name: max(1, round(blocks * size)) for name, size in sizes.items()}
    if set(blocks) != set(sizes) or any(not 1 <= k <= sizes[name] for name, k in blocks.items()):
        raise UsageError(f"blocks {dict(blocks)} for layers {sizes}", remedy="give every layer 1 to its size")
    return {name: int(blocks[name]) for name in sizes}


def _features(model: MLP, i: int, labels: Mapping[str, Tensor | None]) -> Tensor:
    """What clones of layer i share, a row a unit: incoming weights, bias, outgoing weights, each averaged over the
    blocks at its other end."""
    below, above = labels.get(f"hidden.{i - 1}"), labels.get(f"hidden.{i + 1}")
    linear = model.hidden[i].linear
    reader = model.hidden[i + 1].linear if i + 1 < len(model.hidden) else model.head
    into, out = linear.weight.detach().double(), reader.weight.detach().double()
    into = into if below is None else block_mean(into, below, 1)
    out = out if above is None else block_mean(out, above, 0)
    return torch.cat([into, linear.bias.detach().double()[:, None], out.T], dim=1)


def _ward(features: Tensor, blocks: int) -> Tensor:
    """Labels 0, 1, ... of `blocks` clusters of the rows of `features`."""
    if blocks >= len(features):
        return torch.arange(len(features))
    tree = linkage(features.double().cpu().numpy(), "ward")
    return torch.from_numpy(fcluster(tree, blocks, "maxclust").astype(np.int64)) - 1
