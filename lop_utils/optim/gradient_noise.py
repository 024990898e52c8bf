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
    norms and its own generator (seeds `seed`, `seed` + 1, ..., or a sequence of one seed each); `sigma` and `decay` may
    then be sequences of one value each, and a whole grid of settings is one stack.

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
        sigma: float | Sequence[float],
        decay: float | Sequence[float] = 1.0,
        seed: int | Sequence[int],
        scope: str = "tensor",
        stacked: bool = False,
    ):
        check_choice("scope", scope, ("tensor", "global"))
        first = optimizer.param_groups[0]["params"][0]
        members = len(first) if stacked else 1
        self._each = list(zip(_each(sigma, members), _each(decay, members), strict=True))
        if any(not s >= 0 or not 0 <= d <= 1 for s, d in self._each):
            raise UsageError(f"sigma {sigma}, decay {decay}", remedy="choose sigma >= 0 and 0 <= decay <= 1")
        super().__init__(seeded_generators(members, seed, first.device))
        self.sigma, self.decay, self.scope, self.stacked, self.step = sigma, decay, scope, stacked, 0
        self._handles = [optimizer.register_step_pre_hook(self._add)]

    @torch.no_grad()
    def _add(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        sigmas = [sigma * decay**self.step for sigma, decay in self._each]
        self.step += 1
        gradients = [p.grad for p in with_gradients(optimizer)]
        if not gradients:
            return
        least = torch.finfo(gradients[0].dtype).tiny
        noisy = [i for i, sigma in enumerate(sigmas) if sigma >= least]  # the others draw nothing
        if not noisy:
            return
        generators = [self.generators[i] for i in noisy]
        for gradient, norm in zip(gradients, self._norms(gradients), strict=True):
            if not self.stacked:
                xi = member_normal((1, *gradient.shape), generators, gradient).view_as(gradient)
                gradient.add_(times(xi, sigmas[0] * norm))
                continue
            xi = member_normal(gradient[noisy].shape, generators, gradient)
            sizes = norm[noisy] * norm.new_tensor([sigmas[i] for i in noisy])
            gradient[noisy] += times(xi, sizes)

    def _norms(self, gradients: list[Tensor]) -> list[Tensor]:
        """||g|| for each gradient: (), or one a network."""
        if self.stacked:
            norms = [joint_norm([gradient], stacked=True) for gradient in gradients]
        else:
            norms = list(torch._foreach_norm(gradients))
        return norms if self.scope == "tensor" else [torch.linalg.vector_norm(torch.stack(norms), dim=0)] * len(norms)


def _each(value: float | Sequence[float], members: int) -> list[float]:
    """One value a member, from a sequence of them or from one for all."""
    values = list(value) if isinstance(value, Sequence) else [value] * members
    if len(values) != members:
        raise UsageError(f"{len(values)} settings for {members} members", remedy="give one number or one a member")
    return values
