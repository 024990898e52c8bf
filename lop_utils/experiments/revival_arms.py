"""The remedies of the revival experiment, each hooked onto the optimizer of a stack of MLPs with dead units."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from lop_utils.errors import UsageError
from lop_utils.models.stack import Stack
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.intervention import Intervention, generators_for, member_normal
from lop_utils.optim.redo import ReDo
from lop_utils.optim.reset import reset_units
from lop_utils.optim.weight_noise import WeightNoise

Masks = Mapping[str, Tensor]
Install = Callable[[Optimizer, Stack, Masks], object]
SIGMA, WEIGHT_SIGMA, DECAY, L2 = 0.05, 0.001, 0.005, 0.002


@dataclass(frozen=True)
class Arm:
    """`install` hooks the remedy onto the optimizer, with the killed units' masks (members, units) at hand.

    last_only: only the last hidden layer and the head are trained; killed: False for networks that keep all units.
    """

    label: str
    install: Install | None = None
    last_only: bool = False
    killed: bool = True


class UnitNoise(Intervention):
    """Noise on the gradient with every unit's own norm: eps_u ~ N(0, sigma^2 ||g_u||^2 I), g_u of row and bias of u.

    Hidden layers of a stack of MLPs only; a unit without a gradient gets no noise.
    """

    def __init__(self, optimizer: Optimizer, stack: Stack, *, sigma: float, seed: int | Sequence[int]):
        if not sigma >= 0:
            raise UsageError(f"sigma {sigma}", remedy="choose sigma >= 0")
        super().__init__(generators_for(stack, seed))
        self.sigma, self._stack = sigma, stack
        self._handles = [optimizer.register_step_pre_hook(self._add)]

    @torch.no_grad()
    def _add(self, *_: object) -> None:
        tensors = self._stack.tensors
        for i in range(len(self._stack.skeleton.hidden)):
            parts = [tensors[f"hidden.{i}.linear.{kind}"].grad for kind in ("weight", "bias")]
            if parts[0] is None:
                continue
            norm = torch.cat([parts[0], parts[1][..., None]], dim=2).norm(dim=2)  # (members, units)
            for part in parts:
                xi = member_normal(part.shape, self.generators, part)
                part.add_(self.sigma * norm.view(*norm.shape, *[1] * (part.ndim - 2)) * xi)


class Decay(Intervention):
    """theta <- (1 - lr strength) theta before each step, for the stack's tensors whose names end in one of `ending`.

    Under SGD this is L2 of that strength, under Adam decoupled weight decay.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> stack = Stack([MLP(MLPConfig(3, (4,), 2), seed=0)])
    >>> before = stack.tensors["head.bias"].detach().clone()
    >>> optimizer = torch.optim.SGD(stack.parameters(), lr=0.5)
    >>> _ = Decay(optimizer, stack, strength=0.5, ending=("bias",)); optimizer.step()
    >>> bool((stack.tensors["head.bias"] == 0.75 * before).all())
    True
    """

    def __init__(self, optimizer: Optimizer, stack: Stack, *, strength: float, ending: Iterable[str]):
        if not 0 <= strength < 1 / max(group["lr"] for group in optimizer.param_groups):
            raise UsageError(f"decay {strength}", remedy="choose 0 <= strength < 1 / learning rate")
        super().__init__()
        self.strength, self.ending, self._stack = strength, tuple(ending), stack
        self._handles = [optimizer.register_step_pre_hook(self._shrink)]

    @torch.no_grad()
    def _shrink(self, optimizer: Optimizer, *_: object) -> None:
        factor = 1 - optimizer.param_groups[0]["lr"] * self.strength
        for name, tensor in self._stack.tensors.items():
            if name.endswith(self.ending):
                tensor.mul_(factor)


def _reset(optimizer: Optimizer, stack: Stack, masks: Masks) -> None:
    reset_units(stack, masks, generators=generators_for(stack, stack.seeds), optimizer=optimizer)


def _l2(optimizer: Optimizer, stack: Stack, masks: Masks) -> None:
    for group in optimizer.param_groups:
        group["weight_decay"] = L2


def _gradient_noise(scope: str) -> Install:
    return lambda o, s, _: GradientNoise(o, sigma=SIGMA, seed=s.seeds, scope=scope, stacked=True)


ARMS: dict[str, Arm] = {
    "plain": Arm("nothing"),
    "unit noise": Arm("gradient noise, norm of each unit", lambda o, s, _: UnitNoise(o, s, sigma=SIGMA, seed=s.seeds)),
    "tensor noise": Arm("gradient noise, norm of each tensor", _gradient_noise("tensor")),
    "global noise": Arm("gradient noise, norm of the whole", _gradient_noise("global")),
    "weight noise": Arm("weight noise", lambda o, s, _: WeightNoise(o, s, sigma=WEIGHT_SIGMA, seed=s.seeds)),
    "decay": Arm("decay of weights and biases", lambda o, s, _: Decay(o, s, strength=DECAY, ending=("weight", "bias"))),
    "bias decay": Arm("decay of biases only", lambda o, s, _: Decay(o, s, strength=DECAY, ending=("bias",))),
    "L2": Arm("L2 in the gradient", _l2),
    "reset": Arm("dead units redrawn once", _reset),
    "ReDo": Arm("ReDo", lambda o, s, _: ReDo(o, s, tau=0.1, every=50, seed=s.seeds)),
    "CBP": Arm("continual backprop", lambda o, s, _: ContinualBackprop(o, s, replacement_rate=1e-3, seed=s.seeds)),
    "last layer only": Arm("layers below not trained", last_only=True),
    "never killed": Arm("no unit killed", killed=False),
}
"""Every arm by its name."""


def trained(stack: Stack, arm: Arm) -> list[Tensor]:
    """The parameters that the arm trains."""
    last = len(stack.skeleton.hidden) - 1
    kept = (f"hidden.{last}.", "head.") if arm.last_only else ("",)
    names = {name for name, _ in stack.skeleton.named_parameters() if name.startswith(kept)}
    return [tensor for name, tensor in stack.tensors.items() if name in names]
