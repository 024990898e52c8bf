"""Experiments of independent parts: what is finished when they are broken off is not computed again."""

import re
import time

import pandas as pd
import pytest
import torch
from harsh import BrokenOff, breaking

from lop_utils.evidence import store, unfinished
from lop_utils.experiments import cloning, conserved, escape, frozen_stream, league, normalization, recovery, revival
from lop_utils.training.side_by_side import allow_processes, side_by_side

PARTS = (  # experiment, the function that computes one part, and changes that make the experiment short
    (cloning, "_run_seed", {"base_steps": 5, "steps": 10, "seeds": (0, 1, 2)}),
    (conserved, "_stream", {"time": 0.5, "steps": 5}),
    (escape, "_run_group", {"arms": ("sgd", "label noise", "dropout 0.1"), "base_steps": 5, "steps": 10}),
    (frozen_stream, "_train_stream", {"activations": ("relu", "tanh", "sigmoid"), "steps": 4}),
    (league, "_entered", {"entrants": ("none", "dropout", "upgd")}),
    (normalization, "_train", {"steps": 4, "every": 2}),
    (recovery, "_further_rows", {"steps": 4, "every": 2}),
    (revival, "_run_arm", {"steps": 4}),
)


@pytest.fixture(autouse=True)
def every_part(monkeypatch, results):
    """Every part that is finished is kept, however short it was, and nothing else; one thread."""
    monkeypatch.setattr(unfinished, "WORTHWHILE", 0.0)
    torch.set_num_threads(1)
    yield
    allow_processes(1)


def broken_off_and_taken_up(experiment, name, changes, monkeypatch, tally):
    """Break a run off after two calls of the function `name`; going on, it comes out as if nothing had happened."""
    config = experiment.preset("smoke", seed=0, **changes)
    with monkeypatch.context() as patched:
        calls = breaking(patched, experiment, name, -1)
        whole = experiment.run(config)
    with monkeypatch.context() as patched:
        breaking(patched, experiment, name, 2)
        with pytest.raises(BrokenOff):
            store.result_of(experiment, config, device="cpu")
    with monkeypatch.context() as patched:
        again = breaking(patched, experiment, name, -1)
        result = store.result_of(experiment, config, device="cpu")
    same = result.frame.equals(whole.astype(result.frame.dtypes)) and len(result.frame.columns) == len(whole.columns)
    well = same and len(calls) > 2 and len(again) == len(calls) - 2 and result.provenance["resumed"]
    tally("run broken off, parts", "detected" if well else "lost", (experiment.NAME, len(calls), len(again)))


@pytest.mark.parametrize(
    ("experiment", "name", "changes"),
    [pytest.param(*part, marks=[] if part[0] is revival else pytest.mark.slow, id=part[0].NAME) for part in PARTS],
)
def test_an_experiment_goes_on_after_its_last_finished_part(experiment, name, changes, monkeypatch, tally):
    broken_off_and_taken_up(experiment, name, changes, monkeypatch, tally)


@pytest.mark.slow
def test_the_wear_before_the_remedies_goes_on_after_its_last_task(monkeypatch, tally):
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    changes = {"tasks": 4, "steps": 4, "every": 2}
    broken_off_and_taken_up(recovery, "learn", changes, monkeypatch, tally)


def noted(number, folder, fails):
    """Leave a note of having been here, long enough to be worth keeping; fails at number 2 if it is to."""
    time.sleep(0.6)
    with open(folder / f"{number}.txt", "a") as file:
        file.write("x")
    if fails and number == 2:
        raise BrokenOff(f"part {number}")
    return [(0, "all", "value", float(number))]


def fetched(folder, fails):
    def compute():
        found = side_by_side(noted, [(number, folder, fails) for number in range(4)])
        return pd.DataFrame([row for rows in found for row in rows], columns=["seed", "layer", "metric", "value"])

    return store.fetch("parts", {}, compute, device="cpu", modules=["lop_utils.training.side_by_side"])


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_parts_finished_in_other_processes_count_over_however_many_the_run_goes_on(before, after, tmp_path, tally):
    allow_processes(before)
    with pytest.raises(BrokenOff, match="part 2"):
        fetched(tmp_path, fails=True)
    allow_processes(after)
    result = fetched(tmp_path, fails=False)
    often = [len((tmp_path / f"{number}.txt").read_text()) for number in range(4)]
    well = result.frame["value"].tolist() == [0, 1, 2, 3] and result.provenance["resumed"]
    well = well and re.fullmatch("112[12]", "".join(map(str, often)))
    tally("run broken off, parts", "detected" if well else "lost", (before, after, often))


def test_parts_of_two_calls_are_not_taken_for_one_another(tmp_path):
    attempts = []

    def compute():
        first = side_by_side(noted, [(number, tmp_path, False) for number in range(2)])
        second = side_by_side(noted, [(number + 5, tmp_path, False) for number in range(2)])
        values = [rows[0][3] for rows in first + second]
        attempts.append(values)
        if len(attempts) == 1:
            raise BrokenOff
        return pd.DataFrame({"value": values})

    ask = lambda: store.fetch("parts", {}, compute, device="cpu", modules=["lop_utils.training.side_by_side"])  # noqa: E731
    with pytest.raises(BrokenOff):
        ask()
    assert ask().frame["value"].tolist() == [0, 1, 5, 6]
    assert [(tmp_path / f"{number}.txt").read_text() for number in (0, 1, 5, 6)] == ["x"] * 4
