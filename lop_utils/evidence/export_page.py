"""The ledger as one HTML page that stands alone: no script, no picture, no style sheet, nothing of another host."""

from collections.abc import Sequence
from html import escape

import lop_utils
from lop_utils.evidence import render
from lop_utils.evidence.judging import Verdict

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:auto;padding:1rem}"
    "table{border-collapse:collapse;margin:.5em 0}caption{text-align:left;font-weight:600}"
    "th,td{border:1px solid #8888;padding:.2em .5em;font-weight:400;text-align:left}thead th{font-weight:600}"
)
_NAMES = {"theory": "The paper's theory", "empirical": "The paper's experiments", "kit": "This book's own"}


def page(verdicts: Sequence[Verdict], *, profile: str, parts: Sequence[tuple[str, str]] = ()) -> str:
    """The whole page: counts, a list of all claims by kind, then every claim with its numbers and its provenance.

    parts: further sections before the claims, as (heading, HTML).
    """
    title = f"Ledger of claims, {profile} profile"
    kinds = [kind for kind in _NAMES if any(v.claim.kind == kind for v in verdicts)]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>The LoP Book {escape(lop_utils.__version__)}, on arXiv:2510.00304. Verdicts are computed from recorded "
        "values and a criterion that was written before the result.</p>",
        _section("Counts", render.counts(verdicts).html),
        *(_section(heading, html) for heading, html in parts),
        _section("All claims", "".join(_index(verdicts, kind) for kind in kinds)),
        "<h2>Claim by claim</h2>",
        *(f"<h3>{escape(v.claim.id)}</h3>{render.claim_box_html(v)}{_provenance(v)}" for v in verdicts),
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>{"".join(body)}</main></body></html>\n'


def _section(heading: str, html: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{html}</section>"


def _index(verdicts: Sequence[Verdict], kind: str) -> str:
    rows = [
        [
            f'<a href="#claim-{escape(v.claim.id)}">{escape(v.claim.id)}</a>',
            escape(v.claim.statement),
            escape(v.claim.where),
            render.badge(v.verdict),
        ]
        for v in verdicts
        if v.claim.kind == kind
    ]
    return render.table(_NAMES[kind], ["claim", "statement", "where", "verdict"], rows)


def _provenance(verdict: Verdict) -> str:
    """Versions, machine and time of a claim's record, folded up; nothing without a record."""
    made = verdict.provenance
    if not made:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    rest = {name: value for name, value in made.items() if name not in ("versions", "seeds")}
    facts = [f"seeds: {', '.join(map(str, made['seeds']))}", *(f"{name}: {value}" for name, value in rest.items())]
    lines = "<br>".join(map(escape, [*facts, f"versions: {versions}", f"criterion: {verdict.claim.criterion_digest}"]))
    return f"<details><summary>Provenance of {escape(verdict.claim.id)}</summary><p>{lines}</p></details>"
