"""Endless minibatches from tensors, in an order that a seed decides."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lop_utils.errors import UsageError


def batches(inputs: Tensor, targets: Tensor, *, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y) of `batch_size` samples for ever; every epoch is a new permutation, its incomplete rest left out.

    >>> x, y = next(batches(torch.arange(6.0), torch.arange(6), batch_size=4, seed=0))
    >>> len(x), bool((x == y).all())
    (4, True)
    """
    for rows in _orders(len(inputs), batch_size, seed):
        for picked in rows.to(inputs.device).split(batch_size):
            yield inputs[picked], targets[picked]


def member_batches(
    inputs: Tensor, targets: Tensor, *, batch_size: int, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches for the members of a stack: inputs (members, N, ...) and targets (members, N) -> (members, B, ...).

    Member i gets exactly what ``batches(inputs[i], targets[i], seed=seeds[i])`` yields.

    >>> x = torch.arange(12.0).view(2, 6)
    >>> next(member_batches(x, x, batch_size=4, seeds=(0, 0)))[0].shape
    torch.Size([2, 4])
    """
    member = torch.arange(len(seeds), device=inputs.device)[:, None]
    orders = [_orders(inputs.shape[1], batch_size, seed) for seed in seeds]
    for rows in zip(*orders, strict=True):
        for picked in torch.stack(rows).to(inputs.device).split(batch_size, dim=1):
            yield inputs[member, picked], targets[member, picked]


def shared_batches(
    inputs: Tensor, targets: Tensor, *, batch_size: int, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """`member_batches` for members that all have the same samples: inputs (N, ...) and targets (N,), no copies made.

    >>> x, y = next(shared_batches(torch.zeros(6, 3), torch.zeros(6), batch_size=4, seeds=(0, 1)))
    >>> x.shape, y.shape
    (torch.Size([2, 4, 3]), torch.Size([2, 4]))
    """
    each = (part.expand(len(seeds), *part.shape) for part in (inputs, targets))
    return member_batches(*each, batch_size=batch_size, seeds=seeds)


def _orders(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """For ever: a permutation of the samples, cut to whole batches."""
    if not 1 <= batch_size <= count:
        raise UsageError(f"batch size {batch_size} for {count} samples", remedy="choose 1 to the sample count")
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(count, generator=generator)[: count // batch_size * batch_size]
