"""What the units of all networks of a stack do, at once: activations, their gradients, and what is read from them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lop_utils.errors import UsageError
from lop_utils.metrics.spectrum import RANK_METRICS, spectrum
from lop_utils.models.spaces import Space, spaces_of
from lop_utils.models.stack import Stack
from lop_utils.training.ensemble import member_cross_entropy

RANK = "effective_rank_singular_raw"


@dataclass(frozen=True)
class Signal:
    """Activations and their loss gradients of one space: (members, rows, units) each; rows are samples x positions."""

    activation: Tensor
    gradient: Tensor


def signals(stack: Stack, x: Tensor, y: Tensor) -> dict[str, Signal]:
    """The signals of every recordable space in evaluation mode, for x (N, ...) and y (N,) that all members share.

    Member i's are those of ``metrics.record.record(stack.member(i), x, y)``. A zero is added to every activation; the
    gradient in the zero is the gradient in the activation.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> stack = Stack([MLP(MLPConfig(3, (4,), 2), seed=s) for s in (0, 1)])
    >>> signals(stack, torch.ones(5, 3), torch.zeros(5, dtype=torch.long))["hidden.0"].gradient.shape
    torch.Size([2, 5, 4])
    """
    skeleton = deepcopy(stack.skeleton).eval()
    spaces = [space for space in spaces_of(skeleton) if space.activation]
    shapes = _shapes(skeleton, spaces, x)
    tensors = {name: tensor.detach() for name, tensor in stack.tensors.items()}
    zeros = {path: x.new_zeros(stack.members, *shape) for path, shape in shapes.items()}

    def loss(offsets: dict[str, Tensor], state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        seen: dict[str, Tensor] = {}
        outputs = _hooked(skeleton, offsets, lambda h, path: seen.setdefault(path, h + offsets[path]), state, x)
        return nn.functional.cross_entropy(outputs, y), seen

    gradients, seen = vmap(grad(loss, has_aux=True))(zeros, tensors)
    return {s.name: Signal(_rows(seen[s.activation]), _rows(gradients[s.activation])) for s in spaces}


def cloning_r2s(values: Tensor, copies: int) -> Tensor:
    """The cloning R^2 of each member, (members,), for values (members, rows, units) of tiled `copies`-fold clones.

    The same number as `metrics.cloning.cloning_r2` with the labels of ``Partition.of_clone``, for a whole stack.

    >>> cloning_r2s(torch.tensor([[[1.0, 1.0], [2.0, 2.0]]]), 2)
    tensor([1.], dtype=torch.float64)
    """
    if values.shape[2] % copies:
        raise UsageError(f"{values.shape[2]} units are no {copies}-fold clone", remedy="give a divisor")
    s = values.double().unflatten(2, (copies, -1))  # (members, rows, copies, blocks)
    residual = (s - s.mean(2, keepdim=True)).square().sum((1, 2, 3))
    total = (s - s.mean((1, 2), keepdim=True)).square().sum((1, 2, 3))
    return torch.where(total > 0, 1 - residual / total.clamp(min=torch.finfo(s.dtype).tiny), 1.0)


def r2_by_space(found: Mapping[str, Signal], copies: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(forward, backward) cloning R^2 of every space, (members,) each."""
    pairs = {name: (signal.activation, signal.gradient) for name, signal in found.items()}
    return {name: tuple(cloning_r2s(part, copies) for part in pair) for name, pair in pairs.items()}


def mean_r2(by_space: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """The mean of what `r2_by_space` found, over spaces and both directions, (members,)."""
    return torch.stack([part for pair in by_space.values() for part in pair]).mean(0)


def mean_rank(found: Mapping[str, Signal]) -> Tensor:
    """Effective rank (singular values, not centred), mean over spaces, (members,)."""
    rank = lambda name, h: RANK_METRICS[RANK](spectrum(h, layer=name))  # noqa: E731
    ranks = [[rank(name, h) for h in signal.activation] for name, signal in found.items()]
    return torch.tensor(ranks).mean(0)


@torch.no_grad()
def loss_and_accuracy(stack: Stack, x: Tensor, y: Tensor, *, rows: int = 1000) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy of each member, (members,), in evaluation mode, `rows` samples at a time."""
    training, losses, hits = stack.training, 0.0, 0.0
    stack.eval()
    for part, labels in zip(x.split(rows), y.split(rows), strict=True):
        labels = labels.expand(stack.members, -1)
        outputs = stack(part.expand(stack.members, *part.shape))
        losses = losses + member_cross_entropy(outputs, labels) * labels.shape[1]
        hits = hits + (outputs.argmax(-1) == labels).sum(1)
    stack.train(training)
    return losses / len(x), hits / len(x)


def _shapes(skeleton: nn.Module, spaces: list[Space], x: Tensor) -> dict[str, torch.Size]:
    seen: dict[str, torch.Size] = {}
    paths = {space.activation: None for space in spaces}
    _hooked(skeleton, paths, lambda h, path: seen.setdefault(path, h.shape) and h, {}, x.to("meta"))
    return seen


def _hooked(
    skeleton: nn.Module, paths: Mapping[str, object], change: Callable, state: dict[str, Tensor], x: Tensor
) -> Tensor:
    """The outputs of `skeleton` with `state`, where `change`(output, path) replaces the output of every path."""
    hooks = [
        skeleton.get_submodule(path).register_forward_hook(lambda module, inputs, h, path=path: change(h, path))
        for path in paths
    ]
    try:
        return functional_call(skeleton, state, (x,))
    finally:
        for hook in hooks:
            hook.remove()


def _rows(values: Tensor) -> Tensor:
    """(members, N, units), (members, N, units, H, W) or (members, N, tokens, units) -> (members, rows, units)."""
    values = values.detach()
    return (values.movedim(2, -1) if values.ndim == 5 else values).flatten(1, -2)
