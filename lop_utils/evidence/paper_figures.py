"""The paper's figures: what each shows, where its counterpart is, and whether it is reproduced.

The list is `book/paper_figures.yml`. Whether a figure is reproduced follows from the verdicts of the claims that are
attached to it, see `status`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import yaml

from lop_utils.errors import UsageError
from lop_utils.evidence.judging import (
    INCONCLUSIVE,
    NOT_JUDGED,
    NOT_REPRODUCED,
    REPRODUCED,
    WITH_CORRECTION,
    Verdict,
)
from lop_utils.evidence.paths import book_file
from lop_utils.evidence.render import Html, table
from lop_utils.evidence.schema import load_claims

KINDS = ("figure", "table")
IN_PART, NOT_ATTEMPTED = "in part", "not attempted"
STATUSES = (REPRODUCED, IN_PART, NOT_REPRODUCED, INCONCLUSIVE, NOT_JUDGED, NOT_ATTEMPTED)
_KEYS = ("id", "kind", "shows", "where", "claims", "places", "note")


@dataclass(frozen=True)
class Place:
    """A counterpart: a chapter, and the label of a figure in it, or `claim-ID` for a claim's box."""

    chapter: str
    label: str


@dataclass(frozen=True)
class PaperFigure:
    """One figure or table of the paper; without `claims` it has not been attempted."""

    id: str
    kind: str
    shows: str
    where: str
    claims: tuple[str, ...]
    places: tuple[Place, ...]
    note: str = ""


def load_figures(path: Path | None = None) -> list[PaperFigure]:
    """All entries, in the file's order. Raises `UsageError` that names the entry and the key or claim that is wrong."""
    path = path or book_file("paper_figures.yml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not YAML: {' '.join(str(error).split())}", remedy="correct it") from error
    entries = data.get("figures") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise UsageError(f"{path.name} holds no list of figures", remedy="start it with `figures:` and a list")
    known = set(load_claims())
    found = [_parsed(entry, position, known) for position, entry in enumerate(entries, 1)]
    names = [figure.id for figure in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise _wrong(twice, "id occurs twice", "give every figure its own")
    return found


def _parsed(entry: object, position: int, known: Collection[str]) -> PaperFigure:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise _wrong(f"number {position}", f"id {name!r} is not kebab-case", "write it like norm-bars")
    strange = [key for key in entry if key not in _KEYS]
    if strange:
        raise _wrong(name, f"key {strange[0]!r} is unknown", f"the keys are: {', '.join(_KEYS)}")
    if entry.get("kind") not in KINDS:
        raise _wrong(name, f"kind {entry.get('kind')!r} is unknown", f"choose one of: {', '.join(KINDS)}")
    for key in ("shows", "where", *(["note"] if "note" in entry else [])):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise _wrong(name, f"{key} is missing or no text", "write it in words")
    claims, places = entry.get("claims") or [], entry.get("places") or []
    if not isinstance(claims, list) or not isinstance(places, list):
        raise _wrong(name, "claims or places is no list", "write [a, b]")
    for claim in claims:
        if claim not in known:
            raise _wrong(name, f"claim {claim!r} is unknown", "use an id of claims.yml")
    if bool(claims) != bool(places) or not (claims or "note" in entry):
        problem = "claims and places must both be given, or neither and a note"
        raise _wrong(name, problem, "attach what judges it and where it is, or say why it was not attempted")
    text = {key: " ".join(entry.get(key, "").split()) for key in ("shows", "where", "note")}
    return PaperFigure(
        id=name, kind=entry["kind"], claims=tuple(claims), places=tuple(_place(name, p) for p in places), **text
    )


def _place(name: str, data: object) -> Place:
    if not isinstance(data, dict) or set(data) != {"chapter", "label"}:
        raise _wrong(name, f"place {data!r} is not understood", "write {chapter: 05_cloning, label: fig-escape}")
    return Place(str(data["chapter"]), str(data["label"]))


def _wrong(name: str, problem: str, remedy: str) -> UsageError:
    return UsageError(f"figure {name}: {problem}", remedy=remedy)


def misplaced(figures: Sequence[PaperFigure], labels: Mapping[str, Collection[str]]) -> list[str]:
    """One line for each place that is not in the book, whose chapters have these `labels`."""
    problems = []
    for figure in figures:
        for place in figure.places:
            if place.chapter not in labels:
                problems.append(f"figure {figure.id}: chapter {place.chapter} is not in the book")
            elif place.label not in labels[place.chapter]:
                problems.append(f"figure {figure.id}: {place.chapter} has no label {place.label}")
    return problems


def status(figure: PaperFigure, verdicts: Mapping[str, str]) -> str:
    """What the verdicts (by claim) of its claims say of a figure.

    reproduced: all are; in part: some are, or are with a correction; else not reproduced if one claim is not, not
    judged if none is judged, inconclusive otherwise; not attempted without claims.

    >>> figure = PaperFigure("x", "figure", "", "", ("a", "b"), ())
    >>> status(figure, {"a": "reproduced", "b": "reproduced with correction"})
    'in part'
    """
    found = [verdicts.get(claim, NOT_JUDGED) for claim in figure.claims]
    if not found:
        return NOT_ATTEMPTED
    if all(verdict == REPRODUCED for verdict in found):
        return REPRODUCED
    if REPRODUCED in found or WITH_CORRECTION in found:
        return IN_PART
    if NOT_REPRODUCED in found:
        return NOT_REPRODUCED
    return NOT_JUDGED if all(verdict == NOT_JUDGED for verdict in found) else INCONCLUSIVE


def as_data(figures: Sequence[PaperFigure], verdicts: Sequence[Verdict]) -> list[dict]:
    """The figures as JSON data, each with its status and the verdicts of its claims."""
    known = {v.claim.id: v.verdict for v in verdicts}
    return [
        asdict(figure)
        | {"status": status(figure, known), "verdicts": {name: known.get(name, NOT_JUDGED) for name in figure.claims}}
        for figure in figures
    ]


def figures_table(figures: Sequence[PaperFigure], verdicts: Sequence[Verdict], *, pages: str | None = "") -> Html:
    """A row for each figure: what it shows, its counterpart, its claims with their verdicts, its status.

    `pages`: address of the folder with the chapters' pages, for links to them; None for no links.
    """
    rows = []
    for data in as_data(figures, verdicts):
        shows = f"{escape(data['shows'])}<br><small>{escape(data['where'])}</small>"
        places = [_link(place, pages) for place in data["places"]]
        claims = [f"{escape(name)}: {escape(verdict)}" for name, verdict in data["verdicts"].items()]
        note = f"<br><small>{escape(data['note'])}</small>" if data["note"] else ""
        rows.append([shows, "<br>".join(places) + note, "<br>".join(claims), escape(data["status"])])
    heads = ["the paper's figure", "counterpart here", "claims", "status"]
    text = "\n".join(f"{data['id']}: {data['status']}" for data in as_data(figures, verdicts))
    return Html(table("The paper's figures and tables", heads, rows), text)


def _link(place: dict, pages: str | None) -> str:
    words = f"chapter {int(place['chapter'][:2])}, {place['label']}"
    if pages is None:
        return escape(words)
    return f'<a href="{escape(pages)}{escape(place["chapter"])}.html#{escape(place["label"])}">{escape(words)}</a>'
