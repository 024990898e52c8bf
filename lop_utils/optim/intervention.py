"""What all interventions share: hooks that can be removed, one random generator a member, a state that can be saved."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.stack import Stack, stacked, tensors_of

_APART = 0x6C6F705F626F6F6B  # sets the seeds of interventions apart from those of networks


class Intervention:
    """Something that acts on a model's training from hooks of its optimizer, until ``remove()``.

    Subclasses name in `kept` the attributes that, with the generators, decide how training goes on; `state_dict` holds
    copies of them.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, generators: Sequence[torch.Generator] = ()):
        self.generators = list(generators)
        self._handles: list = []

    def remove(self) -> None:
        """End the intervention; the model stays as it is."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def state_dict(self) -> dict:
        """All that is needed to go on exactly as before."""
        state = {name: deepcopy(getattr(self, name)) for name in self.kept}
        return state | {"generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`."""
        for name in self.kept:
            setattr(self, name, deepcopy(state[name]))
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved)


def member_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, all with a leading axis of members (1 for a single network); shared memory.

    >>> net = nn.Linear(3, 2)
    >>> member_tensors(net)["weight"].shape
    torch.Size([1, 2, 3])
    """
    lone = not stacked(model)
    return {name: tensor.detach()[None] if lone else tensor.detach() for name, tensor in tensors_of(model).items()}


def members_of(model: nn.Module) -> int:
    """How many networks `model` is."""
    return model.members if isinstance(model, Stack) else 1


def generators_for(model: nn.Module, seed: int | Sequence[int]) -> list[torch.Generator]:
    """One generator a member on the model's device, for the seeds `seed`, `seed` + 1, ... or a sequence of one each.

    Seed s gives other numbers than ``torch.manual_seed(s)``: a network made from seed 0 whose units are redrawn with
    seed 0 would get its own first weights again.

    >>> a, b = generators_for(nn.Linear(3, 2), 0)[0], torch.Generator().manual_seed(0)
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).any())
    False
    """
    seeds = [seed + i for i in range(members_of(model))] if isinstance(seed, int) else seed
    device = next(model.parameters()).device
    return seeded_generators(members_of(model), [s ^ _APART for s in seeds], device)


def seeded_generators(members: int, seed: int | Sequence[int], device: torch.device | str) -> list[torch.Generator]:
    """`members` generators with the seeds `seed`, `seed` + 1, ... or those of a sequence, one each."""
    seeds = [seed + i for i in range(members)] if isinstance(seed, int) else list(seed)
    if len(seeds) != members:
        raise UsageError(f"{len(seeds)} seeds for {members} members", remedy="give one integer or one seed a member")
    return [torch.Generator(device).manual_seed(s) for s in seeds]


def member_normal(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """N(0, 1) of shape (members, ...), each member from its own generator, in the dtype of `like`."""
    draws = [torch.randn(shape[1:], generator=g, device=g.device, dtype=like.dtype) for g in generators]
    return torch.stack(draws)


def member_normals(tensors: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """N(0, 1) for tensors (members, ...) of one dtype: one draw a member, from its generator, cut into the shapes.

    >>> found = member_normals({"w": torch.zeros(2, 3, 4), "b": torch.zeros(2, 3)}, seeded_generators(2, 0, "cpu"))
    >>> found["w"].shape, found["b"].shape
    (torch.Size([2, 3, 4]), torch.Size([2, 3]))
    """
    sizes, like = [tensor[0].numel() for tensor in tensors.values()], next(iter(tensors.values()))
    flat = member_normal((len(like), sum(sizes)), generators, like)
    return {name: part.view_as(tensors[name]) for name, part in zip(tensors, flat.split(sizes, 1), strict=True)}
