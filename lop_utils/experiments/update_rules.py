"""The update rules of the optimizer table: what each does to the gradient, and what the theorem says about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lop_utils.errors import UsageError
from lop_utils.experiments.stacks import Stack
from lop_utils.optim.clip import clip_by_norm, clip_by_value
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.optim.l2_init import L2Init
from lop_utils.optim.lion import Lion
from lop_utils.optim.muon import Muon
from lop_utils.optim.sam import SAM
from lop_utils.optim.sign import SignDescent

GRADIENT, SHRINKAGE, WEIGHTS, NOISE = "gradients only", "scalar shrinkage", "weights, non-linearly", "noise on units"

Make = Callable[[Stack, int], list[Optimizer]]


@dataclass(frozen=True)
class Rule:
    """One row of the table. `make(stack, seed)` builds a stack's optimizers; the other fields are what happens around.

    rho: SAM's radius; average: decay of an exponential moving average of the weights, which is then what is measured;
    label_noise: share of labels drawn anew for each step; input_noise, dropout: standard deviation, probability.
    """

    label: str
    tier: str
    make: Make
    rho: float = 0.0
    average: float = 0.0
    label_noise: float = 0.0
    input_noise: float = 0.0
    dropout: float = 0.0

    def train(self, stack: Stack, x: Tensor, y: Tensor, *, steps: int, seed: int) -> Iterator[Stack]:
        """Yield what is to be measured, the networks or their average, before the first step and after each.

        x (networks, N, inputs) and y (networks, N) are the full batch; `seed` decides all noise but dropout's.
        """
        stack.dropout = self.dropout
        optimizers, generator = self.make(stack, seed), torch.Generator().manual_seed(seed)
        sam = SAM(optimizers[0], rho=self.rho, stacked=True) if self.rho else None
        average = AveragedModel(stack, multi_avg_fn=get_ema_multi_avg_fn(self.average)) if self.average else None
        yield stack
        for _ in range(steps):
            inputs, targets = self._batch(x, y, stack.config.outputs, generator)
            if sam is not None:
                sam.step(lambda inputs=inputs, targets=targets: stack.loss(inputs, targets))
            else:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                stack.loss(inputs, targets).backward()
                for optimizer in optimizers:
                    optimizer.step()
            if average is not None:
                average.update_parameters(stack)
            yield average.module if average is not None else stack

    def _batch(self, x: Tensor, y: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The data of one step: x and y with this rule's noise."""
        if self.input_noise:
            x = x + self.input_noise * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        if self.label_noise:
            redrawn = torch.rand(y.shape, generator=generator) < self.label_noise
            y = torch.where(redrawn, torch.randint(classes, y.shape, generator=generator), y)
        return x, y


def _torch(kind: type[Optimizer], **settings: object) -> Make:
    return lambda stack, seed: [kind(stack.parameters(), **settings)]


def _hooked(install: Callable[[Optimizer, int], object], **settings: object) -> Make:
    """SGD with something installed in front of its steps."""

    def make(stack: Stack, seed: int) -> list[Optimizer]:
        optimizer = SGD(stack.parameters(), **settings)
        install(optimizer, seed)
        return [optimizer]

    return make


def _muon(orthogonalise: str) -> Make:
    """Muon on the matrices, SGD on the biases."""
    return lambda stack, seed: [
        Muon(stack.weights, lr=0.005, orthogonalise=orthogonalise),
        SGD(stack.biases, lr=0.05),
    ]


def _noisy(optimizer: Optimizer, seed: int) -> None:
    GradientNoise(optimizer, sigma=0.01, seed=seed, stacked=True)


_PLAIN = _torch(SGD, lr=0.05)
RULES: dict[str, Rule] = {
    "sgd": Rule("SGD", GRADIENT, _PLAIN),
    "momentum": Rule("SGD + momentum", GRADIENT, _torch(SGD, lr=0.02, momentum=0.9)),
    "nesterov": Rule("SGD + Nesterov", GRADIENT, _torch(SGD, lr=0.02, momentum=0.9, nesterov=True)),
    "clip_norm": Rule("SGD, clipped norm", GRADIENT, _hooked(lambda o, _: clip_by_norm(o, 0.1, stacked=True), lr=0.05)),
    "clip_value": Rule("SGD, clipped values", GRADIENT, _hooked(lambda o, _: clip_by_value(o, 0.01), lr=0.05)),
    "rmsprop": Rule("RMSprop", GRADIENT, _torch(RMSprop, lr=0.001)),
    "adagrad": Rule("Adagrad", GRADIENT, _torch(Adagrad, lr=0.01)),
    "adam": Rule("Adam", GRADIENT, _torch(Adam, lr=0.01)),
    "sign": Rule("sign descent", GRADIENT, _torch(SignDescent, lr=0.001)),
    "lion": Rule("Lion", GRADIENT, _torch(Lion, lr=0.001)),
    "sam": Rule("SAM", GRADIENT, _PLAIN, rho=0.05),
    "muon": Rule("Muon, Newton–Schulz", GRADIENT, _muon("newton_schulz")),
    "muon_polar": Rule("Muon, exact polar", GRADIENT, _muon("polar")),
    "ema": Rule("EMA of the weights", GRADIENT, _PLAIN, average=0.99),
    "l2_init": Rule("SGD + pull to the start", GRADIENT, _hooked(lambda o, _: L2Init(o, strength=0.01), lr=0.05)),
    "label_noise": Rule("SGD, label noise", GRADIENT, _PLAIN, label_noise=0.1),
    "input_noise": Rule("SGD, input noise", GRADIENT, _PLAIN, input_noise=0.1),
    "sgd_l2": Rule("SGD + L2", SHRINKAGE, _torch(SGD, lr=0.05, weight_decay=0.01)),
    "adamw": Rule("AdamW", SHRINKAGE, _torch(AdamW, lr=0.01, weight_decay=0.1)),
    "adam_l2": Rule("Adam + L2", WEIGHTS, _torch(Adam, lr=0.01, weight_decay=0.01)),
    "gradient_noise": Rule("SGD, gradient noise", NOISE, _hooked(_noisy, lr=0.05)),
    "dropout": Rule("SGD, dropout", NOISE, _PLAIN, dropout=0.1),
}


def check_rules(names: tuple[str, ...]) -> None:
    """Raise `UsageError` naming the first rule that the table does not have."""
    for name in names:
        if name not in RULES:
            raise UsageError(f"rule {name!r} is unknown", remedy=f"choose from: {', '.join(RULES)}")
