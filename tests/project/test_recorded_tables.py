"""The tables of what was done to results, and of how fast things are, are those of their records; nothing was lost."""

import json

import pytest
from project_files import ROOT, benchmark

RECORD = ROOT / "reference" / "robustness.json"


@pytest.mark.parametrize(("name", "record"), [("robustness", "robustness"), ("all", "benchmarks")])
def test_a_table_in_the_book_is_made_from_its_record(name, record, monkeypatch):
    script = benchmark(name, monkeypatch)
    recorded = json.loads((ROOT / "reference" / f"{record}.json").read_text(encoding="utf-8"))
    assert script.table(recorded) in (ROOT / "book" / "how_to_run.md").read_text(encoding="utf-8")


def test_nothing_was_lost_and_every_attempt_is_accounted_for():
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
    assert len(rows) > 30 and sum(row["lost"] for row in rows) == 0
    assert all(row["tried"] == row["detected"] + row["harmless"] + row["lost"] > 0 for row in rows)


def test_the_record_has_the_cases_that_only_root_can_try():
    cases = {row["case"] for row in json.loads(RECORD.read_text(encoding="utf-8"))["rows"]}
    assert {"results folder on a full disk", "read-only results folder, written"} <= cases


def test_every_benchmark_is_recorded():
    rows = json.loads((ROOT / "reference" / "benchmarks.json").read_text(encoding="utf-8"))["rows"]
    said = " ".join(row["what"] for row in rows)
    assert all(part in said for part in ("SGD", "CBP", "stack", "symptoms", "store", "alpha map", "cold / warm"))
    assert all(row["ratio"] > 1 for row in rows)
