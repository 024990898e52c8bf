"""Weight growth: sizes of parameters, absolute and relative to a start."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.validate import require_finite


@dataclass(frozen=True)
class Growth:
    """Size of one parameter, or of "all" as one vector theta, against its start theta_0.

    norm: ||theta||. mean_magnitude: mean |theta_i|, the "weight magnitude" of Dohare et al. 2024. ratio:
    ||theta|| / ||theta_0||. distance: ||theta - theta_0|| / ||theta_0||. From a start of zeros, ratio and distance are
    1 and 0 while it stays zero and inf as soon as it does not.
    """

    norm: float
    mean_magnitude: float
    ratio: float
    distance: float


def weight_growth(model: nn.Module, start: Mapping[str, Tensor]) -> dict[str, Growth]:
    """`Growth` of every parameter of `model` by name, and of all together as "all".

    `start`: the parameters at the start by name, e.g. a copied `state_dict`. Raises `UsageError` naming a parameter
    that is not finite, or that `start` lacks or has in another shape.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> start = {"weight": torch.tensor([[3.0, 4.0]])}
    >>> _ = layer.weight.data.copy_(torch.tensor([[6.0, 8.0]]))
    >>> weight_growth(layer, start)["weight"]
    Growth(norm=10.0, mean_magnitude=7.0, ratio=2.0, distance=1.0)
    """
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, parameter in model.named_parameters():
        if name not in start or start[name].shape != parameter.shape:
            raise UsageError(
                f"parameter {name} has no start of its shape", remedy="copy the state_dict before training"
            )
        now = require_finite(name, parameter.detach()).double().flatten()
        pairs[name] = now, require_finite(name, start[name].detach()).to(now).flatten()
    if not pairs:
        raise UsageError(f"{type(model).__name__} has no parameters", remedy="measure a model that has some")
    now, then = (torch.cat(side) for side in zip(*pairs.values(), strict=True))
    return {name: _growth(*pair) for name, pair in [*pairs.items(), ("all", (now, then))]}


def _growth(now: Tensor, then: Tensor) -> Growth:
    norm, start, moved = (float(x.norm()) for x in (now, then, now - then))
    if start == 0:
        ratio, distance = (1.0, 0.0) if norm == 0 else (math.inf, math.inf)
    else:
        ratio, distance = norm / start, moved / start
    return Growth(norm, float(now.abs().mean()), ratio, distance)
