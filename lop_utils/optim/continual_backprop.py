"""Continual backpropagation: a slow stream of new units replaces the least useful ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.spaces import READS, WRITES
from lop_utils.optim.activity import Activity
from lop_utils.optim.intervention import Intervention, generators_for, member_tensors, members_of
from lop_utils.optim.reset import UnitReset

UTILITIES = ("contribution", "adaptable_contribution")


class ContinualBackprop(Intervention):
    """CBP (Dohare et al. 2024): after each step, replace the share `replacement_rate` of each space's mature units.

    Two lines: ``cbp = ContinualBackprop(optimizer, model, seed=0)``, and train as before. After each optimizer step:
    1. Averages over the batch m = mean h and u, then a <- decay a + (1 - decay) m and U <- decay U + (1 - decay) u,
       both corrected by 1 - decay^age. u is |h| |w_out| (`contribution`) or |h - a| |w_out| / |w_in|
       (`adaptable_contribution`), with |w| the sum of absolute weights after the step, |h| the mean over the batch.
    2. Units older than `maturity` steps are eligible. A counter per space gains replacement_rate x eligible units;
       its whole part says how many eligible units of lowest utility are replaced now, the fraction stays (so that
       the rate holds on average however small it is).
    3. Those units are redrawn (`reset.reset_units`): the next layer's bias first takes over what they send on
       average (a), outgoing weights become 0, incoming ones are new, the optimizer's moments there 0; utility, average
       and age start from 0.

    For a `Stack` every member is judged by itself. The public code of arXiv:2510.00304 differs: it replaces one unit a
    step whenever any is mature, and zeroes the hidden biases. Raises `UsageError` for settings out of range, or at a
    step that no training pass preceded.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> cbp = ContinualBackprop(optimizer, net, replacement_rate=0.25, maturity=1, seed=0)
    >>> for _ in range(9): net(torch.ones(5, 3)).sum().backward(); optimizer.step()
    >>> cbp.replaced["hidden.0"].sum().item()
    6
    """

    kept = ("utility", "average", "age", "due", "replaced")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        replacement_rate: float = 1e-4,
        maturity: int = 100,
        decay: float = 0.99,
        utility: str = "adaptable_contribution",
        seed: int | Sequence[int],
    ):
        check_choice("utility", utility, UTILITIES)
        if not 0 <= replacement_rate <= 1 or maturity < 0 or not 0 <= decay < 1:
            problem = f"replacement rate {replacement_rate}, maturity {maturity}, decay {decay}"
            raise UsageError(problem, remedy="choose a rate from 0 to 1, a maturity >= 0 and 0 <= decay < 1")
        super().__init__(generators_for(model, seed))
        self.replacement_rate, self.maturity, self.decay, self.kind = replacement_rate, maturity, decay, utility
        self._reset, self._activity, self._model = UnitReset(model, optimizer), Activity(model), model
        like, members = next(model.parameters()).detach(), members_of(model)
        sizes = {name: space.size for name, space in self._reset.spaces.items()}
        self.utility = {name: like.new_zeros(members, size) for name, size in sizes.items()}
        self.age = {name: torch.zeros_like(u, dtype=torch.long) for name, u in self.utility.items()}
        self.replaced = {name: torch.zeros_like(age) for name, age in self.age.items()}  # how often, unit by unit
        self.due = {name: like.new_zeros(members, dtype=torch.float64) for name in sizes}
        self.average: dict[str, Tensor] = {}  # (members, outer, size), known with the first pass
        self._handles = [optimizer.register_step_post_hook(self._step), self._activity]

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        weights = weight_sizes(self._reset, member_tensors(self._model))
        masks, means = {}, {}
        for space, h in self._activity.rows():
            corrected = self._learn(space.name, h, *weights[space.name])
            if (mask := self._choose(space.name)) is not None:
                masks[space.name], means[space.name] = mask, corrected.flatten(1)
        if not masks:
            return
        self._reset(masks, generators=self.generators, means=means)
        for name, mask in masks.items():
            self.utility[name].masked_fill_(mask, 0.0)
            self.average[name].masked_fill_(mask[:, None], 0.0)
            self.age[name].masked_fill_(mask, 0)
            self.replaced[name] += mask

    def _learn(self, name: str, h: Tensor, w_out: Tensor, w_in: Tensor) -> Tensor:
        """Take in one pass h (members, rows, outer, size); returns the corrected average activation."""
        self.age[name] += 1
        correction = (1 - self.decay ** self.age[name].double()).to(h.dtype)  # (members, size)
        average = self.average.setdefault(name, torch.zeros_like(h[:, 0]))
        average.lerp_(h.mean(1), 1 - self.decay)
        corrected = average / correction[:, None]
        adaptable = self.kind == "adaptable_contribution"
        size = ((h - corrected[:, None]) if adaptable else h).abs().mean(1)  # (members, outer, size)
        now = (size * w_out).sum(1)
        self.utility[name].lerp_(now / w_in if adaptable else now, 1 - self.decay)
        return corrected

    def _choose(self, name: str) -> Tensor | None:
        """Mask (members, size) of the units that are replaced now; None when none is in any member."""
        age, due = self.age[name], self.due[name]
        eligible = age > self.maturity
        due += self.replacement_rate * eligible.sum(1)
        count = due.floor()
        if not count.any():
            return None
        due -= count
        score = (self.utility[name] / (1 - self.decay ** age.double())).masked_fill(~eligible, torch.inf)
        return (score.argsort(dim=1, stable=True).argsort(dim=1) < count[:, None]) & eligible


def weight_sizes(reset: UnitReset, tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each space the sums of absolute outgoing (members, outer, size) and incoming (members, size) weights."""
    found: dict[str, list[Tensor | float]] = {name: [0.0, 0.0] for name in reset.spaces}
    for name, use in reset.uses:
        if use.role in (READS, WRITES) and name.endswith(".weight"):
            others = [i for i in range(1, tensors[name].ndim) if i != use.axis + 1]
            by_entry = tensors[name].abs().sum(others)  # (members, entries)
            by_unit = by_entry.view(len(by_entry), use.outer, use.size, use.inner).sum(3)
            found[use.space][use.role == WRITES] += by_unit if use.role == READS else by_unit.sum(1)
    return {name: (w_out, w_in) for name, (w_out, w_in) in found.items()}
