"""ReDo: recycle dormant units every so many steps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.optim.activity import Activity
from lop_utils.optim.intervention import Intervention, generators_for
from lop_utils.optim.reset import UnitReset


class ReDo(Intervention):
    """After every `every`-th step, redraw the units with s_j = E|h_j| / mean_k E|h_k| <= tau (Sokar et al. 2023).

    E is the mean over the step's batch; in a layer that is silent as a whole every unit is dormant. Redrawing is
    `reset.reset_units` without compensation: new incoming weights, outgoing ones 0, the optimizer's moments there 0.
    For a `Stack` every member is judged by itself.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> with torch.no_grad(): _ = net.hidden[0].linear.bias.copy_(torch.tensor([1.0, 1.0, -9.0, -9.0]))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> redo = ReDo(optimizer, net, tau=0.1, every=1, seed=0)
    >>> net(torch.zeros(5, 3)).sum().backward(); optimizer.step(); redo.replaced["hidden.0"]
    tensor([[0, 0, 1, 1]])
    """

    kept = ("step", "replaced")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        tau: float = 0.1,
        every: int = 1000,
        seed: int | Sequence[int],
    ):
        if not tau >= 0 or every < 1:
            raise UsageError(f"tau {tau}, every {every}", remedy="choose tau >= 0 and every >= 1")
        super().__init__(generators_for(model, seed))
        self.tau, self.every, self.step = tau, every, 0
        self.replaced: dict[str, Tensor] = {}  # how often, unit by unit
        self._reset, self._activity = UnitReset(model, optimizer), Activity(model)
        self._handles = [optimizer.register_step_post_hook(self._step), self._activity]

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        self.step += 1
        if self.step % self.every:
            return
        masks = {}
        for space, h in self._activity.rows():
            size = h.abs().mean((1, 2))  # (members, size)
            masks[space.name] = mask = size <= self.tau * size.mean(1, keepdim=True)
            self.replaced.setdefault(space.name, torch.zeros_like(mask, dtype=torch.long)).add_(mask)
        self._reset(masks, generators=self.generators)
