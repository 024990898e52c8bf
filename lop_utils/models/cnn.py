"""The convolutional network of the paper: 3 x 3 convolutions with 2 x 2 pooling, a fully connected layer, a head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.activations import activation
from lop_utils.models.norms import IMAGE_NORMS, image_norm, norm
from lop_utils.models.seeding import seeded
from lop_utils.models.spaces import Link, Space


@dataclass(frozen=True)
class CNNConfig:
    """Images (image_channels, side, side); `channels` of the convolutions, `fc` units of the fully connected layer.

    The defaults are the paper's. With norm ``group`` the fully connected layer is normalised as a layer.
    """

    image_channels: int
    side: int
    outputs: int
    channels: tuple[int, ...] = (64, 128, 256)
    fc: int = 512
    activation: str = "relu"
    norm: str = "none"
    affine: bool = True
    dropout: float = 0.0
    group_size: int = 4

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, IMAGE_NORMS)
        if self.side >> len(self.channels) < 1:
            problem = f"side {self.side} cannot be halved {len(self.channels)} times"
            raise UsageError(problem, remedy="use larger images or fewer convolutions")


class ConvLayer(nn.Module):
    """3 x 3 convolution -> norm -> activation -> dropout -> 2 x 2 max pooling."""

    def __init__(self, fan_in: int, channels: int, config: CNNConfig):
        super().__init__()
        self.conv = nn.Conv2d(fan_in, channels, 3, padding=1)
        self.norm = image_norm(config.norm, channels, affine=config.affine, group_size=config.group_size)
        self.activation = activation(config.activation, channels)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:  # (N, fan_in, S, S) -> (N, channels, S / 2, S / 2)
        return self.pool(self.dropout(self.activation(self.norm(self.conv(x)))))


class FullyConnected(nn.Module):
    """linear -> norm -> activation -> dropout."""

    def __init__(self, fan_in: int, config: CNNConfig):
        super().__init__()
        self.linear = nn.Linear(fan_in, config.fc)
        self.norm = norm("layer" if config.norm == "group" else config.norm, config.fc, affine=config.affine)
        self.activation = activation(config.activation, config.fc)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, fan_in) -> (N, fc)
        return self.dropout(self.activation(self.norm(self.linear(x))))


class CNN(nn.Module):
    """Convolutional network with unit spaces ``conv.0``, ``conv.1``, ... (channels) and ``fc`` (units).

    >>> import torch
    >>> net = CNN(CNNConfig(image_channels=3, side=8, outputs=2, channels=(4, 6), fc=5), seed=0)
    >>> net(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 2])
    """

    def __init__(self, config: CNNConfig, *, seed: int):
        super().__init__()
        self.config = config
        positions = (config.side >> len(config.channels)) ** 2
        with seeded(seed):
            fan_ins = (config.image_channels, *config.channels)
            self.conv = nn.ModuleList(ConvLayer(a, b, config) for a, b in zip(fan_ins, config.channels, strict=False))
            self.fc = FullyConnected(config.channels[-1] * positions, config)
            self.head = nn.Linear(config.fc, config.outputs)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, S, S) -> (N, outputs)
        for layer in self.conv:
            x = layer(x)
        return self.head(self.fc(x.flatten(1)))

    def spaces(self) -> tuple[Space, ...]:
        config, last = self.config, len(self.conv) - 1
        positions = (config.side >> len(config.channels)) ** 2
        readers = [Link(f"conv.{i + 1}.conv") for i in range(last)] + [Link("fc.linear", inner=positions)]
        convolutions = [
            _space(f"conv.{i}", config.channels[i], writer=f"conv.{i}.conv", reader=reader)
            for i, reader in enumerate(readers)
        ]
        return (*convolutions, _space("fc", config.fc, writer="fc.linear", reader=Link("head")))

    def resized(self, sizes: Mapping[str, int]) -> "CNN":
        """A new CNN of the same design with other channel counts and fully connected width."""
        channels = tuple(sizes.get(f"conv.{i}", c) for i, c in enumerate(self.config.channels))
        return CNN(replace(self.config, channels=channels, fc=sizes.get("fc", self.config.fc)), seed=0)


def _space(name: str, size: int, *, writer: str, reader: Link) -> Space:
    norm_, act = f"{name}.norm", f"{name}.activation"
    return Space(name, size, (Link(writer),), (reader,), (norm_, act), pre_activation=norm_, activation=act)
