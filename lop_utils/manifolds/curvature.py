"""Curvature normal to the equitable weights: the Hessian of a loss restricted to the directions that leave RE and CE.

At a network in RE and CE the Hessian maps the normal space into itself, the Gauss-Newton part vanishes on it, and what
is left is linear in the gradient of the loss at the outputs (the residual). Its spectrum decides what becomes of a
small perturbation d: one gradient step maps it to (I - lr H) d.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.lanczos import Extremes, extreme_eigenvalues
from lop_utils.manifolds.normal_space import NormalSpace

Loss = Callable[[Tensor, Tensor], Tensor]
KINDS = ("stable", "unstable", "saddle", "neutral", "semi-stable", "semi-unstable")


def normal_hessian(
    model: nn.Module,
    space: NormalSpace,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = nn.functional.cross_entropy,
    chunk: int = 64,
) -> Tensor:
    """The Hessian of `loss` restricted to the normal space, (dimension, dimension), by automatic differentiation.

    For small networks; `chunk` directions are differentiated at a time. The model is used in evaluation mode and left
    as it is. Unlike `manifolds.unit_blocks` it needs no block-constant weights and no particular architecture.

    >>> from lop_utils.manifolds.normal_space import normal_space
    >>> from lop_utils.manifolds.partition import Partition
    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=1, widths=(2,), outputs=1), seed=0)
    >>> space = normal_space(net, Partition.of_clone(net, 2))
    >>> normal_hessian(net, space, torch.ones(3, 1), torch.ones(3, 1), loss=nn.functional.mse_loss).shape
    torch.Size([3, 3])
    """
    objective, origin = _objective(model, space, inputs, targets, loss)
    _, pull = torch.func.vjp(torch.func.grad(objective), origin)
    directions = torch.eye(space.dimension, dtype=origin.dtype, device=origin.device)
    hessian = torch.func.vmap(lambda v: pull(v)[0], chunk_size=chunk)(directions).detach()
    return (hessian + hessian.T) / 2


def normal_product(
    model: nn.Module, space: NormalSpace, inputs: Tensor, targets: Tensor, *, loss: Loss = nn.functional.cross_entropy
) -> Callable[[Tensor], Tensor]:
    """The map v -> H v on the normal space, both (dimension,), by two backward passes: nothing quadratic is stored."""
    objective, origin = _objective(model, space, inputs, targets, loss)
    point = origin.requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(point), point, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # the loss is linear in the normal directions
            return torch.zeros_like(vector)
        (found,) = torch.autograd.grad(gradient, point, vector, retain_graph=True)
        return found

    return product


def normal_extremes(
    model: nn.Module,
    space: NormalSpace,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss = nn.functional.cross_entropy,
    **options: float,
) -> Extremes:
    """Both ends of the spectrum of the Hessian on the normal space, by Lanczos; options of `extreme_eigenvalues`."""
    product = normal_product(model, space, inputs, targets, loss=loss)
    like = next(model.parameters()).detach().new_zeros(space.dimension)
    return extreme_eigenvalues(product, like, **options)


def _objective(
    model: nn.Module, space: NormalSpace, inputs: Tensor, targets: Tensor, loss: Loss
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The loss as a function of the normal coordinates of a displacement, and the origin of that space."""
    still = deepcopy(model).eval()
    fixed = {name: tensor.detach() for name, tensor in [*still.named_parameters(), *still.named_buffers()]}

    def objective(coordinates: Tensor) -> Tensor:
        moved = {name: fixed[name] + step for name, step in space.embed(coordinates).items()}
        return loss(torch.func.functional_call(still, {**fixed, **moved}, (inputs,)), targets)

    return objective, next(iter(fixed.values())).new_zeros(space.dimension)


@dataclass(frozen=True)
class Stability:
    """Numbers of negative, zero and positive eigenvalues, both ends of the spectrum, and the class they make.

    kind: stable (all positive), unstable (all negative), saddle (both signs), neutral (all zero), semi-stable
    (positive and zero), semi-unstable (negative and zero). The paper's definition has the first three.
    """

    kind: str
    negative: int
    zero: int
    positive: int
    smallest: float
    largest: float


def classify(eigenvalues: Tensor, *, relative: float = 1e-9, absolute: float = 1e-9) -> Stability:
    """The class of a spectrum (n,). An eigenvalue counts as zero up to `relative` times the largest and `absolute`.

    `absolute` is in units of loss / weight^2: a curvature of 1e-9 takes 1 / (lr 1e-9) steps to grow e-fold.

    >>> classify(torch.tensor([-1.0, 0.0, 2.0]))
    Stability(kind='saddle', negative=1, zero=1, positive=1, smallest=-1.0, largest=2.0)
    """
    if eigenvalues.ndim != 1 or not len(eigenvalues) or not torch.isfinite(eigenvalues).all():
        raise UsageError(f"eigenvalues of shape {tuple(eigenvalues.shape)}", remedy="give one or more finite numbers")
    bound = max(relative * float(eigenvalues.abs().max()), absolute)
    negative, positive = int((eigenvalues < -bound).sum()), int((eigenvalues > bound).sum())
    zero = len(eigenvalues) - negative - positive
    if negative and positive:
        kind = "saddle"
    elif not negative and not positive:
        kind = "neutral"
    else:
        kind = ("semi-" if zero else "") + ("unstable" if negative else "stable")
    return Stability(kind, negative, zero, positive, float(eigenvalues.min()), float(eigenvalues.max()))
