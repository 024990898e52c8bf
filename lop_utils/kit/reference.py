"""The recorded verdicts of a profile, and what a fresh run makes of them.

<book>/reference/<profile>/verdicts.json    what `lop check --record` found; claims.svg beside it is their badge
"""

import json
from pathlib import Path

from lop_utils.evidence import badges
from lop_utils.evidence.claims import Verdict
from lop_utils.evidence.files import write_atomically
from lop_utils.evidence.provenance import library_versions
from lop_utils.kit.pages import root


def path_of(profile: str) -> Path:
    """Where the verdicts are that a fresh run must give again."""
    return root() / "reference" / profile / "verdicts.json"


def record(profile: str, verdicts: list[Verdict]) -> None:
    """Make `verdicts` the reference, with their tests, seeds and the versions of the libraries."""
    content = {
        "profile": profile,
        "versions": library_versions(),
        "verdicts": {
            v.claim.id: {
                "verdict": v.verdict,
                "device": v.device,
                "seeds": list(v.seeds),
                "date": v.date,
                "tests": [f"{t.part}: {t.test}; {t.interval}: {t.outcome}" for t in v.tests],
            }
            for v in verdicts
            if v.verdict != "not judged"
        },
    }
    path = path_of(profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(path.with_name("claims.svg"), recorded_badge(content).encode())


def recorded_badge(content: dict) -> str:
    """The badge of a reference's verdicts, which `lop check --record` keeps beside it for the README."""
    return badges.of_verdicts(entry["verdict"] for entry in content["verdicts"].values())


def drift(profile: str, verdicts: list[Verdict], run: set[str]) -> list[str]:
    """Verdicts other than in the reference, with the libraries that changed since; only of chapters that ran."""
    path = path_of(profile)
    if not path.exists():
        return []
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        expected = {name: entry["verdict"] for name, entry in stored["verdicts"].items()}
        versions = dict(stored["versions"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{path} cannot be read ({type(error).__name__}: {error}); run: lop check --record"]
    now = {v.claim.id: v for v in verdicts}
    present = library_versions()
    changed = [f"{k} {versions.get(k)} -> {present.get(k)}" for k in present if versions.get(k) != present.get(k)]
    since = f"; changed since: {', '.join(changed)}" if changed else "; no library changed since"
    problems = []
    for name, verdict in expected.items():
        if name not in now:
            problems.append(f"claim {name} is in the reference but not in claims.yml; run: lop check --record")
        elif now[name].claim.chapter in run and now[name].verdict != verdict:
            problems.append(f"claim {name} drifted: {verdict} in the reference, {now[name].verdict} now{since}")
    return problems
