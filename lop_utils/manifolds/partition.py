"""Partitions of a model's units into blocks, and what they mean for each of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.spaces import AxisUse, axis_uses, spaces_of


@dataclass(frozen=True)
class Partition:
    """Block labels of the units of some spaces; the units of all other spaces, inputs and outputs stay single.

    `labels` maps a space's name to integers of shape (size,): units with equal labels share a block.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> Partition.of_clone(net, 2).labels["hidden.0"]
    tensor([0, 1, 0, 1])
    """

    labels: Mapping[str, Tensor]

    @classmethod
    def of_clone(cls, model: nn.Module, factor: int | Mapping[str, int]) -> "Partition":
        """The partition of a model made by `manifolds.clone.widen(base, factor)`: unit j copies unit j mod n."""
        labels = {}
        for space in spaces_of(model):
            k = factor if isinstance(factor, int) else factor.get(space.name, 1)
            if k < 1 or space.size % k:
                problem = f"space {space.name} of {space.size} units is no {k}-fold clone"
                raise UsageError(problem, remedy="give a factor that divides the size")
            labels[space.name] = torch.arange(space.size) % (space.size // k)
        return cls(labels)

    def validate(self, model: nn.Module) -> "Partition":
        """Return self, or raise `UsageError` naming a space that `model` lacks or whose size differs."""
        sizes = {space.name: space.size for space in spaces_of(model)}
        for name, labels in self.labels.items():
            if name not in sizes:
                known = ", ".join(sizes)
                raise UsageError(f"partition names space {name!r}, which the model lacks", remedy=f"use: {known}")
            if labels.shape != (sizes[name],):
                raise UsageError(
                    f"partition of {name} has shape {tuple(labels.shape)} for {sizes[name]} units",
                    remedy="give one label a unit",
                )
        return self

    def axis_labels(self, model: nn.Module) -> dict[str, dict[int, Tensor]]:
        """For each tensor of `model` that blocks touch: axis -> block label of every entry of that axis."""
        self.validate(model)
        found: dict[str, dict[int, Tensor]] = {}
        for name, uses in axis_uses(model).items():
            touched = {use.axis: _entry_labels(use, self.labels[use.space]) for use in uses if use.space in self.labels}
            if touched:
                found[name] = touched
        return found


def _entry_labels(use: AxisUse, labels: Tensor) -> Tensor:
    """Labels of the entries of an axis: entries of different outer or inner index are never in one block."""
    _, dense = torch.unique(labels, return_inverse=True)
    blocks = int(dense.max()) + 1
    outer = torch.arange(use.outer).repeat_interleave(use.size * use.inner)
    inner = torch.arange(use.inner).repeat(use.outer * use.size)
    return (outer * blocks + dense.cpu()[use.units()]) * use.inner + inner
