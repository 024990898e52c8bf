"""The plain engine: the same learner as a PyTorch loop in float64, step by step with autograd.

It is the fallback where numba is absent, and the oracle that the compiled engine is tested against: written from the
definitions, with none of the kernel's shortcuts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.online_state import COUNT, DROPOUT, NOISE, REDRAW, Method, State


@dataclass
class _Net:
    """The state's arrays as tensors that share their memory; weights (width, inputs) as in nn.Linear."""

    w: Tensor
    b: Tensor
    v: Tensor
    c: Tensor

    def parameters(self) -> list[Tensor]:
        return [self.w, self.b, self.v, self.c]

    def hidden(self, x: Tensor, method: Method) -> Tensor:
        z = self.w @ x + self.b
        return torch.tanh(z) if method.activation == "tanh" else torch.nn.functional.leaky_relu(z, method.slope)


def advance(method: Method, stream: BitFlipping, state: State, steps: int, *, seed: int) -> NDArray[np.float64]:
    """Train `state` on the next `steps` steps, in place; each step's loss before its update, without dropout."""
    net = _Net(*(torch.from_numpy(a).requires_grad_() for a in (state.w.T, state.b, state.v, state.c)))
    start = _start(state, method)
    x, y = stream.inputs(state.step, state.step + steps), stream.targets(state.step, state.step + steps)
    losses = np.empty(steps)
    for i in range(steps):
        losses[i], h = _step(net, torch.from_numpy(x[i]), float(y[i]), method, start, state.step + i, seed)
        if method.cbp != "none":
            with torch.no_grad():
                _continual(net, torch.from_numpy(x[i]), h, method, state, state.step + i, seed)
    state.step += steps
    return losses


def _start(state: State, method: Method) -> list[Tensor]:
    """The point that L2 and L2 Init pull to, tensor by tensor."""
    w, b, v, c = np.split(state.start, np.cumsum([state.w.size, state.b.size, state.v.size]))
    parts = [w.reshape(state.w.shape).T, b, v, c]
    return [torch.from_numpy(np.ascontiguousarray(part)) * float(method.l2_init > 0) for part in parts]


def _step(
    net: _Net, x: Tensor, y: float, method: Method, start: list[Tensor], t: int, seed: int
) -> tuple[float, Tensor]:
    """One step of SGD with the method's additions; its loss without dropout, and the activations."""
    h = net.hidden(x, method)
    output = net.v @ h + net.c[0]
    error = float(output.detach() - y)
    seen = error * error  # not error**2, which raises where this is infinite
    if method.dropout > 0:
        width, keep = method.width, 1 - method.dropout
        kept = counter.uniform(counter.key(seed, DROPOUT), t * width + np.arange(width)) < keep
        output = net.v @ (h * torch.from_numpy(kept / keep)) + net.c[0]
    gradients = torch.autograd.grad((output - y) ** 2, net.parameters())
    with torch.no_grad():
        noise = _noise(net, gradients, method, t, seed)
        pull = max(method.l2, method.l2_init)
        for p, g, p0, eps in zip(net.parameters(), gradients, start, noise, strict=True):
            p -= method.lr * (g + pull * (p - p0)) - eps
    return seen, h.detach()


def _noise(net: _Net, gradients: tuple[Tensor, ...], method: Method, t: int, seed: int) -> list[Tensor | float]:
    """What Noisy SGD or weight noise adds to each parameter in step t."""
    if not (method.gradient_noise or method.weight_noise):
        return [0.0] * 4
    count = sum(p.numel() for p in net.parameters())
    drawn = counter.normal(counter.key(seed, NOISE), t, count)
    w, b, v, c = np.split(drawn, np.cumsum([net.w.numel(), net.b.numel(), net.v.numel()]))
    draws = [torch.from_numpy(part) for part in (w.reshape(net.w.shape[1], -1).T, b, v, c)]
    if method.weight_noise:
        return [method.weight_noise * eps for eps in draws]
    sigma = method.lr * method.gradient_noise * method.noise_decay**t
    return [sigma * g.norm() * eps for g, eps in zip(gradients, draws, strict=True)]


def _continual(net: _Net, x: Tensor, h: Tensor, method: Method, state: State, t: int, seed: int) -> None:
    """What continual backpropagation does after step t."""
    if method.cbp == "as_coded":
        if t == 0:
            return
        h = net.hidden(x, method)
    utility, mean, power, age = (torch.from_numpy(row) for row in state.units)
    eta = method.decay
    age += 1
    power *= eta
    mean.mul_(eta).add_((1 - eta) * h)
    worth = h.abs() * net.v.abs()
    if method.utility == "adaptable_contribution":
        offset = 1e-10 if method.cbp == "as_coded" else 0.0
        worth = (h - mean / (1 - power)).abs() * net.v.abs() / (net.w.abs().sum(1) + offset)
    utility.mul_(eta).add_((1 - eta) * worth)
    mature = age > method.maturity
    for _ in range(_due(method, state, t, int(mature.sum()), seed)):
        if mature.any():
            worst = int(torch.where(mature, utility / (1 - power), torch.inf).argmin())
            mature[worst] = False
            _replace(net, method, state, worst, t, seed)


def _due(method: Method, state: State, t: int, mature: int, seed: int) -> int:
    """How many units to replace in step t."""
    if method.cbp == "as_coded":
        return max(1, int(method.width * method.rate)) if mature else 0
    share = method.rate * mature
    if method.cbp == "dohare":
        drawn = counter.uniform(counter.key(seed, COUNT), t)[0]
        return 1 if mature and share < 1 and drawn <= share else int(share)
    state.owed[0] += share
    due = int(state.owed[0])
    state.owed[0] -= due
    return due


def _replace(net: _Net, method: Method, state: State, unit: int, t: int, seed: int) -> None:
    """Give unit its new weights, and the output's bias what the unit contributed on average."""
    utility, mean, power, age = state.units
    if method.cbp != "dohare":  # there the average is zeroed before it is used
        net.c += net.v[unit] * mean[unit] / (1 - power[unit])
    if method.cbp == "as_coded":
        net.b.zero_()  # and the incoming weights stay
    else:
        inputs = net.w.shape[1]
        drawn = counter.uniform(counter.key(seed, REDRAW), (t * method.width + unit) * inputs + np.arange(inputs))
        net.w[unit] = torch.from_numpy((2 * drawn - 1) * method.bound(inputs))
        net.b[unit] = 0
    net.v[unit] = 0
    utility[unit] = mean[unit] = age[unit] = 0
    power[unit] = 1
