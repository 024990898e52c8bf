"""What every metric asks of its input, said once; the message names the layer."""

import torch
from torch import Tensor

from lop_utils.errors import UsageError


def require_units(layer: str, values: Tensor, *, like: Tensor | None = None) -> Tensor:
    """Return `values` if they are (rows, units), not empty, finite and, with `like`, of its shape.

    Raises `UsageError` naming `layer` otherwise.

    >>> import torch
    >>> require_units("hidden.0", torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(f"layer {layer}: shape {tuple(values.shape)}", remedy="give (rows, units), neither empty")
    if like is not None and values.shape != like.shape:
        shapes = f"{tuple(values.shape)} beside {tuple(like.shape)}"
        raise UsageError(f"layer {layer}: shapes {shapes} differ", remedy="record both on the same batch")
    return require_finite(layer, values)


def require_finite(layer: str, values: Tensor) -> Tensor:
    """Return `values`, or raise `UsageError` naming the layer when some are not finite."""
    if not torch.isfinite(values).all():
        count = int((~torch.isfinite(values)).sum())
        raise UsageError(
            f"layer {layer}: {count} values are not finite", remedy="check for divergence before measuring"
        )
    return values
