"""The ledger as files: one page for readers, JSON and CSV for programs, badges for front pages.

    from lop_utils.evidence import claims, export
    export.write(Path("ledger"), claims.ledger("laptop"), profile="laptop")

All of them are made from the same verdicts, which are computed from the records; nothing is typed in.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import lop_utils
from lop_utils.errors import UsageError
from lop_utils.evidence import badges, paper_figures
from lop_utils.evidence.export_page import page
from lop_utils.evidence.files import write_atomically
from lop_utils.evidence.judging import VERDICTS, Verdict
from lop_utils.evidence.paper_figures import PaperFigure
from lop_utils.evidence.provenance import canonical
from lop_utils.evidence.stats import Interval

FORMAT = 1
_INTERVAL = ("statistic", "estimate", "low", "high", "n", "level")
NUMBER_COLUMNS = ("id", "verdict", "part", "test", "outcome", "measure", *_INTERVAL)
FIGURE_COLUMNS = ("id", "kind", "shows", "where", "status", "places", "claims", "note")
CLAIM_COLUMNS = (
    "id", "kind", "chapter", "where", "statement", "quantity", "paper_reports", "criterion", "corrected_statement",
    "corrected_criterion", "verdict", "reason", "numbers", "profile", "seeds", "device", "date", "wall_s", "platform",
    "versions", "note",
)  # fmt: skip
KINDS = {"theory": "theory", "empirical": "experiments", "kit": "this book's own"}  # kind -> label of its badge


def write(
    folder: Path, verdicts: Sequence[Verdict], *, profile: str, figures: Sequence[PaperFigure] = ()
) -> list[Path]:
    """Write all files into `folder`, made if need be, and return their paths; each is whole or as it was before.

    Files: ledger.html, ledger.json, ledger.csv (a row a claim), numbers.csv (a row a test or reported measure),
    figures.csv (a row a figure of the paper, if `figures` are given), claims.svg and one badge for each kind of claim.
    Raises `UsageError` where the folder cannot be written.
    """
    data = as_data(verdicts, profile=profile, figures=figures)
    contents = {
        "ledger.html": page(verdicts, profile=profile, parts=_parts(figures, verdicts)),
        "ledger.json": json.dumps(data, indent=1, ensure_ascii=False) + "\n",
        "ledger.csv": _csv(CLAIM_COLUMNS, map(_claim_row, verdicts)),
        "numbers.csv": _csv(NUMBER_COLUMNS, (row for verdict in verdicts for row in _number_rows(verdict))),
        "claims.svg": badges.of_verdicts(v.verdict for v in verdicts),
    }
    if figures:
        contents["figures.csv"] = _csv(FIGURE_COLUMNS, map(_figure_row, paper_figures.as_data(figures, verdicts)))
    for kind, label in KINDS.items():
        found = [v.verdict for v in verdicts if v.claim.kind == kind]
        contents |= {f"claims-{kind}.svg": badges.of_verdicts(found, label)} if found else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            write_atomically(folder / name, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write into {folder} ({error.strerror})", remedy="name another folder") from error
    return [folder / name for name in contents]


def _parts(figures: Sequence[PaperFigure], verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    if not figures:
        return []
    return [("The paper's figures", paper_figures.figures_table(figures, verdicts, pages=None).html)]


def as_data(verdicts: Sequence[Verdict], *, profile: str, figures: Sequence[PaperFigure] = ()) -> dict:
    """Everything that is known of every claim (see `claim_data`) and figure of the paper, as JSON data."""
    counts = Counter(v.verdict for v in verdicts)
    return {
        "format": FORMAT,
        "profile": profile,
        "book_version": lop_utils.__version__,
        "counts": {name: counts[name] for name in VERDICTS},
        "claims": [claim_data(verdict) for verdict in verdicts],
        "figures": paper_figures.as_data(figures, verdicts),
    }


def claim_data(verdict: Verdict) -> dict:
    """One claim: its texts, its criterion, its verdict, each number with its interval, and the record's provenance.

    `provenance` is null where nothing was recorded; else it holds seeds, device, versions, date, wall seconds and what
    else `evidence.provenance.provenance` notes. `outcome` is null where the profile judges nothing.
    """
    claim = verdict.claim
    texts = ("id", "kind", "chapter", "statement", "where", "quantity", "paper_reports", "corrected_statement", "note")
    return {
        **{name: getattr(claim, name) for name in texts},
        "criterion": {
            "as_stated": canonical(claim.as_stated),
            "corrected": canonical(claim.corrected),
            "sha256": claim.criterion_digest,
        },
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "numbers": list(_numbers(verdict)),
        "provenance": canonical(verdict.provenance) or None,
    }


def _numbers(verdict: Verdict) -> Iterable[dict]:
    judged = verdict.verdict != "not judged"
    for tested in verdict.tests:
        named = {"part": tested.part, "test": str(tested.test), "outcome": tested.outcome if judged else None}
        yield named | {"measure": tested.test.measure} | _interval(tested.interval)
    for measure, found in verdict.reported:
        yield {"part": "reported", "test": None, "outcome": None, "measure": measure} | _interval(found)


def _interval(found: Interval) -> dict:
    return {name: getattr(found, name) for name in _INTERVAL}


def _claim_row(verdict: Verdict) -> dict[str, object]:
    """A claim in one row: lists in words, the versions of the libraries joined."""
    data, claim = claim_data(verdict), verdict.claim
    made = data["provenance"] or {}
    facts = {
        "criterion": "; ".join(map(str, claim.as_stated)),
        "corrected_criterion": "; ".join(map(str, claim.corrected)),
        "numbers": "; ".join(map(_in_words, data["numbers"])),
        "profile": verdict.profile,
        "seeds": " ".join(map(str, verdict.seeds)),
        "device": verdict.device,
        "date": verdict.date,
        "versions": " ".join(f"{name}={version}" for name, version in made.get("versions", {}).items()),
    }
    return {name: facts.get(name, data.get(name, made.get(name, ""))) for name in CLAIM_COLUMNS}


def _in_words(number: dict) -> str:
    spread = f"{number['estimate']:.6g} ({number['low']:.6g} to {number['high']:.6g}, n = {number['n']})"
    return f"{number['part']}: {number['test'] or number['measure']}; {spread}"


def _number_rows(verdict: Verdict) -> Iterable[dict]:
    for number in _numbers(verdict):
        yield {"id": verdict.claim.id, "verdict": verdict.verdict} | number


def _figure_row(data: dict) -> dict[str, str]:
    lists = {
        "places": "; ".join(f"{place['chapter']}#{place['label']}" for place in data["places"]),
        "claims": "; ".join(f"{name}: {verdict}" for name, verdict in data["verdicts"].items()),
    }
    return {name: lists.get(name, data.get(name)) for name in FIGURE_COLUMNS}


def _csv(columns: Sequence[str], rows: Iterable[dict]) -> str:
    """A line of names, then the rows; empty text for None, every digit of a number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
