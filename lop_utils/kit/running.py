"""One chapter on its way: the process that executes it, and what is kept of it at the end."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil

from lop_utils.evidence.files import write_atomically
from lop_utils.evidence.paths import results_root
from lop_utils.kit import stamps
from lop_utils.kit.pages import LEDGER, Page, root

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS")
CACHED, EXECUTED, FAILED = "cached", "executed", "failed"


@dataclass(frozen=True)
class Task:
    """A chapter to be executed: with which parameters, from what (its stamp to be), and why."""

    page: Page
    profile: str
    parameters: Mapping[str, object]
    made_from: dict
    reason: str


@dataclass(frozen=True)
class Outcome:
    """How a chapter ended. `error` is one line that names the cell; `usage`: it was asked for something impossible."""

    name: str
    state: str
    seconds: float
    error: str = ""
    usage: bool = False
    notebook: Path | None = None


class Running:
    """A chapter in a process of its own, which writes only into a hidden folder until it has finished.

    Use it as a context manager: on leaving, the process, its kernel and the folder are gone, whatever happened.
    """

    def __init__(
        self, task: Task, *, threads: int, timeout: int | None = None, variables: Mapping[str, str] | None = None
    ):
        self.task, self._timeout = task, timeout
        self._environment = environment(threads) | dict(variables or {})
        self._before = stamps.records(task.page, task.profile)
        self._started = time.perf_counter()
        self._retried = False
        home = stamps.folder(task.profile)
        home.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{task.page.name}.", dir=home))
        self._process = self._start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs and remove what it wrote."""
        _end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen:
        job = {
            "source": str(self.task.page.path),
            "output": str(self.output),
            "parameters": dict(self.task.parameters),
            "cwd": str(self.task.page.path.parent),
            "timeout": self._timeout,
            "folder": str(self.folder),
        }
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lop_utils.kit.worker"],
                stdin=subprocess.PIPE,  # stays open: the process ends itself when it closes, that is, with this one
                stdout=log,
                stderr=log,
                bufsize=0,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which ends the others
            )
        with contextlib.suppress(BrokenPipeError):  # it has ended already; `poll` tells why
            process.stdin.write(json.dumps(job).encode() + b"\n")
        return process

    @property
    def output(self) -> Path:
        """The notebook as far as it is executed."""
        return self.folder / f"{self.task.page.name}.ipynb"

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self._started

    @property
    def cell(self) -> int:
        """Position of the running cell, from 1; 0 before the first."""
        try:
            return int((self.folder / "cell").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def poll(self) -> Outcome | None:
        """None while it runs; its outcome, with all files in place, once it has ended.

        A kernel that did not start (two may ask for the same port) is started once more.
        """
        if self._process.poll() is None:
            return None
        result = self._result()
        if result and not result["started"] and not self._retried:
            self._retried = True
            _end(self._process)
            self._process = self._start()
            return None
        return self._fail(result) if result else self._keep()

    def _result(self) -> dict:
        path = self.folder / "outcome.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        log = (self.folder / "log").read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(log) if line.strip()), "no message")
        error = f"its process ended with code {self._process.returncode}: {last}"
        return {"started": self.cell > 0, "error": error, "usage": False}

    def _keep(self) -> Outcome:
        """Put the executed notebook in place, then its stamp; records that this run no longer makes are removed."""
        page, profile = self.task.page, self.task.profile
        after = stamps.records(page, profile)
        if page.name != LEDGER:
            for claim in [name for name, written in after.items() if written == self._before.get(name)]:
                (results_root() / profile / "claims" / f"{claim}.json").unlink(missing_ok=True)
                del after[claim]
        left = {name: sha for name, (sha, _) in after.items()}
        seconds, notebook = self.seconds, _content(self.output)
        cold = stamps.cold_seconds(page, profile, notebook, seconds)
        _put(stamps.executed(page, profile), notebook)
        stamps.write(page, profile, made_from=self.task.made_from, left=left, seconds=cold)
        stamps.failed(page, profile).unlink(missing_ok=True)
        return Outcome(page.name, EXECUTED, seconds, notebook=stamps.executed(page, profile))

    def _fail(self, result: dict) -> Outcome:
        """Keep the partial notebook; what an earlier run left is no longer what the chapter gives, so it goes."""
        page, profile = self.task.page, self.task.profile
        partial = stamps.failed(page, profile)
        partial.unlink(missing_ok=True)
        if self.output.exists():
            _put(partial, _content(self.output))
        for path in (stamps.stamp_of(page, profile), stamps.executed(page, profile)):
            path.unlink(missing_ok=True)
        where = f"code cell {result['number']} `{result['line']}`" if result["started"] and "number" in result else ""
        error = f"{where}: {result['error']}" if where else f"before its first cell: {result['error']}"
        return Outcome(page.name, FAILED, self.seconds, error, result["usage"], partial if partial.exists() else None)


def environment(threads: int) -> dict[str, str]:
    """Environment of a chapter's kernel: this Python's own kernel, these results, a share of the processor's cores.

    A thread count that the caller has set in its own environment is respected.
    """
    limits = {name: os.environ.get(name, str(threads)) for name in _THREADS}
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures go into cells
    return {
        **inherited,
        **limits,
        "JUPYTER_PREFER_ENV_PATH": "1",
        "LOP_BOOK": str(root()),
        "LOP_RESULTS": str(results_root()),
    }


def _content(path: Path) -> nbformat.NotebookNode:
    """The notebook, without the paths of this machine that papermill notes in it."""
    content = nbformat.read(path, as_version=4)
    for key in ("input_path", "output_path"):
        content.metadata.get("papermill", {}).pop(key, None)
    return content


def _put(path: Path, notebook: nbformat.NotebookNode) -> None:
    write_atomically(path, (nbformat.writes(notebook) + "\n").encode())


def _end(process: subprocess.Popen) -> None:
    """End a process and all below it, kernels included."""
    below = []
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # first, so that it starts no more
    for child in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.stdin.close()
    process.wait()
    psutil.wait_procs(below, timeout=5)
