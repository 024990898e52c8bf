"""Independent parts of one experiment on several cores: the same results in the same order as one after another."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from lop_utils.errors import UsageError
from lop_utils.training.checkpoint import Keeper, current, kept_by
from lop_utils.training.cores import a_core

_allowed = 1


def allow_processes(count: int) -> None:
    """From now on an experiment of this process may spread over `count` processes; 1, as at the start, means itself.

    Raises `UsageError` for a count below 1.
    """
    global _allowed
    if count < 1:
        raise UsageError(f"{count} processes", remedy="allow at least 1")
    _allowed = count


@contextlib.contextmanager
def cores_lent(count: int) -> Iterator[None]:
    """So many threads, or as many processes of one thread; afterwards what it was before.

    numpy's linear algebra gets one thread, whatever the count: its spectra are small, and two threads take longer.

    >>> before = torch.get_num_threads()
    >>> with cores_lent(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads(), _allowed
    allow_processes(count)
    try:
        with threadpool_limits(1, user_api="blas"):
            torch.set_num_threads(count)
            yield
    finally:
        torch.set_num_threads(before[0])
        allow_processes(before[1])


def side_by_side(
    function: Callable, parts: Sequence[tuple], *, device: torch.device | str = "cpu", progress: Callable = iter
) -> list:
    """``[function(*part) for part in parts]``, over as many processes as are allowed; on an accelerator over one.

    Each process computes with one thread, on a core of its own where cores are shared (`training.cores`). `function`
    must be importable, its arguments go to the processes as pickles, and its results are plain data, as checkpoints
    take them: what has been computed of a run that is broken off, its finished parts among it, is not computed again
    when the run goes on, over however many processes. What one part raises is raised here.

    >>> side_by_side(max, [(1, 2), (4, 3)])
    [2, 4]
    """
    keeper = current()
    branch = keeper.branch("side by side", function.__name__)
    keepers = [branch.branch(index) for index in range(len(parts))]
    count = min(_allowed, len(parts)) if torch.device(device).type == "cpu" else 1
    if count < 2:
        found = [_kept(function, part, kept) for part, kept in zip(progress(parts), keepers, strict=True)]
    else:
        pool = Parallel(n_jobs=count, backend="loky", return_as="generator", inner_max_num_threads=1)
        outcomes: Iterable = pool(delayed(_alone)(function, *call) for call in zip(parts, keepers, strict=True))
        found = list(progress(outcomes))
    if any(resumed for _, resumed in found):
        keeper.resumed = True
    return [result for result, _ in found]


def _alone(function: Callable, part: tuple, keeper: Keeper) -> tuple[object, bool]:
    torch.set_num_threads(1)
    with a_core(for_process=True):
        return _kept(function, part, keeper)


def _kept(function: Callable, part: tuple, keeper: Keeper) -> tuple[object, bool]:
    """The result of a part, from its checkpoint if it was finished before, and whether any checkpoint was used."""
    place = keeper.place("result")
    state = place.load()
    if state is None:
        with kept_by(keeper):
            state = {"result": function(*part)}
        place.save(lambda: state, last=True)
    return state["result"], keeper.resumed
