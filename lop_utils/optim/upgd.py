"""UPGD: weights of low utility move and are perturbed, weights of high utility are protected."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.stack import skeleton_of, stacked, tensors_of
from lop_utils.optim.intervention import Intervention, generators_for, member_normals, member_tensors


class UPGD(Intervention):
    """Utility-based perturbed gradient descent, first-order utility scaled globally (Elsayed & Mahmood 2024).

    u <- decay u + (1 - decay) (-g theta), corrected by 1 - decay^t; U = sigmoid(u / max u), the maximum over all
    weights of a network; then theta <- (1 - lr weight_decay) theta + factor (1 - U) (step - lr sigma xi), xi ~ N(0, 1).
    `step` is the optimizer's own: -lr g for SGD, which makes it the paper's rule; with Adam it is the paper's adaptive
    version. factor 2, as in the published code, leaves a weight of utility 0 (U = 1/2) its full step.

    >>> p = nn.Linear(1, 1, bias=False)
    >>> with torch.no_grad(): _ = p.weight.fill_(-1.0)
    >>> optimizer = torch.optim.SGD(p.parameters(), lr=0.1)
    >>> upgd = UPGD(optimizer, p, sigma=0.0, seed=0)
    >>> p.weight.grad = torch.ones(1, 1); optimizer.step(); p.weight.data  # -1 - 0.1 (1 - sigmoid(1))
    tensor([[-1.0269]])
    """

    kept = ("step", "utility")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        *,
        sigma: float = 0.001,
        weight_decay: float = 0.0,
        decay: float = 0.999,
        factor: float = 1.0,
        seed: int | Sequence[int],
    ):
        if not sigma >= 0 or not weight_decay >= 0 or not 0 <= decay < 1 or not factor > 0:
            problem = f"sigma {sigma}, weight decay {weight_decay}, decay {decay}, factor {factor}"
            raise UsageError(problem, remedy="choose sigma and weight decay >= 0, 0 <= decay < 1, factor > 0")
        super().__init__(generators_for(model, seed))
        self.sigma, self.weight_decay, self.decay, self.factor, self.step = sigma, weight_decay, decay, factor, 0
        self._model, self._names = model, [name for name, _ in skeleton_of(model).named_parameters()]
        self.utility: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        hooks = optimizer.register_step_pre_hook(self._judge), optimizer.register_step_post_hook(self._gate)
        self._handles = list(hooks)

    @torch.no_grad()
    def _judge(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Utilities from the gradient, and the weights as they are before the step."""
        lone, parameters = not stacked(self._model), tensors_of(self._model)
        self._before = {}
        for name in self._names:
            p = parameters[name]
            if p.grad is not None:
                theta, g = (t[None] if lone else t for t in (p.detach(), p.grad))
                self._before[name] = theta.clone()
                self.utility.setdefault(name, torch.zeros_like(theta)).lerp_(-g * theta, 1 - self.decay)
        self.step += 1

    @torch.no_grad()
    def _gate(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        tensors, parameters = member_tensors(self._model), tensors_of(self._model)
        correction = 1 - self.decay**self.step
        largest = [u.flatten(1).amax(1) / correction for u in self.utility.values()]
        best = torch.stack(largest).amax(0).clamp(min=torch.finfo(largest[0].dtype).tiny)  # (members,)
        noise = member_normals(self._before, self.generators) if self.sigma else {}
        for name, before in self._before.items():
            theta, lr = tensors[name], rates[parameters[name]]
            scaled = self.utility[name] / correction / best.view(-1, *[1] * (theta.ndim - 1))
            move = theta - before
            if noise:
                move.sub_(noise[name], alpha=lr * self.sigma)
            gated = self.factor * torch.sigmoid(-scaled) * move
            theta.copy_((1 - lr * self.weight_decay) * before + gated)
