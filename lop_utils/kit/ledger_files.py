"""The ledger's files in the built site: a small Sphinx extension that writes them when the pages are done.

They are made from the records that the pages of the same build show, at the profile that the configuration names
(`lop_profile`; `lop build` sets it, and a plain `jupyter-book build .` runs the chapters at the smoke profile).
"""

from html import escape
from pathlib import Path
from typing import Any

from lop_utils.errors import UsageError
from lop_utils.evidence import export
from lop_utils.evidence.claims import Verdict, load_claims
from lop_utils.evidence.paper_figures import PaperFigure, figures_table, load_figures, misplaced
from lop_utils.evidence.paths import book_root
from lop_utils.evidence.render import Html
from lop_utils.kit import reference
from lop_utils.kit.pages import chapters, labels

EXTENSION = __name__
OPTION = "lop_profile"
FOLDER = "_static/ledger"  # in the site
_SHOWN = {
    "ledger.html": "one page that stands alone",
    "ledger.json": "JSON, everything that is known of every claim",
    "ledger.csv": "CSV, a row a claim",
    "numbers.csv": "CSV, a row a measured number",
    "figures.csv": "CSV, a row a figure of the paper",
    "claims.svg": "a badge",
}


def setup(app: Any) -> dict[str, bool]:
    """Add the option and connect the function below; called by Sphinx."""
    app.add_config_value(OPTION, "smoke", "env")
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write(Path(app.outdir) / FOLDER, app.config[OPTION])


def write(folder: Path, profile: str) -> list[Path]:
    """Write every file of the ledger at `profile` into `folder`. Raises `UsageError` for an unknown profile."""
    return export.write(folder, reference.ledger(profile), profile=profile, figures=figures())


def figures() -> list[PaperFigure]:
    """The paper's figures, checked against the book; none in a book without `book/paper_figures.yml`.

    Raises `UsageError` for an unknown claim, chapter or label, and names it.
    """
    if book_root() is None or not (book_root() / "book" / "paper_figures.yml").exists():
        return []
    found = load_figures()
    problems = misplaced(found, places())
    if problems:
        raise UsageError(problems[0], remedy="correct book/paper_figures.yml or the chapter")
    return found


def places() -> dict[str, set[str]]:
    """What can be linked to in each chapter: its figures, and the boxes of its claims."""
    found = {page.name: labels(page) for page in chapters()}
    for claim in load_claims().values():
        found.get(claim.chapter, set()).add(f"claim-{claim.id}")
    return found


def paper_figures(verdicts: list[Verdict]) -> Html:
    """The table of the paper's figures for the ledger's page. Raises `UsageError` as `figures` does."""
    return figures_table(figures(), verdicts)


def links() -> Html:
    """Where the ledger's page leads for the files that `write` makes, with the badge; for the built site."""
    shown = {name: text for name, text in _SHOWN.items() if name != "figures.csv" or figures()}
    items = [f'<li><a href="../{FOLDER}/{name}">{name}</a>: {escape(text)}</li>' for name, text in shown.items()]
    return Html(f"<ul>{''.join(items)}</ul>", ", ".join(shown))


def in_words(verdicts: list[Verdict]) -> list[str]:
    """One line a claim: its id, its verdict and, where there is none, why."""
    width = max((len(v.claim.id) for v in verdicts), default=0)
    return [f"{v.claim.id:{width}}  {v.verdict}{f' ({v.reason})' if v.reason else ''}" for v in verdicts]
