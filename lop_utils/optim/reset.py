"""Redrawing units: the one place where units get new incoming weights and lose their outgoing ones."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.spaces import READS, WRITES, AxisUse, axis_uses
from lop_utils.models.stack import skeleton_of, stacked, tensors_of
from lop_utils.optim.activity import resettable
from lop_utils.optim.initial import initial_bound, initial_constant
from lop_utils.optim.intervention import member_tensors, members_of

Masks = Mapping[str, Tensor]


def reset_units(
    model: nn.Module,
    masks: Masks,
    *,
    generators: torch.Generator | Sequence[torch.Generator],
    optimizer: torch.optim.Optimizer | None = None,
    means: Mapping[str, Tensor] | None = None,
) -> None:
    """Redraw the units marked in `masks`: space name -> bool (units,), or (members, units) for a stack.

    1. `means` (space name -> (entries,) or (members, entries)): the bias of each reader takes over what the unit sends
       on average, b <- b + W[:, u] mean(h_u). Entries are those of the activation (two a unit for CReLU); at a reader
       without a bias nothing happens (a normalisation that follows removes constants).
    2. Outgoing weights W[:, u] <- 0.
    3. Incoming weights and biases are drawn anew from the model's own initial distribution; the unit's entries of
       normalisations (gain, shift, running statistics) and of learned activations return to their initial values.
    4. With `optimizer`, every entry of its state that belongs to a changed weight becomes 0 (momentum, Adam's moments).
       Adam's step count belongs to the whole tensor and stays: the unit's first step is (1 - beta1) / sqrt(1 - beta2)
       times the learning rate, 3.2 for the default betas.

    Member i of a stack draws from generator i. Nothing else changes, so that the outputs stay the same exactly when a
    unit was constant, and on average over the data otherwise (at borders of padded convolutions only nearly). Layer and
    group normalisation are the exception: there the other units feel the new one through the shared statistics.
    Order for units of adjacent layers: all outgoing weights first, then all incoming, as layer by layer in Dohare et
    al. 2024. Raises `UsageError` for a space that cannot be reset, see `activity.resettable`.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> mask = {"hidden.0": torch.tensor([True, False, False, False])}
    >>> reset_units(net, mask, generators=torch.Generator().manual_seed(0))
    >>> net.head.weight[:, :2].abs() > 0
    tensor([[False,  True],
            [False,  True]])
    """
    one = isinstance(generators, torch.Generator)
    UnitReset(model, optimizer)(masks, generators=[generators] if one else generators, means=means)


class UnitReset:
    """`reset_units` for one model and optimizer, with the layout of the model looked up once."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None):
        self.model, self.optimizer, self.skeleton = model, optimizer, skeleton_of(model)
        self.spaces = {space.name: space for space in resettable(model)}
        self.uses: list[tuple[str, AxisUse]] = [
            (name, use) for name, found in axis_uses(self.skeleton).items() for use in found if use.space in self.spaces
        ]

    @torch.no_grad()
    def __call__(
        self, masks: Masks, *, generators: Sequence[torch.Generator], means: Mapping[str, Tensor] | None = None
    ) -> None:
        """See `reset_units`; `generators`: one a member."""
        if len(generators) != members_of(self.model):
            problem = f"{len(generators)} generators for {members_of(self.model)} networks"
            raise UsageError(problem, remedy="give one a network")
        masks = {name: self._checked(name, mask) for name, mask in masks.items() if mask.any()}
        tensors = member_tensors(self.model)
        touched = [(name, use, _of_entries(masks[use.space], use)) for name, use in self.uses if use.space in masks]
        for name, use, mask in touched:
            if use.role == READS:
                if means is not None and use.space in means:
                    _compensate(tensors, name, use, mask, means[use.space])
                _fill(tensors[name], use.axis, mask, 0.0)
        for name, use, mask in touched:
            if use.role == WRITES:
                self._redraw(tensors[name], name, mask, generators)
            elif use.role != READS:
                _fill(tensors[name], use.axis, mask, initial_constant(self.skeleton, name))
        for state, use, mask in self._moments(touched):
            _fill(state, use.axis, mask, 0.0)

    def _checked(self, name: str, mask: Tensor) -> Tensor:
        """The mask of a space as (members, units)."""
        if name not in self.spaces:
            known = ", ".join(self.spaces)
            problem = f"units of space {name!r} cannot be redrawn one by one"
            raise UsageError(problem, remedy=f"reset units of: {known}")
        mask = mask if mask.ndim == 2 else mask[None]
        shape = (members_of(self.model), self.spaces[name].size)
        if tuple(mask.shape) != shape or mask.dtype != torch.bool:
            problem = f"mask of {name} is {mask.dtype} of shape {tuple(mask.shape)}"
            raise UsageError(problem, remedy=f"give booleans of shape {shape}")
        return mask

    def _redraw(self, tensor: Tensor, name: str, mask: Tensor, generators: Sequence[torch.Generator]) -> None:
        bound = initial_bound(self.skeleton, name)
        for member in mask.any(1).nonzero().flatten().tolist():
            rows = tensor[member][mask[member]]
            uniform = torch.rand(rows.shape, generator=generators[member], device=rows.device)
            tensor[member][mask[member]] = ((2 * uniform - 1) * bound).to(rows.dtype)

    def _moments(self, touched: list[tuple[str, AxisUse, Tensor]]) -> Iterator[tuple[Tensor, AxisUse, Tensor]]:
        """Entry-wise states of the optimizer for the tensors touched, with the axis and mask of each."""
        parameters = tensors_of(self.model) if self.optimizer is not None else {}
        for name, use, mask in touched:
            state = self.optimizer.state.get(parameters[name], {}) if parameters else {}
            for value in state.values():
                if torch.is_tensor(value) and value.shape == parameters[name].shape:
                    yield value if stacked(self.model) else value[None], use, mask


def forget_moments(optimizer: torch.optim.Optimizer) -> None:
    """Empty the optimizer's state: moments 0, steps from 1 again; weights and settings stay.

    >>> p = torch.nn.Parameter(torch.zeros(1)); optimizer = torch.optim.Adam([p]); p.grad = torch.ones(1)
    >>> optimizer.step(); forget_moments(optimizer); len(optimizer.state)
    0
    """
    optimizer.state.clear()


def _of_entries(mask: Tensor, use: AxisUse) -> Tensor:
    """(members, units) -> (members, entries of the axis)."""
    return mask[:, use.units().to(mask.device)]


def _fill(tensor: Tensor, axis: int, mask: Tensor, value: float) -> None:
    """Set the masked entries of `axis` (counted without the members' axis) of every member."""
    shape = [len(mask), *[1] * (tensor.ndim - 1)]
    shape[axis + 1] = mask.shape[1]
    tensor.masked_fill_(mask.view(shape), value)


def _compensate(tensors: Mapping[str, Tensor], name: str, use: AxisUse, mask: Tensor, means: Tensor) -> None:
    """b <- b + W[:, u] mean(h_u), summed over the masked units and over a kernel's positions."""
    bias = tensors.get(f"{name.removesuffix('.weight')}.bias")
    if bias is None:
        return
    means = means if means.ndim == 2 else means[None]
    sent = torch.where(mask, means.repeat_interleave(use.inner, 1).to(bias.dtype), 0.0)  # (members, entries)
    weights = tensors[name].flatten(3).sum(3) if tensors[name].ndim > 3 else tensors[name]  # (members, out, entries)
    bias += (weights @ sent[..., None])[..., 0]
