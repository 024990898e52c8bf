"""What `as_good_as_fresh` measures of its networks, and how its frames are read: gaps to fresh ones, seed by seed."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.connectivity import barrier, line_losses, matched
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import ranks
from lop_utils.models.stack import Stack
from lop_utils.streams.sources import Source
from lop_utils.training.ensemble import member_cross_entropy

STUCK, FRESH = "clone", "fresh"
RANK = "effective_rank_singular_raw"
Row = tuple[int, str, int, str, str, float]


def measure(stack: Stack, source: Source, *, seeds: Sequence[int], methods: Sequence[str], step: int) -> list[Row]:
    """Rows (seed, method, step, layer, metric, value) of all members, which stand method by method, seed by seed."""
    training, x = stack.training, source.inputs.flatten(1)
    stack.eval()
    loss, accuracy = scores(stack, x, source.targets, source.test_inputs.flatten(1), source.test_targets)
    stack.train(training)
    rows: list[Row] = []
    for i in range(stack.members):
        where = (seeds[i % len(seeds)], method := methods[i // len(seeds)], step)
        rows += [(*where, "all", "train_loss", loss[i]), (*where, "all", "test_accuracy", accuracy[i])]
        net = stack.member(i)
        layers = record(net, x[:500])
        found = {RANK: [ranks(layer.activation, layer=name)[RANK] for name, layer in layers.items()]}
        if method != FRESH:
            labels = Partition.of_clone(net, 2).labels
            found["r2"] = [cloning_r2(layer.activation, labels[name], layer=name) for name, layer in layers.items()]
        rows += [(*where, "mean", metric, sum(values) / len(values)) for metric, values in found.items()]
    return rows


@torch.no_grad()
def scores(stack: Stack, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> tuple[list[float], list[float]]:
    """Mean loss on (x, y) and accuracy on the test images of every member; data shared, or with an axis of members."""

    def each(part: Tensor, dimensions: int) -> Tensor:
        return part.expand(stack.members, *part.shape) if part.ndim < dimensions else part

    loss = member_cross_entropy(stack(each(x, 3)), each(y, 2))
    accuracy = (stack(each(test_x, 3)).argmax(-1) == each(test_y, 2)).double().mean(1)
    return loss.tolist(), accuracy.tolist()


def lines(stack: Stack, source: Source, *, seeds: Sequence[int], methods: Sequence[str], step: int) -> list[Row]:
    """Barrier and distance from every network to the fresh (units matched) and to the stuck one of its seed (as it is).

    The fresh network's own line is to that of the next seed: what two networks that share nothing have between them.
    """
    x, y, n, rows = source.inputs.flatten(1), source.targets, len(seeds), []
    at = lambda method, i: stack.member(methods.index(method) * n + i % n).eval()  # noqa: E731
    for i, seed in enumerate(seeds):
        for method in methods:
            net, fresh = at(method, i), at(FRESH, i + (method == FRESH))
            pairs = {"line to fresh": (matched(net, fresh), fresh)}
            if method not in (FRESH, STUCK):
                pairs["line to clone"] = (net, at(STUCK, i))
            for layer, (a, b) in pairs.items():
                where = (seed, method, step, layer)
                rows += [(*where, "barrier", barrier(line_losses(a, b, x, y))), (*where, "distance", _distance(a, b))]
    return rows


@torch.no_grad()
def _distance(a: nn.Module, b: nn.Module) -> float:
    """||theta_a - theta_b|| / ||theta_b||."""
    first, last = (torch.cat([p.flatten() for p in net.parameters()]) for net in (a, b))
    return float((first - last).norm() / last.norm())


def values(frame: pd.DataFrame, method: str, metric: str, layer: str = "all", *, step: int | None = None) -> pd.Series:
    """One value a seed (the index), at `step` or at the last step at which it was measured."""
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric) & (frame["layer"] == layer)]
    rows = rows[rows["step"] == (rows["step"].max() if step is None else step)]
    return rows.set_index("seed")["value"].sort_index()


def gap(frame: pd.DataFrame, method: str, metric: str, layer: str = "all", *, against: str = FRESH) -> list[float]:
    """`method` minus `against`, seed by seed, at the last step."""
    return (values(frame, method, metric, layer) - values(frame, against, metric, layer)).tolist()
