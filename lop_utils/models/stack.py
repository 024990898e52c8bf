"""Many networks of one shape as one module: axis 0 of every tensor runs over the members, and none feels the others.

Seeds, methods and settings of an experiment are small networks that differ only in their numbers. Side by side they
share every kernel launch: matrices become batches of matrices for an MLP, `torch.func.vmap` does the same for the rest.
The functions below the class let interventions and metrics treat a single network and a stack alike.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lop_utils.errors import UsageError
from lop_utils.models.mlp import MLP

Observer = Callable[[dict[str, Tensor]], None]


class Stack(nn.Module):
    """The networks `nets`, of one class and one configuration, as one module.

    Inputs (members, N, ...), outputs (members, N, outputs). Parameters and buffers are those of one member with a
    leading axis of members; elementwise optimizers (SGD, Adam, ...) on ``stack.parameters()`` therefore train every
    member as if it were alone. Batch statistics are each member's own, and so are dropout masks: member i draws them
    from a generator of its own, seeded with ``seeds[i]`` (0, 1, ... unless given), so that it does the same in any
    stack. Raises `UsageError` for networks that differ in class, configuration, dtype or device.

    >>> from lop_utils.models.mlp import MLPConfig
    >>> stack = Stack([MLP(MLPConfig(3, (4,), 2, norm="batch"), seed=s) for s in (0, 1)])
    >>> stack(torch.zeros(2, 5, 3)).shape, stack.tensors["hidden.0.linear.weight"].shape
    (torch.Size([2, 5, 2]), torch.Size([2, 4, 3]))
    """

    def __init__(self, nets: Sequence[nn.Module], *, seeds: Sequence[int] | None = None):
        super().__init__()
        _check(nets)
        self.members = len(nets)
        self.seeds = tuple(range(len(nets)) if seeds is None else seeds)
        if len(self.seeds) != self.members:
            raise UsageError(f"{len(self.seeds)} seeds for {self.members} members", remedy="give one seed a member")
        states = [dict([*net.named_parameters(), *net.named_buffers()]) for net in nets]
        parameters = dict(nets[0].named_parameters())
        for name, first in states[0].items():
            tensor = torch.stack([state[name].detach() for state in states])
            if name in parameters:
                self.register_parameter(_key(name), nn.Parameter(tensor, requires_grad=first.requires_grad))
            else:
                self.register_buffer(_key(name), tensor)
        template = deepcopy(nets[0]).to("meta")
        self._template = (template, _with_masks(deepcopy(template)))  # in a tuple: no submodules of this module
        self._observers: dict[int, tuple[tuple[str, ...], Observer]] = {}
        self._generators: list[torch.Generator] = []
        self._mask_shapes: dict[tuple, dict[str, torch.Size]] = {}
        plain = isinstance(template, MLP) and not any(list(layer.activation.parameters()) for layer in template.hidden)
        self._forward = self._as_batched_matrices if plain else self._by_vmap
        self.train(nets[0].training)

    @property
    def skeleton(self) -> nn.Module:
        """One member without numbers (on the meta device): its configuration, modules and spaces."""
        return self._template[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer by its name in one member, with the leading axis of members."""
        return {_name(key): tensor for key, tensor in [*self.named_parameters(), *self.named_buffers()]}

    @property
    def generators(self) -> list[torch.Generator]:
        """One generator a member, on the device of the parameters; a move to another device seeds them anew."""
        device = next(self.parameters()).device
        if not self._generators or self._generators[0].device.type != device.type:
            self._generators = [torch.Generator(device).manual_seed(seed) for seed in self.seeds]
        return self._generators

    @property
    def observed(self) -> bool:
        """Whether somebody watches the training passes, see `observe` and `tell`."""
        return bool(self._observers)

    def train(self, mode: bool = True) -> "Stack":
        super().train(mode)
        for module in self._template:
            module.train(mode)
        return self

    def member(self, index: int) -> nn.Module:
        """An independent copy of one member, in the same mode."""
        first = next(self.parameters())
        net = deepcopy(self.skeleton).to_empty(device=first.device).to(first.dtype)
        state = {name: tensor[index].detach().clone() for name, tensor in self.tensors.items()}
        net.load_state_dict({name: state[name] for name in net.state_dict()})
        return net

    def unstacked(self) -> list[nn.Module]:
        """Independent copies of all members."""
        return [self.member(i) for i in range(self.members)]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != self.members:
            raise UsageError(f"inputs for {x.shape[0]} members, not {self.members}", remedy="give (members, N, ...)")
        watching = self.training and torch.is_grad_enabled()
        wanted = {path for paths, _ in self._observers.values() for path in paths} if watching else set()
        outputs, seen = self._forward(x, wanted)
        if watching:
            self.tell(seen)
        return outputs

    def tell(self, seen: Mapping[str, Tensor]) -> None:
        """Give every observer what it watches of a training pass: outputs by the paths of their modules."""
        for paths, callback in list(self._observers.values()):
            callback({path: seen[path].detach() for path in paths})

    def masks(self, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Dropout masks (members, *shape) of the dropout modules of these names, scaled to keep the mean."""
        drawn = {}
        for name, shape in shapes.items():
            p, like = self._template[1].get_submodule(name).p, next(self.parameters())
            kept = [torch.rand(shape, generator=g, device=like.device) >= p for g in self.generators]
            drawn[name] = torch.stack(kept).to(like.dtype) / (1 - p)
        return drawn

    def _as_batched_matrices(self, x: Tensor, wanted: set[str]) -> tuple[Tensor, dict[str, Tensor]]:
        seen: dict[str, Tensor] = {}
        tensors, h = self.tensors, x.flatten(2)  # (members, N, inputs)
        for i, layer in enumerate(self._template[1].hidden):
            path = f"hidden.{i}"
            seen[f"{path}.linear"] = h = _linear(h, tensors, f"{path}.linear")  # (members, N, units)
            seen[f"{path}.norm"] = h = _norm(h, layer.norm, tensors, f"{path}.norm")
            seen[f"{path}.activation"] = h = layer.activation(h)
            if self.training and isinstance(layer.dropout, _Masked):
                h = h * self.masks({f"{path}.dropout": h.shape[1:]})[f"{path}.dropout"]
            seen[f"{path}.dropout"] = h
        seen["head"] = outputs = _linear(h, tensors, "head")
        return outputs, {path: seen[path] for path in wanted}

    def _by_vmap(self, x: Tensor, wanted: set[str]) -> tuple[Tensor, dict[str, Tensor]]:
        skeleton, tensors = self._template[1], self.tensors
        if self.training:
            masks = self.masks(self._shapes(x.shape[1:]))
            tensors |= {f"{name}.mask": mask for name, mask in masks.items()}
        paths = sorted(wanted)

        def one(state: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
            seen: dict[str, Tensor] = {}
            hooks = [skeleton.get_submodule(path).register_forward_hook(_keep(seen, path)) for path in paths]
            try:
                return functional_call(skeleton, state, (inputs,)), [seen[path] for path in paths]
            finally:
                for hook in hooks:
                    hook.remove()

        outputs, found = vmap(one)(tensors, x)
        return outputs, dict(zip(paths, found, strict=True))

    def _shapes(self, shape: torch.Size) -> dict[str, torch.Size]:
        """The shape of what every dropout module sees, from one pass without numbers."""
        if tuple(shape) not in self._mask_shapes:
            skeleton, seen = self._template[1], {}
            dropouts = [name for name, module in skeleton.named_modules() if isinstance(module, _Masked)]
            hooks = [skeleton.get_submodule(name).register_forward_hook(_keep(seen, name)) for name in dropouts]
            if dropouts:
                skeleton(torch.empty(shape, device="meta"))
            for hook in hooks:
                hook.remove()
            self._mask_shapes[tuple(shape)] = {name: seen[name].shape for name in dropouts}
        return self._mask_shapes[tuple(shape)]


class Observation:
    """A running observation; ``remove()`` ends it."""

    def __init__(self, end: Callable[[], None]):
        self.remove = end


def stacked(model: nn.Module) -> bool:
    """Whether `model` is a stack of networks."""
    return isinstance(model, Stack)


def skeleton_of(model: nn.Module) -> nn.Module:
    """The module that declares the spaces: `model` itself, or one member of a stack without numbers."""
    return model.skeleton if isinstance(model, Stack) else model


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their names in one network; those of a stack have a leading axis of members."""
    if isinstance(model, Stack):
        return model.tensors
    return dict([*model.named_parameters(), *model.named_buffers()])


def observe(model: nn.Module, paths: Sequence[str], callback: Observer) -> Observation:
    """After every training step's forward pass, call ``callback({module path: output})``, outputs detached.

    Passes in evaluation mode or without gradients are not observed. Outputs have the shape (N, ...), those of a stack
    (members, N, ...). Raises `UsageError` for a path that the model lacks.

    >>> from lop_utils.models.mlp import MLPConfig
    >>> net, seen = MLP(MLPConfig(3, (4,), 2), seed=0), []
    >>> watch = observe(net, ["hidden.0.activation"], lambda outputs: seen.append(outputs))
    >>> _ = net(torch.zeros(5, 3)); watch.remove(); seen[0]["hidden.0.activation"].shape
    torch.Size([5, 4])
    """
    modules = dict(skeleton_of(model).named_modules())
    for path in paths:
        if path not in modules:
            raise UsageError(f"{type(skeleton_of(model)).__name__} has no module {path!r}", remedy="see its spaces()")
    if isinstance(model, Stack):
        key = max(model._observers, default=-1) + 1
        model._observers[key] = (tuple(paths), callback)
        return Observation(lambda: model._observers.pop(key, None) and None)
    seen: dict[str, Tensor] = {}

    def report(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        if model.training and torch.is_grad_enabled():
            callback({path: seen[path].detach() for path in paths})

    handles = [modules[path].register_forward_hook(_keep(seen, path)) for path in paths]
    handles.append(model.register_forward_hook(report))
    return Observation(lambda: [handle.remove() for handle in handles] and None)


class _Masked(nn.Module):
    """Dropout whose mask is drawn outside: inside `vmap` nothing can be drawn from a member's own generator."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.register_buffer("mask", torch.empty((), device="meta"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training else x


def _with_masks(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            setattr(module, name, _Masked(child.p))
        else:
            _with_masks(child)
    return module


class _Linear(torch.autograd.Function):
    """x W^T + b for each member; the weights' gradient comes out in their own layout, so that nothing is copied."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return g @ weight if ctx.needs_input_grad[0] else None, g.mT @ x, g.sum(1)


def _linear(x: Tensor, tensors: Mapping[str, Tensor], path: str) -> Tensor:
    return _Linear.apply(x, tensors[f"{path}.weight"], tensors[f"{path}.bias"])


def _norm(z: Tensor, module: nn.Module, tensors: Mapping[str, Tensor], path: str) -> Tensor:
    """`module`'s normalisation of z (members, N, units), each member with its own statistics and affine map."""
    gain, shift = tensors.get(f"{path}.weight"), tensors.get(f"{path}.bias")
    if isinstance(module, nn.LayerNorm):
        z = nn.functional.layer_norm(z, z.shape[-1:], eps=module.eps)
        return z if gain is None else torch.addcmul(shift[:, None], z, gain[:, None])
    if not isinstance(module, nn.BatchNorm1d):
        return z
    members, rows, units = z.shape
    if module.training:
        tensors[f"{path}.num_batches_tracked"].add_(1)
    flat = lambda tensor: None if tensor is None else tensor.view(-1)  # noqa: E731
    wide = nn.functional.batch_norm(
        z.transpose(0, 1).reshape(rows, members * units),
        flat(tensors[f"{path}.running_mean"]),
        flat(tensors[f"{path}.running_var"]),
        flat(gain),
        flat(shift),
        training=module.training,
        momentum=module.momentum,
        eps=module.eps,
    )
    return wide.view(rows, members, units).transpose(0, 1)


def _check(nets: Sequence[nn.Module]) -> None:
    if not nets:
        raise UsageError("a stack of no networks", remedy="give at least one network")
    first = nets[0]
    for net in nets:
        if type(net) is not type(first) or net.config != first.config:
            problem = f"a stack of {type(first).__name__} {first.config} and {type(net).__name__} {net.config}"
            raise UsageError(problem, remedy="give networks of one class and configuration")
    kinds = {f"{p.dtype} on {p.device}" for net in nets for p in net.parameters()}
    if len(kinds) > 1:
        raise UsageError(f"a stack of {' and '.join(sorted(kinds))}", remedy="move all to one dtype and device")


def _keep(seen: dict[str, Tensor], path: str) -> Callable:
    def keep(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        seen[path] = output

    return keep


def _key(name: str) -> str:
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
