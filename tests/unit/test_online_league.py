"""The league on the bit-flipping stream: equal budgets, separate seeds, and settings that diverge."""

import numpy as np
import pandas as pd
import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import bit_flipping
from lop_utils.experiments.online_league import Candidate, Config, chosen_settings, run
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.compiled import AVAILABLE
from lop_utils.training.online import Method, initial, learn

ENGINES = ["torch", pytest.param("compiled", marks=pytest.mark.skipif(not AVAILABLE, reason="numba is not installed"))]
SANE = Candidate("SGD", (("rate 1e+06", Method(lr=1e6)), ("rate 0.01", Method(lr=0.01))))
LEAKY = Candidate(
    "leaky",
    (("rate 0.01", Method(lr=0.01, activation="leaky_relu")), ("rate 0", Method(lr=1e-9, activation="leaky_relu"))),
)
TINY = Config(
    width=4, steps=2000, tune_steps=1000, seeds=(0, 1), tune_seeds=(100,), fresh_steps=400, period=100, every=100,
    candidates=(SANE, LEAKY),
)  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_a_setting_that_diverges_is_not_chosen_and_breaks_nothing(engine):
    frame = run(Config(**{**vars(TINY), "engine": engine}))
    tuning, final = (frame[frame["task"] == task] for task in ("tuning", "final"))
    wild = tuning[tuning["layer"] == "rate 1e+06"]["value"]
    assert len(wild) == 10 and not np.isfinite(wild).all()
    assert chosen_settings(frame) == {"SGD": "rate 0.01", "leaky": "rate 0.01"}
    assert set(final["layer"]) == {"rate 0.01", "all"} and np.isfinite(final["value"]).all()
    assert set(tuning["seed"]) == {100} and set(final["seed"]) == {0, 1}
    assert set(final["method"]) == {"SGD", "leaky", "fresh", "linear"}
    budget = tuning.groupby(["method", "layer"]).size()
    assert budget.nunique() == 1 and len(budget) == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_has_diverged_is_said_to_have_and_measured_no_more(engine):
    stream, method = BitFlipping(seed=0, period=100), Method(width=4, lr=1e6)
    state = initial(method, stream, seed=0)
    assert ("all", "diverged", 1.0) not in bit_flipping.unit_metrics(state, method, *stream.present(0))
    for _ in learn(method, stream, state, steps=300, every=100, seed=0, engine=engine):
        pass
    assert bit_flipping.unit_metrics(state, method, *stream.present(299)) == [("all", "diverged", 1.0)]


def test_one_run_that_diverges_is_enough_to_lose_against_all_that_learn():
    rows = [
        ("a", "good", 2.0),
        ("a", "good", 3.0),
        ("a", "wild", 0.1),
        ("a", "wild", float("nan")),
        ("a", "early", 9.0),
    ]
    frame = pd.DataFrame(rows, columns=["method", "layer", "value"]).assign(task="tuning", step=10)
    early = frame.assign(step=5, value=0.0)  # in the first half nothing counts
    assert chosen_settings(pd.concat([frame, early])) == {"a": "good"}


def test_seeds_and_budgets_must_be_fair():
    with pytest.raises(UsageError, match="tuning and for the final"):
        Config(seeds=(0, 1), tune_seeds=(1,))
    with pytest.raises(UsageError, match="same budget"):
        Config(candidates=(SANE, Candidate("one", (("x", Method()),))))
