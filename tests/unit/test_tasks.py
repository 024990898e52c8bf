"""Streams of tasks: what changes, what stays, and that a seed decides all of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.streams.batches import batches, member_batches
from lop_utils.streams.sources import Source, load
from lop_utils.streams.tasks import (
    class_split,
    gradual,
    make_stream,
    members_task,
    permuted_inputs,
    random_labels,
    regrouped,
)


def _source(classes=12, per_class=4):
    """Every input says which image it is (first value) and which class (second)."""
    y = torch.arange(classes).repeat(per_class)
    x = torch.stack([torch.arange(len(y)).float(), y.float(), y.float().square()], dim=1)
    return Source("toy", x, y, x + 1000, y.clone(), classes, licence="", citation="")


def test_class_split_uses_every_class_once():
    stream = class_split(_source(), per_task=3, seed=0)
    seen = []
    for index in range(stream.length):
        task = stream.task(index)
        classes = task.targets.unique()
        assert torch.equal(classes, task.active.nonzero().squeeze(1))
        assert torch.equal(task.inputs[:, 1].long(), task.targets)
        assert torch.equal(task.test_targets.unique(), classes)
        assert len(task.inputs) == 12
        seen += classes.tolist()
    assert stream.length == 4 and sorted(seen) == list(range(12))
    with pytest.raises(UsageError, match="tasks 0 to 3"):
        stream.task(4)


def test_regrouping_keeps_classes_together_and_balances_groups():
    stream = regrouped(_source(), groups=5, views=2, seed=3)
    labellings = set()
    for index in range(6):
        task = stream.task(index)
        label = {int(c): set(task.targets[task.inputs[:, 1] == c].tolist()) for c in range(12)}
        assert all(len(labels) == 1 for labels in label.values())
        sizes = torch.bincount(torch.tensor([labels.pop() for labels in label.values()]), minlength=5)
        assert int(sizes.max() - sizes.min()) <= 1
        assert len(task.inputs) == 24
        for c in range(12):
            own, test = task.targets[task.inputs[:, 1] == c], task.test_targets[task.test_inputs[:, 1] - 1000 == c]
            assert set(own.tolist()) == set(test.tolist())
        labellings.add(tuple(task.targets.tolist()))
    assert len(labellings) == 6


def test_random_labels_are_uniform_and_new_for_each_task():
    stream = random_labels(_source(classes=10, per_class=500), labels=4, seed=1)
    first, second = stream.task(0), stream.task(1)
    assert torch.equal(first.inputs, second.inputs)
    share = torch.bincount(first.targets, minlength=4) / len(first.targets)
    assert (share - 0.25).abs().max() < 0.025  # 4 standard errors at 5000 labels
    assert abs(float((first.targets == second.targets).double().mean()) - 0.25) < 0.025


def test_permuted_inputs_are_one_permutation_of_the_values_for_all_images():
    source = load("digits")
    task = permuted_inputs(source, samples=50, seed=0).task(2)
    plain = permuted_inputs(source, samples=50, seed=0)
    assert task.inputs.shape == (50, 8, 8)
    test = task.test_inputs.flatten(1)
    original = source.test_inputs.flatten(1)
    columns = [[j for j in range(64) if torch.equal(test[:, i], original[:, j])] for i in range(64)]
    assert all(columns)
    assert not torch.equal(plain.task(1).inputs, task.inputs)
    assert torch.equal(plain.task(2).inputs, task.inputs)


@settings(deadline=None, max_examples=20)
@given(stages=st.integers(1, 5), seed=st.integers(0, 1000))
def test_gradual_change_only_grows_and_ends_at_the_new_task(stages, seed):
    plain = regrouped(_source(), groups=3, seed=seed)
    stream = gradual(plain, stages=stages, seed=seed)
    old, new = plain.task(0), plain.task(1)
    shares = []
    for stage in range(stages):
        task = stream.task(stages + stage)
        from_new = task.targets == new.targets
        assert bool((from_new | (task.targets == old.targets)).all())
        shares.append(float(from_new.double().mean()))
    assert shares == sorted(shares)
    assert torch.equal(stream.task(2 * stages - 1).targets, new.targets)


def test_a_task_depends_on_its_seed_and_index_alone():
    for name in ("class_split", "regrouped", "random_labels", "permuted_inputs"):
        extra = {"per_task": 3} if name == "class_split" else {}
        one, same, other = (make_stream(name, _source(), seed=seed, **extra) for seed in (7, 7, 8))
        same.task(0)
        a, b, c = one.task(2), same.task(2), other.task(2)
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        assert not (torch.equal(a.inputs, c.inputs) and torch.equal(a.targets, c.targets))


def test_members_side_by_side_are_the_tasks_alone():
    streams = [class_split(_source(), per_task=3, seed=seed) for seed in range(3)]
    together = members_task(streams, 1)
    for i, stream in enumerate(streams):
        alone = stream.task(1)
        assert torch.equal(together.inputs[i], alone.inputs) and torch.equal(together.active[i], alone.active)


def test_member_batches_are_the_batches_of_each_member():
    x, y = torch.randn(2, 10, 3), torch.arange(20).view(2, 10)
    together = member_batches(x, y, batch_size=4, seeds=(3, 5))
    alone = [batches(x[i], y[i], batch_size=4, seed=seed) for i, seed in enumerate((3, 5))]
    for _ in range(7):
        xs, ys = next(together)
        for i, stream in enumerate(alone):
            xi, yi = next(stream)
            assert torch.equal(xs[i], xi) and torch.equal(ys[i], yi)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: class_split(_source(), per_task=5, seed=0), "choose per_task from 2, 3, 4, 6, 12"),
        (lambda: regrouped(_source(), groups=13, seed=0), "choose groups from 2 to 12"),
        (lambda: regrouped(_source(), groups=1, seed=0), "2 or more"),
        (lambda: regrouped(_source(), views=5, seed=0), "choose 1 to 4"),
        (lambda: random_labels(_source(), samples=49, seed=0), "choose 1 to 48"),
        (lambda: gradual(regrouped(_source(), seed=0), stages=0, seed=0), "1 or more"),
        (lambda: make_stream("nowhere", _source(), seed=0), "nowhere"),
        (lambda: regrouped(_source(), seed=0).task(-1), "task -1"),
    ],
)
def test_bad_settings_are_named_with_a_remedy(make, message):
    with pytest.raises(UsageError, match=message):
        make()
