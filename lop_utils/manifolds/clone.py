"""Exact widening: a wider network that computes the same function, made of copies of each unit; and its inverse."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import block_mean
from lop_utils.models.spaces import READS, AxisUse, axis_uses, spaces_of


def widen(model: nn.Module, factor: int | Mapping[str, int]) -> nn.Module:
    """A new network with every unit of the widened spaces copied `factor` times, computing the same function.

    `factor` is one integer for all spaces or a map from space names to integers (missing spaces stay as they are).
    Copies are tiled: units a, b become a, b, a, b, so unit j of the clone copies unit j mod n. Each copy receives what
    its original received: tensors that write into a space, or act on it unit by unit, are tiled; tensors that read from
    it are tiled and divided by the factor. Inputs and outputs are never cloned. `model` is left as it is.

    The result is block-constant for `Partition.of_clone(result, factor)`. Source: the cloning experiment of
    arXiv:2510.00304, where the weights are divided by the duplication of the layer's input.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> base = MLP(MLPConfig(inputs=3, widths=(4, 4), outputs=2), seed=0)
    >>> clone = widen(base, 2)
    >>> x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    >>> clone.config.widths, torch.allclose(clone(x), base(x), atol=1e-6)
    ((8, 8), True)
    """
    factors = _factors(model, factor)
    sizes = {space.name: space.size * factors[space.name] for space in spaces_of(model)}
    state, uses = model.state_dict(), axis_uses(model)
    example = _common(model)
    clone = model.resized(sizes).to(device=example.device, dtype=example.dtype)
    _check_groups(model, clone)
    wide = {name: _widened(tensor, uses.get(name, ()), factors) for name, tensor in state.items()}
    clone.load_state_dict(wide)
    return clone.train(model.training)


def narrow(model: nn.Module, factor: int | Mapping[str, int]) -> nn.Module:
    """The base network of a clone (the quotient): one unit a block, weights = block sum / number of rows.

    Exact inverse of `widen` on block-constant networks; for a network in RE and CE it is the smaller network that
    computes the same function (paper: "base network").
    """
    partition, factors = Partition.of_clone(model, factor), _factors(model, factor)
    sizes = {space.name: space.size // factors[space.name] for space in spaces_of(model)}
    uses, example = axis_uses(model), _common(model)
    base = model.resized(sizes).to(device=example.device, dtype=example.dtype)
    labels = partition.axis_labels(model)
    state = {}
    for name, tensor in model.state_dict().items():
        for use in uses.get(name, ()):
            k = factors[use.space]
            averaged = block_mean(tensor, labels[name][use.axis], use.axis)
            tensor = averaged.index_select(use.axis, _first_copies(use, k).to(tensor.device))
            tensor = tensor * k if use.role == READS else tensor
        state[name] = tensor
    base.load_state_dict(state)
    return base.train(model.training)


def _check_groups(model: nn.Module, clone: nn.Module) -> None:
    """Refuse groups that would normalise a clone's units with other units than those of the original."""
    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm):
            wide = clone.get_submodule(name)
            size, wide_size = (m.num_channels // m.num_groups for m in (module, wide))
            if size != wide_size and (module.num_groups, wide.num_groups) != (1, 1):
                raise UsageError(
                    f"{name}: groups of {size} channels become groups of {wide_size}, which cut through the copies",
                    remedy="make resized() keep the group size, or use one group",
                )


def _common(model: nn.Module) -> Tensor:
    """Any parameter of `model`, whose parameters must all have one dtype and lie on one device."""
    first, example = next(iter(model.named_parameters()))
    for name, parameter in model.named_parameters():
        if (parameter.dtype, parameter.device) != (example.dtype, example.device):
            here, there = (f"{p.dtype} on {p.device}" for p in (parameter, example))
            remedy = "move the whole model to one dtype and device"
            raise UsageError(f"{name} is {here}, but {first} is {there}", remedy=remedy)
    return example


def _factors(model: nn.Module, factor: int | Mapping[str, int]) -> dict[str, int]:
    names = [space.name for space in spaces_of(model)]
    given = dict.fromkeys(names, factor) if isinstance(factor, int) else dict(factor)
    for name, k in given.items():
        if name not in names:
            raise UsageError(f"factor names space {name!r}, which the model lacks", remedy=f"use: {', '.join(names)}")
        if not isinstance(k, int) or k < 1:
            raise UsageError(f"factor {k!r} of space {name} is no integer >= 1", remedy="use 2, 3, ...")
    return {name: given.get(name, 1) for name in names}


def _widened(tensor: Tensor, uses: tuple[AxisUse, ...], factors: Mapping[str, int]) -> Tensor:
    for use in uses:
        k = factors[use.space]
        tensor = _tile(tensor, use, k)
        tensor = tensor / k if use.role == READS and k > 1 else tensor
    return tensor


def _tile(tensor: Tensor, use: AxisUse, k: int) -> Tensor:
    """Repeat the unit part of an axis k times: outer x size x inner -> outer x (k * size) x inner."""
    entries = torch.arange(tensor.shape[use.axis], device=tensor.device)
    tiled = entries.view(use.outer, 1, use.size * use.inner).expand(-1, k, -1).reshape(-1)
    return tensor.index_select(use.axis, tiled)


def _first_copies(use: AxisUse, k: int) -> Tensor:
    """Entries of an axis that belong to the first copy of each unit."""
    return torch.arange(use.outer * use.size * use.inner)[use.units() < use.size // k]
