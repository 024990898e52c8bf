"""Endless minibatches from tensors, in an order that a seed decides."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lop_utils.errors import UsageError


def batches(inputs: Tensor, targets: Tensor, *, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y) of `batch_size` samples for ever; every epoch is a new permutation, its incomplete rest left out.

    >>> x, y = next(batches(torch.arange(6.0), torch.arange(6), batch_size=4, seed=0))
    >>> len(x), bool((x == y).all())
    (4, True)
    """
    if not 1 <= batch_size <= len(inputs):
        raise UsageError(f"batch size {batch_size} for {len(inputs)} samples", remedy="choose 1 to the sample count")
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for rows in order.split(batch_size):
            if len(rows) == batch_size:
                yield inputs[rows], targets[rows]
