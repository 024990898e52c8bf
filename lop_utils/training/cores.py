"""The cores of this machine: how many there are for this process, and one of them at a time where several share them.

Chapters that run side by side each spread their experiments over processes. Together these are more than the cores, and
then push each other's numbers out of the caches: training steps took 15 to 20 % longer with four processes on two
cores. So whoever starts the chapters calls `shared_cores`, and each part of an experiment waits for its core.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: parts then wait for nothing
    fcntl = None

SETTING = "LOP_CORES"
_TICK = 0.02  # seconds between two looks for a free core
_whole_process = False


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def shared_cores(count: int) -> Iterator[dict[str, str]]:
    """Environment variables for processes that are to share `count` cores: `a_core` then waits in each of them.

    >>> with shared_cores(2) as variables:
    ...     len(os.listdir(variables["LOP_CORES"]))
    2
    """
    with tempfile.TemporaryDirectory(prefix="lop-cores-", ignore_cleanup_errors=True) as folder:
        for number in range(count):
            (Path(folder) / str(number)).touch()
        yield {SETTING: folder}


@contextlib.contextmanager
def a_core(*, for_process: bool = False) -> Iterator[None]:
    """Hold one of the shared cores, and wait for it if none is free; at once where none are shared.

    `for_process`: whatever this process asks for meanwhile, it has already; without, each thread asks for itself, and
    must not ask again nor wait for one that does. A process that dies lets go.
    """
    global _whole_process
    before = _whole_process
    handle = None if before else _wait_for_one(os.environ.get(SETTING))
    _whole_process = before or for_process
    try:
        yield
    finally:
        _whole_process = before
        if handle is not None:
            os.close(handle)  # which lets go of its lock
            time.sleep(
                1.5 * _TICK
            )  # those that wait look before this one can ask again, or it would take turns with none


def _wait_for_one(folder: str | None) -> int | None:
    """An open file of `folder` whose lock is held; None where no cores are shared (any more) or there are no locks."""
    if fcntl is None or not folder:
        return None
    try:
        while (handle := _take(folder)) is None:
            time.sleep(_TICK)
    except OSError:
        return None
    return handle


def _take(folder: str) -> int | None:
    """An open file whose lock is held, or None if others hold all of them; `OSError` if there are none."""
    paths = sorted(Path(folder).iterdir())
    if not paths:
        raise FileNotFoundError(folder)
    for path in paths:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        except OSError:
            os.close(handle)
            raise
        else:
            return handle
    return None
