"""The entrants of the league: what each changes, and the settings it may choose from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer

from lop_utils.errors import check_choice
from lop_utils.models.stack import Stack
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.l2_init import L2Init
from lop_utils.optim.redo import ReDo
from lop_utils.optim.reset import forget_moments
from lop_utils.optim.self_normalized_resets import SelfNormalizedResets
from lop_utils.optim.shrink_perturb import ShrinkPerturb
from lop_utils.optim.upgd import UPGD
from lop_utils.optim.weight_noise import WeightNoise

AtTask = Callable[[int], None]
Install = Callable[[Optimizer, Stack, float], AtTask | None]
OPTIMIZER, MODEL, PULL, NOISE, REDRAW = "optimizer only", "another network", "pull", "noise", "redrawn units"
RESET_EVERY = 50  # ReDo looks for dormant units twice a task of 100 steps


@dataclass(frozen=True)
class Entrant:
    """One intervention with three settings to choose from, or with none to choose.

    `change(value)` is what differs in the configuration of the run (and lr_factor, a factor on its learning rate);
    `install(optimizer, stack, value)` puts something in front of or behind the optimizer's steps; what it returns is
    called at the start of each task.
    """

    label: str
    family: str
    knob: str = ""
    values: tuple[float, ...] = (0.0,)
    change: Callable[[float], dict[str, object]] = lambda value: {}
    install: Install | None = None


def _installed(make: Callable[[Optimizer, Stack, float], object]) -> Install:
    def install(optimizer: Optimizer, stack: Stack, value: float) -> None:
        make(optimizer, stack, value)

    return install


def _shrink_perturb(optimizer: Optimizer, stack: Stack, value: float) -> AtTask:
    intervention = ShrinkPerturb(optimizer, stack, shrink=value, perturb=1 - value, seed=stack.seeds)
    return lambda index: intervention.perturb_now() if index else None


def _forget(optimizer: Optimizer, stack: Stack, value: float) -> AtTask:
    return lambda index: forget_moments(optimizer)


_SLOPES = {0.01: "leaky_relu", 0.1: "leaky_relu_01", 0.3: "leaky_relu_03"}
ENTRANTS: dict[str, Entrant] = {
    "none": Entrant("nothing", OPTIMIZER),
    "smaller_rate": Entrant(
        "smaller learning rate", OPTIMIZER, "factor", (0.1, 0.2, 0.5), lambda v: {"lr_factor": v}
    ),
    "forget_moments": Entrant("Adam's state emptied", OPTIMIZER, install=_forget),
    "layer_norm": Entrant("layer norm", MODEL, change=lambda v: {"norm": "layer"}),
    "batch_norm": Entrant("batch norm", MODEL, change=lambda v: {"norm": "batch"}),
    "leaky_relu": Entrant("leaky ReLU", MODEL, "slope", tuple(_SLOPES), lambda v: {"activation": _SLOPES[v]}),
    "crelu": Entrant("CReLU", MODEL, change=lambda v: {"activation": "crelu"}),
    "dropout": Entrant("dropout", NOISE, "probability", (0.03, 0.1, 0.2), lambda v: {"dropout": v}),
    "l2": Entrant("L2", PULL, "weight decay", (1e-5, 1e-4, 1e-3), lambda v: {"weight_decay": v}),
    "l2_init": Entrant(
        "L2 Init", PULL, "strength", (1e-4, 1e-3, 1e-2),
        install=_installed(lambda o, s, v: L2Init(o, strength=v)),
    ),
    "shrink_perturb": Entrant("shrink and perturb", PULL, "shrink", (0.5, 0.8, 0.95), install=_shrink_perturb),
    "weight_noise": Entrant(
        "weight noise", NOISE, "sigma", (3e-4, 1e-3, 3e-3),
        install=_installed(lambda o, s, v: WeightNoise(o, s, sigma=v, seed=s.seeds)),
    ),
    "gradient_noise": Entrant(
        "gradient noise", NOISE, "sigma", (0.003, 0.01, 0.03),
        install=_installed(lambda o, s, v: GradientNoise(o, sigma=v, seed=s.seeds, stacked=True)),
    ),
    "upgd": Entrant(
        "UPGD", NOISE, "sigma", (0.001, 0.01, 0.1),
        install=_installed(lambda o, s, v: UPGD(o, s, sigma=v, factor=2.0, seed=s.seeds)),
    ),
    "redo": Entrant(
        "ReDo", REDRAW, "tau", (0.025, 0.1, 0.3),
        install=_installed(lambda o, s, v: ReDo(o, s, tau=v, every=RESET_EVERY, seed=s.seeds)),
    ),
    "snr": Entrant(
        "self-normalised resets", REDRAW, "quantile", (0.9, 0.99, 0.999),
        install=_installed(lambda o, s, v: SelfNormalizedResets(o, s, quantile=v, limit=200, seed=s.seeds)),
    ),
    "cbp": Entrant(
        "continual backprop", REDRAW, "replacement rate", (1e-4, 1e-3, 1e-2),
        install=_installed(lambda o, s, v: ContinualBackprop(o, s, replacement_rate=v, seed=s.seeds)),
    ),
}  # fmt: skip
"""Every entrant by name. Values are the published ones and their neighbours, chosen before any of them was run here."""


def entrant(name: str) -> Entrant:
    """The entrant of this name; raises `UsageError` naming the known ones.

    >>> entrant("cbp").values
    (0.0001, 0.001, 0.01)
    """
    check_choice("entrant", name, ENTRANTS)
    return ENTRANTS[name]
