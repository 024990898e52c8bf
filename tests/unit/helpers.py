"""Small things that several unit tests share."""

import torch
from torch import nn

from lop_utils.models.mlp import MLP, MLPConfig


def mlp(*, widths=(6, 5), norm="none", activation="tanh", seed=0, inputs=7, outputs=3, **kw) -> MLP:
    """A small float64 MLP whose normalisation, if any, has been given non-trivial gains, shifts and statistics."""
    net = MLP(MLPConfig(inputs, widths, outputs, activation=activation, norm=norm, **kw), seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if ".norm." in name and tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return net


def batch(net: MLP, *, rows=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, net.config.inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(net.config.outputs, (rows,), generator=generator)


def descend(net: nn.Module, x, y, *, steps: int, lr: float, make=torch.optim.SGD, **kw) -> nn.Module:
    """`steps` full-batch updates of a plain hand-written loop."""
    optimizer = make(net.parameters(), lr=lr, **kw)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net
