"""Is there a hill between two networks? Matching of units, and the loss along the straight line between weights."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import functional_call

from lop_utils.errors import UsageError
from lop_utils.models.spaces import axis_uses, spaces_of


@torch.no_grad()
def matched(model: nn.Module, to: nn.Module, *, sweeps: int = 10) -> nn.Module:
    """A copy of `model` whose units stand in the order in which their weights are most like those of `to`.

    The copy computes the same function. Space by space, with the others fixed, the order is the best one (a linear
    assignment that maximises the inner product of all weights with those of `to`), until nothing changes any more or
    `sweeps` rounds are over: "weight matching" of Ainsworth et al. 2023. Raises `UsageError` for networks of two kinds.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> torch.equal(matched(net, net).head.weight, net.head.weight)
    True
    """
    if type(model) is not type(to) or model.config != to.config:
        raise UsageError(f"{model.config} and {to.config}", remedy="match networks of one class and configuration")
    uses, goal = axis_uses(model), to.state_dict()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    floats = [name for name in uses if state[name].is_floating_point()]
    for _ in range(sweeps):
        moved = False
        for space in spaces_of(model):
            places = [(name, use) for name in floats for use in uses[name] if use.space == space.name]
            if any((use.outer, use.inner) != (1, 1) for _, use in places):
                raise UsageError(
                    f"space {space.name} has several entries a unit", remedy="match multilayer perceptrons"
                )
            likeness = sum(_by_unit(goal[n], u.axis) @ _by_unit(state[n], u.axis).T for n, u in places)
            order = torch.from_numpy(linear_sum_assignment(likeness.cpu().numpy(), maximize=True)[1])
            moved = moved or not torch.equal(order, torch.arange(space.size))
            for name, use in places:
                state[name] = state[name].index_select(use.axis, order.to(state[name].device))
        if not moved:
            break
    found = model.resized({space.name: space.size for space in spaces_of(model)}).to(next(model.parameters()))
    found.load_state_dict(state)
    return found.train(model.training)


def _by_unit(tensor: Tensor, axis: int) -> Tensor:
    return tensor.movedim(axis, 0).flatten(1) if tensor.ndim > 1 else tensor[:, None]


@torch.no_grad()
def line_losses(a: nn.Module, b: nn.Module, x: Tensor, y: Tensor, *, points: int = 11) -> np.ndarray:
    """Mean cross-entropy at `points` equally spaced weights from those of `a` to those of `b`, shape (points,)."""
    first, last = dict(a.named_parameters()), dict(b.named_parameters())
    along = []
    for t in np.linspace(0, 1, points):
        state = {name: (1 - t) * first[name] + t * last[name] for name in first}
        along.append(float(nn.functional.cross_entropy(functional_call(a, state, (x,)), y)))
    return np.array(along)


def barrier(losses: np.ndarray) -> float:
    """How far the losses along a line rise above the straight line between its ends, at most; 0 for no barrier.

    Definition: Frankle et al. 2020, "linear mode connectivity".

    >>> barrier(np.array([1.0, 3.0, 2.0]))
    1.5
    """
    return float((losses - np.linspace(losses[0], losses[-1], len(losses))).max())
