"""The ledger's files in the built site: a small Sphinx extension that writes them when the pages are done.

They are made from the records that the pages of the same build show, at the profile that the configuration names
(`lop_profile`; `lop build` sets it, and a plain `jupyter-book build .` runs the chapters at the smoke profile).
"""

from html import escape
from pathlib import Path
from typing import Any

from lop_utils.evidence import export
from lop_utils.evidence.claims import Verdict, ledger
from lop_utils.evidence.render import Html

EXTENSION = __name__
OPTION = "lop_profile"
FOLDER = "_static/ledger"  # in the site
_SHOWN = {
    "ledger.html": "one page that stands alone",
    "ledger.json": "JSON, everything that is known of every claim",
    "ledger.csv": "CSV, a row a claim",
    "numbers.csv": "CSV, a row a measured number",
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
    return export.write(folder, ledger(profile), profile=profile)


def links() -> Html:
    """Where the ledger's page leads for the files, with the badge; the links work in the built site."""
    items = [f'<li><a href="../{FOLDER}/{name}">{name}</a>: {escape(text)}</li>' for name, text in _SHOWN.items()]
    return Html(f"<ul>{''.join(items)}</ul>", ", ".join(_SHOWN))


def in_words(verdicts: list[Verdict]) -> list[str]:
    """One line a claim: its id, its verdict and, where there is none, why."""
    width = max((len(v.claim.id) for v in verdicts), default=0)
    return [f"{v.claim.id:{width}}  {v.verdict}{f' ({v.reason})' if v.reason else ''}" for v in verdicts]
