"""Unit spaces: which sets of units a model has, and where each set appears in its parameters.

A *space* is one set of units: the hidden units of an MLP layer, the channels of a residual stream, the heads of an
attention layer. Some layers write into it (their output axis runs over its units), some read from it (their input axis
does), and some modules act on it unit by unit (normalisation, activation). Every model declares its spaces once;
widening, partitions, resets and metrics all read that one declaration and never guess from traversal.

An axis of a tensor need not list the units one after another. `Link` describes the layouts that occur in practice as
`outer x size x inner`: entry ``(o * size + u) * inner + i`` belongs to unit ``u``.

- hidden units, channels: ``outer = inner = 1``;
- a flatten of C channels with H x W positions, read by a linear layer: ``inner = H * W``;
- attention heads as units, each with d entries: ``inner = d``;
- the d dimensions inside each of n heads as units: ``outer = n``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError

WRITES, READS, UNITWISE = "writes", "reads", "unitwise"
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)


@dataclass(frozen=True)
class Link:
    """A module (or bare parameter) and how one of its axes lists the units of a space."""

    module: str
    outer: int = 1
    inner: int = 1


@dataclass(frozen=True)
class Space:
    """One set of `size` units: who writes it, who reads it, and which modules act on it unit by unit.

    `pre_activation` and `activation` name the modules whose outputs are the units' z and h = f(z); a space without a
    non-linearity of its own (a residual stream) leaves `pre_activation` empty.
    """

    name: str
    size: int
    writers: tuple[Link, ...]
    readers: tuple[Link, ...]
    unitwise: tuple[str, ...] = ()
    pre_activation: str = ""
    activation: str = ""


@runtime_checkable
class HasSpaces(Protocol):
    """What widening, partitions and metrics ask of a model."""

    def spaces(self) -> tuple[Space, ...]: ...

    def resized(self, sizes: Mapping[str, int]) -> nn.Module: ...


@dataclass(frozen=True)
class AxisUse:
    """Axis `axis` of a tensor lists the units of `space` as outer x size x inner, in the given role."""

    axis: int
    space: str
    size: int
    role: str
    outer: int = 1
    inner: int = 1

    def units(self) -> Tensor:
        """The unit that each entry of the axis belongs to, shape (outer * size * inner,)."""
        unit = torch.arange(self.size).repeat_interleave(self.inner)
        return unit.repeat(self.outer)


def spaces_of(model: nn.Module) -> tuple[Space, ...]:
    """The declared spaces of `model`; raises `UsageError` when it declares none."""
    if not isinstance(model, HasSpaces):
        raise UsageError(
            f"{type(model).__name__} declares no unit spaces",
            remedy="give it spaces() and resized() as in lop_utils.models.mlp.MLP",
        )
    return model.spaces()


def axis_uses(model: nn.Module) -> dict[str, tuple[AxisUse, ...]]:
    """For every parameter and buffer that a space touches: which of its axes list which units.

    Raises `UsageError`, naming the module, when a declared layout does not match the tensor's shape.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> uses = axis_uses(MLP(MLPConfig(inputs=3, widths=(4, 5), outputs=2), seed=0))
    >>> [(use.axis, use.space, use.role) for use in uses["hidden.1.linear.weight"]]
    [(1, 'hidden.0', 'reads'), (0, 'hidden.1', 'writes')]
    """
    uses: dict[str, list[AxisUse]] = {}
    for space in spaces_of(model):
        for role, link in _links(space):
            for name, tensor, axis in _tensors(model, link.module, role):
                use = AxisUse(axis, space.name, space.size, role, link.outer, link.inner)
                _check_layout(name, tensor, use, taken=uses.setdefault(name, []))
                uses[name].append(use)
    return {name: tuple(found) for name, found in uses.items()}


def _links(space: Space) -> Iterator[tuple[str, Link]]:
    yield from ((WRITES, link) for link in space.writers)
    yield from ((READS, link) for link in space.readers)
    yield from ((UNITWISE, Link(module)) for module in space.unitwise)


def _tensors(model: nn.Module, path: str, role: str) -> Iterator[tuple[str, Tensor, int]]:
    """Yield (name, tensor, axis) for the tensors at `path` that list a space's units in this role."""
    if isinstance(direct := _attribute(model, path), Tensor):
        yield path, direct, direct.ndim - 1
        return
    if isinstance(direct, _LAYERS):
        embedding = isinstance(direct, nn.Embedding)
        yield f"{path}.weight", direct.weight, 1 if role == READS or embedding else 0
        if role == WRITES and getattr(direct, "bias", None) is not None:
            yield f"{path}.bias", direct.bias, 0
    else:
        for name, tensor in [*direct.named_parameters(recurse=False), *direct.named_buffers(recurse=False)]:
            if tensor.ndim == 1:
                yield f"{path}.{name}", tensor, 0


def _attribute(model: nn.Module, path: str) -> nn.Module | Tensor:
    owner, _, leaf = path.rpartition(".")
    try:
        return getattr(model.get_submodule(owner), leaf)
    except AttributeError as error:
        raise UsageError(f"space names {path!r}, which {type(model).__name__} lacks", remedy="fix spaces()") from error


def _check_layout(name: str, tensor: Tensor, use: AxisUse, *, taken: list[AxisUse]) -> None:
    entries, layout = tensor.shape[use.axis], f"{use.outer} x {use.size} x {use.inner}"
    if entries != use.outer * use.size * use.inner:
        raise UsageError(f"{name}: axis {use.axis} has {entries} entries, not {layout}", remedy="fix spaces()")
    if any(other.axis == use.axis for other in taken):
        raise UsageError(f"{name}: axis {use.axis} is claimed by two spaces", remedy="fix spaces()")
