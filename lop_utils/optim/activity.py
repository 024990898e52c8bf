"""What the units did in the last training pass, space by space, for interventions that judge units."""

from collections.abc import Iterator

from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.spaces import Space, spaces_of
from lop_utils.models.stack import observe, skeleton_of, stacked


def resettable(model: nn.Module) -> tuple[Space, ...]:
    """The spaces whose units can be redrawn one by one: those with a non-linearity of their own.

    A residual stream (of a ResNet's stage, of a ViT) has none: its entries are sums of what many layers write, an
    identity skip hands them on, and no set of outgoing weights makes one of them silent. The heads and dimensions of an
    attention layer have none either. They are never redrawn.

    >>> from lop_utils.models.resnet import ResNet, ResNetConfig
    >>> net = ResNet(ResNetConfig(image_channels=3, outputs=2, stages=(4, 8), blocks=(1, 1)), seed=0)
    >>> [space.name for space in resettable(net)]
    ['stage.0.0', 'stage.1.0']
    """
    spaces = tuple(s for s in spaces_of(skeleton_of(model)) if s.pre_activation and s.activation)
    if not spaces:
        problem = f"{type(skeleton_of(model)).__name__} has no units that can be redrawn one by one"
        raise UsageError(problem, remedy="use a model with a space that has its own activation")
    return spaces


class Activity:
    """The activations of the last training pass: ``rows()`` yields (space, h), h of shape (members, rows, outer, size).

    Rows are samples, times positions or tokens; outer is 1, or 2 for an activation such as CReLU that gives two numbers
    a unit. Activations are taken where the readers find them: behind the pooling, if a layer pools.
    """

    def __init__(self, model: nn.Module):
        self._lone = not stacked(model)
        self._paths = {space: _read_at(skeleton_of(model), space) for space in resettable(model)}
        self._seen: dict[str, Tensor] = {}
        self.remove = observe(model, sorted(self._paths.values()), self._see).remove

    def _see(self, outputs: dict[str, Tensor]) -> None:
        self._seen = outputs

    def rows(self) -> Iterator[tuple[Space, Tensor]]:
        """Every space with its activations; each pass can be read once. Raises `UsageError` when there was none."""
        if not self._seen:
            remedy = "call model.train() and the model before optimizer.step()"
            raise UsageError("no training pass since the last step", remedy=remedy)
        seen, self._seen = self._seen, {}
        for space, path in self._paths.items():
            h = seen[path][None] if self._lone else seen[path]
            h = (h.movedim(2, -1) if h.ndim == 5 else h).flatten(1, -2)  # (members, rows, outer * size)
            yield space, h.unflatten(-1, (-1, space.size))


def _read_at(skeleton: nn.Module, space: Space) -> str:
    owner, _, _ = space.activation.rpartition(".")
    pooled = isinstance(getattr(skeleton.get_submodule(owner), "pool", None), nn.Module)
    return f"{owner}.pool" if pooled else space.activation


def fired(h: Tensor) -> Tensor:
    """Units that were not zero on every row: (members, rows, outer, size) -> bool (members, size).

    >>> import torch
    >>> fired(torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]]))
    tensor([[False,  True]])
    """
    return (h != 0).any(2).any(1)
