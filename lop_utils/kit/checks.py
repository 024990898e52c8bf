"""Does the book hold together: stripped notebooks, a sound claims file, fresh records, no drift, an offline site."""

import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lop_utils import profiles
from lop_utils.errors import UsageError
from lop_utils.evidence.claims import VERDICTS, Claim, Verdict, ledger, load_claims
from lop_utils.kit import ledger_files, reference, stamps
from lop_utils.kit.offline import outside_requests
from lop_utils.kit.pages import Page, chapters, has_outputs, read, root


@dataclass(frozen=True)
class Checked:
    """`problems`: a line each; `counts`: claims by verdict; `notes`: what could not be looked at, and why; `recorded`:
    the file of the new reference."""

    problems: tuple[str, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    recorded: Path | None = None


def check(profile: str, *, record: bool = False) -> Checked:
    """Look at everything; with `record`, if all is well, make the present verdicts the reference.

    The reference of base seed 0 is what later runs are held against; those of others stand beside it,
    also if only some of the chapters ran.

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
    seeds = {page.name: _base_seed(page, profile) for page in run}
    problems = [*_stripped(found), *_strange_chapters(found), *_figures(), *_runs(found, profile)]
    problems += _unrecorded(run, profile, verdicts)
    site = root() / "_site"
    if site.exists():
        problems += outside_requests(site)
    notes = [f"not run at profile {profile}: {page.name}" for page in found if page not in run]
    if record:
        if not any(seeds.values()):
            problems += notes  # a reference for half of the book would forget the other half
        problems += _mixed(seeds)
    else:
        drifted, undecided = reference.drift(profile, verdicts, seeds)
        problems, notes = problems + drifted, notes + undecided
    recorded = None
    if record and not problems:
        made = [verdict for verdict in verdicts if verdict.claim.chapter in seeds]
        recorded = reference.record(profile, made, seed=max(seeds.values(), default=0))
    notes += [] if site.exists() else ["there is no site: its requests were not looked at (lop build)"]
    counts = Counter(verdict.verdict for verdict in verdicts)
    counted = {name: counts[name] for name in VERDICTS if counts[name]}
    return Checked(tuple(problems), counted, tuple(notes), recorded)


def _base_seed(page: Page, profile: str) -> int:
    """The base seed that a chapter ran with."""
    return int(stamps.load(page, profile)["made_from"].get("parameters", {}).get("seed", 0))


def _mixed(seeds: dict[str, int]) -> list[str]:
    """The base seeds, if there are several."""
    several = sorted({*seeds.values()})
    shown = " and ".join(map(str, several))
    return [f"the chapters ran with base seeds {shown}; run them all with one"] if len(several) > 1 else []


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
