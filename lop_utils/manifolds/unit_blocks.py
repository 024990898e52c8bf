"""The normal Hessian of a cloned multilayer perceptron in closed form: one small matrix for each unit of its base.

Take a unit of the base, cloned k-fold, and move its copies apart: copy u by c_u, sum c = 0, |c| = 1, along p in its
incoming weights and bias and along q in its outgoing weights (constant over the copies of the units at the other end,
normalised). To second order the copies' summed output changes by

    1/2 (p'phi)^2 f''(z)  (with weight g)   +   (q'delta) (p'phi) f'(z),      phi = [sqrt(k_in) h; 1],

because the first order carries sum c = 0. Averaged over the data this is the quadratic form of

    [[S, Q'], [Q, 0]],   S = E[g f''(z) phi phi'] / k,   Q = E[delta f'(z) phi'] / sqrt(k_out),

with h, z, g = dL/dh and delta (the gradient at the next layer's pre-activations) those of the *base*. There are k - 1
such directions c, and different units do not mix: the Hessian on the normal space is this matrix, k - 1 times, for
every unit of the base. It holds at block-constant weights, for any depth, activation and loss on the outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.normal_space import contrasts
from lop_utils.models.mlp import MLP
from lop_utils.models.spaces import spaces_of

Factor = int | Mapping[str, int]


@dataclass(frozen=True)
class UnitHessian:
    """The normal Hessian of one cloned layer, for `units` base units with d = below + 1 + above coordinates each.

    phi (N, below + 1); bend = g f''(z) / k and slope = f'(z), both (N, units); delta (N, above), over sqrt(k_out).
    """

    phi: Tensor
    bend: Tensor
    slope: Tensor
    delta: Tensor
    copies: int

    def blocks(self) -> Tensor:
        """The matrices [[S, Q'], [Q, 0]], shape (units, d, d)."""
        s = self.bend.T[:, None] * self.phi.T @ self.phi  # (units, below + 1, N) @ (N, below + 1)
        q = self.delta.T @ (self.slope.T[:, :, None] * self.phi)  # (above, N) @ (units, N, below + 1)
        zero = q.new_zeros(len(q), q.shape[1], q.shape[1])
        return torch.cat([torch.cat([s, q.mT], dim=2), torch.cat([q, zero], dim=2)], dim=1)

    def eigenvalues(self) -> Tensor:
        """Eigenvalues of the layer's normal Hessian: those of every block, each k - 1 times."""
        return torch.linalg.eigvalsh(self.blocks()).flatten().repeat(self.copies - 1)


def unit_hessians(
    base: MLP,
    factor: Factor,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> dict[str, UnitHessian]:
    """The `UnitHessian` of every cloned layer of ``widen(base, factor)``, by its name; the clone is never built.

    Layers with factor 1 have no normal directions of their own and are left out. Raises `UsageError` for a base that is
    no plain MLP (normalisation, dropout).

    >>> from lop_utils.models.mlp import MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> found = unit_hessians(net, 2, torch.ones(5, 3), torch.ones(5, 2), loss=nn.functional.mse_loss)
    >>> found["hidden.0"].blocks().shape
    torch.Size([4, 6, 6])
    """
    copies = _copies(base, factor)
    hidden, pre, deltas = _signals(base, inputs, targets, loss)
    readers = [layer.linear.weight.detach() for layer in base.hidden[1:]] + [base.head.weight.detach()]
    found = {}
    for i, layer in enumerate(base.hidden):
        k_in, k, k_out = copies[i : i + 3]
        if k > 1:
            slope, second = _derivatives(layer.activation, pre[i])
            phi = torch.cat([k_in**0.5 * hidden[i], torch.ones_like(hidden[i][:, :1])], dim=1)
            bend = (deltas[i + 1] @ readers[i]) * second / k  # g f'' / k
            found[f"hidden.{i}"] = UnitHessian(phi, bend, slope, deltas[i + 1] / k_out**0.5, k)
    return found


def spectrum_of(hessians: Mapping[str, UnitHessian]) -> Tensor:
    """All eigenvalues of the normal Hessian of a cloned network, ascending."""
    return torch.cat([hessian.eigenvalues() for hessian in hessians.values()]).sort().values


def unit_coordinates(clone: MLP, factor: Factor) -> dict[str, Tensor]:
    """Normal coordinates (units, d, k - 1) of the weights of `clone`, in the order of `UnitHessian`, by hidden layer.

    The Euclidean norm of all of them is the distance of `clone` from RE and CE. One SGD step maps
    small coordinates c to c - lr * B @ c, with B the blocks of the step's loss.
    """
    copies = _copies(clone, factor)
    weights = [layer.linear.weight.detach() for layer in clone.hidden] + [clone.head.weight.detach()]
    found = {}
    for i, layer in enumerate(clone.hidden):
        k_in, k, k_out = copies[i : i + 3]
        if k == 1:
            continue
        c = contrasts(k, like=weights[i])  # (k, k - 1); copies are tiled: unit j copies unit j mod n
        into = weights[i].unflatten(0, (k, -1)).unflatten(2, (k_in, -1))  # (k, units, k_in, below)
        out = weights[i + 1].unflatten(0, (k_out, -1)).unflatten(2, (k, -1))  # (k_out, above, k, units)
        bias = layer.linear.bias.detach().view(k, -1)  # (k, units)
        parts = [
            torch.einsum("kc,kuji->uic", c, into) / k_in**0.5,
            torch.einsum("kc,ku->uc", c, bias)[:, None],
            torch.einsum("kc,raku->uac", c, out) / k_out**0.5,
        ]
        found[f"hidden.{i}"] = torch.cat(parts, dim=1)
    return found


def _copies(model: MLP, factor: Factor) -> list[int]:
    """Number of copies of the units of each layer, inputs (1), hidden layers, outputs (1)."""
    if not isinstance(model, MLP) or model.config.norm != "none" or model.config.dropout:
        raise UsageError(
            "the closed form is that of a plain MLP", remedy="use curvature.normal_hessian or normal_extremes instead"
        )
    given = [factor if isinstance(factor, int) else factor.get(space.name, 1) for space in spaces_of(model)]
    if min(given) < 1 or max(given) == 1:
        raise UsageError(f"factor {factor!r} clones nothing", remedy="give a factor of 2 or more to some layer")
    return [1, *given, 1]


def _signals(base: MLP, inputs: Tensor, targets: Tensor, loss: Callable) -> tuple[list[Tensor], ...]:
    """h of inputs and hidden layers, z of hidden layers, and dL/dz of hidden layers and outputs."""
    with torch.enable_grad():
        h, hidden, pre = inputs.flatten(1).to(base.head.weight), [], []
        for layer in base.hidden:
            hidden.append(h)
            z = layer.linear(h)
            pre.append(z)
            h = layer.activation(z)
        outputs = base.head(h)
        deltas = torch.autograd.grad(loss(outputs, targets), [*pre, outputs])
    return [x.detach() for x in hidden], [z.detach() for z in pre], list(deltas)


def _derivatives(f: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """f'(z) and f''(z), entry by entry; at kinks, what automatic differentiation says."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(f(z).sum(), z, create_graph=True)
        if not first.requires_grad:  # f is linear
            return first, torch.zeros_like(z)
        (second,) = torch.autograd.grad(first.sum(), z, allow_unused=True, materialize_grads=True)
    return first.detach(), second
