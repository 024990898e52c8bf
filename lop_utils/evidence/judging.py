"""From measured values to a verdict, in three-valued logic: holds, fails, unclear."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lop_utils.evidence import render
from lop_utils.evidence.schema import Claim, Test
from lop_utils.evidence.stats import Interval, interval
from lop_utils.profiles import JUDGED

HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"
REPRODUCED = "reproduced"
WITH_CORRECTION = "reproduced with correction"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NOT_JUDGED = "not judged"
VERDICTS = (REPRODUCED, WITH_CORRECTION, NOT_REPRODUCED, INCONCLUSIVE, NOT_JUDGED)


@dataclass(frozen=True)
class TestOutcome:
    """One test with the interval it was held against. `part` is `as_stated` or `corrected`."""

    __test__ = False  # not a test of this package

    test: Test
    part: str
    interval: Interval
    outcome: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of one claim: what came out, from what, made when and where. Shows itself as a claim box."""

    claim: Claim
    verdict: str
    tests: tuple[TestOutcome, ...] = ()
    reported: tuple[tuple[str, Interval], ...] = ()  # measures without a test, with the interval of their mean
    profile: str = ""
    device: str = ""
    seeds: tuple[int, ...] = ()
    date: str = ""
    version: str = ""
    reason: str = ""  # why it is not judged, or inconclusive
    provenance: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)  # all that was noted of it

    def _repr_html_(self) -> str:
        return render.claim_box_html(self)

    def _repr_markdown_(self) -> str:
        return render.claim_box_markdown(self)

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.verdict}" + (f" ({self.reason})" if self.reason else "")


def outcome(test: Test, found: Interval) -> str:
    """`holds` if the whole interval is on the test's side, `fails` if none of it is, else `unclear`.

    A statement about every value is never unclear: one value on the wrong side refutes it. Fewer than `min_n` values
    are always unclear.

    >>> outcome(Test("x", "mean", ">=", 1.0, 5), Interval(2.0, 1.5, 2.5, 5, 0.95, "mean"))
    'holds'
    """
    if found.n < test.min_n:
        return UNCLEAR
    satisfied = {
        ">=": lambda x: x >= test.value,
        "<=": lambda x: x <= test.value,
        ">": lambda x: x > test.value,
        "<": lambda x: x < test.value,
    }[test.op]
    ends = satisfied(found.low), satisfied(found.high)  # one inequality: the ends decide for all between them
    if test.statistic == "every":  # a statement about every value: one counterexample refutes it
        return HOLDS if all(ends) else FAILS
    return HOLDS if all(ends) else UNCLEAR if any(ends) else FAILS


def conjunction(outcomes: Iterable[str]) -> str:
    """Kleene's strong "and": one failure fails, all must hold to hold, otherwise unclear.

    >>> conjunction(["holds", "unclear", "fails"])
    'fails'
    """
    outcomes = list(outcomes)
    if FAILS in outcomes:
        return FAILS
    return UNCLEAR if UNCLEAR in outcomes else HOLDS


def combine(as_stated: str, corrected: str | None) -> str:
    """The verdict from the outcome as stated and that of the corrected statement (None without one).

    As stated unclear, or as stated failing with an unclear correction, is inconclusive: more data may still decide it.

    >>> combine("fails", "holds")
    'reproduced with correction'
    """
    if as_stated == HOLDS:
        return REPRODUCED
    if as_stated == UNCLEAR or corrected == UNCLEAR:
        return INCONCLUSIVE
    return WITH_CORRECTION if corrected == HOLDS else NOT_REPRODUCED


def judge(claim: Claim, measures: Mapping[str, Sequence[float]], *, profile: str, **made: object) -> Verdict:
    """Hold the measured values against the claim's criterion.

    `measures`: values by name, one per seed or case. `made`: the Verdict's device, seeds, date, version, provenance. A
    profile that judges nothing, and a claim without criterion, give `not judged` with the reason; the tests are shown
    all the same.
    """
    tests = tuple(
        _held(test, part, measures)
        for part in ("as_stated", "corrected")
        for test in getattr(claim, part)
        if test.measure in measures
    )
    reported = tuple((name, interval(values)) for name, values in measures.items() if name not in claim.measures)
    verdict, reason = _decide(claim, tests, profile)
    return Verdict(claim, verdict, tests, reported, profile, reason=reason, **made)


def _held(test: Test, part: str, measures: Mapping[str, Sequence[float]]) -> TestOutcome:
    found = interval(measures[test.measure], test.statistic)
    return TestOutcome(test, part, found, outcome(test, found))


def _decide(claim: Claim, tests: tuple[TestOutcome, ...], profile: str) -> tuple[str, str]:
    if profile not in JUDGED:
        return NOT_JUDGED, f"the {profile} profile only shows that everything runs"
    if not claim.as_stated:
        return NOT_JUDGED, "no criterion yet"
    if len(tests) < len(claim.as_stated) + len(claim.corrected):
        return NOT_JUDGED, "a measure is missing"
    as_stated = conjunction(t.outcome for t in tests if t.part == "as_stated")
    corrected = conjunction(t.outcome for t in tests if t.part == "corrected") if claim.corrected else None
    verdict = combine(as_stated, corrected)
    few = [t for t in tests if t.interval.n < t.test.min_n]
    if verdict != INCONCLUSIVE:
        return verdict, ""
    return (
        verdict,
        f"{few[0].interval.n} values of {few[0].test.min_n} needed" if few else "an interval straddles its limit",
    )
