"""Residual networks of basic blocks (He et al. 2016): ResNet-18 and smaller ones, for small images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.activations import activation
from lop_utils.models.norms import IMAGE_NORMS, image_norm
from lop_utils.models.seeding import seeded
from lop_utils.models.spaces import Link, Space


@dataclass(frozen=True)
class ResNetConfig:
    """`stages[s]` is the channel count of stage s, `blocks[s]` its number of basic blocks, `inner` the channels inside
    the blocks of each stage (None: those of the stage). The defaults are ResNet-18; stages after the first halve the
    image.
    """

    image_channels: int
    outputs: int
    stages: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    inner: tuple[int, ...] | None = None
    activation: str = "relu"
    norm: str = "batch"
    affine: bool = True
    dropout: float = 0.0
    group_size: int = 4

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, IMAGE_NORMS)
        if not self.stages or len(self.stages) != len(self.blocks) or min(self.blocks) < 1:
            problem = f"{len(self.stages)} stages, blocks {self.blocks}"
            raise UsageError(problem, remedy="give one positive block count a stage")

    def inner_of(self, stage: int) -> int:
        return self.stages[stage] if self.inner is None else self.inner[stage]


class Block(nn.Module):
    """conv -> norm -> f -> conv -> norm, added to the skip; then f, and dropout."""

    def __init__(self, fan_in: int, inner: int, fan_out: int, stride: int, config: ResNetConfig):
        super().__init__()
        normalise = {"affine": config.affine, "group_size": config.group_size}
        self.conv1 = nn.Conv2d(fan_in, inner, 3, stride=stride, padding=1, bias=config.norm == "none")
        self.norm1 = image_norm(config.norm, inner, **normalise)
        self.activation1 = activation(config.activation, inner)
        self.conv2 = nn.Conv2d(inner, fan_out, 3, padding=1, bias=config.norm == "none")
        self.norm2 = image_norm(config.norm, fan_out, **normalise)
        self.projected = stride > 1 or fan_in != fan_out
        if self.projected:
            self.skip = nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False)
            self.skip_norm = image_norm(config.norm, fan_out, **normalise)
        self.activation2 = activation(config.activation, fan_out)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (N, fan_in, S, S) -> (N, fan_out, S / stride, S / stride)
        residual = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        skip = self.skip_norm(self.skip(x)) if self.projected else x
        return self.dropout(self.activation2(residual + skip))


class ResNet(nn.Module):
    """Residual network with one space a stage (``stage.s``, the residual stream) and one a block (``stage.s.b``).

    The stream of a stage is written by the stem or the stage's first skip projection and by every block's second
    convolution; every block's first convolution and the next stage read it. So the whole stream has one cloning factor.

    >>> import torch
    >>> net = ResNet(ResNetConfig(image_channels=3, outputs=2, stages=(4, 8), blocks=(1, 1)), seed=0)
    >>> net(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 2])
    """

    def __init__(self, config: ResNetConfig, *, seed: int):
        super().__init__()
        self.config = config
        with seeded(seed):
            first = config.stages[0]
            self.stem = nn.Conv2d(config.image_channels, first, 3, padding=1, bias=config.norm == "none")
            self.stem_norm = image_norm(config.norm, first, affine=config.affine, group_size=config.group_size)
            self.stem_activation = activation(config.activation, first)
            self.stage = nn.ModuleList(self._stage(s) for s in range(len(config.stages)))
            self.head = nn.Linear(config.stages[-1], config.outputs)

    def _stage(self, s: int) -> nn.ModuleList:
        config, out = self.config, self.config.stages[s]
        fan_in, stride = (config.stages[s - 1], 2) if s else (out, 1)
        sizes = [(fan_in, stride)] + [(out, 1)] * (config.blocks[s] - 1)
        return nn.ModuleList(Block(a, config.inner_of(s), out, step, config) for a, step in sizes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, S, S) -> (N, outputs)
        x = self.stem_activation(self.stem_norm(self.stem(x)))
        for stage in self.stage:
            for block in stage:
                x = block(x)
        return self.head(x.mean((2, 3)))

    def spaces(self) -> tuple[Space, ...]:
        return tuple(space for s in range(len(self.stage)) for space in (self._stream(s), *self._inner(s)))

    def _stream(self, s: int) -> Space:
        paths = [f"stage.{s}.{b}" for b in range(len(self.stage[s]))]
        writers = [f"{path}.conv2" for path in paths] + [f"{paths[0]}.skip" if s else "stem"]
        unitwise = [f"{path}.{part}" for path in paths for part in ("norm2", "activation2")]
        unitwise += [f"{paths[0]}.skip_norm"] if s else ["stem_norm", "stem_activation"]
        readers = [f"{path}.conv1" for path in (paths[1:] if s else paths)]
        following = [f"stage.{s + 1}.0.{part}" for part in ("conv1", "skip")]
        readers += following if s + 1 < len(self.stage) else ["head"]
        links = [tuple(Link(name) for name in names) for names in (writers, readers)]
        return Space(f"stage.{s}", self.config.stages[s], *links, tuple(unitwise), "", f"{paths[-1]}.activation2")

    def _inner(self, s: int) -> list[Space]:
        size, paths = self.config.inner_of(s), [f"stage.{s}.{b}" for b in range(len(self.stage[s]))]
        return [
            Space(path, size, (Link(f"{path}.conv1"),), (Link(f"{path}.conv2"),),
                  (f"{path}.norm1", f"{path}.activation1"), f"{path}.norm1", f"{path}.activation1")
            for path in paths
        ]  # fmt: skip

    def resized(self, sizes: Mapping[str, int]) -> "ResNet":
        """A new ResNet with other channel counts; all blocks of a stage must keep one inner size."""
        config, count = self.config, range(len(self.stage))
        stages = tuple(sizes.get(f"stage.{s}", config.stages[s]) for s in count)
        inner = []
        for s in count:
            wanted = {sizes.get(f"stage.{s}.{b}", config.inner_of(s)) for b in range(len(self.stage[s]))}
            if len(wanted) > 1:
                raise UsageError(f"stage {s}: blocks of inner sizes {sorted(wanted)}", remedy="use one size a stage")
            inner.append(wanted.pop())
        return ResNet(replace(config, stages=stages, inner=tuple(inner)), seed=0)
