"""The table of what was done to results is that of its record, and nothing was lost."""

import importlib.util
import json

import pytest
from project_files import ROOT

RECORD = ROOT / "reference" / "robustness.json"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("bench_robustness", ROOT / "benchmarks" / "robustness.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_in_the_book_is_made_from_the_record(script):
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert script.table(record) in (ROOT / "book" / "how_to_run.md").read_text(encoding="utf-8")


def test_nothing_was_lost_and_every_attempt_is_accounted_for():
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
    assert len(rows) > 30 and sum(row["lost"] for row in rows) == 0
    assert all(row["tried"] == row["detected"] + row["harmless"] + row["lost"] > 0 for row in rows)


def test_the_record_has_the_cases_that_only_root_can_try():
    cases = {row["case"] for row in json.loads(RECORD.read_text(encoding="utf-8"))["rows"]}
    assert {"results folder on a full disk", "read-only results folder, written"} <= cases
