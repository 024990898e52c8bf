"""Independent parts of one experiment on several cores: the same results in the same order as one after another."""

import os
from collections.abc import Callable, Iterable, Sequence

import torch
from joblib import Parallel, delayed

from lop_utils.errors import UsageError

_allowed = 1


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allow_processes(count: int) -> None:
    """From now on an experiment of this process may spread over `count` processes; 1, as at the start, means itself.

    Raises `UsageError` for a count below 1.
    """
    global _allowed
    if count < 1:
        raise UsageError(f"{count} processes", remedy="allow at least 1")
    _allowed = count


def side_by_side(
    function: Callable, parts: Sequence[tuple], *, device: torch.device | str = "cpu", progress: Callable = iter
) -> list:
    """``[function(*part) for part in parts]``, over as many processes as are allowed; on an accelerator over one.

    Each process computes with one thread. `function` must be importable, and its arguments and results go from process
    to process as pickles. What one part raises is raised here.

    >>> side_by_side(max, [(1, 2), (4, 3)])
    [2, 4]
    """
    count = min(_allowed, len(parts)) if torch.device(device).type == "cpu" else 1
    if count < 2:
        return [function(*part) for part in progress(parts)]
    pool = Parallel(n_jobs=count, backend="loky", return_as="generator", inner_max_num_threads=1)
    found: Iterable = pool(delayed(_alone)(function, part) for part in parts)
    return list(progress(found))


def _alone(function: Callable, part: tuple) -> object:
    torch.set_num_threads(1)
    return function(*part)
