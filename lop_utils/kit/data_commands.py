"""`lop data`: fetch a data set once, and list what there is."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lop_utils.errors import UsageError
from lop_utils.streams import cache, external, sources


@dataclass(frozen=True)
class Row:
    """One data set: its state in words, size in bytes (None: not a file), what it holds, its licence."""

    name: str
    state: str
    size: int | None
    holds: str
    licence: str


def fetch(name: str, *, folder: Path | None, verified: bool, console: Console) -> cache.Cached:
    """Fetch with a bar on a terminal, or a line a stage elsewhere. Raises `UsageError` with the remedy."""
    with _shown(console) as report:
        return external.fetch(name, folder=folder, verified=verified, progress=report)


def overview() -> list[Row]:
    """Every data set: the embedded ones, then those that can be fetched. Checks sizes and seals, not all bytes."""
    rows = []
    for name in sources.SOURCES:
        source = sources.load(name)
        holds = _holds(source.shape, source.classes, len(source.inputs), len(source.test_inputs))
        rows.append(Row(name, "embedded", None, holds, source.licence))
    for name, entry in external.EXTERNAL.items():
        facts = entry.facts
        holds = _holds(facts.shape, facts.classes, facts.train, facts.test)
        try:
            state = "not fetched" if cache.find(name) is None else "fetched"
        except cache.Unusable as error:
            state = f"unusable: {error}"
        rows.append(Row(name, state, facts.size, holds, facts.licence))
    return rows


def _holds(shape: tuple[int, ...], classes: int, train: int, test: int) -> str:
    return f"{train} + {test} of {' x '.join(map(str, shape))}, {classes} classes"


@contextmanager
def _shown(console: Console) -> Iterator[cache.Progress]:
    """A progress callback that draws on `console` while the context lasts."""
    if not console.is_terminal:
        seen: set[str] = set()

        def line(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen.add(what)
                console.print(f"{what} ...", markup=False, highlight=False, soft_wrap=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        known = {}

        def bar(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done, total=total)

        yield bar


def free_space() -> tuple[Path, int]:
    """The folder of fetched data, and the bytes free where it is or would be."""
    folder = cache.folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        return folder, shutil.disk_usage(there).free
    except OSError as error:
        raise UsageError(f"{there} cannot be looked at ({error.strerror})", remedy="set LOP_DATA elsewhere") from error
