"""Execute the book's chapters with papermill, side by side, each one only if something it follows from has changed."""

import difflib
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import papermill
from rich.console import Console

from lop_utils import profiles
from lop_utils.device import resolve
from lop_utils.errors import UsageError
from lop_utils.kit import stamps
from lop_utils.kit.pages import LEDGER, Page, check_stripped, read, select
from lop_utils.kit.progress import Progress
from lop_utils.kit.running import CACHED, Outcome, Running, Task
from lop_utils.training.cores import cores, shared_cores

STANDARD = ("profile", "device", "seed")  # parameters that every chapter has
_TICK = 0.1  # seconds between looks at what is running


def run(
    names: Iterable[str] = (),
    *,
    profile: str,
    device: str = "auto",
    seed: int = 0,
    extra: Mapping[str, object] | None = None,
    jobs: int = 2,
    force: bool = False,
    timeout: int | None = None,
    console: Console | None = None,
) -> list[Outcome]:
    """Execute the chapters named (all if none is) where needed, and the ledger last; one outcome for each.

    `extra`: further parameters; `jobs`: chapters at the same time (one on an accelerator); `timeout`: seconds a cell
    may take. Everything that can be wrong is looked at before anything runs: raises `UsageError` for an unknown
    profile, device, chapter or parameter, and for a chapter that has outputs.
    """
    profiles.check(profile)
    kind = resolve(device).type
    parameters = {**_checked_extra(extra or {}), "profile": profile, "device": kind, "seed": seed}
    tasks = [prepare(page, parameters, force=force) for page in select(names)]
    available = cores()
    jobs = 1 if kind != "cpu" else max(1, min(jobs, available))
    progress = Progress(console or Console(stderr=True))
    progress.line(f"profile {profile}, device {kind}, {jobs} at a time on {available} cores")
    first = [task for task in tasks if task.page.name != LEDGER]
    last = [task for task in tasks if task.page.name == LEDGER]
    outcomes = []
    for wave in (first, last):
        waiting = [task for task in wave if task.reason]
        outcomes += [_cached(task, progress) for task in wave if not task.reason]
        if waiting:
            side_by_side = min(jobs, len(waiting))
            if side_by_side > 1:  # else the longest chapter, started late, runs alone at the end
                waiting.sort(key=lambda task: -len(stamps.code_cells(read(task.page.path))))
            outcomes += _execute(waiting, side_by_side, available // side_by_side, timeout, progress)
    return outcomes


def prepare(page: Page, parameters: Mapping[str, object], *, force: bool = False) -> Task:
    """What to do about a chapter; `reason` is empty if its executed notebook can be reused."""
    notebook = read(page.path)
    check_stripped(page, notebook)
    check_parameters(page, parameters)
    made_from = stamps.dependencies(page, notebook, parameters)
    profile = str(parameters["profile"])
    stale = stamps.why_stale(page, profile, made_from)
    reason = "it reads all results" if page.name == LEDGER else stale or ("as asked" if force else "")
    return Task(page, profile, parameters, made_from, reason)


def check_parameters(page: Page, parameters: Mapping[str, object]) -> None:
    """Raise `UsageError` for a parameter that the chapter's `parameters` cell does not have."""
    try:
        known = list(papermill.inspect_notebook(str(page.path)))
    except ValueError as error:  # its metadata name no kernel, or papermill cannot read its language
        remedy = "open it in JupyterLab, choose the kernel Python 3 and save it"
        raise UsageError(f"{page.path.name} cannot be given parameters: {error}", remedy=remedy) from error
    for name in parameters:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"it has: {', '.join(known) or 'none'}"
            if name in STANDARD:
                remedy = f"add it to the cell tagged `parameters`; {remedy}"
            raise UsageError(f"parameter {name!r} is unknown to {page.path.name}", remedy=remedy)


def _checked_extra(extra: Mapping[str, object]) -> Mapping[str, object]:
    for name in extra:
        if name in STANDARD:
            raise UsageError(f"parameter {name!r} is set by its own option", remedy=f"use --{name}")
    return extra


def _cached(task: Task, progress: Progress) -> Outcome:
    path = stamps.executed(task.page, task.profile)
    outcome = Outcome(task.page.name, CACHED, 0.0, notebook=path)
    progress.ended(outcome)
    return outcome


def _execute(
    tasks: Sequence[Task], side_by_side: int, threads: int, timeout: int | None, progress: Progress
) -> list[Outcome]:
    """Run all tasks, `side_by_side` at a time, with `threads` each; leaves no process behind when interrupted."""
    waiting, active, outcomes = deque(tasks), [], []
    with ExitStack() as cleanup, shared_cores(cores()) as variables, progress.running():
        while waiting or active:
            while waiting and len(active) < side_by_side:
                task = waiting.popleft()
                active.append(
                    cleanup.enter_context(Running(task, threads=threads, timeout=timeout, variables=variables))
                )
                progress.started(task)
            time.sleep(_TICK)
            for run_ in list(active):
                outcome = run_.poll()
                if outcome:
                    active.remove(run_)
                    run_.close()
                    outcomes.append(outcome)
                    progress.ended(outcome)
            progress.show(active)
    return outcomes
