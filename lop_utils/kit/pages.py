"""The book's pages in the order of its table of contents, and what must hold of a chapter's notebook."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from lop_utils.errors import UsageError
from lop_utils.evidence.paths import MARKER, book_root

LEDGER = "ledger"  # the chapter that reads what all others recorded, and so runs last
_SUFFIXES = (".ipynb", ".md", ".rst")


@dataclass(frozen=True)
class Page:
    """One entry of the table of contents: its document (`book/05_cloning`) and its source file."""

    document: str
    path: Path

    @property
    def name(self) -> str:
        """The file's stem, which is how the command line and the claims file name a chapter."""
        return self.path.stem

    @property
    def is_chapter(self) -> bool:
        """Whether it is a notebook, that is, whether it is executed."""
        return self.path.suffix == ".ipynb"


def root() -> Path:
    """The book's folder. Raises `UsageError` outside a book."""
    found = book_root()
    if found is None:
        raise UsageError(f"no book here: no {MARKER} in this folder or above it", remedy="go to the book's folder")
    return found


def pages() -> list[Page]:
    """All pages that the table of contents names, in its order. Raises `UsageError` for a malformed one."""
    home = root()
    try:
        toc = yaml.safe_load((home / MARKER).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise UsageError(f"{MARKER} is not YAML: {problem}", remedy="correct the file") from error
    found = [_page(home, document) for document in _documents(toc)]
    if not found:
        raise UsageError(f"{MARKER} names no page", remedy="give it a `root:` and `chapters:` with `file:` entries")
    return found


def _documents(node: object) -> Iterator[str]:
    """Every `root:` and `file:` below `node`, in order."""
    if isinstance(node, Mapping):
        yield from (str(node[key]) for key in ("root", "file") if key in node)
        node = [value for value in node.values() if isinstance(value, list)]
    if isinstance(node, list):
        for child in node:
            yield from _documents(child)


def _page(home: Path, document: str) -> Page:
    for suffix in _SUFFIXES:
        document = document.removesuffix(suffix)
    candidates = [home / f"{document}{suffix}" for suffix in _SUFFIXES]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise UsageError(f"{MARKER} names {document}, which does not exist", remedy="add the file or remove the entry")
    return Page(document, path)


def chapters() -> list[Page]:
    """The notebooks among the pages, the ledger last. Raises `UsageError` when two share a name."""
    found = [page for page in pages() if page.is_chapter]
    names = [page.name for page in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two chapters are named {twice}", remedy="give each notebook its own file name")
    return sorted(found, key=lambda page: page.name == LEDGER)


def select(names: Iterable[str]) -> list[Page]:
    """The chapters named (all if none is), and the ledger, which is never left behind.

    Raises `UsageError` for an unknown name, with the names that come closest.
    """
    known = {page.name: page for page in chapters()}
    wanted = {Path(name).name.removesuffix(".ipynb") for name in names}
    for name in sorted(wanted - known.keys()):
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"choose from: {', '.join(known)}"
        raise UsageError(f"chapter {name!r} is unknown", remedy=remedy)
    return [page for name, page in known.items() if not wanted or name in wanted or name == LEDGER]


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`. Raises `UsageError` for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many types, some of them its own
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"{path} is not a notebook: {reason}", remedy="repair it or restore it from git") from error


def has_outputs(notebook: nbformat.NotebookNode) -> bool:
    """Whether any trace of an execution is left in the notebook."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "widgets" in notebook.metadata or any(cell.outputs or cell.execution_count for cell in cells)


def check_stripped(page: Page, notebook: nbformat.NotebookNode) -> None:
    """Raise `UsageError`, with the command that helps, if the chapter's source has outputs."""
    if has_outputs(notebook):
        raise UsageError(
            f"{page.path.name} has outputs; chapters are kept without them",
            remedy=f"run: nbstripout --keep-id {page.path}",
        )


def labels(page: Page) -> set[str]:
    """Labels of the figures and tables that a chapter's text defines (`:name:`)."""
    text = "\n".join(cell.source for cell in read(page.path).cells if cell.cell_type == "markdown")
    return set(re.findall(r"^:name:[ \t]*(\S+)", text, flags=re.MULTILINE))


def title(page: Page) -> str:
    """The first heading of a page, or its name."""
    if page.is_chapter:
        text = "\n".join(cell.source for cell in read(page.path).cells if cell.cell_type == "markdown")
    else:
        text = page.path.read_text(encoding="utf-8")
    heading = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return heading.removeprefix("# ").strip() or page.name
