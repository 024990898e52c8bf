"""Tasks A and B from the halves of one source's classes, and random labels, for every seed side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.streams.sources import Source

RANDOM_LABELS = 10


class HalvedTasks:
    """The tasks of every seed, axis 0 of all tensors: ``A`` and ``B`` are (x, y, test x, test y), ``random`` (x, y).

    A seed draws which classes are A's and which B's, and `samples` training images of each; all other images of these
    classes are the test set. The random labels are for images of both, half and half. Raises `UsageError` when no image
    is left for testing.

    >>> from lop_utils.streams.sources import load
    >>> tasks = HalvedTasks(load("digits"), samples=300, seeds=(0, 1))
    >>> tasks.A[0].shape, tasks.classes, tasks.random[1].shape
    (torch.Size([2, 300, 8, 8]), 5, torch.Size([2, 300]))
    """

    def __init__(self, source: Source, *, samples: int, seeds: Sequence[int]):
        self.size, self.classes, self.seeds = source.size, source.classes // 2, tuple(seeds)
        tasks = [_tasks(source, samples, seed) for seed in seeds]
        fewest = min(len(task[2]) for pair in tasks for task in pair)  # test sets are cut to the smallest
        self.A, self.B = (
            tuple(torch.stack([pair[i][part][: fewest if part > 1 else None] for pair in tasks]) for part in range(4))
            for i in range(2)
        )
        images = torch.cat([task[0][:, : samples // 2] for task in (self.A, self.B)], dim=1)
        drawn = [
            torch.randint(RANDOM_LABELS, images.shape[1:2], generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        self.random = images, torch.stack(drawn).to(images.device)

    def noisy(self, shares: Sequence[float]) -> Tensor:
        """Task A's training labels (shares x seeds, samples), a share of them drawn anew: the same ones and more."""
        rows = []
        for share in shares:
            for y, seed in zip(self.A[1], self.seeds, strict=True):
                generator = torch.Generator().manual_seed(seed)
                changed = torch.rand(len(y), generator=generator) < share
                other = torch.randint(self.classes, y.shape, generator=generator)
                rows.append(torch.where(changed.to(y.device), other.to(y.device), y))
        return torch.stack(rows)


def repeated(x: Tensor, times: int) -> Tensor:
    """Axis 0 (the seeds) `times` times over, for a stack of several settings with the same data.

    >>> repeated(torch.tensor([1, 2]), 2)
    tensor([1, 2, 1, 2])
    """
    return x.repeat(times, *[1] * (x.ndim - 1))


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor, *, classes: int | None = None) -> float:
    """Share of right answers of one network on x (N, ...), y (N,), among its first `classes` outputs (None: all)."""
    return float((net(x)[:, :classes].argmax(1) == y).double().mean())


def _tasks(source: Source, samples: int, seed: int) -> list[tuple[Tensor, ...]]:
    """Tasks A and B of one seed: images and labels 0, 1, ... for training, then for testing."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.cat([source.inputs, source.test_inputs]), torch.cat([source.targets, source.test_targets])
    half, tasks = source.classes // 2, []
    for classes in torch.randperm(source.classes, generator=generator)[: 2 * half].view(2, half):
        label = torch.full((source.classes,), -1)
        label[classes] = torch.arange(half)
        own = label.to(y.device)[y]
        rows = torch.nonzero(own >= 0).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        if len(rows) <= samples:
            problem = f"{samples} of {len(rows)} images of half of the classes of {source.name} for training"
            raise UsageError(problem, remedy="leave some for testing")
        tasks.append((x[rows[:samples]], own[rows[:samples]], x[rows[samples:]], own[rows[samples:]]))
    return tasks
