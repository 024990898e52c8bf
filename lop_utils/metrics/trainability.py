"""A network before it learns a task: how strong and how reliable its gradient is, and the ranks of its kernels.

Everything follows from one matrix, the Jacobian J of the outputs with respect to all parameters on a small batch, and
from its Gram matrix K = J J^T, the empirical neural tangent kernel (NTK). The model is examined in evaluation mode and
left as it was. `active`: the outputs (indices or a mask) that belong to the task; loss and kernel are over these alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from lop_utils.errors import UsageError
from lop_utils.metrics.hessian import hessian_epsilon_rank
from lop_utils.metrics.record import _untouched
from lop_utils.metrics.spectrum import effective_rank
from lop_utils.metrics.validate import require_finite


@dataclass(frozen=True)
class Tangents:
    """The outputs on a batch and their kernel; C is the number of active outputs.

    logits (N, C), targets (N,) as positions among the active outputs, kernel (N, C, N, C) in float64: the inner
    products of the gradients of single outputs on single samples; parameters: how many there are.
    """

    logits: Tensor
    targets: Tensor
    kernel: Tensor
    parameters: int


def tangents(model: nn.Module, inputs: Tensor, targets: Tensor, *, active: Tensor | None = None) -> Tangents:
    """Outputs and NTK of `model` on inputs (N, ...), targets (N,); memory N x C x parameters.

    Raises `UsageError` when a target is not among the active outputs, or when something is not finite.

    >>> net = nn.Linear(2, 2)
    >>> tangents(net, torch.eye(2), torch.tensor([0, 1])).kernel[:, 0, :, 0]  # x . x' + 1 (the bias)
    tensor([[2., 1.],
            [1., 2.]], dtype=torch.float64)
    """
    with _untouched(model):
        model.eval()
        weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            outputs = model(inputs)
        chosen, positions = _positions(outputs.shape[1], targets, active)

        def one(state: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(model, state, (x[None],))[0, chosen]

        jacobian = vmap(jacrev(one), in_dims=(None, 0))(weights, inputs)  # name -> (N, C, *shape)
    rows = [part.flatten(0, 1).flatten(1) for part in jacobian.values()]  # (N C, entries)
    gram = sum((part @ part.T).double() for part in rows)
    n, c = len(inputs), len(chosen)
    require_finite("outputs", outputs)
    kernel = require_finite("tangent kernel", gram).view(n, c, n, c)
    return Tangents(outputs[:, chosen].double(), positions, kernel, sum(part.shape[1] for part in rows))


def gradient_norm(at: Tangents) -> float:
    """||g||, g the gradient of the mean cross-entropy over the batch with respect to all parameters."""
    return float(_gradient_products(at).mean().clamp(min=0).sqrt())


def gradient_norm_per_parameter(at: Tangents) -> float:
    """||g|| / sqrt(number of parameters): the root mean square entry, comparable between networks of different size."""
    return gradient_norm(at) / at.parameters**0.5


def gradient_reliability(at: Tangents, *, batch_size: int = 1) -> float:
    """||g||^2 / E||g_B||^2 in (0, 1]: how much of a minibatch gradient g_B is signal; 0 where all gradients are zero.

    E||g_B||^2 = ||g||^2 + (mean_i ||g_i||^2 - ||g||^2) / batch_size for samples drawn with replacement, the batch at
    hand being the population. 1: all samples pull in the same direction. 1 / N: orthogonal pulls of equal size.
    """
    products = _gradient_products(at)
    signal, single = float(products.mean()), float(products.diagonal().mean())
    return signal / (signal + (single - signal) / batch_size) if single > 0 else 0.0


def optimization_readiness(at: Tangents, *, batch_size: int = 1) -> float:
    """Gradient strength ||g||^2 times gradient reliability ||g||^2 / E||g_B||^2.

    For a loss with an L-Lipschitz gradient, one SGD step with the best rate lowers the loss in expectation by at least
    this / (2 L). The idea, "optimization readiness", and that it combines strength with reliability and bounds the gain
    of one step from below, are from arXiv:2605.09044, of which only the abstract was at hand: the formula here is this
    book's own, the simplest with that property, and theirs may weigh the two differently.
    """
    return gradient_norm(at) ** 2 * gradient_reliability(at, batch_size=batch_size)


def ntk_effective_rank(at: Tangents, *, centred: bool = False) -> float:
    """exp(H(p)), p the normalised eigenvalues of the NTK over all samples and active outputs; at most N x C.

    `centred`: of the kernel of the outputs with each output's mean over the samples removed. The part that the network
    shares over all samples is then gone, which otherwise dominates.
    """
    kernel = at.kernel
    if centred:
        kernel = kernel - kernel.mean(0, keepdim=True)
        kernel = kernel - kernel.mean(2, keepdim=True)
    return _rank_of(_square(kernel))


def ggn_effective_rank(at: Tangents) -> float:
    """exp(H(p)), p the normalised eigenvalues of the generalised Gauss-Newton matrix J^T S J / N; at most N (C - 1).

    S is the cross-entropy's Hessian in the outputs, diag(p) - p p^T for each sample; J^T S J has the non-zero
    eigenvalues of S^1/2 K S^1/2, the loss-weighted kernel. Exact. Source of the diagnostic: arXiv:2509.22335.
    """
    p = at.logits.softmax(1)
    root = _symmetric_root(torch.diag_embed(p) - p[:, :, None] * p[:, None, :])  # (N, C, C)
    weighted = torch.einsum("nab,nbmc,mcd->namd", root, at.kernel, root)
    return _rank_of(_square(weighted))


DIAGNOSTICS: dict[str, Callable[[Tangents], float]] = {
    "gradient_norm": gradient_norm,
    "gradient_norm_per_parameter": gradient_norm_per_parameter,
    "gradient_reliability": gradient_reliability,
    "optimization_readiness": optimization_readiness,
    "ntk_rank": ntk_effective_rank,
    "ntk_rank_centred": lambda at: ntk_effective_rank(at, centred=True),
    "ggn_rank": ggn_effective_rank,
}
"""What is computed from one `Tangents`, by name."""


def diagnose(model: nn.Module, inputs: Tensor, targets: Tensor, *, samples: int = 32) -> dict[str, float]:
    """All `DIAGNOSTICS` and hessian_rank on `samples` of the inputs, evenly spaced, before the model learns them.

    The task's outputs are taken to be the classes that occur among the targets. hessian_rank is
    `metrics.hessian.hessian_epsilon_rank`.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> sorted(diagnose(net, torch.eye(2), torch.tensor([0, 1])))[:2]
    ['ggn_rank', 'gradient_norm']
    """
    active = targets.unique()
    picks = torch.linspace(0, len(inputs) - 1, min(samples, len(inputs))).round().long()
    x, y = inputs[picks], targets[picks]
    at = tangents(model, x, y, active=active)
    found = {name: metric(at) for name, metric in DIAGNOSTICS.items()}
    return found | {"hessian_rank": float(hessian_epsilon_rank(model, x, y, active=active))}


def _positions(outputs: int, targets: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor]:
    """Indices (C,) of the active outputs, and the targets as positions among them."""
    if active is None:
        active = torch.arange(outputs, device=targets.device)
    chosen = active.nonzero().flatten() if active.dtype == torch.bool else active
    place = torch.full((outputs,), -1, device=targets.device)
    place[chosen] = torch.arange(len(chosen), device=targets.device)
    if not targets.numel() or (place[targets] < 0).any():
        raise UsageError("a target that is no active output, or no target", remedy="give the outputs of the task")
    return chosen, place[targets]


def _gradient_products(at: Tangents) -> Tensor:
    """<g_i, g_j> (N, N) of the gradients of the samples' losses: g_i = sum_c (p_ic - y_ic) J_ic."""
    residual = at.logits.softmax(1) - nn.functional.one_hot(at.targets, at.logits.shape[1])
    return torch.einsum("na,namb,mb->nm", residual, at.kernel, residual)


def _square(kernel: Tensor) -> Tensor:
    return kernel.flatten(2).flatten(0, 1)


def _rank_of(matrix: Tensor) -> float:
    return effective_rank(torch.linalg.eigvalsh((matrix + matrix.T) / 2).clamp(min=0))


def _symmetric_root(matrices: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrices)
    return vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT
