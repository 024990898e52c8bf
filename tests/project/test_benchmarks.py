"""The benchmarks run, and what they are about holds with a wide margin."""

import importlib.util

import pytest
from project_files import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def benchmark(monkeypatch):
    """A function that loads a benchmark by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("LOP_RESULTS", "")  # restored behind what a benchmark sets

    def load(name):
        spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_stack_is_faster_than_its_members_one_by_one_and_measuring_costs_less_than_training(benchmark):
    rows = {row["what"]: row for row in benchmark("training").measured(3)}
    stack, symptoms, stored = rows.values()
    assert stack["ratio"] > 1.15 and 0 < stack["share"] < 1
    assert symptoms["ratio"] > 4 and stored["ratio"] > 2


def test_an_alpha_map_is_faster_than_integrating_point_by_point_and_the_same(benchmark):
    for row in benchmark("maps").measured(1, side=4):
        assert row["ratio"] > 2 and row["difference"] < 1e-5
