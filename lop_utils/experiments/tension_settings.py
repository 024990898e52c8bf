"""The settings of the tension experiment: what its knobs turn, and the networks that they turn it on."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch

from lop_utils.experiments.tension_data import RANDOM_LABELS
from lop_utils.models.mlp import MLP, MLPConfig

_HE = math.sqrt(6)  # torch's default weights have standard deviation 1 / sqrt(3 fan in), He's sqrt(2 / fan in)


@dataclass(frozen=True)
class Setting:
    """How task A is learned: what the knob `knob` is turned to (`value`), all others at their usual position.

    scale: standard deviation of the initial hidden weights, in units of He's. decay: decoupled weight decay (AdamW's).
    l2: gradient of l2 / 2 ||theta||^2 added to the loss's. noise: share of training labels drawn anew. length: steps of
    task A as a multiple of the configuration's.
    """

    knob: str = "none"
    value: float = 0.0
    scale: float = 1.0
    decay: float = 0.0
    l2: float = 0.0
    noise: float = 0.0
    width: int = 64
    length: float = 1.0


def _settings(**knobs: Sequence[float]) -> dict[str, Setting]:
    """The usual setting, and one for each value of each knob."""
    found = {"usual": Setting()}
    for knob, values in knobs.items():
        for value in values:
            kind = type(getattr(Setting(), knob))
            found[f"{knob} {value:g}"] = replace(Setting(knob, float(value)), **{knob: kind(value)})
    return found


SETTINGS = _settings(
    scale=(0.5, 2.0, 2.8),
    decay=(0.3, 1.0, 2.0),
    l2=(0.001, 0.003),
    noise=(0.2, 0.4),
    width=(32, 128),
    length=(0.1, 4.0),
)


def start_of(name: str) -> str:
    """The setting whose initial network a setting starts from: only scale and width show in it.

    >>> start_of("l2 0.001"), start_of("scale 2")
    ('usual', 'scale 2')
    """
    return name if SETTINGS[name].knob in ("scale", "width") else "usual"


def networks(setting: Setting, inputs: int, *, seeds: Sequence[int], depth: int = 3) -> list[MLP]:
    """One newly initialised network a seed; the scale is in the weights alone, so that all scales stack.

    >>> net = networks(SETTINGS["scale 2"], 50, seeds=(0,))[0]
    >>> round(float(net.hidden[1].linear.weight.detach().std() * 64**0.5), 1), round(2 * 2**0.5, 1)
    (2.8, 2.8)
    """
    shape = MLPConfig(inputs, (setting.width,) * depth, RANDOM_LABELS)
    nets = [MLP(shape, seed=seed) for seed in seeds]
    with torch.no_grad():
        for net in nets:
            for layer in net.hidden:
                layer.linear.weight *= _HE * setting.scale
    return nets


@torch.no_grad()
def rescaled(net: MLP, like: MLP) -> MLP:
    """`net` with every hidden layer's weights scaled to the norm that `like` has there, its representation kept.

    Biases are scaled along, so that each layer's activations are multiplied by one positive number: ReLU passes it on.

    >>> from lop_utils.metrics.record import record
    >>> nets = [MLP(MLPConfig(3, (4, 4), 2, gain=gain), seed=0) for gain in (1.0, 3.0)]
    >>> h, k = (record(net, torch.eye(3))["hidden.1"].activation for net in (nets[0], rescaled(*nets)))
    >>> bool(torch.allclose(9 * h, k))
    True
    """
    net, passed = deepcopy(net), 1.0
    for layer, model in zip(net.hidden, like.hidden, strict=True):
        factor = float(model.linear.weight.norm() / layer.linear.weight.norm())
        passed *= factor
        layer.linear.weight *= factor
        layer.linear.bias *= passed
    return net


def regularise(optimizer: torch.optim.Optimizer, settings: Sequence[Setting]) -> None:
    """Give every member of a stack its own decoupled weight decay and L2, before each step of `optimizer`."""
    rate = optimizer.param_groups[0]["lr"]
    decay, l2 = (torch.tensor([getattr(setting, name) for setting in settings]) for name in ("decay", "l2"))

    def before(optimizer: torch.optim.Optimizer, arguments: tuple, keywords: dict) -> None:
        with torch.no_grad():
            for p in optimizer.param_groups[0]["params"]:
                shape = (-1, *[1] * (p.ndim - 1))
                p.grad.addcmul_(p, l2.to(p).view(shape))
                p.mul_(1 - rate * decay.to(p).view(shape))

    if decay.any() or l2.any():
        optimizer.register_step_pre_hook(before)
