"""The ways out of a clone that the escape experiment tries, and the stacks in which they train."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lop_utils.models.stack import Stack
from lop_utils.optim.continual_backprop import ContinualBackprop
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.weight_noise import WeightNoise

Batches = Iterator[tuple[Tensor, Tensor]]
SIGMAS, DECAYS, DROPOUTS = (0.01, 0.02, 0.05), (0.0, 0.9, 0.99, 0.999, 1.0), (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Arm:
    """SGD with these additions: each is off at its default.

    sigma, decay: noise on the gradient, see `optim.gradient_noise`; dropout: its probability; labels: share of each
    minibatch's labels that are redrawn; inputs: standard deviation of noise on the inputs; weights: standard deviation
    of noise on the weights after every step; sam: radius; cbp: replacement rate (maturity 100). start: "clone", or
    "fresh" for a newly initialised network of the clone's size that has had the base's steps.
    """

    sigma: float = 0.0
    decay: float = 1.0
    dropout: float = 0.0
    labels: float = 0.0
    inputs: float = 0.0
    weights: float = 0.0
    sam: float = 0.0
    cbp: float = 0.0
    start: str = "clone"

    @property
    def stack(self) -> tuple[float, ...]:
        """Arms that agree in this train in one stack; all else is an affair of single members."""
        return self.dropout, self.weights, self.sam, self.cbp


def noise_name(sigma: float, decay: float) -> str:
    """The name of a Noisy SGD arm.

    >>> noise_name(0.01, 1.0)
    'noise 0.01 x 1'
    """
    return f"noise {sigma:g} x {decay:g}"


def dropout_name(p: float) -> str:
    """The name of a dropout arm; without dropout it is the clone under SGD.

    >>> dropout_name(0.1), dropout_name(0.0)
    ('dropout 0.1', 'sgd')
    """
    return f"dropout {p:g}" if p else "sgd"


ARMS: dict[str, Arm] = {
    "sgd": Arm(),
    "fresh": Arm(start="fresh"),
    **{noise_name(sigma, decay): Arm(sigma=sigma, decay=decay) for sigma in SIGMAS for decay in DECAYS},
    **{dropout_name(p): Arm(dropout=p) for p in DROPOUTS},
    "label noise": Arm(labels=0.2),
    "input noise": Arm(inputs=0.3),
    "weight noise": Arm(weights=0.0003),
    "SAM": Arm(sam=0.05),
    "CBP": Arm(cbp=0.001),
}
"""Every arm by its name; beside them the base itself, "base", goes on as a network of its own."""


def grouped(names: Sequence[str]) -> list[list[str]]:
    """The arms' names, cut into those that can share a stack.

    >>> grouped(["sgd", "label noise", "dropout 0.1"])
    [['sgd', 'label noise'], ['dropout 0.1']]
    """
    groups: dict[tuple, list[str]] = {}
    for name in names:
        groups.setdefault(ARMS[name].stack, []).append(name)
    return list(groups.values())


def with_dropout(net: nn.Module, p: float) -> nn.Module:
    """A copy of `net` with dropout probability `p`."""
    copy = type(net)(replace(net.config, dropout=p), seed=0).to(next(net.parameters()))
    copy.load_state_dict(net.state_dict())
    return copy


def install(stack: Stack, optimizer: torch.optim.Optimizer, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Hook the noises of the arms onto the optimizer of their stack; member a * seeds + s is arm a with seed s."""
    arms = [ARMS[name] for name in names for _ in seeds]
    each = [seed for _ in names for seed in seeds]
    if any(arm.sigma for arm in arms):
        sigmas, decays = [arm.sigma for arm in arms], [arm.decay for arm in arms]
        GradientNoise(optimizer, sigma=sigmas, decay=decays, seed=each, stacked=True)
    if arms[0].weights:
        WeightNoise(optimizer, stack, sigma=arms[0].weights, seed=each)
    if arms[0].cbp:
        ContinualBackprop(optimizer, stack, replacement_rate=arms[0].cbp, seed=each)


def arm_batches(shared: Batches, names: Sequence[str], seeds: Sequence[int], classes: int) -> Batches:
    """From minibatches (seeds, B, ...) those of the arms x seeds, with the arms' noise on inputs and labels.

    Every seed has its own generator for either kind of noise, whatever other arms there are.
    """
    draws = {name: [torch.Generator().manual_seed(2**20 + seed) for seed in seeds] for name in names}
    for x, y in shared:
        xs, ys = [], []
        for name in names:
            arm = ARMS[name]
            xs.append(_noisy_inputs(x, arm.inputs, draws[name]) if arm.inputs else x)
            ys.append(_noisy_labels(y, arm.labels, classes, draws[name]) if arm.labels else y)
        yield torch.cat(xs), torch.cat(ys)


def _noisy_inputs(x: Tensor, scale: float, draws: Sequence[torch.Generator]) -> Tensor:
    noise = [torch.randn(x.shape[1:], generator=g, dtype=x.dtype) for g in draws]
    return x + scale * torch.stack(noise).to(x.device)


def _noisy_labels(y: Tensor, share: float, classes: int, draws: Sequence[torch.Generator]) -> Tensor:
    rows = y.shape[1]
    redrawn = torch.stack([torch.rand(rows, generator=g) for g in draws]).to(y.device) < share
    others = torch.stack([torch.randint(classes, (rows,), generator=g) for g in draws]).to(y.device)
    return torch.where(redrawn, others, y)
