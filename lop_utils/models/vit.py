"""The vision transformer of the paper: patches, pre-norm blocks of attention and MLP, mean over tokens, a head."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.activations import activation
from lop_utils.models.norms import norm
from lop_utils.models.seeding import seeded
from lop_utils.models.spaces import Link, Space

NORMS = ("none", "layer")


@dataclass(frozen=True)
class ViTConfig:
    """Images (image_channels, side, side) cut into patch x patch pieces; the defaults are the paper's.

    `mlp` is the hidden size of a block's MLP. `attention_units` says what the units of an attention layer are: its
    ``heads`` (cloning adds heads) or the ``dimensions`` inside each head (cloning widens the heads). `logit_scale`
    multiplies q . k; None means 1 / sqrt(head dimension).
    """

    image_channels: int
    side: int
    outputs: int
    patch: int = 8
    width: int = 384
    depth: int = 6
    heads: int = 6
    head_dim: int = 64
    mlp: int = 1536
    activation: str = "gelu"
    norm: str = "layer"
    affine: bool = True
    dropout: float = 0.0
    attention_units: str = "heads"
    logit_scale: float | None = None

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        check_choice("attention_units", self.attention_units, ("heads", "dimensions"))
        if self.side % self.patch:
            raise UsageError(f"side {self.side} is no multiple of the patch {self.patch}", remedy="choose a divisor")


class Attention(nn.Module):
    """Multi-head self-attention with separate q, k, v."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.heads, inner = config.heads, config.heads * config.head_dim
        self.scale = config.logit_scale or 1 / math.sqrt(config.head_dim)
        self.q, self.k, self.v = (nn.Linear(config.width, inner) for _ in range(3))
        self.out = nn.Linear(inner, config.width)

    def forward(self, x: Tensor) -> Tensor:  # (N, T, width) -> (N, T, width)
        q, k, v = (
            f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )  # (N, H, T, d)
        weights = torch.softmax(self.scale * q @ k.transpose(2, 3), dim=-1)  # (N, H, T, T)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.norm1 = norm(config.norm, config.width, affine=config.affine)
        self.attention = Attention(config)
        self.norm2 = norm(config.norm, config.width, affine=config.affine)
        self.fc1 = nn.Linear(config.width, config.mlp)
        self.activation = activation(config.activation, config.mlp)
        self.fc2 = nn.Linear(config.mlp, config.width)
        drop = lambda: nn.Dropout(config.dropout) if config.dropout else nn.Identity()  # noqa: E731
        self.attention_dropout, self.dropout, self.fc2_dropout = drop(), drop(), drop()

    def forward(self, x: Tensor) -> Tensor:  # (N, T, width) -> (N, T, width)
        x = x + self.attention_dropout(self.attention(self.norm1(x)))
        return x + self.fc2_dropout(self.fc2(self.dropout(self.activation(self.fc1(self.norm2(x))))))


class ViT(nn.Module):
    """Vision transformer with the spaces ``stream`` (the residual stream), ``block.i.attention`` and ``block.i.mlp``.

    Identity skips join everything that writes the residual stream, so the stream is one space with one cloning factor.

    >>> shape = ViTConfig(3, side=8, outputs=2, patch=4, width=8, depth=1, heads=2, head_dim=4, mlp=16)
    >>> ViT(shape, seed=0)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 2])
    """

    def __init__(self, config: ViTConfig, *, seed: int):
        super().__init__()
        self.config = config
        with seeded(seed):
            self.patches = nn.Conv2d(config.image_channels, config.width, config.patch, stride=config.patch)
            self.positions = nn.Parameter(0.02 * torch.randn((config.side // config.patch) ** 2, config.width))
            self.block = nn.ModuleList(Block(config) for _ in range(config.depth))
            self.norm = norm(config.norm, config.width, affine=config.affine)
            self.head = nn.Linear(config.width, config.outputs)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, S, S) -> (N, outputs)
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # (N, T, width)
        for block in self.block:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def spaces(self) -> tuple[Space, ...]:
        paths = [f"block.{i}" for i in range(len(self.block))]
        writers = ["patches", "positions"] + [f"{p}.{part}" for p in paths for part in ("attention.out", "fc2")]
        readers = [f"{p}.{part}" for p in paths for part in ("attention.q", "attention.k", "attention.v", "fc1")]
        norms = [f"{p}.{part}" for p in paths for part in ("norm1", "norm2")] + ["norm"]
        links = [tuple(Link(name) for name in names) for names in (writers, [*readers, "head"])]
        stream = Space("stream", self.config.width, *links, tuple(norms), "", "norm")
        return (stream, *(space for path in paths for space in (self._attention(path), self._mlp(path))))

    def _attention(self, path: str) -> Space:
        config, by_heads = self.config, self.config.attention_units == "heads"
        size = config.heads if by_heads else config.head_dim
        layout = {"inner": config.head_dim} if by_heads else {"outer": config.heads}
        writers = tuple(Link(f"{path}.attention.{part}", **layout) for part in "qkv")
        return Space(f"{path}.attention", size, writers, (Link(f"{path}.attention.out", **layout),))

    def _mlp(self, path: str) -> Space:
        fc1, fc2, act = f"{path}.fc1", f"{path}.fc2", f"{path}.activation"
        return Space(f"{path}.mlp", self.config.mlp, (Link(fc1),), (Link(fc2),), (act,), fc1, act)

    def resized(self, sizes: Mapping[str, int]) -> "ViT":
        """A new ViT with other sizes, equal in all blocks; wider heads keep the logits of the narrow ones."""
        config = self.config
        attention = self._common(
            sizes, "attention", config.heads if config.attention_units == "heads" else config.head_dim
        )
        changes: dict = {"width": sizes.get("stream", config.width), "mlp": self._common(sizes, "mlp", config.mlp)}
        if config.attention_units == "heads":
            changes["heads"] = attention
        else:  # k copies of every dimension multiply q . k by k
            scale = self.block[0].attention.scale if len(self.block) else config.logit_scale
            changes |= {"head_dim": attention, "logit_scale": scale * config.head_dim / attention}
        return ViT(replace(config, **changes), seed=0)

    def _common(self, sizes: Mapping[str, int], part: str, default: int) -> int:
        wanted = {sizes.get(f"block.{i}.{part}", default) for i in range(len(self.block))}
        if len(wanted) > 1:
            raise UsageError(f"{part} of sizes {sorted(wanted)} in different blocks", remedy="use one size for all")
        return wanted.pop() if wanted else default
