"""Where the book and its results live."""

import os
from pathlib import Path

import lop_utils
from lop_utils.errors import UsageError
from lop_utils.streams.cache import chosen, user_cache

PACKAGE = Path(lop_utils.__file__).resolve().parent
SETTING = "LOP_RESULTS"
MARKER = "_toc.yml"  # a folder that holds it is a book's root


def _root_above(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds the book's table of contents."""
    start = start.expanduser().resolve()
    return next((folder for folder in (start, *start.parents) if (folder / MARKER).is_file()), None)


def book_root() -> Path | None:
    """The book's root folder: at or above $LOP_BOOK, else the working directory, else the package; None without a book.

    Raises `UsageError` when $LOP_BOOK is set and there is no book.
    """
    asked = os.environ.get("LOP_BOOK")
    if asked:
        root = _root_above(Path(asked))
        if root is None:
            raise UsageError(f"LOP_BOOK={asked!r} holds no {MARKER}", remedy="set it to the book's folder or unset it")
        return root
    return _root_above(Path.cwd()) or _root_above(PACKAGE.parent)


def results_root() -> Path:
    """The folder of all results: $LOP_RESULTS, else `_results` in the book's root, else one in the user's cache."""
    asked = chosen(SETTING)
    if asked is not None:
        return asked
    root = book_root()
    return root / "_results" if root is not None else user_cache(SETTING) / "_results"


def claims_file() -> Path:
    """The claims: `book/claims.yml` of the book, else the copy that an installed package carries.

    Raises `UsageError` when there is neither.
    """
    return book_file("claims.yml")


def book_file(name: str) -> Path:
    """A data file of the book: `book/NAME`, else the copy of that name that an installed package carries.

    Raises `UsageError` when there is neither.
    """
    root = book_root()
    candidates = [*([root / "book" / name] if root else []), PACKAGE / name]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise UsageError(f"no {name} found", remedy="run inside the book's folder or set LOP_BOOK to it")
    return found
