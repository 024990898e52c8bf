"""What a chapter does at run time."""

import sys
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from threadpoolctl import threadpool_info, threadpool_limits

from lop_utils.errors import UsageError
from lop_utils.evidence import claims
from lop_utils.experiments import two_tasks
from lop_utils.kit.chapter import Chapter
from lop_utils.training.side_by_side import allow_processes

VALUES = [1.0, 1.1, 0.9, 1.2, 0.8]
PREFIX = "application/papermill.record/"


@pytest.fixture(autouse=True)
def one_process():
    yield
    allow_processes(1)  # a judged chapter allows its process more


@pytest.fixture
def glued(monkeypatch):
    """What is glued: name -> (text, shown)."""
    InteractiveShell.instance()
    found = {}

    def display(data, *, raw, metadata):
        hidden = all(key.startswith(PREFIX) for key in data)
        text = data.get(f"{PREFIX}text/plain") if hidden else data.get("text/plain")
        found[metadata["scrapbook"]["name"]] = (text, not hidden)

    monkeypatch.setattr("myst_nb.ext.glue.ipy_display", display)
    return found


@pytest.fixture
def chapter(book, glued):
    return Chapter("05_cloning", profile="laptop", device="cpu", seed=3)


@dataclass(frozen=True)
class Config:
    seed: int = 3


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment module with a source file; counts its runs."""
    path = tmp_path / "toy_experiment.py"
    path.write_text("")
    module = ModuleType("toy_experiment")
    module.__file__, module.NAME, module.runs = str(path), "toy", []

    def run(config, device):
        module.runs.append(device)
        return pd.DataFrame({"seed": [config.seed, config.seed + 1], "value": [0.5, 0.25]})

    module.run = run
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    return module


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"profile": "fast"}, "'fast'"),
        ({"device": "tpu"}, "'tpu'"),
        ({"seed": -1}, "-1"),
        ({"seed": "0"}, "'0'"),
        ({"seed": True}, "True"),
        ({"name": "05 cloning"}, "'05 cloning'"),
    ],
)
def test_a_bad_parameter_is_named(wrong, named):
    with pytest.raises(UsageError, match=named):
        Chapter(**{"name": "05_cloning", **wrong})


@pytest.mark.parametrize(("profile", "judged"), [("smoke", False), ("laptop", True), ("paper", True)])
def test_only_smoke_judges_nothing(profile, judged):
    assert Chapter("05_cloning", profile=profile, device="cpu").judged is judged


def test_a_chapter_on_the_cpu_computes_with_one_thread_of_torch_and_of_numpy(book):
    before = torch.get_num_threads()
    try:
        with threadpool_limits(2, user_api="blas"):
            Chapter("05_cloning", profile="smoke", device="cpu")
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            assert pools and {pool["num_threads"] for pool in pools} == {1} and torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_results_are_computed_once_and_their_seeds_are_those_of_later_verdicts(chapter, experiment):
    first, second = chapter.results(experiment, Config()), chapter.results(experiment, Config())
    assert experiment.runs == [torch.device("cpu")]
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert chapter.judge("grows", x=VALUES).seeds == (3, 4)


def test_judging_records_and_glues_verdict_and_numbers(chapter, glued):
    verdict = chapter.judge("grows", x=torch.tensor(VALUES), extra=[2.0, 4.0], seeds=range(5))
    assert claims.ledger("laptop")[0] == verdict
    assert glued["grows_verdict"] == ("'reproduced'", False)
    assert float(glued["grows_x"][0]) == pytest.approx(1.0)
    assert 0.8 <= float(glued["grows_x_low"][0]) < 1 < float(glued["grows_x_high"][0]) <= 1.2
    assert float(glued["grows_extra"][0]) == 3.0
    assert verdict.seeds == (0, 1, 2, 3, 4)


def test_a_claim_is_judged_by_its_own_chapter_only(chapter):
    with pytest.raises(UsageError, match="T1 belongs to 06_stability"):
        chapter.judge("T1", distance=VALUES)


def test_an_unknown_claim_is_named(chapter):
    with pytest.raises(UsageError, match="'shrinks'"):
        chapter.judge("shrinks", x=VALUES)


def test_a_number_is_glued_as_formatted_text_and_not_shown(chapter, glued):
    chapter.number("share", 0.98765, ".1%")
    assert glued["share"] == ("'98.8%'", False)


def test_a_figure_is_glued_shown_and_closed(chapter, glued):
    figure, _ = plt.subplots()
    chapter.figure("picture", figure)
    assert glued["picture"][1]
    assert figure.number not in plt.get_fignums()


def test_the_provenance_table_names_profile_device_seeds_and_versions(chapter):
    text = repr(chapter.provenance())
    for piece in [
        "profile: laptop",
        "device: cpu",
        "0 computed in this time, 0 stored before",
        "seeds: 3",
        f"torch {torch.__version__.split('+')[0]}",
    ]:
        assert piece in text
    assert "<caption>" in chapter.provenance()._repr_html_()


def test_the_provenance_table_tells_what_was_computed_from_what_was_stored_before(chapter, experiment, glued):
    chapter.results(experiment, Config())
    chapter.results(experiment, Config())  # the same one
    assert "results: 1 computed in this time, 0 stored before" in repr(chapter.provenance())
    assert glued["found_stored"] == ("0", False)
    later = Chapter("05_cloning", profile="laptop", device="cpu", seed=3)
    later._began += timedelta(seconds=2)  # as if it had begun later
    later.results(experiment, Config())
    assert "results: 0 computed in this time, 1 stored before" in repr(later.provenance())
    assert glued["found_stored"] == ("1", False)


def test_all_results_are_those_of_single_requests_by_key(book, glued):
    chapter = Chapter("05_cloning", profile="smoke", device="cpu")
    configs = {lr: two_tasks.preset("smoke", seed=0, lr=lr) for lr in (0.01, 0.02)}
    found = chapter.all_results({lr: (two_tasks, config) for lr, config in configs.items()})
    assert list(found) == [0.01, 0.02]
    for lr, result in found.items():
        assert result.frame.equals(two_tasks.run(configs[lr]))


@pytest.mark.slow
def test_a_judged_chapter_computes_what_is_missing_in_other_processes(chapter, monkeypatch):
    configs = {lr: two_tasks.preset("smoke", seed=0, lr=lr) for lr in (0.01, 0.02, 0.03)}
    expected = two_tasks.run(configs[0.01])
    monkeypatch.setattr(two_tasks, "run", lambda *_: pytest.fail("computed in this process"))
    found = chapter.all_results({lr: (two_tasks, config) for lr, config in configs.items()})
    assert list(found) == list(configs)
    assert found[0.01].frame.equals(expected)
