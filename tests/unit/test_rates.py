import copy

import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import narrow, widen
from lop_utils.manifolds.rates import copies, matched_groups


def losses(net, optimizer, x, y, steps=300):
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


MAKERS = {
    "sgd": ("sgd", lambda groups: torch.optim.SGD(groups)),
    "momentum": ("sgd", lambda groups: torch.optim.SGD(groups, momentum=0.9)),
    "adam": ("adam", lambda groups: torch.optim.Adam(groups)),
    "rmsprop": ("adam", lambda groups: torch.optim.RMSprop(groups)),
}


@pytest.mark.parametrize("factor", [2, 3, {"hidden.0": 3, "hidden.1": 2}])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", MAKERS)
def test_at_matched_rates_the_clone_is_the_base(name, norm, factor):
    rule, make = MAKERS[name]
    base = mlp(norm=norm)
    x, y = batch(base, rows=64)
    lr = {"sgd": 0.02, "momentum": 0.002, "adam": 1e-3, "rmsprop": 2e-4}[name]
    eps = {} if rule == "sgd" else {"eps": 1e-8}
    clone = widen(base, factor)
    ours = losses(clone, make(matched_groups(clone, factor, lr=lr, rule=rule)), x, y)
    reference = copy.deepcopy(base)
    theirs = losses(reference, make([{"params": list(reference.parameters()), "lr": lr, **eps}]), x, y)
    tolerance = 1e-10 if norm == "none" else 1e-8  # BN's own epsilon is inside the network, rounding grows a little
    assert (ours - theirs).abs().max() <= tolerance
    torch.testing.assert_close(narrow(clone, factor).head.weight, reference.head.weight, rtol=1e-6, atol=1e-7)
    equal = widen(base, factor)
    assert (losses(equal, make([{"params": list(equal.parameters()), "lr": lr}]), x, y) - theirs).abs().max() > 1e-5


def test_copies_counts_reading_and_writing_axes():
    clone = widen(mlp(norm="layer"), {"hidden.0": 3, "hidden.1": 2})
    found = copies(clone, {"hidden.0": 3, "hidden.1": 2})
    assert found["hidden.0.linear.weight"] == (1, 3)
    assert found["hidden.1.linear.weight"] == (3, 2)
    assert found["hidden.1.norm.weight"] == (1, 2)
    assert found["head.weight"] == (2, 1) and found["head.bias"] == (1, 1)


def test_an_unknown_rule_is_named():
    with pytest.raises(UsageError, match="'lion'"):
        matched_groups(mlp(), 1, lr=0.1, rule="lion")
