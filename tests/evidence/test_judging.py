"""Three-valued judgement: its truth table, its properties, and what it says about measured values."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.evidence import judging
from lop_utils.evidence.judging import FAILS, HOLDS, UNCLEAR
from lop_utils.evidence.schema import OPERATORS, Claim, Test
from lop_utils.evidence.stats import Interval

OUTCOMES = (HOLDS, FAILS, UNCLEAR)
ORDER = {FAILS: 0, UNCLEAR: 1, HOLDS: 2}
# How an unclear outcome can become definite when more is measured.
REFINED = {HOLDS: [HOLDS], FAILS: [FAILS], UNCLEAR: [UNCLEAR, HOLDS, FAILS]}
reals = st.floats(-100, 100)


def an_interval(low, high, n=5):
    return Interval((low + high) / 2, low, high, n, 0.95, "mean")


def make_claim(as_stated, corrected=()):
    texts = dict.fromkeys(("statement", "where", "quantity", "paper_reports"), "words")
    return Claim(id="c", kind="empirical", chapter="x", **texts, as_stated=as_stated, corrected=corrected)


@pytest.mark.parametrize(
    ("op", "below", "touching", "above"),
    [
        (">=", FAILS, HOLDS, HOLDS),
        (">", FAILS, UNCLEAR, HOLDS),
        ("<=", HOLDS, UNCLEAR, FAILS),
        ("<", HOLDS, FAILS, FAILS),
    ],
)
def test_a_test_compares_the_whole_interval_with_its_limit(op, below, touching, above):
    test = Test("x", "mean", op, 1.0, 5)
    assert judging.outcome(test, an_interval(0.0, 0.5)) == below
    assert judging.outcome(test, an_interval(1.0, 2.0)) == touching
    assert judging.outcome(test, an_interval(1.5, 2.0)) == above
    assert judging.outcome(test, an_interval(0.5, 1.5)) == UNCLEAR


@given(st.sampled_from(OPERATORS), reals, reals, reals)
def test_outcomes_agree_with_checking_points_of_the_interval(op, a, b, value):
    """Independent implementation: evaluate the inequality at points from end to end."""
    low, high = sorted((a, b))
    points = [low, high, *(low + (high - low) * i / 10 for i in range(1, 10))]
    compare = {">=": float.__ge__, "<=": float.__le__, ">": float.__gt__, "<": float.__lt__}[op]
    truths = {compare(min(max(point, low), high), value) for point in points}
    expected = UNCLEAR if len(truths) == 2 else HOLDS if truths == {True} else FAILS
    assert judging.outcome(Test("x", "mean", op, value, 1), an_interval(low, high)) == expected


@given(st.sampled_from(OPERATORS), reals, reals, reals, st.floats(0, 1), st.floats(0, 1))
def test_a_narrower_interval_never_overturns_a_definite_outcome(op, a, b, value, left, right):
    low, high = sorted((a, b))
    inner = sorted(min(max(low + (high - low) * part, low), high) for part in (left, right))
    test = Test("x", "mean", op, value, 1)
    before, after = judging.outcome(test, an_interval(low, high)), judging.outcome(test, an_interval(*inner))
    assert after in REFINED[before]


@given(st.sampled_from([">=", ">"]), reals, reals, reals, st.floats(0, 50))
def test_moving_values_to_the_tests_side_never_makes_it_worse(op, a, b, value, shift):
    low, high = sorted((a, b))
    test = Test("x", "mean", op, value, 1)
    before = judging.outcome(test, an_interval(low, high))
    assert ORDER[judging.outcome(test, an_interval(low + shift, high + shift))] >= ORDER[before]


@given(st.sampled_from(OPERATORS), reals, reals, reals)
def test_a_test_and_its_negation_never_agree(op, a, b, value):
    negation = {">=": "<", "<": ">=", "<=": ">", ">": "<="}[op]
    found = an_interval(*sorted((a, b)))
    one, other = (judging.outcome(Test("x", "mean", o, value, 1), found) for o in (op, negation))
    assert (one, other) in {(HOLDS, FAILS), (FAILS, HOLDS), (UNCLEAR, UNCLEAR)}


def test_too_few_values_are_unclear_however_plain_they_are():
    assert judging.outcome(Test("x", "mean", ">", 0.0, 5), an_interval(10.0, 11.0, n=4)) == UNCLEAR


@given(st.lists(st.sampled_from(OUTCOMES), max_size=6))
def test_and_is_the_least_of_its_parts(outcomes):
    """Oracle: Kleene's strong conjunction is the minimum in the order fails, unclear, holds."""
    assert judging.conjunction(outcomes) == min(outcomes, key=ORDER.get, default=HOLDS)


def test_the_truth_table_of_verdicts():
    table = {(s, c): judging.combine(s, c) for s in OUTCOMES for c in (*OUTCOMES, None)}
    assert {table[HOLDS, c] for c in (*OUTCOMES, None)} == {judging.REPRODUCED}
    assert {table[UNCLEAR, c] for c in (*OUTCOMES, None)} == {judging.INCONCLUSIVE}
    assert table[FAILS, HOLDS] == judging.WITH_CORRECTION
    assert table[FAILS, FAILS] == table[FAILS, None] == judging.NOT_REPRODUCED
    assert table[FAILS, UNCLEAR] == judging.INCONCLUSIVE


def test_more_knowledge_never_overturns_a_definite_verdict():
    for stated, corrected in itertools.product(OUTCOMES, OUTCOMES):
        verdict = judging.combine(stated, corrected)
        refined = {judging.combine(s, c) for s in REFINED[stated] for c in REFINED[corrected]}
        assert refined == {verdict} or verdict == judging.INCONCLUSIVE


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=1, max_size=8))
def test_every_set_of_values_gets_exactly_the_verdict_of_its_tests(values):
    claim = make_claim((Test("x", "every", ">", 0.0, 1),), (Test("x", "every", ">", -2.0, 1),))
    verdict = judging.judge(claim, {"x": values}, profile="laptop").verdict
    if min(values) > 0:
        assert verdict == judging.REPRODUCED
    else:  # one counterexample refutes a statement about every value
        assert verdict == (judging.WITH_CORRECTION if min(values) > -2 else judging.NOT_REPRODUCED)


def test_all_tests_as_stated_must_hold():
    claim = make_claim((Test("x", "every", ">", 0.0, 1), Test("y", "every", "<", 1.0, 1)))
    assert judging.judge(claim, {"x": [1.0], "y": [0.0]}, profile="laptop").verdict == judging.REPRODUCED
    assert judging.judge(claim, {"x": [1.0], "y": [2.0]}, profile="laptop").verdict == judging.NOT_REPRODUCED


def test_too_few_values_are_inconclusive_and_the_reason_counts_them():
    claim = make_claim((Test("x", "mean", ">", 0.0, 5),))
    verdict = judging.judge(claim, {"x": [3.0, 3.1, 2.9]}, profile="laptop")
    assert (verdict.verdict, verdict.reason) == (judging.INCONCLUSIVE, "3 values of 5 needed")


@pytest.mark.parametrize(("profile", "criterion"), [("smoke", (Test("x", "every", ">", 0.0, 1),)), ("laptop", ())])
def test_smoke_and_a_missing_criterion_judge_nothing_and_say_why(profile, criterion):
    verdict = judging.judge(make_claim(criterion), {"x": [1.0] * 5}, profile=profile)
    assert verdict.verdict == judging.NOT_JUDGED and verdict.reason


def test_measures_without_a_test_are_reported():
    claim = make_claim((Test("x", "every", ">", 0.0, 1),))
    verdict = judging.judge(claim, {"x": [1.0], "extra": [2.0]}, profile="laptop")
    assert [(name, found.estimate) for name, found in verdict.reported] == [("extra", 2.0)]
