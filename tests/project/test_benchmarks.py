"""The benchmarks run, and what they are about holds with a wide margin."""

import pytest
from project_files import benchmark

pytestmark = pytest.mark.slow


def test_a_stack_is_faster_than_its_members_one_by_one_and_measuring_costs_less_than_training(monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", "")  # restored behind what the benchmark sets
    rows = {row["what"]: row for row in benchmark("training", monkeypatch).measured(3)}
    stack, symptoms, stored = rows.values()
    assert stack["ratio"] > 1.15 and 0 < stack["share"] < 1
    assert symptoms["ratio"] > 4 and stored["ratio"] > 2


def test_an_alpha_map_is_faster_than_integrating_point_by_point_and_the_same(monkeypatch):
    for row in benchmark("maps", monkeypatch).measured(1, side=4):
        assert row["ratio"] > 2 and row["difference"] < 1e-5
