"""The claims file: what the paper (or this book) claims, where, and the criterion written before the result."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from lop_utils.errors import UsageError
from lop_utils.evidence.paths import claims_file
from lop_utils.evidence.provenance import digest
from lop_utils.evidence.stats import STATISTICS

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML has it, reads 7 times as fast
KINDS = ("theory", "empirical", "kit")
OPERATORS = (">=", "<=", ">", "<")
TEXTS = ("statement", "where", "chapter", "quantity", "paper_reports")  # required, in words
_KEYS = ("id", "kind", *TEXTS, "criterion", "note")
_ID = re.compile(r"T[1-9]\d*|[a-z0-9]+(-[a-z0-9]+)*")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
MIN_N = {"mean": 5, "median": 5, "every": 1}  # least number of values a test judges, unless it says otherwise


@dataclass(frozen=True)
class Test:
    """One inequality on one measure: its `statistic` lies on the `op` side of `value`, from at least `min_n` values."""

    __test__ = False  # not a test of this package

    measure: str
    statistic: str
    op: str
    value: float
    min_n: int

    def __str__(self) -> str:
        subject = f"every {self.measure}" if self.statistic == "every" else f"{self.statistic} of {self.measure}"
        return f"{subject} {self.op} {self.value:g}"


@dataclass(frozen=True)
class Claim:
    """One claim with its criterion: all of `as_stated` must hold; `corrected` belongs to the corrected statement.

    Without `as_stated` tests it is not judged yet. `kit` claims are this book's own.
    """

    id: str
    kind: str
    statement: str
    where: str
    chapter: str
    quantity: str
    paper_reports: str
    as_stated: tuple[Test, ...] = ()
    corrected_statement: str = ""
    corrected: tuple[Test, ...] = ()
    note: str = ""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that the criterion needs, in order."""
        return tuple(dict.fromkeys(test.measure for test in (*self.as_stated, *self.corrected)))

    @property
    def criterion_digest(self) -> str:
        """Identifies the criterion: a record made under another one is stale."""
        return digest([self.as_stated, self.corrected])


def load_claims(path: Path | None = None) -> dict[str, Claim]:
    """All claims by id, in the order of the file (`book/claims.yml`, or the packaged copy).

    Raises `UsageError` that names the claim and the key which break the schema.
    """
    path = Path(path) if path is not None else claims_file()
    return dict(_load(path, path.stat().st_mtime_ns, path.stat().st_size))


@lru_cache(maxsize=8)
def _load(path: Path, _modified: int, _size: int) -> dict[str, Claim]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not YAML: {error}", remedy="correct the file") from error
    entries = data.get("claims") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        raise UsageError(f"{path.name} holds no list of claims", remedy="start it with `claims:` and a list")
    claims: dict[str, Claim] = {}
    for position, entry in enumerate(entries):
        claim = parse_claim(entry, position)
        if claim.id in claims:
            raise _wrong(claim.id, "id", "it occurs twice", "give every claim its own id")
        claims[claim.id] = claim
    return claims


def parse_claim(entry: object, position: int = 0) -> Claim:
    """The claim that one entry of the file describes. Raises `UsageError` naming its id and the key that is wrong."""
    if not isinstance(entry, dict):
        raise UsageError(f"claim number {position + 1} is not a mapping", remedy="write `- id: ...` and its keys")
    name = entry.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise _wrong(f"number {position + 1}", "id", f"{name!r} is not an id", "use kebab-case, or T and a number")
    _only(name, "", entry, _KEYS)
    if entry.get("kind") not in KINDS:
        raise _wrong(name, "kind", f"{entry.get('kind')!r} is unknown", f"choose one of: {', '.join(KINDS)}")
    texts = {key: _text(name, key, entry.get(key)) for key in TEXTS}
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", texts["chapter"]):
        raise _wrong(name, "chapter", f"{texts['chapter']!r} is not a file stem", "write it like 05_cloning")
    if "criterion" not in entry:
        raise _wrong(name, "criterion", "it is missing", "write the criterion, or null while there is none")
    note = _text(name, "note", entry["note"]) if entry.get("note") is not None else ""
    return Claim(id=name, kind=entry["kind"], **texts, **_criterion(name, entry["criterion"]), note=note)


def _criterion(name: str, data: object) -> dict:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise _wrong(name, "criterion", "it is not a mapping", "give it as_stated, or write null")
    _only(name, "criterion.", data, ("as_stated", "corrected"))
    found = {"as_stated": _tests(name, "criterion.as_stated", data.get("as_stated"))}
    if data.get("corrected") is not None:
        corrected = data["corrected"]
        if not isinstance(corrected, dict):
            raise _wrong(name, "criterion.corrected", "it is not a mapping", "give it a statement and tests")
        _only(name, "criterion.corrected.", corrected, ("statement", "tests"))
        found["corrected_statement"] = _text(name, "criterion.corrected.statement", corrected.get("statement"))
        found["corrected"] = _tests(name, "criterion.corrected.tests", corrected.get("tests"))
    return found


def _tests(name: str, key: str, data: object) -> tuple[Test, ...]:
    if not isinstance(data, list) or not data:
        raise _wrong(name, key, "it is not a list of tests", "give it at least one test")
    return tuple(_test(name, f"{key}[{i}]", test) for i, test in enumerate(data))


def _test(name: str, key: str, data: object) -> Test:
    if not isinstance(data, dict):
        raise _wrong(name, key, "it is not a mapping", "write {measure, statistic, op, value, min_n}")
    _only(name, f"{key}.", data, ("measure", "statistic", "op", "value", "min_n"))
    if not isinstance(data.get("measure"), str) or not _NAME.fullmatch(data["measure"]):
        raise _wrong(name, f"{key}.measure", f"{data.get('measure')!r} is not a name", "use lower_case letters")
    for part, allowed in (("statistic", STATISTICS), ("op", OPERATORS)):
        if data.get(part) not in allowed:
            raise _wrong(
                name, f"{key}.{part}", f"{data.get(part)!r} is unknown", f"choose one of: {', '.join(allowed)}"
            )
    value = data.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, f"{key}.value", f"{value!r} is not a finite number", "write powers of ten as 1.0e-12")
    least = data.get("min_n", MIN_N[data["statistic"]])
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise _wrong(name, f"{key}.min_n", f"{least!r} is not a count", "write a whole number of at least 1")
    return Test(data["measure"], data["statistic"], data["op"], float(value), least)


def _text(name: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(
            name, key, "it is missing or empty" if not value else f"{value!r} is not text", "write it in words"
        )
    return " ".join(value.split())


def _only(name: str, prefix: str, data: dict, allowed: tuple[str, ...]) -> None:
    for key in data:
        if key not in allowed:
            raise _wrong(name, f"{prefix}{key}", "this key is unknown", f"the keys are: {', '.join(allowed)}")


def _wrong(name: str, key: str, problem: str, remedy: str) -> UsageError:
    return UsageError(f"claim {name}, {key}: {problem}", remedy=remedy)
