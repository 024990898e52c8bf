"""Records and the ledger: what was measured is kept, verdicts are computed when read."""

import json
import logging
import os

import pytest

from lop_utils.errors import UsageError
from lop_utils.evidence import claims
from lop_utils.evidence.judging import NOT_JUDGED, REPRODUCED, WITH_CORRECTION

VALUES = [1.0, 1.1, 0.9, 1.2, 0.8]


def record(values=VALUES, *, profile="laptop", name="grows"):
    return claims.record(name, {"x": values}, profile=profile, device="cpu", seeds=range(len(values)))


def by_id(profile="laptop"):
    return {verdict.claim.id: verdict for verdict in claims.ledger(profile)}


def test_the_ledger_computes_the_verdict_that_recording_gave(book):
    verdict = record()
    assert verdict.verdict == REPRODUCED
    assert by_id()["grows"] == verdict
    assert (verdict.profile, verdict.device, verdict.seeds) == ("laptop", "cpu", (0, 1, 2, 3, 4))
    assert verdict.date and verdict.version


def test_the_ledger_lists_every_claim_in_the_files_order(book):
    assert [verdict.claim.id for verdict in claims.ledger("laptop")] == ["grows", "T1"]
    assert {verdict.verdict for verdict in claims.ledger("laptop")} == {NOT_JUDGED}
    assert [verdict.reason for verdict in claims.ledger("laptop")] == ["not run yet", "no chapter has measured it yet"]


def test_a_record_holds_values_and_no_verdict(book, results):
    record()
    content = json.loads((results / "laptop" / "claims" / "grows.json").read_text())
    assert content["measures"] == {"x": VALUES}
    assert "reproduced" not in json.dumps(content)


def test_profiles_keep_their_own_records(book):
    record([-0.5, -0.4, -0.6, -0.5, -0.5], profile="paper")
    assert by_id("paper")["grows"].verdict == WITH_CORRECTION
    assert by_id("laptop")["grows"].verdict == NOT_JUDGED


def test_smoke_is_recorded_and_not_judged(book):
    record(profile="smoke")
    assert by_id("smoke")["grows"].verdict == NOT_JUDGED
    assert "smoke" in by_id("smoke")["grows"].reason


def test_a_changed_criterion_makes_the_record_stale(book, claims_text):
    record()
    book(claims_text.replace("value: 0,", "value: 0.5,"))
    verdict = by_id()["grows"]
    assert (verdict.verdict, verdict.tests) == (NOT_JUDGED, ())
    assert "criterion changed" in verdict.reason


def test_a_changed_statement_does_not(book, claims_text):
    record()
    book(claims_text.replace("statement: x grows", "statement: x grows with time"))
    assert by_id()["grows"].verdict == REPRODUCED


@pytest.mark.parametrize("damage", ["{}", "", "not json", None])
def test_a_damaged_record_is_named_and_not_used(book, results, caplog, damage):
    record()
    path = results / "laptop" / "claims" / "grows.json"
    path.write_text(path.read_text().replace("1.2", "7.2") if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert by_id()["grows"].verdict == NOT_JUDGED
    assert str(path) in caplog.text


def test_an_interrupted_record_leaves_the_one_before(book, results, monkeypatch):
    before = record()

    def interrupted(source, target):
        raise KeyboardInterrupt

    replace = os.replace
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record([-5.0] * 5)
    monkeypatch.setattr(os, "replace", replace)
    assert by_id()["grows"] == before
    assert not list(results.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "shrinks"}, "shrinks"),
        ({"profile": "fast"}, "fast"),
        ({"values": []}, "grows: values of x are empty"),
        ({"values": [1.0, float("nan")]}, r"grows: values of x are not finite: \[1\] = nan"),
        ({"values": ["many"]}, "grows: values of x are not numbers"),
    ],
)
def test_bad_input_is_named(book, arguments, named):
    with pytest.raises(UsageError, match=named):
        record(**arguments)


def test_a_missing_measure_is_named(book):
    with pytest.raises(UsageError, match="claim grows: no values of x"):
        claims.record("grows", {"y": VALUES}, profile="laptop", device="cpu", seeds=[0])


def test_a_claim_without_criterion_can_be_measured_already(book):
    claims.record("T1", {"distance": VALUES}, profile="laptop", device="cpu", seeds=range(5))
    verdict = by_id()["T1"]
    assert (verdict.verdict, verdict.reason) == (NOT_JUDGED, "no criterion yet")
    assert verdict.reported[0][0] == "distance"
