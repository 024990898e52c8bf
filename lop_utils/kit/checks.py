"""Does the book hold together: stripped notebooks, a sound claims file, fresh records, no drift, an offline site."""

import difflib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lop_utils import profiles
from lop_utils.errors import UsageError
from lop_utils.evidence import badges
from lop_utils.evidence.claims import VERDICTS, Claim, Verdict, ledger, load_claims
from lop_utils.evidence.files import write_atomically
from lop_utils.evidence.provenance import library_versions
from lop_utils.kit import ledger_files, stamps
from lop_utils.kit.offline import outside_requests
from lop_utils.kit.pages import Page, chapters, has_outputs, read, root


@dataclass(frozen=True)
class Checked:
    """`problems`: a line each; `counts`: claims by verdict; `notes`: what could not be looked at, and why."""

    problems: tuple[str, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()


def check(profile: str, *, record: bool = False) -> Checked:
    """Look at everything; with `record`, if all is well, make the present verdicts the reference.

    Raises `UsageError` for an unknown profile, a claims file that breaks its schema, and for `record` at a profile that
    judges nothing.
    """
    profiles.check(profile)
    if record and profile not in profiles.JUDGED:
        raise UsageError(
            f"profile {profile} judges nothing, so there is nothing to record",
            remedy=f"use --profile {' or '.join(profiles.JUDGED)}",
        )
    found, verdicts = chapters(), ledger(profile)
    run = [page for page in found if stamps.load(page, profile)]
    problems = [*_stripped(found), *_strange_chapters(found), *_figures(), *_runs(found, profile)]
    problems += _unrecorded(run, profile, verdicts)
    site = root() / "_site"
    if site.exists():
        problems += outside_requests(site)
    notes = [f"not run at profile {profile}: {page.name}" for page in found if page not in run]
    if record:
        problems += notes  # a reference for half of the book would forget the other half
    else:
        problems += _drift(profile, verdicts, {page.name for page in run})
    if record and not problems:
        _record(profile, verdicts)
    notes += [] if site.exists() else ["there is no site: its requests were not looked at (lop build)"]
    counts = Counter(verdict.verdict for verdict in verdicts)
    return Checked(tuple(problems), {name: counts[name] for name in VERDICTS if counts[name]}, tuple(notes))


def _stripped(found: list[Page]) -> list[str]:
    remedy = "run: nbstripout --keep-id"
    return [f"{page.path.name} has outputs; {remedy} {page.path}" for page in found if has_outputs(read(page.path))]


def _figures() -> list[str]:
    """The first entry of the list of the paper's figures that breaks its schema or points nowhere."""
    try:
        ledger_files.figures()
    except UsageError as error:
        return [str(error)]
    return []


def _strange_chapters(found: list[Page]) -> list[str]:
    """Claims whose chapter is not in the book but looks like a misspelt one: same number, or nearly the same name."""
    names = [page.name for page in found]
    problems = []
    for claim in load_claims().values():
        if claim.chapter in names:
            continue
        number = claim.chapter.partition("_")[0]
        same = [name for name in names if number.isdigit() and name.partition("_")[0] == number]
        close = same or difflib.get_close_matches(claim.chapter, names, n=1, cutoff=0.85)
        if close:
            problems.append(f"claim {claim.id}: chapter {claim.chapter} is not in the book; did you mean {close[0]}?")
    return problems


def _runs(found: list[Page], profile: str) -> list[str]:
    """Chapters whose last run failed, or whose results are not up to date."""
    problems = []
    for page in found:
        if stamps.failed(page, profile).exists():
            problems.append(f"{page.name}: its last run failed, see {stamps.failed(page, profile)}")
        elif stamps.executed(page, profile).exists():
            stale = stamps.why_stale(page, profile)
            problems += [f"{page.name} is not up to date: {stale}; run: lop run --profile {profile}"] if stale else []
    return problems


def _unrecorded(run: list[Page], profile: str, verdicts: list[Verdict]) -> list[str]:
    """Claims with a criterion that the last run of their chapter left without a usable record."""
    left = {page.name: stamps.load(page, profile)["records"] for page in run}
    problems = []
    for verdict in verdicts:
        claim: Claim = verdict.claim
        if not claim.as_stated or claim.chapter not in left:
            continue
        if claim.id not in left[claim.chapter]:
            problems.append(f"claim {claim.id} has a criterion, but the last run of {claim.chapter} did not judge it")
        elif not verdict.date:
            problems.append(f"claim {claim.id}: {verdict.reason}; run: lop run {claim.chapter} --profile {profile}")
    return problems


def reference(profile: str) -> Path:
    """Where the verdicts are that a fresh run must give again."""
    return root() / "reference" / profile / "verdicts.json"


def _record(profile: str, verdicts: list[Verdict]) -> None:
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
    path = reference(profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(path.with_name("claims.svg"), recorded_badge(content).encode())


def recorded_badge(content: dict) -> str:
    """The badge of a reference's verdicts, which `lop check --record` keeps beside it for the README."""
    return badges.of_verdicts(entry["verdict"] for entry in content["verdicts"].values())


def _drift(profile: str, verdicts: list[Verdict], run: set[str]) -> list[str]:
    """Verdicts other than in the reference, with the libraries that changed since; only of chapters that ran."""
    path = reference(profile)
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
