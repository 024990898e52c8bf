"""Recording: what every unit of a model does on a batch, without leaving a trace on the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.spectrum import Spectrum, spectrum
from lop_utils.models.spaces import Space, spaces_of


@dataclass(frozen=True)
class LayerRecord:
    """One space's units on one batch; rows are samples (times positions or tokens), columns are units.

    pre_activation: z, the input of the activation; activation: h = f(z); gradient: dL/dh (None without targets).
    All have shape (rows, units) and are detached.
    """

    name: str
    pre_activation: Tensor | None
    activation: Tensor
    gradient: Tensor | None = None

    @cached_property
    def spectrum(self) -> Spectrum:
        """The spectrum of the activations, computed once however many ranks are asked for."""
        return spectrum(self.activation, layer=self.name)


def record(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    training: bool = False,
    spaces: Sequence[str] | None = None,
) -> dict[str, LayerRecord]:
    """Record z, h and, with `targets`, dL/dh of every space of `model` on one batch (all of it at once).

    The model runs in evaluation mode, or in training mode (batch statistics, dropout) with `training=True`. Gradients,
    random state, mode, hooks and buffers of the model are the same afterwards, also when its forward pass raises.
    The gradient is that of `loss` as given: with a mean over the batch it scales with 1 / batch size.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> record(net, torch.zeros(5, 3), torch.zeros(5, dtype=torch.long))["hidden.0"].gradient.shape
    torch.Size([5, 4])
    """
    wanted = _wanted(model, spaces)
    with _untouched(model), _capture(model, wanted) as seen:
        model.train(training)
        with torch.set_grad_enabled(targets is not None):
            outputs = model(inputs)
            activations = [seen[space.activation] for space in wanted]
            gradients = [None] * len(wanted)
            if targets is not None:
                gradients = torch.autograd.grad(loss(outputs, targets), activations, allow_unused=True)
        return {
            space.name: LayerRecord(
                name=space.name,
                pre_activation=_rows(seen.get(space.pre_activation)),
                activation=_rows(activation),
                gradient=_rows(gradient),
            )
            for space, activation, gradient in zip(wanted, activations, gradients, strict=True)
        }


def _wanted(model: nn.Module, names: Sequence[str] | None) -> list[Space]:
    declared = {space.name: space for space in spaces_of(model) if space.activation}
    for name in names or ():
        if name not in declared:
            raise UsageError(f"no recordable space {name!r}", remedy=f"choose from: {', '.join(declared)}")
    return [declared[name] for name in (declared if names is None else names)]


def _rows(values: Tensor | None) -> Tensor | None:
    """(N, units), (N, units, H, W) or (N, tokens, units) -> (rows, units)."""
    if values is None:
        return None
    values = values.detach()
    return (values.movedim(1, -1) if values.ndim == 4 else values).flatten(0, -2)


@contextmanager
def _capture(model: nn.Module, spaces: list[Space]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the spaces' modules by module name while the context lasts."""
    seen: dict[str, Tensor] = {}
    paths = {path for space in spaces for path in (space.pre_activation, space.activation) if path}

    def hook(path: str) -> Callable:
        def keep(module: nn.Module, arguments: tuple, output: Tensor) -> None:
            seen[path] = output

        return keep

    handles = [model.get_submodule(path).register_forward_hook(hook(path)) for path in sorted(paths)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Restore mode, buffers and random state of `model` on leaving."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
