"""A tiny grid of runs, and processes in which terrible things happen to it."""

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import sys
from functools import wraps
from pathlib import Path

import psutil
import torch._dynamo  # noqa: F401  here, or every child imports it for its first optimizer

from lop_utils.evidence import store, unfinished
from lop_utils.kit import cli, experiments

NAME = "continual"
SIZES = (
    "widths=[4]", "steps=2", "tasks=3", "samples=20", "batch_size=10", "fresh=[3]", "source=digits",
    "settings=[[groups,2],[views,5]]", "lr=0.001,0.01",
)  # fmt: skip
_fork = multiprocessing.get_context("fork")


def _spent() -> float:
    """Seconds of a processor that the children so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Grid:
    """The runs, the bytes that each has in the store in the end, and the seconds of a processor that all take."""

    def __init__(self, folder: Path):
        self.runs = experiments.grid(NAME, "laptop", device="cpu", seeds=1, settings=SIZES)
        os.environ["LOP_RESULTS"], before = str(folder), os.environ.get("LOP_RESULTS")
        try:
            assert Child(command).code() == 0
            for path in self.paths():
                path.unlink()
            used = _spent()  # on the second time: the first one is slower
            assert Child(command).code() == 0
            self.seconds = _spent() - used
            self.truth = self.stored()
        finally:
            os.environ.pop("LOP_RESULTS") if before is None else os.environ.update(LOP_RESULTS=before)

    def paths(self) -> list[Path]:
        return [store.place(run.name, run.config, run.device) for run in self.runs]

    def stored(self) -> list[bytes]:
        return [path.read_bytes() for path in self.paths()]

    def half_written(self) -> bool:
        """Whether the store now takes something for a result that is not the true one."""
        for run, path, true in zip(self.runs, self.paths(), self.truth, strict=True):
            if run.stored() and path.read_bytes() != true:
                return True
        return False

    def whole(self) -> bool:
        """Whether the store holds all true results and no leavings."""
        files = {file for path in self.paths() for file in path.parent.iterdir()}
        ours = {path.with_suffix(suffix) for path in self.paths() for suffix in (".parquet", ".json")}
        return self.stored() == self.truth and files == ours and all(run.stored() for run in self.runs)


def command(*options: str) -> int:
    """`lop experiment` with the grid, in this process; its exit code."""
    words = [word for setting in SIZES for word in ("--set", setting)]
    arguments = ["experiment", NAME, "--profile", "laptop", "--device", "cpu", "--seeds", "1", *words, *options]
    return cli.app(arguments, standalone_mode=False) or 0


class Child:
    """A process that does `work()` and exits with its code; forked, so that nothing is imported again."""

    def __init__(self, work, *, output: Path | None = None):
        self._work, self._output = work, output
        self.process = _fork.Process(target=self._main)
        self.process.start()

    def _main(self) -> None:
        with open(self._output or os.devnull, "w", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = file
            unfinished.SECONDS = unfinished.WORTHWHILE = 0.0  # a checkpoint wherever one can be
            os.cpu_count = lambda: 1  # the threads that torch has for more are lost in a fork, and waited for
            try:
                code = self._work()
            except SystemExit as end:
                code = end.code
        os._exit(code or 0)

    def kill_after(self, seconds: float) -> bool:
        """Kill it without warning once it has used so much of a processor; whether it was still running.

        That measure depends on how busy the machine is far less than the clock does.
        """
        watched = psutil.Process(self.process.pid)
        while self.process.exitcode is None and sum(watched.cpu_times()[:2]) < seconds:
            self.process.join(0.002)
        if self.process.exitcode is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    def code(self, seconds: float = 120) -> int:
        """Its exit code; negative for the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()
        return self.process.exitcode


def killing_at(operation: int, folder: Path) -> None:
    """Let this process be killed before its `operation`-th (0, 1, ...) opening, renaming or removal below `folder`."""
    seen = [0]

    def hook(event: str, arguments: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
            paths = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            if any(path.startswith(str(folder)) for path in paths):
                if seen[0] == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen[0] += 1

    sys.addaudithook(hook)


@contextlib.contextmanager
def heard():
    """What is logged in this process meanwhile, as text."""
    import logging

    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger("lop_utils").addHandler(handler)
    try:
        yield text
    finally:
        logging.getLogger("lop_utils").removeHandler(handler)


class BrokenOff(Exception):
    pass


def breaking(monkeypatch, module, name, after):
    """Let the function `name` of `module` raise at its `after`-th call from now; the list counts its calls."""
    function, calls = getattr(module, name), []

    @wraps(function)  # parts are known by the name of their function
    def broken(*args, **kwargs):
        if len(calls) == after:
            raise BrokenOff
        calls.append(name)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, broken)
    return calls
