"""The benchmarks run, and what they are about holds with a wide margin."""

import importlib.util

import pytest
from project_files import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def training():
    spec = importlib.util.spec_from_file_location("bench_training", ROOT / "benchmarks" / "training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_stack_is_faster_than_its_members_one_by_one_and_measuring_costs_less_than_training(training, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", "")  # restored behind what the benchmark sets
    rows = {row["what"]: row for row in training.measured(3)}
    stack, symptoms, stored = rows.values()
    assert stack["ratio"] > 1.15 and 0 < stack["share"] < 1
    assert symptoms["ratio"] > 4 and stored["ratio"] > 2
