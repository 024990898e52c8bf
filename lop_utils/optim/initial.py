"""The distribution that a model's parameters are drawn from when it is made: for redrawing units, or all of it."""

import math

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.models.vit import ViT

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_CONSTANTS = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def initial_bound(skeleton: nn.Module, name: str) -> float:
    """b of U(-b, b), the initial distribution of a layer's weight or bias: torch's default, times the model's gain.

    b = 1 / sqrt(fan-in) for `nn.Linear` and convolutions (He et al. 2015 with a = sqrt 5, torch's default); the `gain`
    of a configuration multiplies the weights of hidden layers as the model itself does.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=4, widths=(9,), outputs=2, gain=3.0), seed=0)
    >>> initial_bound(net, "hidden.0.linear.weight"), initial_bound(net, "hidden.0.linear.bias")
    (1.5, 0.5)
    """
    path, _, kind = name.rpartition(".")
    bound = 1 / math.sqrt(skeleton.get_submodule(path).weight[0].numel())
    hidden_weight = kind == "weight" and path != "head"
    return bound * getattr(skeleton.config, "gain", 1.0) if hidden_weight else bound


def initial_constant(skeleton: nn.Module, name: str) -> float:
    """The value that every entry of a normalisation's or an activation's tensor starts from.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> initial_constant(MLP(MLPConfig(inputs=3, widths=(4,), outputs=2, norm="batch"), seed=0), "hidden.0.norm.weight")
    1.0
    """
    path, _, kind = name.rpartition(".")
    module = skeleton.get_submodule(path)
    if isinstance(module, nn.PReLU):
        return module.init
    if isinstance(module, _NORMS) and kind in _CONSTANTS:
        return _CONSTANTS[kind]
    raise UsageError(f"{name}: no initial value known for {type(module).__name__}", remedy="extend optim/initial.py")


def draw(skeleton: nn.Module, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A new tensor of this shape from the initial distribution of parameter `name`, float32 on the generator's device.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=4, widths=(9,), outputs=2), seed=0)
    >>> fresh = draw(net, "hidden.0.linear.weight", (9, 4), torch.Generator().manual_seed(0))
    >>> fresh.shape, bool(fresh.abs().max() <= 0.5)
    (torch.Size([9, 4]), True)
    """
    path = name.rpartition(".")[0]
    if isinstance(skeleton, ViT) and name == "positions":
        return 0.02 * torch.randn(shape, generator=generator, device=generator.device)
    if isinstance(skeleton.get_submodule(path), _LAYERS):
        uniform = torch.rand(shape, generator=generator, device=generator.device)
        return (2 * uniform - 1) * initial_bound(skeleton, name)
    return torch.full(shape, initial_constant(skeleton, name), device=generator.device)
