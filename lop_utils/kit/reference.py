"""The recorded verdicts of a profile, and what a fresh run makes of them.

<book>/reference/<profile>/verdicts.json    what `lop check --record` found; claims.svg beside it is their badge
<book>/reference/<profile>/seed_<n>.json    the same from base seed n: how much do the verdicts owe to the seeds?
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

from lop_utils.errors import UsageError
from lop_utils.evidence import badges, claims
from lop_utils.evidence.claims import Verdict
from lop_utils.evidence.files import write_atomically
from lop_utils.evidence.judging import INCONCLUSIVE as UNDECIDED
from lop_utils.evidence.judging import NOT_JUDGED
from lop_utils.evidence.provenance import library_versions
from lop_utils.evidence.render import Html, table
from lop_utils.kit.pages import root


def path_of(profile: str, seed: int = 0) -> Path:
    """Where the verdicts are that a fresh run must give again; those of base seed 0 are what others are held against.

    >>> path_of("laptop", 1000).name
    'seed_1000.json'
    """
    return root() / "reference" / profile / (f"seed_{seed}.json" if seed else "verdicts.json")


def record(profile: str, verdicts: list[Verdict], *, seed: int = 0) -> Path:
    """Make `verdicts` the reference of a base seed, with tests, seeds and versions; returns the file."""
    content = {
        "profile": profile,
        "base_seed": seed,
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
            if v.verdict != NOT_JUDGED
        },
    }
    path = path_of(profile, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    if path_of(profile).exists():
        write_atomically(path.with_name("claims.svg"), recorded_badge(profile).encode())
    return path


def recorded_badge(profile: str) -> str:
    """The badge of the recorded verdicts, held against all base seeds; `lop check --record` keeps it for the README."""
    first = _read(path_of(profile))["verdicts"]
    contrary = {name for found in other_seeds(profile).values() for name, *_ in found["contrary"]}
    return badges.of_verdicts(UNDECIDED if name in contrary else entry["verdict"] for name, entry in first.items())


def ledger(profile: str) -> list[Verdict]:
    """The verdicts of a profile, each held against the recorded runs from other base seeds.

    What one run decides and another contradicts is inconclusive, with the reason: the seeds decide it, not the claim.
    A chapter's own box, and `drift`, tell what that run says alone. Raises `UsageError` for an unknown profile and for
    a reference that cannot be read.
    """
    recorded = _recorded(profile)

    def held(verdict: Verdict) -> Verdict:
        runs = {seed: run["verdicts"].get(verdict.claim.id, {}).get("verdict") for seed, run in recorded.items()}
        others = {seed: found for seed, found in runs.items() if found and _contrary(found, verdict.verdict)}
        if not others or verdict.verdict == NOT_JUDGED:
            return verdict
        said = ", ".join(f"{found} from base seed {seed}" for seed, found in others.items())
        return replace(verdict, verdict=UNDECIDED, reason=f"{verdict.verdict} in this run, but {said}")

    return [held(verdict) for verdict in claims.ledger(profile)]


def drift(profile: str, verdicts: list[Verdict], seeds: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """(problems, notes) of the chapters that ran, each with its base seed in `seeds`, against the reference.

    A verdict other than in the reference is a problem, named with the libraries that changed since. From another base
    seed than 0 one that is inconclusive here or there is no contradiction, and only a note.
    """
    if not path_of(profile).exists():
        return [], []
    try:
        stored = _read(path_of(profile))
    except UsageError as error:
        return [str(error)], []
    now, versions, present = {v.claim.id: v for v in verdicts}, stored["versions"], library_versions()
    changed = [f"{k} {versions.get(k)} -> {present.get(k)}" for k in present if versions.get(k) != present.get(k)]
    since = f"; changed since: {', '.join(changed)}" if changed else "; no library changed since"
    problems, notes = [], []
    for name, entry in stored["verdicts"].items():
        verdict = entry["verdict"]
        if name not in now:
            problems.append(f"claim {name} is in the reference but not in claims.yml; run: lop check --record")
        elif now[name].claim.chapter in seeds and now[name].verdict != verdict:
            seed = seeds[now[name].claim.chapter]
            where = f" at base seed {seed}" if seed else ""
            text = f"claim {name} drifted: {verdict} in the reference, {now[name].verdict} now{where}{since}"
            (problems if not seed or _contrary(verdict, now[name].verdict) else notes).append(text)
    return problems, notes


def other_seeds(profile: str) -> dict[int, dict[str, list[tuple[str, str, str]]]]:
    """By recorded base seed: (claim, verdict from seed 0, verdict from this one), sorted by how they agree.

    Keys: "same"; "undecided", where one of the two is inconclusive; "contrary". Claims that only one of the two has are
    left out. Raises `UsageError` for a file that cannot be read.
    """
    recorded, found = _recorded(profile), {}
    first = recorded.pop(0, {"verdicts": {}})["verdicts"]
    for seed, second in recorded.items() if first else ():
        sorted_out: dict[str, list] = {"same": [], "undecided": [], "contrary": []}
        for name in (name for name in first if name in second["verdicts"]):
            pair = first[name]["verdict"], second["verdicts"][name]["verdict"]
            kind = "same" if pair[0] == pair[1] else "contrary" if _contrary(*pair) else "undecided"
            sorted_out[kind].append((name, *pair))
        found[seed] = sorted_out
    return found


def _contrary(first: str, second: str) -> bool:
    """Whether two runs contradict each other: both decide, and not alike."""
    return first != second and UNDECIDED not in (first, second)


def _recorded(profile: str) -> dict[int, dict]:
    """Every recorded run of a profile by its base seed, from the smallest."""
    runs = [_read(path) for path in path_of(profile).parent.glob("*.json")]
    return {run["base_seed"]: run for run in sorted(runs, key=lambda run: run["base_seed"])}


def seeds_table(profile: str) -> Html:
    """What the verdicts owe to the seeds: one table for each recorded base seed, with the claims that changed."""
    parts, plain = [], []
    for seed, found in other_seeds(profile).items():
        total, same = sum(map(len, found.values())), len(found["same"])
        caption = (
            f"Base seed {seed} against 0, profile {profile}: of {total} claims judged from both, {same} have the same "
            f"verdict, {len(found['undecided'])} are inconclusive from one, {len(found['contrary'])} have contrary ones"
        )
        changed = [*found["contrary"], *found["undecided"]]
        rows = [[escape(name), escape(first), escape(second)] for name, first, second in changed]
        parts.append(table(caption, ["claim", "from base seed 0", f"from base seed {seed}"], rows))
        plain.append(caption)
    return Html("".join(parts) or f"<p>No second base seed is recorded at profile {profile}.</p>", "\n".join(plain))


def _read(path: Path) -> dict:
    """The content of a reference. Raises `UsageError` if it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        for entry in stored["verdicts"].values():
            entry["verdict"]
        return {**stored, "versions": dict(stored["versions"]), "base_seed": int(stored.get("base_seed", 0))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{path} cannot be read ({type(error).__name__}: {error})"
        raise UsageError(problem, remedy="run: lop check --record") from None
