"""Layers whose truth is known, because we built them: what a metric says about them can be right or wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import LayerRecord
from lop_utils.metrics.units import similarity
from lop_utils.models.activations import activation

GROUPS = ("healthy", "copied", "always on", "quiet", "rare", "dead")
_SHIFT = {"always on": 3.0, "rare": -1.881, "dead": -8.0}  # a standard normal z exceeds 1.881 on 3% of the rows
_SCALE = {"always on": 0.4, "quiet": 0.02}
CLASSES = 10


@dataclass(frozen=True)
class Specimen:
    """A layer of ReLU units in equal groups of `GROUPS`, its f'(z), and the group of each unit."""

    layer: LayerRecord
    slope: Tensor
    group: tuple[str, ...]

    def members(self, name: str) -> Tensor:
        """Which units belong to the group, bool (units,)."""
        return torch.tensor([group == name for group in self.group])

    def share(self, marked: Tensor, name: str) -> float:
        """Share of the group's units that `marked` (units,) contains."""
        return float(marked[self.members(name)].double().mean())


def specimen(rows: int, seed: int, *, per_group: int = 16, batch: int | None = None) -> Specimen:
    """A ReLU layer of 6 `per_group` units on `rows` inputs; z is normal and independent but for the copies.

    healthy: z ~ N(0, 1). copied: half as many such units, each twice. always on: z ~ N(3, 0.4^2), so f acts linearly.
    quiet: z ~ N(0, 0.02^2). rare: fires on 3% of the rows. dead: z ~ N(-8, 1), cut off at -1, never fires.
    Gradients are those of a random linear readout to 10 classes under mean cross-entropy with random labels, over
    `batch` rows (default: all). The true shares are 1/6 dead, 1/6 frozen (the dead ones), 1/6 with a copy.

    >>> found = specimen(100, seed=0)
    >>> found.layer.activation.shape, found.share(found.layer.activation.amax(0) == 0, "dead")
    (torch.Size([100, 96]), 1.0)
    """
    if per_group < 2 or per_group % 2:
        raise UsageError(f"{per_group} units a group cannot be paired", remedy="choose an even number >= 2")
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for name in GROUPS:
        z = torch.randn(rows, per_group, generator=generator)
        if name == "copied":
            z = z[:, : per_group // 2].repeat_interleave(2, 1)
        z = _SCALE.get(name, 1.0) * z + _SHIFT.get(name, 0.0)
        parts.append(z.clamp(max=-1.0) if name == "dead" else z)
    z = torch.cat(parts, 1)[:batch]  # (rows, 6 per_group)
    h = z.relu()
    group = tuple(name for name in GROUPS for _ in range(per_group))
    return Specimen(LayerRecord("specimen", z, h, _gradient(h, generator)), (z > 0).to(z), group)


def _gradient(h: Tensor, generator: torch.Generator) -> Tensor:
    units = h.shape[1]
    readout = torch.randn(units, CLASSES, generator=generator) / units**0.5
    labels = torch.randint(CLASSES, (len(h),), generator=generator)
    leaf = h.clone().requires_grad_()
    return torch.autograd.grad(nn.functional.cross_entropy(leaf @ readout, labels), leaf)[0]


def paired_units(name: str, *, rows: int, units: int, correlation: float, seed: int) -> tuple[Tensor, Tensor]:
    """Activations (rows, units) of independent units, and of one near-copy of each, (rows, units).

    Pre-activations are standard normal; unit j and its near-copy have pre-activation correlation `correlation`.

    >>> h, near = paired_units("identity", rows=5, units=3, correlation=1.0, seed=0)
    >>> torch.equal(h, near)
    True
    """
    if not -1 <= correlation <= 1:
        raise UsageError(f"correlation {correlation} is none", remedy="choose a number from -1 to 1")
    generator = torch.Generator().manual_seed(seed)
    z, other = (torch.randn(rows, units, generator=generator, dtype=torch.float64) for _ in range(2))
    near = correlation * z + (1 - correlation**2) ** 0.5 * other
    f = activation(name)
    return f(z), f(near)


def pair_similarities(
    names: Iterable[str], *, rows: int, units: int, correlation: float, seed: int
) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Cosines and |Pearson correlations| of all independent pairs, and of units with their near-copies, by activation.

    >>> found = pair_similarities(["relu"], rows=50, units=4, correlation=0.9, seed=0)
    >>> [len(values) for values in found["cosine"]["relu"]]
    [6, 4]
    """
    first, second = torch.triu_indices(units, units, 1)
    found: dict[str, dict[str, tuple[Tensor, Tensor]]] = {"cosine": {}, "|Pearson|": {}}
    for name in names:
        both = torch.cat(paired_units(name, rows=rows, units=units, correlation=correlation, seed=seed), 1)
        for panel, pairs in (("cosine", similarity(both)), ("|Pearson|", similarity(both, centred=True).abs())):
            found[panel][name] = pairs[first, second], pairs.diagonal(units)
    return found
