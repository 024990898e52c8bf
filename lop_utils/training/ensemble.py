"""Training a stack of networks: all seeds of an experiment in one loop, each member as if it were alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.stack import Stack
from lop_utils.training.backprop import Backprop, differentiable
from lop_utils.training.capture import Captured, capturable, captured

_WORTHWHILE = 20  # steps; a graph costs a few to make
MemberLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EnsembleOutcome:
    """What a run came to, one entry a member.

    online_accuracy and online_loss: means over the steps of what a member scores on each minibatch before it learns
    from it (members,); last_loss (members,); diverged_at: the first step whose loss was not finite, None if none was.
    """

    steps: int
    online_accuracy: Tensor
    online_loss: Tensor
    last_loss: Tensor
    diverged_at: tuple[int | None, ...]


def member_cross_entropy(outputs: Tensor, targets: Tensor, active: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of each member: outputs (members, N, C), targets (members, N) -> (members,).

    With `active` (members, C) bool, over the active outputs alone.

    >>> member_cross_entropy(torch.zeros(2, 5, 4), torch.zeros(2, 5, dtype=torch.long)).round(decimals=3)
    tensor([1.3860, 1.3860])
    """
    losses = nn.functional.cross_entropy(mask(outputs, active).flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets).mean(1)


def mask(outputs: Tensor, active: Tensor | None) -> Tensor:
    """`outputs` (members, N, C) with -inf where `active` (members, C) is False."""
    return outputs if active is None else outputs.masked_fill(~active[:, None], -torch.inf)


def train_ensemble(
    stack: Stack,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    active: Tensor | None = None,
    loss: MemberLoss | None = None,
    scored: Tensor | None = None,
    probe: Callable[[int], None] | None = None,
    probe_at: Iterable[int] = (),
    fast: bool = True,
) -> EnsembleOutcome:
    """Train all members for `steps` updates; call ``probe(step)`` at the steps in `probe_at`, 0 and `steps` included.

    `batches` yields (members, B, ...) and (members, B), see `streams.batches.member_batches`. The loss is cross-entropy
    over the `active` outputs (members, C) unless `loss`(outputs, targets) -> (members,) is given; online accuracy is
    over the `scored` outputs (by default the active ones). A member whose loss is not finite is reported with its step;
    the others go on, untouched by it. Nothing here waits for a GPU before the end, and on one the forward and backward
    pass becomes one CUDA graph where it can (`capture`): no dropout, nothing observed, `loss` without side effects. On
    a CPU the cross-entropy of MLPs is differentiated by `backprop`, which changes the time and no bit of the result.
    Neither happens without `fast`, which is for comparing times.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> stack = Stack([MLP(MLPConfig(3, (4,), 2), seed=s) for s in (0, 1)])
    >>> data = iter([(torch.ones(2, 5, 3), torch.ones(2, 5, dtype=torch.long))] * 40)
    >>> outcome = train_ensemble(stack, torch.optim.Adam(stack.parameters(), lr=0.1), data, steps=40)
    >>> outcome.diverged_at, bool((outcome.last_loss < 0.1).all())
    ((None, None), True)
    """
    if loss is not None and active is not None:
        raise UsageError("both a loss and active outputs", remedy="mask inside your loss, or leave the loss out")
    objective = loss or (lambda outputs, targets: member_cross_entropy(outputs, targets, active))
    device, due = next(stack.parameters()).device, set(probe_at)
    backprop: Captured | Backprop | None = None
    accuracy, total, last = (torch.zeros(stack.members, device=device) for _ in range(3))
    diverged = torch.full((stack.members,), steps, device=device)
    for step in range(steps + 1):
        if probe is not None and step in due:
            probe(step)
        if step == steps:
            break
        x, y = next(batches)
        if step == 0 and fast and steps > _WORTHWHILE and capturable(stack, x):
            backprop = captured(stack, objective, x, y)
        elif step == 0 and fast and loss is None and differentiable(stack, x):
            backprop = Backprop(stack, active)
        optimizer.zero_grad()
        losses, outputs = backprop(x, y) if backprop is not None else _eagerly(stack, objective, x, y)
        optimizer.step()
        with torch.no_grad():
            last = losses.detach().clone()
            diverged = torch.where(torch.isfinite(last), diverged, diverged.clamp(max=step))
            total += last
            if outputs.ndim == 3:
                shown = mask(outputs, active if scored is None else scored)
                accuracy += (shown.argmax(-1) == y).float().mean(1)
    ended = [None if at == steps else at for at in diverged.tolist()]
    return EnsembleOutcome(steps, accuracy / max(steps, 1), total / max(steps, 1), last, tuple(ended))


def _eagerly(stack: Stack, objective: MemberLoss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    outputs = stack(x)
    losses = objective(outputs, y)
    losses.sum().backward()
    return losses, outputs


@torch.no_grad()
def zero_head(stack: Stack, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Set the head's weights and bias to zero, as the paper does at each task; with `optimizer`, its moments there too.

    The public code keeps the moments, so that the rows of classes that are no longer trained drift on.
    """
    for name, p in stack.tensors.items():
        if name in ("head.weight", "head.bias"):
            p.zero_()
            if optimizer is not None:
                for value in optimizer.state.get(p, {}).values():
                    if torch.is_tensor(value) and value.shape == p.shape:
                        value.zero_()
