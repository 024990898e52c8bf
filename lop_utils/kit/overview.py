"""The chapters at a glance: what ran, how long it took, what came of it."""

from collections import Counter
from dataclasses import dataclass

from lop_utils import profiles
from lop_utils.evidence.claims import VERDICTS
from lop_utils.kit import reference, stamps
from lop_utils.kit.pages import chapters, title


@dataclass(frozen=True)
class Row:
    """One chapter: its state in words, the seconds it takes (`stamps.cold_seconds`), its claims by verdict."""

    name: str
    title: str
    state: str
    seconds: float | None
    counts: dict[str, int]


def overview(profile: str) -> list[Row]:
    """One row for each chapter, in the order in which they run. Raises `UsageError` for an unknown profile."""
    profiles.check(profile)
    verdicts = reference.ledger(profile)
    rows = []
    for page in chapters():
        stamp = stamps.load(page, profile)
        stale = stamps.why_stale(page, profile)
        failed = stamps.failed(page, profile).exists()
        state = "failed" if failed else "up to date" if not stale else stale if stamp is None else f"outdated: {stale}"
        counts = Counter(v.verdict for v in verdicts if v.claim.chapter == page.name)
        ordered = {name: counts[name] for name in VERDICTS if counts[name]}
        rows.append(Row(page.name, title(page), state, stamp["seconds"] if stamp else None, ordered))
    return rows
