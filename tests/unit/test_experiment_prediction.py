"""Correlations of what is known at a task's start with what is learned, on made-up runs with a known answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lop_utils.errors import UsageError
from lop_utils.experiments import prediction as p


def _frame(seeds=(0, 1, 2), tasks=12, arch="mlp"):
    """Runs with a drift: `start_dead` follows the clock exactly, `start_signal` the accuracy beside the drift."""
    rows = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal(tasks)
        for step in range(1, tasks + 1):
            accuracy = 1 - step / 20 + 0.1 * noise[step - 1]
            for layer, metric, value in (
                ("all", "accuracy", accuracy),
                ("all", "online_accuracy", accuracy / 2),
                ("mean", "start_dead", float(step)),
                ("hidden.0", "start_dead", 99.0),
                ("all", "start_signal", noise[step - 1]),
            ):
                rows.append(("continual", arch, seed, "none", "regrouped patches", step, layer, metric, value))
    columns = ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_a_row_of_starts_joins_the_start_with_the_outcome_and_the_task_before():
    table = p.starts([_frame()])
    frame = _frame()
    ends = frame[(frame["metric"] == "accuracy") & (frame["seed"] == 1)].set_index("step")["value"]
    row = table[(table["seed"] == 1) & (table["step"] == 7)].iloc[0]
    assert row["dead"] == 7 and row["accuracy"] == ends[7] and row["previous_accuracy"] == ends[6]
    assert np.isnan(table[(table["seed"] == 1) & (table["step"] == 1)].iloc[0]["previous_accuracy"])
    assert set(p.predictors(table)) == {"dead", "signal", "task_number", "previous_accuracy"}


def test_partial_rank_correlation_equals_that_of_regressed_ranks():
    rng = np.random.default_rng(1)
    z = rng.standard_normal(40)
    x, y = z + rng.standard_normal(40), rng.standard_normal(40) - z
    ranks = [pd.Series(v).rank().to_numpy() for v in (x, y, z)]
    design = np.stack([np.ones(40), ranks[2]], 1)
    left = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert p.partial_spearman(x, y, given=z) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)
    assert p.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_detrending_takes_the_clock_away_and_leaves_the_signal():
    found = p.correlate(p.starts([_frame()])).set_index(["kind", "predictor"])["value"]
    assert found["within", "dead"] < -0.5
    assert found["detrended", "dead"] == 0 == found["detrended", "task_number"]
    assert found["detrended", "signal"] > 0.7


def test_intervals_hold_the_value_and_come_from_seeds():
    table = p.starts([_frame(seeds=range(3))])
    few = p.correlate(table)
    assert ((few["low"] <= few["value"]) & (few["value"] <= few["high"])).all()
    row = few[(few["kind"] == "within") & (few["predictor"] == "signal")].iloc[0]
    runs = [table[table["seed"] == s] for s in range(3)]
    assert row["value"] == pytest.approx(np.mean([spearmanr(r["signal"], r["accuracy"]).statistic for r in runs]))
    one = p.correlate(p.starts([_frame(seeds=(0,))]))
    assert np.allclose(one["high"], one["low"])  # one seed: an interval of width 0


def test_constant_predictors_have_no_correlation_and_short_runs_none_at_all():
    assert p.spearman(np.ones(5), np.arange(5.0)) == 0
    found = p.correlate(p.starts([_frame(tasks=p.FEWEST - 1)]))
    assert set(found["kind"]) == {"pooled"}


def test_agreement_counts_the_weakest_setting_and_punishes_a_change_of_sign():
    tables = {
        "a": pd.DataFrame({"kind": "within", "predictor": ["x", "y"], "value": [0.9, 0.8], "low": 0.0, "high": 1.0}),
        "b": pd.DataFrame({"kind": "within", "predictor": ["x", "y"], "value": [0.4, -0.3], "low": 0.0, "high": 1.0}),
    }
    found = p.agreement(tables)
    assert found.loc["x", "worst"] == pytest.approx(0.4) and found.loc["y", "worst"] == pytest.approx(-0.3)


def test_wrong_use_is_named():
    frame = _frame()
    with pytest.raises(UsageError, match="diagnosed"):
        p.starts([frame[~frame["metric"].str.startswith("start_")]])
    with pytest.raises(UsageError, match="outcome"):
        p.correlate(p.starts([frame]), outcome="speed")
    with pytest.raises(UsageError, match="kind"):
        p.correlate(p.starts([frame]), kinds=("causal",))
