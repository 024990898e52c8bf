"""Streams of tasks made from one source: what changes from task to task, decided by a seed.

A stream is a function of the task's index: ``stream.task(3)`` is the same whenever and wherever it is asked for, so a
run can resume, and a fresh network can be given any task. `members_task` puts the tasks of several seeds side by side
for a `Stack`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lop_utils.errors import UsageError, check_choice
from lop_utils.streams.sources import Source


@dataclass(frozen=True)
class Task:
    """One classification task; for the tasks of several members side by side all tensors have one more leading axis.

    inputs (N, *shape), targets (N,) int64; the same for test. `active` (outputs,) bool says which outputs of the head
    belong to the task: the loss is taken over these alone, the accuracy over these (as published) or over all (as
    coded).
    """

    index: int
    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    active: Tensor


@dataclass(frozen=True)
class Stream:
    """A sequence of tasks. `length` is how many there are (None: as many as wanted), `outputs` the size of the head."""

    name: str
    outputs: int
    length: int | None
    make: Callable[[int], Task] = field(repr=False)

    def task(self, index: int) -> Task:
        """Task `index` = 0, 1, ...; raises `UsageError` beyond the end."""
        if index < 0 or (self.length is not None and index >= self.length):
            last = "..." if self.length is None else str(self.length - 1)
            raise UsageError(f"task {index} of stream {self.name}", remedy=f"it has tasks 0 to {last}")
        return self.make(index)


def class_split(source: Source, *, per_task: int = 5, seed: int) -> Stream:
    """Disjoint classes: each task has `per_task` classes of the source, in an order drawn from `seed`.

    Targets keep their class numbers: the head has one output a class, `active` marks the task's. Source: the continual
    learning experiment of arXiv:2510.00304. Raises `UsageError` when the classes do not divide.

    >>> from lop_utils.streams.sources import load
    >>> task = class_split(load("digits"), per_task=5, seed=0).task(1)
    >>> int(task.active.sum()), task.targets.unique().numel()
    (5, 5)
    """
    if per_task < 2 or source.classes % per_task:
        divisors = ", ".join(str(k) for k in range(2, source.classes + 1) if source.classes % k == 0)
        problem = f"{source.classes} classes of {source.name} in tasks of {per_task}"
        raise UsageError(problem, remedy=f"choose per_task from {divisors}")
    classes = source.classes
    order = torch.randperm(classes, generator=_generator(seed))

    def make(index: int) -> Task:
        active = torch.zeros(classes, dtype=torch.bool)
        active[order[index * per_task : (index + 1) * per_task]] = True
        active = active.to(source.targets.device)
        train, test = active[source.targets], active[source.test_targets]
        parts = (source.inputs[train], source.targets[train], source.test_inputs[test], source.test_targets[test])
        return Task(index, *parts, active)

    return Stream("class_split", source.classes, source.classes // per_task, make)


def regrouped(source: Source, *, groups: int = 5, views: int | None = None, seed: int) -> Stream:
    """The same images, new labels with structure: each task throws the source's classes at random into `groups` labels.

    All images of a class share the label, so there is something to generalise. `views`: use only the first so many
    training images of each class.
    """
    _check_labels(groups)
    if groups > source.classes:
        problem = f"{source.classes} classes of {source.name} in {groups} groups"
        raise UsageError(problem, remedy=f"choose groups from 2 to {source.classes}")
    keep = _first_of_each(source, views)
    inputs, own, classes = source.inputs[keep], source.targets[keep], source.classes

    def make(index: int) -> Task:
        shuffled = torch.randperm(classes, generator=_generator(seed, index)) % groups
        label = shuffled.to(own.device)
        return _whole(index, inputs, label[own], source.test_inputs, label[source.test_targets], groups)

    return Stream("regrouped", groups, None, make)


def random_labels(source: Source, *, labels: int = 10, samples: int | None = None, seed: int) -> Stream:
    """The same images, new labels without structure: every image draws its label anew for each task.

    `samples`: use only this many training images, drawn once from `seed`. The test labels are drawn too: a test
    accuracy above 1 / labels would be a mistake.
    """
    _check_labels(labels)
    inputs = source.inputs[_sample(source, samples, seed)]

    def make(index: int) -> Task:
        generator = _generator(seed, index)
        drawn = [torch.randint(labels, (len(x),), generator=generator) for x in (inputs, source.test_inputs)]
        train, test = (y.to(inputs.device) for y in drawn)
        return _whole(index, inputs, train, source.test_inputs, test, labels)

    return Stream("random_labels", labels, None, make)


def permuted_inputs(source: Source, *, samples: int | None = None, seed: int) -> Stream:
    """The same labels, new inputs: each task permutes the input values, with one permutation for all images.

    Source: permuted MNIST (Goodfellow et al. 2013; Dohare et al. 2024). Task 0 is permuted too.
    """
    keep, classes = _sample(source, samples, seed), source.classes

    def make(index: int) -> Task:
        order = torch.randperm(source.size, generator=_generator(seed, index)).to(source.inputs.device)
        permuted = [x.flatten(1)[:, order].view_as(x) for x in (source.inputs[keep], source.test_inputs)]
        return _whole(index, permuted[0], source.targets[keep], permuted[1], source.test_targets, classes)

    return Stream("permuted_inputs", source.classes, None, make)


def gradual(stream: Stream, *, stages: int, seed: int) -> Stream:
    """`stream` with its jumps spread out: each task becomes `stages` tasks that replace the old one bit by bit.

    In stage s = 1..stages of a task the share s / stages of the training images (drawn from `seed`, and only growing)
    comes from the new task, the rest still from the one before; the test set is the new task's. One stage is `stream`.
    Idea: arXiv:2602.09234. Raises `UsageError` when consecutive tasks differ in their number of images.
    """
    if stages < 1:
        raise UsageError(f"{stages} stages", remedy="choose 1 or more")

    def make(index: int) -> Task:
        whole, stage = divmod(index, stages)
        new, old = stream.task(whole), stream.task(max(whole - 1, 0))
        if len(new.inputs) != len(old.inputs):
            raise UsageError(f"{len(old.inputs)} images, then {len(new.inputs)}", remedy="use tasks of one size")
        order = torch.randperm(len(new.inputs), generator=_generator(seed, whole)).to(new.targets.device)
        fresh = order < round((stage + 1) / stages * len(order))
        pick = fresh.view(-1, *[1] * (new.inputs.ndim - 1))
        active = new.active if stage == stages - 1 else new.active | old.active
        parts = torch.where(pick, new.inputs, old.inputs), torch.where(fresh, new.targets, old.targets)
        return Task(index, *parts, new.test_inputs, new.test_targets, active)

    length = None if stream.length is None else stream.length * stages
    return Stream(f"gradual {stream.name}", stream.outputs, length, make)


STREAMS: dict[str, Callable[..., Stream]] = {
    "class_split": class_split,
    "regrouped": regrouped,
    "random_labels": random_labels,
    "permuted_inputs": permuted_inputs,
}


def make_stream(name: str, source: Source, *, seed: int, **settings: object) -> Stream:
    """The stream of this name over `source`; `settings` are its own. Raises `UsageError` for unknown names."""
    check_choice("stream", name, STREAMS)
    return STREAMS[name](source, seed=seed, **settings)


def members_task(streams: Sequence[Stream], index: int) -> Task:
    """Task `index` of every stream, side by side: all tensors get a leading axis of members.

    Raises `UsageError` when the tasks differ in size, which no stack can train at once.
    """
    tasks = [stream.task(index) for stream in streams]
    sizes = {(len(task.inputs), len(task.test_inputs)) for task in tasks}
    if len(sizes) > 1:
        raise UsageError(f"tasks of {sorted(sizes)} images side by side", remedy="use classes of one size, or one seed")
    names = ("inputs", "targets", "test_inputs", "test_targets", "active")
    return Task(index, *(torch.stack([getattr(task, name) for task in tasks]) for name in names))


def _whole(index: int, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor, outputs: int) -> Task:
    return Task(index, x, y, test_x, test_y, torch.ones(outputs, dtype=torch.bool, device=y.device))


def _generator(seed: int, index: int = -1) -> torch.Generator:
    """A generator for (seed, index): neighbouring seeds and tasks share nothing."""
    mixed = torch.Generator().manual_seed(seed)
    if index >= 0:
        base = int(torch.randint(2**62, (), generator=mixed))
        mixed.manual_seed(base ^ (0x9E3779B97F4A7C15 * (index + 1) & (2**62 - 1)))
    return mixed


def _first_of_each(source: Source, views: int | None) -> Tensor:
    if views is None:
        return torch.arange(len(source.targets), device=source.targets.device)
    fewest = int(torch.bincount(source.targets, minlength=source.classes).min())
    if not 1 <= views <= fewest:
        raise UsageError(f"{views} views of each class of {source.name}", remedy=f"choose 1 to {fewest}")
    order = torch.argsort(source.targets, stable=True)
    sorted_targets = source.targets[order]
    starts = torch.searchsorted(sorted_targets, torch.arange(source.classes, device=order.device))
    rank = torch.arange(len(order), device=order.device) - starts[sorted_targets]
    return order[rank < views]


def _sample(source: Source, samples: int | None, seed: int) -> Tensor:
    count = len(source.inputs)
    if samples is not None and not 1 <= samples <= count:
        raise UsageError(f"{samples} samples of {source.name}", remedy=f"choose 1 to {count}")
    drawn = torch.randperm(count, generator=_generator(seed))[: samples or count]
    return drawn.to(source.inputs.device)


def _check_labels(labels: int) -> None:
    if labels < 2:
        raise UsageError(f"{labels} labels", remedy="choose 2 or more")
