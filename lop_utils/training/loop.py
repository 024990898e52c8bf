"""One short training loop."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Outcome:
    """What a run came to: steps done, the last minibatch loss, and where it diverged (None: it did not)."""

    steps: int
    last_loss: float
    diverged_at: int | None


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    probe: Callable[[int], None] | None = None,
    probe_at: Iterable[int] = (),
) -> Outcome:
    """Train `model` for `steps` updates; call ``probe(step)`` at the steps in `probe_at`, 0 and `steps` included.

    ``probe(t)`` sees the model after t updates. `seed` decides dropout and other random layers; the global generator is
    neither read nor moved. A loss that is not finite ends the run: the outcome says where, nothing is raised.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> data = iter([(torch.ones(1, 1), torch.ones(1, 1))] * 9)
    >>> train(net, torch.optim.SGD(net.parameters(), lr=0.1), data, steps=9, loss=nn.functional.mse_loss).steps
    9
    """
    due, value = set(probe_at), math.nan
    with torch.random.fork_rng(devices=_cuda_devices(model)):
        torch.manual_seed(seed)
        for step in range(steps + 1):
            if probe is not None and step in due:
                probe(step)
            if step == steps:
                break
            x, y = next(batches)
            optimizer.zero_grad()
            objective = loss(model(x), y)
            value = float(objective.detach())
            if not math.isfinite(value):
                return Outcome(step, value, diverged_at=step)
            objective.backward()
            optimizer.step()
    return Outcome(steps, value, diverged_at=None)


def probe_steps(steps: int, count: int) -> list[int]:
    """About `count` steps from 0 to `steps`, evenly spaced, both ends included.

    >>> probe_steps(10, 3)
    [0, 5, 10]
    """
    return sorted({round(i * steps / max(count - 1, 1)) for i in range(count)} | {0, steps})


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
