"""On a GPU: the captured step does what the eager one does, and costs less where launches are what costs."""

import time

import pytest
import torch

from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.batches import member_batches
from lop_utils.training.capture import Captured, capturable
from lop_utils.training.ensemble import member_cross_entropy, train_ensemble

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _parts(norm="none", members=3, inputs=12, widths=(16, 16)):
    stack = Stack([MLP(MLPConfig(inputs, widths, 4, norm=norm), seed=s) for s in range(members)]).cuda()
    x = torch.randn(members, 60, inputs, generator=torch.Generator().manual_seed(0)).cuda()
    y = torch.randint(4, (members, 60), generator=torch.Generator().manual_seed(1)).cuda()
    optimizer = torch.optim.Adam(stack.parameters(), lr=0.01, fused=True)
    return stack, optimizer, member_batches(x, y, batch_size=20, seeds=range(members))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_captured_training_ends_where_eager_training_does(norm):
    ends = []
    for capture in (True, False):
        stack, optimizer, data = _parts(norm)
        outcome = train_ensemble(stack, optimizer, data, steps=50, fast=capture)
        ends.append((stack.state_dict(), outcome.online_accuracy))
    for name, tensor in ends[0][0].items():
        torch.testing.assert_close(tensor, ends[1][0][name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=0, atol=0.01)


def test_capturing_leaves_batch_statistics_as_they_were():
    stack, _, data = _parts("batch")
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    Captured(stack, member_cross_entropy, *next(data))
    for name, tensor in stack.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_dropout_and_observation_are_not_captured():
    stack, _, data = _parts()
    assert capturable(stack, next(data)[0])
    dropping = Stack([MLP(MLPConfig(12, (8,), 4, dropout=0.1), seed=0)]).cuda()
    assert not capturable(dropping, next(data)[0][:1])


def test_the_captured_step_is_faster_for_small_networks():
    took = {}
    for capture in (True, False):
        stack, optimizer, data = _parts(members=5, inputs=192, widths=(128,) * 5)
        train_ensemble(stack, optimizer, data, steps=50, fast=capture)
        torch.cuda.synchronize()
        started = time.perf_counter()
        train_ensemble(stack, optimizer, data, steps=300, fast=capture)
        torch.cuda.synchronize()
        took[capture] = time.perf_counter() - started
    assert took[True] < took[False]
