"""The multilayer perceptron of the paper: linear, normalisation, activation, dropout; repeated; then a linear head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.activations import ACTIVATIONS, CReLU, activation
from lop_utils.models.norms import NORMS, norm
from lop_utils.models.seeding import seeded
from lop_utils.models.spaces import Link, Space


@dataclass(frozen=True)
class MLPConfig:
    """Everything that defines an MLP. `widths` are the hidden sizes; `gain` scales the initial weights.

    `activation`: a name of `models.activations`, or ``crelu``, whose units send two numbers each to the next layer.
    """

    inputs: int
    widths: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    norm: str = "none"
    affine: bool = True
    dropout: float = 0.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        check_choice("activation", self.activation, (*ACTIVATIONS, "crelu"))
        sizes = (self.inputs, *self.widths, self.outputs)
        if min(sizes) < 1 or not self.widths:
            raise UsageError(f"MLP sizes {sizes} are not all positive", remedy="give at least one hidden width >= 1")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout} is no probability below 1", remedy="choose 0 <= dropout < 1")

    @property
    def sent(self) -> int:
        """How many numbers each hidden unit sends on: 2 for CReLU, else 1."""
        return 2 if self.activation == "crelu" else 1


class HiddenLayer(nn.Module):
    """linear -> norm -> activation -> dropout; norm and dropout are identities when switched off."""

    def __init__(self, fan_in: int, units: int, config: MLPConfig):
        super().__init__()
        self.linear = nn.Linear(fan_in, units)
        self.norm = norm(config.norm, units, affine=config.affine)
        self.activation = CReLU() if config.activation == "crelu" else activation(config.activation, units)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, fan_in) -> (N, sent * units)
        return self.dropout(self.activation(self.norm(self.linear(x))))


class MLP(nn.Module):
    """Fully connected network whose hidden layers are its unit spaces ``hidden.0``, ``hidden.1``, ...

    Inputs (N, ...) are flattened to (N, inputs); the output is (N, outputs) logits. The initial weights are torch's
    default for linear layers, drawn from `seed` alone (the global generator is neither read nor moved), times `gain`.

    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> net(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, config: MLPConfig, *, seed: int):
        super().__init__()
        self.config = config
        with seeded(seed):
            fan_ins = (config.inputs, *(config.sent * width for width in config.widths))
            pairs = zip(fan_ins, config.widths, strict=False)
            self.hidden = nn.ModuleList(HiddenLayer(fan_in, units, config) for fan_in, units in pairs)
            self.head = nn.Linear(fan_ins[-1], config.outputs)
        with torch.no_grad():
            for layer in self.hidden:
                layer.linear.weight *= config.gain

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)  # (N, inputs)
        for layer in self.hidden:
            h = layer(h)  # (N, sent * width)
        return self.head(h)  # (N, outputs)

    def spaces(self) -> tuple[Space, ...]:
        following = [f"hidden.{i}.linear" for i in range(1, len(self.hidden))] + ["head"]
        return tuple(
            Space(
                name=f"hidden.{i}",
                size=self.config.widths[i],
                writers=(Link(f"hidden.{i}.linear"),),
                readers=(Link(reader, outer=self.config.sent),),
                unitwise=(f"hidden.{i}.norm", f"hidden.{i}.activation"),
                pre_activation=f"hidden.{i}.norm",
                activation=f"hidden.{i}.activation",
            )
            for i, reader in enumerate(following)
        )

    def resized(self, sizes: Mapping[str, int]) -> "MLP":
        """A new, differently wide MLP of the same design; `sizes` maps space names to unit counts."""
        widths = tuple(sizes.get(f"hidden.{i}", width) for i, width in enumerate(self.config.widths))
        return MLP(replace(self.config, widths=widths), seed=0)
