"""Tables of recorded numbers in the book's page on how to run it, each between two marks."""

import re
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "how_to_run.md"


def table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right of its first column, between the marks of `name`."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]
    return "\n".join([f"<!-- {name}: begin -->", "", *lines, "", f"<!-- {name}: end -->"])


def insert(name: str, text: str) -> None:
    """Put `text` in the place of what stands between the marks of `name`."""
    page = PAGE.read_text(encoding="utf-8")
    marks = f"<!-- {name}: begin -->.*<!-- {name}: end -->"
    PAGE.write_text(re.sub(marks, lambda _: text, page, flags=re.DOTALL), encoding="utf-8")
    print(text)
