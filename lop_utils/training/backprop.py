"""Losses and gradients of a stack of MLPs with the backward pass written out, for the loop that trains them on a CPU.

For networks this small, most of a training step is not arithmetic but the bookkeeping of automatic differentiation.
Here every layer's derivative is called directly, in the order and with the operations that automatic differentiation
would choose, so that nothing changes but the time: losses, outputs, gradients and batch statistics are equal to the
last bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.models.mlp import MLP
from lop_utils.models.stack import Stack

aten = torch.ops.aten
Slope = Callable[[Tensor, Tensor, Tensor], Tensor]  # (gradient at the output, pre-activation, output) -> at the input
_SLOPES: dict[type[nn.Module], Callable[[nn.Module], Slope]] = {
    nn.ReLU: lambda module: lambda g, z, a: aten.threshold_backward(g, a, 0),
    nn.LeakyReLU: lambda module: lambda g, z, a: aten.leaky_relu_backward(g, z, module.negative_slope, False),
    nn.Tanh: lambda module: lambda g, z, a: aten.tanh_backward(g, a),
    nn.Sigmoid: lambda module: lambda g, z, a: aten.sigmoid_backward(g, a),
    nn.GELU: lambda module: lambda g, z, a: aten.gelu_backward(g, z),
    nn.Identity: lambda module: lambda g, z, a: g,
}


def differentiable(stack: Stack, x: Tensor) -> bool:
    """Whether `Backprop` can train this stack: MLPs on a CPU whose every part has its derivative here.

    That is: every parameter trained, activations without parameters.
    """
    if not isinstance(stack, Stack) or not isinstance(stack.skeleton, MLP) or x.device.type != "cpu":
        return False
    known = all(type(layer.activation) in _SLOPES for layer in stack.skeleton.hidden)
    return known and stack.training and all(p.requires_grad for p in stack.parameters())


@dataclass
class _Seen:
    """What one hidden layer leaves for its backward pass; each tensor (members, N, units) but the statistics."""

    inputs: Tensor
    linear: Tensor
    normed: Tensor
    activation: Tensor
    output: Tensor
    mask: Tensor | None = None  # of dropout
    scaled: Tensor | None = None  # a LayerNorm's output before its affine map
    statistics: list[Tensor] | None = None  # mean and 1 / standard deviation


class Backprop:
    """``losses, outputs = step(x, y)``: cross-entropy over the `active` outputs, its gradients left in the parameters.

    x (members, N, ...), y (members, N) class indices, active (members, outputs) bool or None for all; losses (members,)
    are means over N, outputs (members, N, outputs) are logits. Equal to the last bit to what ``stack(x)``,
    `ensemble.member_cross_entropy` and ``backward()`` on the sum of losses give; observers are told, and dropout draws
    its masks, in the same way. Only where `differentiable` says so.

    >>> from lop_utils.models.mlp import MLPConfig
    >>> stack = Stack([MLP(MLPConfig(3, (4,), 2), seed=s) for s in (0, 1)])
    >>> losses, outputs = Backprop(stack)(torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.long))
    >>> losses.shape, outputs.shape, stack.tensors["head.bias"].grad.shape
    (torch.Size([2]), torch.Size([2, 5, 2]), torch.Size([2, 2]))
    """

    def __init__(self, stack: Stack, active: Tensor | None = None):
        self.stack = stack
        self.tensors, self.inactive = stack.tensors, None if active is None else ~active[:, None]
        self.layers = list(stack.skeleton.hidden)
        self.slopes = [_SLOPES[type(layer.activation)](layer.activation) for layer in self.layers]

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h, seen = x.flatten(2), []
        for i in range(len(self.layers)):
            seen.append(self._forward(i, h))
            h = seen[-1].output
        outputs = self._linear("head", h)
        if self.stack.observed:
            self.stack.tell(_by_path(seen) | {"head": outputs})
        shown = outputs if self.inactive is None else outputs.masked_fill(self.inactive, -torch.inf)
        logs = shown.log_softmax(-1)
        losses = -logs.gather(2, y[..., None])[..., 0].mean(1)
        g = torch.zeros_like(logs).scatter_(2, y[..., None], -1 / y.shape[1])
        g = aten._log_softmax_backward_data(g, logs, -1, logs.dtype)
        if self.inactive is not None:
            g.masked_fill_(self.inactive, 0)
        self._keep("head", g, h)
        g = torch.bmm(g, self.tensors["head.weight"])
        for i in reversed(range(len(self.layers))):
            g = self._backward(i, seen[i], g)
        return losses, outputs

    def _forward(self, i: int, h: Tensor) -> _Seen:
        norm, path = self.layers[i].norm, f"hidden.{i}.norm"
        z = normed = self._linear(f"hidden.{i}.linear", h)
        scaled = statistics = None
        gain, shift = self.tensors.get(f"{path}.weight"), self.tensors.get(f"{path}.bias")
        if isinstance(norm, nn.LayerNorm):
            scaled, *statistics = aten.native_layer_norm(z, z.shape[-1:], None, None, norm.eps)
            normed = scaled if gain is None else torch.addcmul(shift[:, None], scaled, gain[:, None])
        elif isinstance(norm, nn.BatchNorm1d):
            self.tensors[f"{path}.num_batches_tracked"].add_(1)
            running = (_flat(self.tensors[f"{path}.running_{kind}"]) for kind in ("mean", "var"))
            wide, *statistics = aten.native_batch_norm(
                _side_by_side(z), _flat(gain), _flat(shift), *running, True, norm.momentum, norm.eps
            )
            normed = _apart(wide, z)
        activation, mask = self.layers[i].activation(normed), None
        if isinstance(self.layers[i].dropout, nn.Dropout):
            mask = self.stack.masks({f"hidden.{i}.dropout": activation.shape[1:]})[f"hidden.{i}.dropout"]
        output = activation if mask is None else activation * mask
        return _Seen(h, z, normed, activation, output, mask, scaled, statistics)

    def _backward(self, i: int, seen: _Seen, g: Tensor) -> Tensor | None:
        """Gradients of layer `i` from g, the one at its output; returns the one at its input, None for the first."""
        if seen.mask is not None:
            g = g * seen.mask
        g = self.slopes[i](g, seen.normed, seen.activation)
        norm, path = self.layers[i].norm, f"hidden.{i}.norm"
        gain, shift = self.tensors.get(f"{path}.weight"), self.tensors.get(f"{path}.bias")
        if isinstance(norm, nn.LayerNorm):
            if gain is not None:
                gain.grad, shift.grad = (g * seen.scaled).sum(1), g.sum(1)
                g = g * gain[:, None]
            shape, wanted = seen.linear.shape[-1:], [True, False, False]
            g = aten.native_layer_norm_backward(g, seen.linear, shape, *seen.statistics, None, None, wanted)[0]
        elif isinstance(norm, nn.BatchNorm1d):
            running = (_flat(self.tensors[f"{path}.running_{kind}"]) for kind in ("mean", "var"))
            wide, for_gain, for_shift = aten.native_batch_norm_backward(
                _side_by_side(g),
                _side_by_side(seen.linear),
                _flat(gain),
                *running,
                *seen.statistics,
                True,
                norm.eps,
                [True, gain is not None, gain is not None],
            )
            if gain is not None:
                gain.grad, shift.grad = for_gain.view_as(gain), for_shift.view_as(shift)
            g = _apart(wide, g)
        self._keep(f"hidden.{i}.linear", g, seen.inputs)
        return torch.bmm(g, self.tensors[f"hidden.{i}.linear.weight"]) if i else None

    def _linear(self, path: str, h: Tensor) -> Tensor:
        return torch.baddbmm(self.tensors[f"{path}.bias"][:, None], h, self.tensors[f"{path}.weight"].mT)

    def _keep(self, path: str, g: Tensor, h: Tensor) -> None:
        """The gradients of a linear layer, from the one at its output (members, N, units) and its input."""
        self.tensors[f"{path}.weight"].grad, self.tensors[f"{path}.bias"].grad = torch.bmm(g.mT, h), g.sum(1)


def _by_path(seen: list[_Seen]) -> dict[str, Tensor]:
    """Outputs of the modules of all hidden layers, by path."""
    found = {}
    for i, layer in enumerate(seen):
        parts = {"linear": layer.linear, "norm": layer.normed, "activation": layer.activation, "dropout": layer.output}
        found |= {f"hidden.{i}.{name}": tensor for name, tensor in parts.items()}
    return found


def _side_by_side(z: Tensor) -> Tensor:
    """(members, N, units) -> (N, members * units), so that one normalisation serves all members."""
    return z.transpose(0, 1).reshape(z.shape[1], -1)


def _apart(wide: Tensor, like: Tensor) -> Tensor:
    members, rows, units = like.shape
    return wide.view(rows, members, units).transpose(0, 1)


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.view(-1)
