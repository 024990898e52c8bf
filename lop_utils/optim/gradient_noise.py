"""Noisy SGD: Gaussian noise on the gradient, as large as the gradient's own norm says."""

import torch

from lop_utils.errors import UsageError, check_choice


class GradientNoise:
    """Add eps ~ N(0, sigma_t^2 ||g||^2 I), sigma_t = sigma * decay^t, to the gradient before each optimizer step.

    Composes with any torch optimizer: ``noise = GradientNoise(optimizer, sigma=0.01, seed=0)`` and train as before.
    ||g|| is each tensor's own norm (`scope="tensor"`, as the public code of arXiv:2510.00304 does) or that of the whole
    gradient (`scope="global"`, as its text reads). decay = 1 is constant noise; decay = 0 is one single noisy step.
    The noise vector's expected norm is sigma * sqrt(numel) * ||g||: for a 128 x 128 layer sigma = 0.01 is 1.28 ||g||,
    not one percent of it.

    >>> p = torch.nn.Parameter(torch.zeros(3)); p.grad = torch.ones(3)
    >>> optimizer = torch.optim.SGD([p], lr=1.0)
    >>> noise = GradientNoise(optimizer, sigma=0.0, seed=0)
    >>> _ = optimizer.step(); p.data
    tensor([-1., -1., -1.])
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, sigma: float, decay: float = 1.0, seed: int, scope: str = "tensor"
    ):
        check_choice("scope", scope, ("tensor", "global"))
        if sigma < 0 or not 0 <= decay <= 1:
            raise UsageError(f"sigma {sigma}, decay {decay}", remedy="choose sigma >= 0 and 0 <= decay <= 1")
        self.sigma, self.decay, self.scope, self.step = sigma, decay, scope, 0
        device = optimizer.param_groups[0]["params"][0].device
        self.generator = torch.Generator(device).manual_seed(seed)
        self._handle = optimizer.register_step_pre_hook(self._add)

    def _add(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        sigma = self.sigma * self.decay**self.step
        self.step += 1
        if sigma == 0:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms = torch._foreach_norm(gradients)
        if self.scope == "global":
            norms = [torch.linalg.vector_norm(torch.stack(norms))] * len(norms)
        for gradient, norm in zip(gradients, norms, strict=True):
            xi = torch.randn(gradient.shape, generator=self.generator, device=gradient.device, dtype=gradient.dtype)
            gradient.add_(xi * (sigma * norm))

    def remove(self) -> None:
        """Stop adding noise."""
        self._handle.remove()

    def state_dict(self) -> dict:
        """Step count and generator state: enough to go on with the same noise."""
        return {"step": self.step, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`."""
        self.step = state["step"]
        self.generator.set_state(state["generator"])
