"""Estimates: exact where time is a line, honest about their range, and claims matched with what they rest on."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lop_utils.evidence import store
from lop_utils.experiments import two_tasks
from lop_utils.kit import coverage, estimate, experiments
from lop_utils.kit.cli import app

ROOT = Path(__file__).resolve().parents[2]
positive = st.floats(0.01, 100)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


@patient
@given(positive, positive, st.integers(1, 20), st.floats(0.001, 1), st.floats(1, 100))
def test_time_that_is_a_line_in_length_and_seeds_is_predicted_exactly(fixed, slope, seeds, least, allowance):
    """A clock that takes seeds * (fixed + slope * fraction): extrapolation has nothing to get wrong."""
    found = estimate.measure(
        lambda fraction, n: n * (fixed + slope * fraction), least=least, seeds=seeds, allowance=allowance
    )
    truth = seeds * (fixed + slope)
    assert math.isclose(found["seconds"], truth, rel_tol=1e-6)
    assert found["low"] <= truth * (1 + 1e-6) and found["high"] >= truth * (1 - 1e-6)


@patient
@given(st.lists(positive, min_size=2, max_size=6))
def test_the_estimate_lies_in_its_range_and_never_below_what_was_measured(times):
    points = [(2.0**i / 64, seconds) for i, seconds in enumerate(times)]
    seconds, low, high = estimate.extrapolate(points)
    assert low <= seconds <= high and low >= times[-1]


def test_a_time_that_bends_shows_in_the_range():
    seconds, low, high = estimate.extrapolate([(0.1, 1.0), (0.2, 1.1), (0.4, 2.0)])
    assert low == pytest.approx(2.0 + 0.6 * 1.0) and high == pytest.approx(2.0 + 0.6 * 4.5) and low < seconds < high


def test_a_slow_first_run_counts_once():
    calls = []

    def clock(fraction, seeds):
        calls.append(fraction)
        return 10 * fraction + (5 if len(calls) == 1 else 0)

    assert estimate.measure(clock, least=0.1, seeds=1, allowance=100)["seconds"] == pytest.approx(15)


def test_short_runs_stop_at_the_allowance():
    spent = []

    def clock(fraction, seeds):
        spent.append(4.0)  # constant: growing never ends the doubling
        return 4.0

    estimate.measure(clock, least=1e-9, seeds=1, allowance=20)
    assert sum(spent) <= 24


def test_a_stored_run_is_its_own_estimate(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path))
    (run,) = experiments.grid("two_tasks", "smoke", device="cpu")
    assert experiments.perform(run).error == ""
    found = estimate.estimate("two_tasks", "smoke", device="cpu")
    assert found.how == "stored" and found.memory_bytes is None and "stored run of" in found.note
    stored = store.peek("two_tasks", run.config, device="cpu", modules=[run.module])
    assert found.seconds == stored.provenance["wall_s"]


CODE = """
from lop_utils.experiments import cloning, frozen as ice, stability
frame = book.results(cloning, a).frame
def ratio(frame, at):
    return frame[at] / scale
scale = 3.0
book.judge("one", x=ratio(frame, 1))
frames = {}
for arch in ("mlp", "cnn"):
    frames[arch] = book.results(ice, arch).frame
book.judge("two", x=[frames[arch] for arch in frames])
frame = 1.0
book.judge("three", x=frame)
def fetched(name):
    return book.results(stability, name).frame
book.judge("four", x=[fetched(n) for n in names] + [frame])
rows = []
rows.append(frames)
if rows:
    book.judge("five", x=rows)
scale = fetched("a")
book.judge("six", x=ratio(1, 2))
"""


def test_results_are_followed_through_the_code_to_the_claims():
    found = {claim: {m.rpartition(".")[2] for m in modules} for claim, modules in coverage.followed(CODE).items()}
    assert found == {
        "one": {"cloning"}, "two": {"frozen"}, "three": set(), "four": {"stability"}, "five": {"frozen"},
        "six": {"stability"},
    }  # fmt: skip


def test_the_claims_of_this_book_rest_on_the_experiments_that_their_names_say(monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    needs = coverage.experiments_of_claims(experiments.known())
    assert len(needs) > 100
    assert needs["clone-sgd-confined"] == {"cloning"} and needs["bits-cbp-stays-level"] == {"bit_flipping"}
    assert needs["T23"] == set() and needs["open-near-frozen"] == {"nearness"}


@patient
@given(
    st.dictionaries(st.sampled_from("abcd"), positive, min_size=1),
    st.dictionaries(st.integers(0, 9).map(str), st.sets(st.sampled_from("abcd"), max_size=3)),
    positive,
)
def test_what_a_budget_buys_costs_no_more_than_it(costs, needs, budget):
    bought = coverage.affordable(costs, needs, budget)
    paid = {name for claim, _ in bought for name in needs[claim]}
    assert sum(costs[name] for name in paid) <= budget * (1 + 1e-9)
    assert paid <= costs.keys() and [spent for _, spent in bought] == sorted(spent for _, spent in bought)
    free = {claim for claim, needed in needs.items() if not needed}
    assert free <= {claim for claim, _ in bought}


def test_the_command_says_hours_memory_claims_and_names_an_unknown_experiment(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path))
    known = estimate.Estimate("two_tasks", "measured", 7200.0, 3600.0, 10800.0, 2**30, "2 runs")
    monkeypatch.setattr(estimate, "estimate", lambda name, profile, **_: known)
    done = CliRunner().invoke(app, ["estimate", "two_tasks", "--profile", "laptop", "--device", "cpu"])
    assert done.exit_code == 0
    assert "2.000 h (1.000 to 3.000), 1.00 GiB; measured: 2 runs" in done.stdout
    assert "alone: forgetting-is-not-losing-plasticity" in done.stdout
    less = CliRunner().invoke(app, ["estimate", "two_tasks", "--profile", "laptop", "--device", "cpu", "--budget", "1"])
    assert "0.000 h  T1 " in less.stdout and "forgetting" not in less.stdout
    assert CliRunner().invoke(app, ["estimate", "two_task"]).exit_code == 2


@pytest.mark.slow
def test_the_estimate_of_a_real_run_has_its_order_of_magnitude(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path))
    found = estimate.estimate("two_tasks", "laptop", device="cpu")
    (run,) = experiments.grid("two_tasks", "laptop", device="cpu")
    seconds = estimate.timed(lambda: two_tasks.run(run.config, "cpu"), "cpu")
    assert found.how == "measured" and found.memory_bytes > 2**27
    assert 1 / 3 < found.seconds / seconds < 3
