"""Claim boxes and the ledger as accessible HTML: captions, header cells, verdicts in words and not by colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lop_utils.evidence.judging import Verdict

# Border colours with at least 3:1 contrast on white and on near-black; the text keeps the page's own colour.
_COLOURS = {
    "reproduced": "#2f8f5b",
    "reproduced with correction": "#2b7fc4",
    "not reproduced": "#d1495b",
    "inconclusive": "#b07d12",
    "not judged": "#808080",
}
_PARTS = {"as_stated": "as stated", "corrected": "corrected"}


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a notebook displays, with the same in plain text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table with a caption, column headers, and the first cell of each row as that row's header.

    Cells are HTML already: escape plain text first.

    >>> table("Sizes", ["what", "how many"], [["units", "3"]]).count('scope="row"')
    1
    """
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join(
        f'<tr style="vertical-align:top;text-align:left"><th scope="row">{first}</th>'
        + "".join(f"<td>{cell}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="lop-table" style="overflow-x:auto"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def badge(verdict: str) -> str:
    """The verdict as text in a coloured frame."""
    style = f"border:2px solid {_COLOURS[verdict]};border-radius:.4em;padding:.05em .45em;display:inline-block"
    return f'<span class="lop-badge" style="{style}">{escape(verdict)}</span>'


def _made(verdict: Verdict) -> str:
    """Profile, device, seeds, date and version of the record, or nothing without one."""
    if not verdict.date:
        return ""
    seeds = ", ".join(map(str, verdict.seeds)) or "none"
    return (
        f"{verdict.profile} profile, {verdict.device}, seeds {seeds}, {verdict.date.replace('T', ' ')}, "
        f"version {verdict.version}"
    )


def _test_rows(verdict: Verdict) -> list[list[str]]:
    """One row a test or reported measure, as HTML; a verdict of `not judged` shows no outcomes."""
    hidden = verdict.verdict == "not judged"
    rows = [
        [_PARTS[t.part], str(t.test), str(t.interval), "not judged" if hidden else t.outcome] for t in verdict.tests
    ]
    rows += [["reported", f"mean of {name}", str(found), "no test"] for name, found in verdict.reported]
    return [[escape(cell) for cell in row] for row in rows]


def claim_box_html(verdict: Verdict) -> str:
    """The claim box of a chapter: statement, source, what the paper reports, each test with its interval, verdict."""
    claim = verdict.claim
    reason = f" {escape(verdict.reason)}." if verdict.reason else ""
    source = "Where in the paper" if claim.kind != "kit" else "Where"
    lines = [
        f"<p><strong>Claim {escape(claim.id)}.</strong> {escape(claim.statement)}</p>",
        f"<p><em>{source}:</em> {escape(claim.where)}. <em>Reported:</em> {escape(claim.paper_reports)}.</p>",
        f"<p><em>Measured:</em> {escape(claim.quantity)}.</p>",
    ]
    if claim.corrected_statement:
        lines.append(f"<p><em>Corrected statement:</em> {escape(claim.corrected_statement)}</p>")
    if verdict.tests or verdict.reported:
        lines.append(
            table("Tests and measured values", ["statement", "test", "measured", "outcome"], _test_rows(verdict))
        )
    lines.append(f"<p><em>Verdict:</em> {badge(verdict.verdict)}{reason}</p>")
    lines += [f"<p>{escape(claim.note)}</p>"] if claim.note else []
    lines += [f"<p><small>{escape(_made(verdict))}</small></p>"] if verdict.date else []
    style = f"border-left:4px solid {_COLOURS[verdict.verdict]};padding:.2em 1em;margin:1em 0"
    label = escape(f"claim {claim.id}: {verdict.verdict}", quote=True)
    opening = f'<section class="lop-claim" id="claim-{escape(claim.id)}" role="group" aria-label="{label}"'
    return f'{opening} style="{style}">{"".join(lines)}</section>'


def claim_box_markdown(verdict: Verdict) -> str:
    """The claim box for outputs without HTML (PDF)."""
    claim = verdict.claim
    lines = [
        f"**Claim {claim.id}.** {claim.statement}",
        f"*Source:* {claim.where}",
        f"*Reported:* {claim.paper_reports}",
    ]
    lines += [f"*Corrected statement:* {claim.corrected_statement}"] if claim.corrected_statement else []
    lines += ["- {}: {}; measured {}: {}".format(*map(unescape, row)) for row in _test_rows(verdict)]
    lines.append(f"*Verdict:* **{verdict.verdict}**" + (f" ({verdict.reason})" if verdict.reason else ""))
    lines += [_made(verdict)] if verdict.date else []
    return "\n\n".join(lines)


def counts(verdicts: Sequence[Verdict]) -> Html:
    """How many claims got which verdict, by kind of claim."""
    kinds = [kind for kind in ("theory", "empirical", "kit") if any(v.claim.kind == kind for v in verdicts)]
    rows = []
    for name in _COLOURS:
        numbers = [sum(v.verdict == name and v.claim.kind == kind for v in verdicts) for kind in kinds]
        rows.append([name, *map(str, numbers), str(sum(numbers))])
    html = table("Claims by verdict", ["verdict", *kinds, "all"], [[badge(row[0]), *row[1:]] for row in rows])
    return Html(html, "\n".join(f"{row[0]}: {row[-1]}" for row in rows))


def ledger(verdicts: Sequence[Verdict], *, title: str) -> Html:
    """A table with one row per claim: statement and source, tests with measured values, verdict and its record."""
    rows = []
    for v in verdicts:
        claim = v.claim
        source = f"Where: {escape(claim.where)}. Reported: {escape(claim.paper_reports)}."
        measured = [f"{part}: {test}; measured {found}: {end}" for part, test, found, end in _test_rows(v)]
        planned = [f"as stated: {escape(str(test))}" for test in claim.as_stated]
        planned += [f"corrected: {escape(str(test))}" for test in claim.corrected]
        made = "; ".join(escape(text) for text in (v.reason, _made(v)) if text)
        rows.append(
            [
                escape(claim.id),
                f"{escape(claim.statement)}<br><small>{source}</small>",
                "<br>".join(measured or planned) or "no criterion yet",
                f"{badge(v.verdict)}<br><small>{made}</small>",
            ]
        )
    header = ["claim", "statement and source", "tests", "verdict and record"]
    return Html(table(title, header, rows), "\n".join(map(str, verdicts)))
