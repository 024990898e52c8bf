"""Shrink and perturb: all weights become a little smaller and a little random, at task boundaries or at every step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.models.stack import skeleton_of
from lop_utils.optim.initial import draw
from lop_utils.optim.intervention import Intervention, generators_for, member_normals, member_tensors

DRAWS = ("fresh", "gaussian")


class ShrinkPerturb(Intervention):
    """theta <- shrink theta + perturb xi for every parameter, each time `perturb_now()` is called or every few steps.

    The rules in use, by name:
    - Ash & Adams 2020: ``draw="gaussian"``, called when new data arrive (a task boundary): xi ~ N(0, 1);
    - reset in part (D'Oro et al. 2023 and others): ``draw="fresh"``, perturb = 1 - shrink, called: xi is a new draw
      from the model's initial distribution (normalisations: their initial constants), a step towards a new network;
    - at every step (as in Dohare et al. 2024): ``every=1`` with 1 - shrink and perturb tiny, gaussian or fresh.

    `every=0` (the default) acts only when called. Buffers and the optimizer's state stay. Members of a `Stack` draw
    from their own generators.

    >>> p = nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.SGD(p.parameters(), lr=0.1)
    >>> before = p.weight.detach().clone()
    >>> ShrinkPerturb(optimizer, p, shrink=0.5, perturb=0.0, draw="gaussian", seed=0).perturb_now()
    >>> bool((p.weight == before / 2).all())
    True
    """

    kept = ("step",)

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        shrink: float,
        perturb: float,
        draw: str = "fresh",
        every: int = 0,
        seed: int | Sequence[int],
    ):
        check_choice("draw", draw, DRAWS)
        if not 0 <= shrink <= 1 or not perturb >= 0 or every < 0:
            problem = f"shrink {shrink}, perturb {perturb}, every {every}"
            raise UsageError(problem, remedy="choose 0 <= shrink <= 1, perturb >= 0 and every >= 0")
        super().__init__(generators_for(model, seed))
        self.shrink, self.perturb, self.draw, self.every, self.step = shrink, perturb, draw, every, 0
        self._model, self._names = model, [name for name, _ in skeleton_of(model).named_parameters()]
        self._handles = [optimizer.register_step_post_hook(self._step)]

    @torch.no_grad()
    def perturb_now(self) -> None:
        """Shrink and perturb once."""
        tensors = member_tensors(self._model)
        tensors = {name: tensors[name] for name in self._names}
        gaussian = self.draw == "gaussian"
        drawn = member_normals(tensors, self.generators) if gaussian else self._fresh(tensors)
        for name, xi in drawn.items():
            tensors[name].mul_(self.shrink).add_(xi, alpha=self.perturb)

    def _fresh(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A new draw of every parameter (members, ...) from the model's initial distribution."""
        skeleton = skeleton_of(self._model)
        return {
            name: torch.stack([draw(skeleton, name, tensor.shape[1:], g) for g in self.generators]).to(tensor.dtype)
            for name, tensor in tensors.items()
        }

    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        self.step += 1
        if self.every and self.step % self.every == 0:
            self.perturb_now()
