"""Self-normalised resets: a unit is redrawn when it is silent for longer than is usual for that unit."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.optim.activity import Activity, fired
from lop_utils.optim.intervention import Intervention, generators_for, members_of
from lop_utils.optim.reset import UnitReset


class SelfNormalizedResets(Intervention):
    """SNR (Farias & Jozefiak 2025): redraw a unit whose silence exceeds a quantile of its own times between firings.

    A unit fires in a step when it is not zero on every row of the step's batch; its times between firings, in steps,
    are counted in a histogram from 1 to `limit`. Its threshold is the smallest time t with P(time <= t) >= `quantile`,
    computed anew every `refresh` steps, and `limit` before that and for a unit that has not fired yet. A unit that has
    been silent for more than its threshold is redrawn (`reset.reset_units`, the optimizer's moments with it) and starts
    an empty histogram. As in the authors' code the histogram is exact up to a longest time. Meant for activations that
    can be zero: a tanh unit always fires.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> with torch.no_grad(): _ = net.hidden[0].linear.bias.copy_(torch.tensor([1.0, 1.0, -9.0, -9.0]))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    >>> snr = SelfNormalizedResets(optimizer, net, limit=3, seed=0)
    >>> for _ in range(4): net(torch.zeros(5, 3)).sum().backward(); optimizer.step()
    >>> snr.replaced["hidden.0"]
    tensor([[0, 0, 1, 1]], dtype=torch.int32)
    """

    kept = ("step", "silent", "gaps", "threshold", "replaced")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        quantile: float = 0.99,
        limit: int = 500,
        refresh: int = 100,
        seed: int | Sequence[int],
    ):
        if not 0 < quantile < 1 or limit < 1 or refresh < 1:
            problem = f"quantile {quantile}, limit {limit}, refresh {refresh}"
            raise UsageError(problem, remedy="choose 0 < quantile < 1, limit >= 1 and refresh >= 1")
        super().__init__(generators_for(model, seed))
        self.quantile, self.limit, self.refresh, self.step = quantile, limit, refresh, 0
        self._reset, self._activity = UnitReset(model, optimizer), Activity(model)
        device, members = next(model.parameters()).device, members_of(model)
        count = lambda size, *bins: torch.zeros(members, size, *bins, dtype=torch.int32, device=device)  # noqa: E731
        sizes = {name: space.size for name, space in self._reset.spaces.items()}
        self.silent = {name: count(size) for name, size in sizes.items()}  # steps since the last firing
        self.gaps = {name: count(size, limit) for name, size in sizes.items()}  # entry t - 1 counts times of t steps
        self.threshold = {name: count(size) + limit for name, size in sizes.items()}
        self.replaced = {name: count(size) for name, size in sizes.items()}  # how often, unit by unit
        self._handles = [optimizer.register_step_post_hook(self._step), self._activity]

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        self.step += 1
        masks = {}
        for space, h in self._activity.rows():
            name = space.name
            self._count(name, fired(h))
            if self.step % self.refresh == 0:
                self.threshold[name] = quantiles(self.gaps[name], self.quantile, empty=self.limit)
            masks[name] = self.silent[name] > self.threshold[name]
        if not any(bool(mask.any()) for mask in masks.values()):
            return
        self._reset(masks, generators=self.generators)
        for name, mask in masks.items():
            self.silent[name].masked_fill_(mask, 0)
            self.gaps[name].masked_fill_(mask[..., None], 0)
            self.threshold[name].masked_fill_(mask, self.limit)
            self.replaced[name] += mask

    def _count(self, name: str, now: Tensor) -> None:
        """Note who fired in this step, now (members, size): a firing ends a time between firings."""
        silent = self.silent[name]
        silent += 1
        slot = (silent.clamp(max=self.limit) - 1).long()[..., None]
        self.gaps[name].scatter_add_(2, slot, now.to(torch.int32)[..., None])
        silent.masked_fill_(now, 0)


def quantiles(counts: Tensor, level: float, *, empty: int) -> Tensor:
    """Smallest t in 1, 2, ... with a share of at least `level` of counts (..., t - 1) at or below it; `empty` if none.

    >>> quantiles(torch.tensor([[8, 1, 1], [0, 0, 0]], dtype=torch.int32), 0.9, empty=7)
    tensor([2, 7], dtype=torch.int32)
    """
    total = counts.sum(-1, keepdim=True)
    below = counts.cumsum(-1) < level * total.double() - 1e-9
    return torch.where(total[..., 0] > 0, below.sum(-1) + 1, empty).to(torch.int32)
