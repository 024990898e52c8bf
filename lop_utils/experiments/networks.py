"""The four architectures in the sizes of an experiment's configuration."""

from typing import Protocol

from torch import nn

from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.streams.sources import Source

ARCHITECTURES = ("mlp", "cnn", "resnet", "vit")


class Shape(Protocol):
    """What a configuration must say about its network.

    widths: hidden layers of an MLP; channels of a CNN's convolutions and its fully connected layer; channels of a
    ResNet's stages, with `blocks` blocks each; of a ViT the residual stream, the MLP, the number of blocks, and then,
    if it is to be other than two heads over patches of a quarter of the image's side, the heads and the patch.
    """

    arch: str
    widths: tuple[int, ...]
    blocks: int
    activation: str
    norm: str
    affine: bool
    dropout: float
    gain: float


def network(shape: Shape, source: Source, outputs: int, seed: int) -> nn.Module:
    """A network for `source`'s images, newly initialised from `seed`."""
    common = {"activation": shape.activation, "norm": shape.norm, "affine": shape.affine, "dropout": shape.dropout}
    widths = shape.widths
    if shape.arch == "mlp":
        return MLP(MLPConfig(source.size, widths, outputs, gain=shape.gain, **common), seed=seed)
    image = {"image_channels": source.shape[0], "outputs": outputs} | common
    if shape.arch == "cnn":
        return CNN(CNNConfig(side=source.shape[-1], channels=widths[:-1], fc=widths[-1], **image), seed=seed)
    if shape.arch == "resnet":
        return ResNet(ResNetConfig(stages=widths, blocks=(shape.blocks,) * len(widths), **image), seed=seed)
    stream, mlp, depth, *rest = widths
    heads, patch = rest or (2, source.shape[-1] // 4)
    sizes = {"width": stream, "mlp": mlp, "depth": depth, "heads": heads, "head_dim": stream // heads, "patch": patch}
    return ViT(ViTConfig(side=source.shape[-1], **sizes, **image), seed=seed)
