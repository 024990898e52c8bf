"""What is done to a worn network: once, before it goes on, or from then on at every step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lop_utils.experiments.continual import Runner, start
from lop_utils.experiments.normalization import lengths, rescale
from lop_utils.manifolds.frozen import silent_units
from lop_utils.models.stack import Stack
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.intervention import generators_for
from lop_utils.optim.redo import ReDo
from lop_utils.optim.reset import forget_moments, reset_units
from lop_utils.optim.shrink_perturb import ShrinkPerturb
from lop_utils.optim.weight_noise import WeightNoise

Act = Callable[[Runner, Tensor], object]
WORN, FRESH = "worn", "fresh"
ONCE, ONGOING = "once", "from then on"


@dataclass(frozen=True)
class Remedy:
    """`apply(runner, images)` changes the networks, or hooks something onto their optimizer; images (members, N, ...).

    dropout, weight_decay: of the network and of Adam from then on; anew: new networks take the place of the worn ones.
    """

    label: str
    when: str = ONCE
    apply: Act | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    anew: bool = False


def silent_masks(stack: Stack, images: Tensor) -> dict[str, Tensor]:
    """Units that are 0 on all of a member's images, space name -> bool (members, units)."""
    found = [silent_units(stack.member(i), images[i]) for i in range(stack.members)]
    return {name: torch.stack([member[name] for member in found]) for name in found[0]}


def reset_dead(runner: Runner, images: Tensor) -> None:
    """Redraw every unit that is silent on the images."""
    generators = generators_for(runner.stack, runner.stack.seeds)
    masks = silent_masks(runner.stack, images)
    reset_units(runner.stack, masks, generators=generators, optimizer=runner.optimizer)


def back_to_length(runner: Runner, images: Tensor) -> None:
    """Give every hidden layer's weights the length that they had when the network was new."""
    first = lengths(start(runner.config, images.device).stack)
    rescale(runner.stack, first)


def shrink_and_perturb(runner: Runner, images: Tensor) -> None:
    """Half of each weight, and half of a new draw."""
    ShrinkPerturb(runner.optimizer, runner.stack, shrink=0.5, perturb=0.5, seed=runner.stack.seeds).perturb_now()


def forget(runner: Runner, images: Tensor) -> None:
    """Empty Adam's state."""
    forget_moments(runner.optimizer)


def in_turn(*steps: Act) -> Act:
    """One remedy after the other."""

    def act(runner: Runner, images: Tensor) -> None:
        for step in steps:
            step(runner, images)

    return act


def _noisy(sigma: float, decay: float) -> Act:
    return lambda r, _: GradientNoise(r.optimizer, sigma=sigma, decay=decay, seed=r.stack.seeds, stacked=True)


REMEDIES: dict[str, Remedy] = {
    "noisy step": Remedy("a single noisy step", apply=_noisy(0.01, 0.0)),
    "weight noise": Remedy(
        "noise on the weights",
        apply=lambda r, _: WeightNoise(r.optimizer, r.stack, sigma=0.01, decay=0.0, seed=r.stack.seeds),
    ),
    "shrink and perturb": Remedy("shrink and perturb", apply=shrink_and_perturb),
    "dead reset": Remedy("dead units redrawn", apply=reset_dead),
    "Adam reset": Remedy("Adam's state emptied", apply=forget),
    "rescaled": Remedy("weights brought back to length", apply=back_to_length),
    "dead and Adam reset": Remedy("dead units redrawn, Adam's state emptied", apply=in_turn(reset_dead, forget)),
    "rescaled, Adam reset": Remedy("weights to length, Adam's state emptied", apply=in_turn(back_to_length, forget)),
    "all three": Remedy("all three together", apply=in_turn(reset_dead, back_to_length, forget)),
    "reinitialised": Remedy("all weights drawn anew", anew=True),
    "gradient noise": Remedy("Noisy SGD's noise", ONGOING, _noisy(0.003, 1.0)),
    "dropout": Remedy("dropout", ONGOING, dropout=0.03),
    "L2": Remedy("L2", ONGOING, weight_decay=1e-3),
    "ReDo": Remedy("ReDo", ONGOING, lambda r, _: ReDo(r.optimizer, r.stack, tau=0.025, every=50, seed=r.stack.seeds)),
    "CBP": Remedy(
        "continual backprop", ONGOING,
        lambda r, _: ContinualBackprop(r.optimizer, r.stack, replacement_rate=1e-3, seed=r.stack.seeds),
    ),
}  # fmt: skip
"""Every remedy by its name. A strength is the best of three values on the seeds 100 to 102, by accuracy after wear."""
