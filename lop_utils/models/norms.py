"""Normalisation over one space of units, for vectors, token sequences and images."""

from torch import nn

from lop_utils.errors import UsageError, check_choice

NORMS = ("none", "batch", "layer")
IMAGE_NORMS = (*NORMS, "group")


def norm(kind: str, units: int, *, affine: bool = True) -> nn.Module:
    """Normalisation of (N, units) or (N, tokens, units); the identity for ``none``.

    >>> norm("layer", 4).normalized_shape
    (4,)
    """
    check_choice("norm", kind, NORMS)
    if kind == "batch":
        return nn.BatchNorm1d(units, affine=affine)
    return nn.LayerNorm(units, elementwise_affine=affine) if kind == "layer" else nn.Identity()


def image_norm(kind: str, channels: int, *, affine: bool = True, group_size: int = 4) -> nn.Module:
    """Normalisation of (N, channels, H, W); ``layer`` is one group over channels and positions, ``group`` has groups of
    `group_size` channels. Raises `UsageError` when the groups do not fit.

    >>> image_norm("group", 8).num_groups
    2
    """
    check_choice("norm", kind, IMAGE_NORMS)
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    if kind == "none":
        return nn.Identity()
    if kind == "layer":
        return nn.GroupNorm(1, channels, affine=affine)
    if channels % group_size:
        raise UsageError(f"{channels} channels in groups of {group_size}", remedy="choose a group size that divides")
    return nn.GroupNorm(channels // group_size, channels, affine=affine)
