"""Many small networks of one shape, trained side by side: one tensor a layer, one slice a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.equitable import split
from lop_utils.models.mlp import MLP

_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class Stack(nn.Module):
    """The networks `nets` as one: axis 0 of every parameter runs over them, and none of them feels the others.

    Inputs (networks, N, inputs), outputs (networks, N, outputs). `dropout` (0 at first) acts behind every activation
    while training.
    Raises `UsageError` for networks other than plain tanh or ReLU MLPs of one shape.

    >>> from lop_utils.models.mlp import MLPConfig
    >>> nets = [MLP(MLPConfig(3, (4,), 2, activation="tanh"), seed=s) for s in (0, 1)]
    >>> Stack(nets)(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """

    def __init__(self, nets: Sequence[MLP]):
        super().__init__()
        config = nets[0].config
        plain = config.activation in _ACTIVATIONS and config.norm == "none" and config.dropout == 0
        if not plain or any(net.config != config for net in nets):
            raise UsageError(f"stack of {config}", remedy="give tanh or relu MLPs of one shape, no norm, no dropout")
        self.config = config
        self.names = [name.removesuffix(".weight") for name, p in nets[0].named_parameters() if p.ndim == 2]
        states = [net.state_dict() for net in nets]
        gather = lambda name: nn.Parameter(torch.stack([state[name] for state in states]))  # noqa: E731
        self.weights = nn.ParameterList(gather(f"{name}.weight") for name in self.names)
        self.biases = nn.ParameterList(gather(f"{name}.bias") for name in self.names)
        self.dropout = 0.0

    def forward(self, x: Tensor) -> Tensor:
        f, last = _ACTIVATIONS[self.config.activation], len(self.names) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b[:, None], x, w.mT)  # (networks, N, units)
            if i < last:
                x = nn.functional.dropout(f(x), self.dropout, self.training)
        return x

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of each network on its own targets (networks, N), summed over the networks."""
        return nn.functional.cross_entropy(self(x).flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]

    def network(self, index: int) -> MLP:
        """A copy of one network, without dropout."""
        net = MLP(self.config, seed=0).to(self.biases[0])
        net.load_state_dict({name: p[index].detach() for name, p in self._named()})
        return net

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter in float64 under its name in one MLP, networks last: (out, in, networks), (out, networks)."""
        return {name: p.detach().movedim(0, -1).to(torch.float64, copy=True) for name, p in self._named()}

    def _named(self) -> list[tuple[str, Tensor]]:
        parts = {"weight": self.weights, "bias": self.biases}
        return [(f"{name}.{kind}", p) for kind, ps in parts.items() for name, p in zip(self.names, ps, strict=True)]


def distances(stack: Stack, labels: dict[str, dict[int, Tensor]], start: dict[str, Tensor]) -> dict[str, Tensor]:
    """How far each network is from the manifolds of a partition, given by its `axis_labels`; shape (networks,).

    off_manifold: largest entry of theta - theta_0 that is not block-constant, the distance to M_D(theta_0);
    off_equitable: largest row or column imbalance of theta; interaction: Euclidean norm of Z, the part of theta with
    zero row and column sums in every block. `start` is the stack's `tensors()` at theta_0.
    """
    found: dict[str, list[Tensor]] = {"off_manifold": [], "off_equitable": [], "interaction": []}
    tensors = stack.tensors()
    for name, axes in labels.items():
        sides, change = (axes.get(0), axes.get(1)), tensors[name] - start[name]
        now = split(tensors[name], *sides)
        off = change - split(change, *sides).block_constant
        found["off_manifold"].append(off.abs().flatten(0, -2))
        found["off_equitable"].append((now.row_imbalance + now.column_imbalance).abs().flatten(0, -2))
        found["interaction"].append(now.interaction.flatten(0, -2))
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    return {name: values.norm(dim=0) if name == "interaction" else values.amax(0) for name, values in joined.items()}
