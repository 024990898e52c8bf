"""Noise on the weights themselves, after every step."""

from collections.abc import Sequence

import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.models.stack import skeleton_of
from lop_utils.optim.intervention import Intervention, generators_for, member_normals, member_tensors


class WeightNoise(Intervention):
    """theta <- theta + sigma_t xi, xi ~ N(0, 1), sigma_t = sigma decay^t, for all parameters after optimizer step t.

    t counts from 0; decay = 0 is one single noisy step. Left alone, the noise adds up to a random walk of standard
    deviation sigma sqrt(t). Members of a `Stack` draw from their own generators.

    >>> net = nn.Linear(100, 100); optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    >>> noise, before = WeightNoise(optimizer, net, sigma=0.1, seed=0), net.weight.detach().clone()
    >>> optimizer.step(); round(float((net.weight.detach() - before).std()), 2)
    0.1
    """

    kept = ("step",)

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        sigma: float,
        decay: float = 1.0,
        seed: int | Sequence[int],
    ):
        if not sigma >= 0 or not 0 <= decay <= 1:
            raise UsageError(f"sigma {sigma}, decay {decay}", remedy="choose sigma >= 0 and 0 <= decay <= 1")
        super().__init__(generators_for(model, seed))
        self.sigma, self.decay, self.step = sigma, decay, 0
        self._model, self._names = model, [name for name, _ in skeleton_of(model).named_parameters()]
        self._handles = [optimizer.register_step_post_hook(self._step)]

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        sigma = self.sigma * self.decay**self.step
        self.step += 1
        if sigma == 0:
            return
        tensors = member_tensors(self._model)
        for name, xi in member_normals({name: tensors[name] for name in self._names}, self.generators).items():
            tensors[name].add_(xi, alpha=sigma)
