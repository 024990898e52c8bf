"""Intervals against analytic oracles, then their properties."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lop_utils.errors import UsageError
from lop_utils.evidence import stats

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
lists = st.lists(numbers, min_size=1, max_size=12)
statistics = st.sampled_from(stats.STATISTICS)


def coverage(rows, truth, statistic):
    """Share of the rows whose 95 % interval holds the truth."""
    _, low, high = stats._limits(rows, statistic, 0.95, 0)
    return ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize(("n", "least"), [(5, 0.90), (10, 0.925), (30, 0.935)])
def test_intervals_of_a_normal_mean_cover_it_as_often_as_they_say(n, least):
    """Oracle: the known mean. Standard error of the share: 0.005. At n = 5 no bootstrap exceeds 1 - 2^-4 = 0.9375."""
    rows = np.random.default_rng(n).normal(3.0, 2.0, size=(2000, n))
    assert least <= coverage(rows, 3.0, "mean") <= 0.965


def test_intervals_of_a_median_cover_it_as_often_as_they_say():
    rows = np.random.default_rng(1).exponential(size=(1000, 15))
    assert 0.91 <= coverage(rows, math.log(2), "median") <= 0.98


def test_a_large_samples_interval_is_students():
    """Oracle: the t interval, which the bootstrap of a mean of many normal values approaches."""
    values = np.random.default_rng(0).normal(size=400)
    found = stats.interval(values)
    oracle = scipy_stats.t.interval(0.95, 399, loc=values.mean(), scale=scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx(oracle, abs=0.1 * (oracle[1] - oracle[0]))
    assert found.high - found.low == pytest.approx(oracle[1] - oracle[0], rel=0.06)


def test_the_small_sample_level_gives_a_normal_bootstrap_students_width():
    """Oracle: z * sqrt((n-1)/n) at the nominal level is the t quantile at the wanted one."""
    for n in (4, 5, 20):
        z = scipy_stats.norm.ppf((1 + stats._small_sample_level(0.95, n)) / 2)
        assert z * math.sqrt((n - 1) / n) == pytest.approx(scipy_stats.t.ppf(0.975, n - 1), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(lists, statistics)
def test_an_interval_holds_its_estimate_and_stays_within_the_data(values, statistic):
    found = stats.interval(values, statistic)
    assert min(values) <= found.low <= found.estimate <= found.high <= max(values)
    assert found.n == len(values)


@settings(max_examples=40, deadline=None)
@given(lists, st.integers(-10, 10), statistics)
def test_intervals_stretch_with_the_data(values, power, statistic):
    """Powers of two, so that no rounding decides between tied resamples."""
    one, two = stats.interval(values, statistic), stats.interval(np.array(values) * 2.0**power, statistic)
    assert np.allclose([two.low, two.estimate, two.high], 2.0**power * np.array([one.low, one.estimate, one.high]))


@settings(max_examples=40, deadline=None)
@given(lists)
def test_a_higher_level_gives_no_narrower_interval(values):
    narrow, wide = stats.interval(values, level=0.8), stats.interval(values, level=0.99)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert wide.low <= narrow.low + slack and narrow.high <= wide.high + slack


def test_every_is_the_range():
    assert stats.interval([2.0, 9.0, 4.0], "every") == stats.Interval(5.0, 2.0, 9.0, 3, 1.0, "every")


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7])
@pytest.mark.parametrize("statistic", stats.STATISTICS)
def test_one_value_and_equal_values_give_exactly_that_value(values, statistic):
    found = stats.interval(values, statistic)
    assert (found.low, found.estimate, found.high) == (0.1, 0.1, 0.1)


def test_the_same_seed_gives_the_same_interval():
    values = [1.0, 5.0, 2.0, 8.0, 3.0]
    assert stats.interval(values, seed=3) == stats.interval(values, seed=3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(bad):
    with pytest.raises(UsageError, match=rf"\[1\] = {bad}"):
        stats.interval([1.0, bad])


@pytest.mark.parametrize(
    "wrong",
    [{"values": []}, {"values": ["a"]}, {"values": [1.0], "statistic": "mode"}, {"values": [1.0], "level": 95}],
)
def test_what_has_no_interval_is_an_error(wrong):
    with pytest.raises(UsageError):
        stats.interval(**wrong)


def test_tensors_on_a_graph_are_values_too():
    assert stats.interval(torch.ones(3, requires_grad=True)).estimate == 1.0


def test_pairing_removes_what_the_pairs_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(scale=100, size=20)
    a, b = shared + 1 + rng.normal(scale=0.1, size=20), shared
    paired, unpaired = stats.difference(a, b), stats.difference(a, b, paired=False)
    assert 0.8 < paired.low < 1 < paired.high < 1.2
    assert unpaired.low < -20 and unpaired.high > 20
    assert paired.estimate == pytest.approx(unpaired.estimate)


def test_unpaired_intervals_are_welchs_for_large_samples():
    """Oracle: Welch's t interval."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(2, 1, size=200), rng.normal(0, 3, size=150)
    found = stats.difference(a, b, paired=False)
    oracle = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.1)
    assert found.n == 150


def test_differences_of_constant_groups_have_no_width():
    found = stats.difference([2.0, 2.0], [1.0, 1.0, 1.0], paired=False)
    assert (found.low, found.estimate, found.high) == (1.0, 1.0, 1.0)


def test_pairs_of_unequal_number_are_an_error():
    with pytest.raises(UsageError, match="2 and 1 values"):
        stats.difference([1.0, 2.0], [1.0])


def test_a_summary_has_the_intervals_of_its_groups():
    rng = np.random.default_rng(0)
    rows = [(method, step, x) for method in "ba" for step in (0, 5) for x in rng.normal(size=6)]
    frame = pd.DataFrame(rows, columns=["method", "step", "value"])
    found = stats.summarise(frame, by=["method", "step"])
    assert list(found.columns) == ["method", "step", "mean", "low", "high", "n"]
    assert list(zip(found["method"], found["step"], strict=True)) == [("a", 0), ("a", 5), ("b", 0), ("b", 5)]
    for row in found.itertuples():
        values = frame[(frame["method"] == row.method) & (frame["step"] == row.step)]["value"]
        one = stats.interval(values)
        assert (row.mean, row.n) == (pytest.approx(one.estimate), 6)
        assert (row.low, row.high) == pytest.approx((one.low, one.high), abs=0.15 * (one.high - one.low))


def test_groups_of_different_sizes_are_summarised_each_by_its_own():
    frame = pd.DataFrame({"step": [0, 1, 1, 1], "value": [4.0, 1.0, 2.0, 3.0]})
    found = stats.summarise(frame, ["step"], statistic="every")
    assert found[["every", "low", "high", "n"]].to_numpy().tolist() == [[4, 4, 4, 1], [2, 1, 3, 3]]


def test_a_summary_names_the_group_that_is_not_finite():
    frame = pd.DataFrame({"step": [0, 7], "value": [1.0, math.nan]})
    with pytest.raises(UsageError, match=r"\(7,\)"):
        stats.summarise(frame, ["step"])


def test_a_summary_names_a_missing_column():
    with pytest.raises(UsageError, match="task"):
        stats.summarise(pd.DataFrame({"step": [0], "value": [1.0]}), ["task"])
