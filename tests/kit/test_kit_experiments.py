"""`lop experiment`: grids, keys, what is reused, what fails, and a cluster that loses a worker."""

import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lop_utils.errors import UsageError
from lop_utils.evidence import store
from lop_utils.experiments import cloning
from lop_utils.kit import experiments
from lop_utils.kit.cli import app
from lop_utils.training import side_by_side


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def tiny(*settings, seeds=1):
    fixed = ["base_steps=2", "steps=2", "probes=2", "widths=[4,4]", "arms=[base]"]
    return experiments.grid("cloning", "smoke", device="cpu", seeds=seeds, settings=[*fixed, *settings])


def test_a_grid_is_the_product_of_its_axes_and_its_configurations_are_those_of_the_preset():
    runs = experiments.grid(
        "cloning",
        "smoke",
        device="cpu",
        seed=3,
        seeds=2,
        settings=["lr=1,0.5", "widths=[8,8],[4]", "arms=[base,clone]"],
    )
    wanted = [
        cloning.preset("smoke", seed=3, lr=lr, widths=widths, arms=("base", "clone"), seeds=(3, 4))
        for lr in (1.0, 0.5)
        for widths in ((8, 8), (4,))
    ]
    assert [run.config for run in runs] == wanted
    assert runs[0].label == "lr=1.0 widths=[8,8] arms=[base,clone]"


def test_without_settings_the_run_is_the_one_that_a_chapter_asks_for():
    (run,) = experiments.grid("cloning", "laptop", device="cpu")
    assert run.config == cloning.preset("laptop")
    assert run.key == store.place("cloning", cloning.preset("laptop"), "cpu").stem


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7]), min_size=1, max_size=4, unique=True), st.integers(0, 5))
def test_every_configuration_has_a_key_of_its_own_that_is_always_the_same(rates, seed):
    text = "lr=" + ",".join(map(str, rates))
    keys = [
        [r.key for r in experiments.grid("cloning", "smoke", device="cpu", seed=seed, settings=[text])] for _ in "ab"
    ]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(rates)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("lr", "sets nothing"),
        ("lr=", "sets nothing"),
        ("speed=1", "field 'speed' is unknown"),
        ("steps=many", "steps = 'many' is str; give int"),
        ("steps=1.5", "is float"),
        ("steps=true", "is bool"),
        ("widths=4", "is int; give tuple"),
        ("lr=[1", "cannot be read"),
        ("arch=transformer", "architecture 'transformer' is unknown"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(setting, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        experiments.grid("cloning", "smoke", device="cpu", settings=[setting])


def test_every_listed_experiment_has_a_configuration_at_every_profile():
    for name in experiments.known():
        for profile in ("smoke", "laptop", "paper"):
            (run,) = experiments.grid(name, profile, device="cpu")
            assert re.fullmatch("[0-9a-f]{32}", run.key), name


def test_what_is_stored_is_not_run_again_and_a_damaged_file_is():
    runs = tiny("lr=0.1,0.2")
    first = list(experiments.run_all(runs))
    assert [d.fresh for d in first] == [True, True] and not any(d.error for d in first)
    assert [d.fresh for d in experiments.run_all(runs)] == [False, False]
    store.place("cloning", runs[0].config, "cpu").write_bytes(b"PAR1")
    assert [d.fresh for d in experiments.run_all(runs)] == [False, True]


def test_a_run_that_fails_says_why_and_the_others_go_on():
    runs = tiny("arch=cnn,mlp")  # the data are no images
    done = {d.run.label.split()[-1]: d for d in experiments.run_all(runs)}
    assert "conv" in done["arch=cnn"].error and done["arch=mlp"].fresh


def test_results_of_a_grid_come_as_one_frame():
    runs = tiny("lr=0.1,0.2", seeds=2)
    with pytest.raises(UsageError, match="has no result"):
        experiments.frame_of(runs)
    list(experiments.run_all(runs))
    frame = experiments.frame_of(runs)
    assert frame.groupby("run")["seed"].nunique().tolist() == [2, 2]


def test_a_run_in_this_process_leaves_threads_and_processes_as_they_were():
    (run,) = tiny()
    torch.set_num_threads(1)
    assert not experiments.perform(run, threads=2).error
    assert torch.get_num_threads() == 1 and side_by_side._allowed == 1


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_results_as_one():
    runs = tiny("lr=0.1,0.2,0.3")
    assert sum(d.fresh for d in experiments.run_all(runs, jobs=2)) == 3
    together = experiments.frame_of(runs)
    for run in runs:
        store.place("cloning", run.config, "cpu").unlink()
    assert sum(d.fresh for d in experiments.run_all(runs)) == 3
    pd.testing.assert_frame_equal(experiments.frame_of(runs), together)


def test_the_command_lists_shows_runs_and_writes_a_table(tmp_path):
    ask = CliRunner().invoke
    assert "cloning" in ask(app, ["experiment"]).output
    options = [word for setting in ("base_steps=2", "steps=2", "arms=[base]") for word in ("--set", setting)]
    command = ["experiment", "cloning", "--profile", "smoke", "--device", "cpu", "--seeds", "1", *options]
    assert "to run" in ask(app, [*command, "--dry-run"]).output
    done = ask(app, [*command, "--table", str(tmp_path / "t.csv")])
    assert done.exit_code == 0 and "1 computed, 0 reused, 0 failed" in done.output
    assert len(pd.read_csv(tmp_path / "t.csv"))
    assert "stored" in ask(app, [*command, "--dry-run"]).output
    assert ask(app, ["experiment", "clonin"]).exit_code == 2
    assert ask(app, [*command, "--backend", "dask"]).exit_code == 2


def test_a_scheduler_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    with pytest.raises(UsageError, match="no scheduler answers at nonsense://"):
        list(experiments.run_all(tiny(), backend="dask", scheduler="nonsense://127.0.0.1:1"))


def start(*command):
    return subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_processes_that_are_still_there_from_an_earlier_grid_store_where_results_go_now(tmp_path, monkeypatch):
    runs = tiny("lr=0.1,0.2")
    for folder in ("earlier", "now"):
        monkeypatch.setenv("LOP_RESULTS", str(tmp_path / folder))
        assert sum(d.fresh for d in experiments.run_all(runs, jobs=2)) == 2
        assert len(experiments.frame_of(runs)["run"].unique()) == 2


@pytest.mark.slow
def test_a_grid_on_a_dask_cluster_survives_the_death_of_a_worker(tmp_path):
    """A scheduler and two workers in processes of their own; the one that works on the first run is killed."""
    pytest.importorskip("distributed")
    from distributed import Client

    address_file = tmp_path / "scheduler.json"
    scheduler = start(
        "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(address_file)
    )
    workers = []
    try:
        deadline = time.monotonic() + 30
        while not address_file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        options = ["--scheduler-file", str(address_file), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        workers = [start("distributed.cli.dask_worker", *options) for _ in "ab"]
        with Client(scheduler_file=str(address_file), timeout="30s") as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
            pids = set(client.run(os.getpid).values())
        runs = experiments.grid(
            "cloning", "smoke", device="cpu", seeds=1, settings=["lr=0.1,0.15,0.2,0.25", "steps=400"]
        )
        done, pids = [], sorted(pids)
        for ended in experiments.run_all(runs, backend="dask", scheduler=address):
            done.append(ended)
            if len(done) == 1:
                os.kill(pids[0], signal.SIGKILL)
        assert [d.error for d in done] == [""] * 4
        assert sorted(d.run.key for d in done) == sorted(run.key for run in runs) and all(run.stored() for run in runs)
    finally:
        for process in [*workers, scheduler]:
            process.kill()
            process.wait()
