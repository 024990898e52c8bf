"""The league tunes on its own seeds, judges on others, and its readings are the arithmetic they say they are."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import league, league_cost
from lop_utils.experiments import league_reading as reading
from lop_utils.experiments.continual import run as run_stream
from lop_utils.experiments.league_entrants import ENTRANTS
from lop_utils.figures import league as figures

FEW = ("none", "redo", "crelu", "shrink_perturb")


@pytest.fixture(scope="module")
def frame():
    return league.run(league.preset("smoke", seed=3, entrants=FEW))


def test_every_entrant_trains_tunes_and_is_judged_with_at_most_three_settings():
    config = league.preset("smoke", entrants=tuple(ENTRANTS), widths=(8,) * 2)
    rows = league.run(config)
    assert set(rows["method"]) == {*ENTRANTS, "fresh"} and rows["value"].notna().all()
    for name, entrant in ENTRANTS.items():
        tried = {layer for layer in rows.loc[rows["method"] == name, "layer"] if layer.startswith("tuning")}
        assert len(tried) == (3 if entrant.knob else 0) == (len(entrant.values) if entrant.knob else 0)


def test_tuning_and_judging_share_no_seed(frame):
    tuned = set(frame.loc[frame["layer"].str.startswith("tuning"), "seed"])
    judged = set(frame.loc[frame["layer"] == "judged", "seed"])
    assert tuned == {103} and judged == {3, 4}


def test_the_value_with_the_highest_late_accuracy_is_the_one_that_is_judged(frame):
    seen = reading.tuning(frame, late=1)
    assert set(seen["method"]) == {"redo", "shrink_perturb"}
    for _, rows in seen.groupby("method"):
        assert rows["chosen"].sum() == 1
        assert rows.loc[rows["chosen"], "late_accuracy"].item() == rows["late_accuracy"].max()


def test_the_same_seed_gives_the_same_league(frame):
    again = league.run(league.preset("smoke", seed=3, entrants=FEW))
    pd.testing.assert_frame_equal(frame, again)


def test_none_is_the_plain_continual_learner(frame):
    config = league.preset("smoke", seed=3, entrants=FEW)
    plain = run_stream(league.stream_config(config, "none", 0.0))
    pick = lambda rows: rows[rows["metric"] == "accuracy"].sort_values(["seed", "step"])["value"].tolist()  # noqa: E731
    mine = frame[(frame["method"] == "none") & (frame["layer"] == "judged")]
    assert pick(mine) == pick(plain[plain["method"] == "none"])


def test_gap_and_gain_are_differences_of_the_same_seeds_and_tasks():
    rows = [
        (0, "judged", seed, method, step, "accuracy", value)
        for seed in (0, 1)
        for method, values in {"none": (0.9, 0.2, 0.4), "cbp": (0.1, 0.5, 0.7), "fresh": (None, 0.8, 0.8)}.items()
        for step, value in enumerate(values, start=1)
        if value is not None
    ]
    frame = pd.DataFrame(rows, columns=["task", "layer", "seed", "method", "step", "metric", "value"])
    frame = pd.concat([frame, frame.assign(metric="online_accuracy")])
    table = reading.standings(frame, late=2)
    assert reading.values(table, "none", "gap") == pytest.approx([0.5, 0.5])
    assert reading.values(table, "cbp", "gain") == pytest.approx([0.3, 0.3])
    assert reading.order(table) == ["fresh", "cbp", "none"] and reading.above_none(table) == ["cbp"]


def test_costs_are_ratios_of_blocks_timed_in_turn():
    config = league_cost.preset("smoke", league=league.preset("smoke", entrants=("none", "upgd"), widths=(16,) * 2))
    costs = league_cost.run(config)
    assert costs["method"].tolist() == ["upgd"] * 2 and (costs["value"] > 0).all()


def test_figures_show_every_entrant(frame):
    table = reading.standings(frame, late=1)
    costs = pd.DataFrame({"method": ["redo"] * 3, "value": [1.1, 1.2, 1.3], "seed": [0, 1, 2]})
    figure = figures.league_table(table, costs)
    assert {text.get_text() for text in figure.axes[0].get_yticklabels()} == {ENTRANTS[name].label for name in FEW}
    assert len(figures.league_curves(frame, ["none", "redo"]).axes[0].lines) >= 2
    assert len(figures.league_tuning(frame, late=1).axes[0].get_yticklabels()) == 2
    plt.close("all")


def test_an_unknown_entrant_is_refused_by_name():
    with pytest.raises(UsageError, match="magic"):
        league.preset("laptop", entrants=("none", "magic"))
