"""Noisy SGD: Gaussian noise on the gradient, as large as the gradient's own norm says."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.optim.intervention import Intervention, member_normal, seeded_generators
from lop_utils.optim.norms import joint_norm, times, with_gradients


class GradientNoise(Intervention):
    """Add eps ~ N(0, sigma_t^2 ||g||^2 I), sigma_t = sigma * decay^t, to the gradient before each optimizer step.

    Composes with any torch optimizer: ``noise = GradientNoise(optimizer, sigma=0.01, seed=0)`` and train as before.
    ||g|| is each tensor's own norm (`scope="tensor"`, as the public code of arXiv:2510.00304 does) or that of the whole
    gradient (`scope="global"`, as its text reads). decay = 1 is constant noise; decay = 0 is one single noisy step.
    The noise vector's expected norm is sigma * sqrt(numel) * ||g||: for a 128 x 128 layer sigma = 0.01 is 1.28 ||g||,
    not one percent of it. With `stacked`, axis 0 of every parameter runs over independent networks, each with its own
    norms and its own generator (seeds `seed`, `seed` + 1, ..., or a sequence of one seed each).

    >>> p = torch.nn.Parameter(torch.zeros(3)); p.grad = torch.ones(3)
    >>> optimizer = torch.optim.SGD([p], lr=1.0)
    >>> noise = GradientNoise(optimizer, sigma=0.0, seed=0)
    >>> _ = optimizer.step(); p.data
    tensor([-1., -1., -1.])
    """

    kept = ("step",)

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        sigma: float,
        decay: float = 1.0,
        seed: int | Sequence[int],
        scope: str = "tensor",
        stacked: bool = False,
    ):
        check_choice("scope", scope, ("tensor", "global"))
        if not sigma >= 0 or not 0 <= decay <= 1:
            raise UsageError(f"sigma {sigma}, decay {decay}", remedy="choose sigma >= 0 and 0 <= decay <= 1")
        first = optimizer.param_groups[0]["params"][0]
        super().__init__(seeded_generators(len(first) if stacked else 1, seed, first.device))
        self.sigma, self.decay, self.scope, self.stacked, self.step = sigma, decay, scope, stacked, 0
        self._handles = [optimizer.register_step_pre_hook(self._add)]

    @torch.no_grad()
    def _add(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        sigma = self.sigma * self.decay**self.step
        self.step += 1
        gradients = [p.grad for p in with_gradients(optimizer)]
        if sigma == 0 or not gradients:
            return
        for gradient, norm in zip(gradients, self._norms(gradients), strict=True):
            shape = gradient.shape if self.stacked else (1, *gradient.shape)
            xi = member_normal(shape, self.generators, gradient).view_as(gradient)
            gradient.add_(times(xi, sigma * norm))

    def _norms(self, gradients: list[Tensor]) -> list[Tensor]:
        """||g|| for each gradient: (), or one a network."""
        if self.stacked:
            norms = [joint_norm([gradient], stacked=True) for gradient in gradients]
        else:
            norms = list(torch._foreach_norm(gradients))
        return norms if self.scope == "tensor" else [torch.linalg.vector_norm(torch.stack(norms), dim=0)] * len(norms)
