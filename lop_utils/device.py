"""The one rule that turns a device's name into a device."""

import torch

from lop_utils.errors import UsageError, check_choice

NAMES = ("auto", "cpu", "cuda", "mps")


def resolve(name: str = "auto") -> torch.device:
    """The torch device for `name`: `auto` prefers cuda, then mps, then cpu.

    Raises `UsageError` for an unknown name and for an accelerator that this machine does not have.

    >>> resolve("cpu")
    device(type='cpu')
    """
    check_choice("device", name, NAMES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present[name]:
        raise UsageError(f"device {name!r} is not available on this machine", remedy="use --device auto or cpu")
    return torch.device(name)
