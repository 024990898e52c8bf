import copy

import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import record


def fingerprint(net):
    return {
        "state": copy.deepcopy(net.state_dict()),
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "modes": [m.training for m in net.modules()],
        "hooks": [len(m._forward_hooks) for m in net.modules()],
        "rng": torch.get_rng_state(),
    }


def assert_same(before, after):
    for a, b in zip(before["grads"], after["grads"], strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    assert before["modes"] == after["modes"] and before["hooks"] == after["hooks"]
    assert torch.equal(before["rng"], after["rng"])
    for name, tensor in before["state"].items():
        assert torch.equal(tensor, after["state"][name]), name


@pytest.mark.parametrize("recording_mode", [True, False])
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_recording_leaves_no_trace(mode, recording_mode, with_gradients):
    net = mlp(norm="batch", dropout=0.5).train(mode)
    net.hidden[0].norm.eval()  # a mixed mode must come back mixed
    x, y = batch(net)
    nn.functional.cross_entropy(net(x), y).backward()
    before = fingerprint(net)
    record(net, x, y if with_gradients else None, training=recording_mode)
    assert_same(before, fingerprint(net))


def test_recording_leaves_no_trace_when_the_model_raises():
    net = mlp(norm="batch", dropout=0.5)
    x, y = batch(net)
    nn.functional.cross_entropy(net(x), y).backward()
    before = fingerprint(net)
    with pytest.raises(RuntimeError):
        record(net, x[:, :3], y, training=True)
    net.head.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("late")))
    with pytest.raises(ValueError, match="late"):
        record(net, x, y, training=True)  # by now batch norm has moved its buffers
    assert_same(before, fingerprint(net))


def test_what_is_recorded_is_what_the_layers_compute():
    net = mlp(norm="layer")
    x, y = batch(net)
    layers = record(net, x, y)
    first = net.hidden[0]
    z = first.norm(first.linear(x))
    torch.testing.assert_close(layers["hidden.0"].pre_activation, z.detach())
    torch.testing.assert_close(layers["hidden.0"].activation, torch.tanh(z).detach())
    assert list(layers) == ["hidden.0", "hidden.1"] and not layers["hidden.1"].activation.requires_grad


def test_the_recorded_gradient_is_the_finite_difference_of_the_loss():
    net = mlp()
    x, y = batch(net, rows=4)
    gradient = record(net, x, y)["hidden.1"].gradient
    h = record(net, x)["hidden.1"].activation
    step = 1e-6
    for row, unit in ((0, 0), (3, 4)):
        shift = torch.zeros_like(h)
        shift[row, unit] = step
        up, down = (nn.functional.cross_entropy(net.head(h + s), y) for s in (shift, -shift))
        assert gradient[row, unit].item() == pytest.approx(float((up - down).detach()) / (2 * step), rel=1e-6)


def test_only_the_wanted_spaces_are_recorded_and_an_unknown_one_is_named():
    net = mlp()
    x, _ = batch(net)
    assert list(record(net, x, spaces=["hidden.1"])) == ["hidden.1"]
    with pytest.raises(UsageError, match=r"'hidden\.9'"):
        record(net, x, spaces=["hidden.9"])
