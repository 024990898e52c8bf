"""Stored results: identical, whole and current, or not used."""

import contextlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_toy import MODULES, Config, Counted, experiment

from lop_utils.errors import UsageError
from lop_utils.evidence import files, store


@pytest.fixture
def toy(results):
    return Counted()


def test_the_second_call_reads_what_the_first_computed(toy):
    first, second = toy.fetch(), toy.fetch()
    assert (toy.runs, first.fresh, second.fresh) == (1, True, False)
    pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)
    pd.testing.assert_frame_equal(first.frame, experiment(toy.config), check_exact=True)
    assert first.provenance == second.provenance
    assert first.provenance["seeds"] == [0]


def test_the_same_seed_gives_the_same_bytes_also_in_another_process(toy, results, tmp_path):
    first = toy.fetch().path.read_bytes()
    code = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import stored_toy
        print(stored_toy.Counted().fetch().path)
    """)
    other = {**os.environ, "LOP_RESULTS": str(tmp_path / "other")}
    run = subprocess.run([sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True)
    path = run.stdout.strip()
    assert path.startswith(str(tmp_path / "other"))
    with open(path, "rb") as file:
        assert file.read() == first


def test_config_name_and_kind_of_device_are_told_apart(results):
    def fetch(name, config, device):
        return store.fetch(name, config, lambda: experiment(Config()), device=device, modules=MODULES).path

    paths = {
        fetch("toy", Config(), "cpu"),
        fetch("toy", Config(rate=0.2), "cpu"),
        fetch("toy", Config(seed=1), "cpu"),
        fetch("other", Config(), "cpu"),
        fetch("toy", Config(), "meta"),
    }
    assert len(paths) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_computation_leaves_nothing(results, error):
    def compute():
        raise error

    with pytest.raises(error):
        store.fetch("toy", Config(), compute, device="cpu", modules=MODULES)
    assert [path for path in results.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("moment", [1, 2])
def test_an_interrupt_while_writing_leaves_nothing_that_is_used(toy, results, monkeypatch, moment):
    """The first replacement is the data's, the second the sidecar's."""
    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toy.fetch()
    monkeypatch.setattr(os, "replace", replace)
    assert not list(results.rglob("*.tmp"))
    assert toy.fetch().fresh and not toy.fetch().fresh


def _race(barrier, seed, answers):
    """One of the racing processes: each computes other numbers, so a mixed pair would show."""

    def compute():
        barrier.wait()
        return pd.DataFrame({"seed": seed, "value": np.random.default_rng(seed).normal(size=20_000)})

    result = store.fetch("race", Config(), compute, device="cpu", modules=MODULES)
    answers.put((result.fresh, float(result.frame["value"].sum())))


def test_of_machines_that_race_the_first_stores_and_all_return_what_is_stored(results, monkeypatch):
    monkeypatch.setattr(store, "alone", lambda path: contextlib.nullcontext())  # no lock reaches the other machine
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        barrier, answers = context.Barrier(2), context.Queue()
        racers = [context.Process(target=_race, args=(barrier, seed, answers)) for seed in (1, 2)]
        for racer in racers:
            racer.start()
        found = [answers.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join()
        stored = store.fetch("race", Config(), lambda: pytest.fail("must be stored"), device="cpu", modules=MODULES)
        assert sorted(fresh for fresh, _ in found) == [False, True]
        assert {total for _, total in found} == {float(stored.frame["value"].sum())}
        for path in stored.path.parent.iterdir():
            path.unlink()


def _slowly(answers):
    def compute():
        time.sleep(0.5)
        return pd.DataFrame({"seed": 0, "value": [float(os.getpid())]})

    result = store.fetch("shared", Config(), compute, device="cpu", modules=MODULES)
    answers.put((result.fresh, float(result.frame["value"][0])))


def test_of_processes_of_one_machine_one_computes_and_the_others_wait_for_it(results):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_slowly, args=(answers,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(fresh for fresh, _ in found) == [False, False, True]
    assert len({value for _, value in found}) == 1


def test_a_reader_waits_for_a_writer_and_never_sees_half_a_pair(toy):
    first = toy.fetch()
    with files.locked(first.path.parent):
        code = f"""
            import fcntl, os
            handle = os.open({str(first.path.parent)!r}, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                print("open")
            except BlockingIOError:
                print("locked")
        """
        run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "locked"


def test_files_hold_no_pickle_and_no_pandas_metadata(toy):
    path = toy.fetch().path
    assert b"pandas" not in (pq.read_schema(path).metadata or {})
    sidecar = path.with_suffix(".json").read_bytes()
    assert json.loads(sidecar)["config"] == {"rate": 0.1, "seed": 0}
    for data in (path.read_bytes(), sidecar):
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError)):
            pickle.loads(data)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "Upper", ".hidden"])
def test_a_name_that_is_no_name_is_refused(results, name):
    with pytest.raises(UsageError, match="experiment name"):
        store.fetch(name, Config(), lambda: experiment(Config()), device="cpu", modules=MODULES)


@pytest.mark.parametrize(
    "frame",
    [
        [1, 2],
        pd.DataFrame({"x": [1, 2]}, index=[3, 4]),
        pd.DataFrame({"x": [object(), object()]}),
        pd.DataFrame({"x": [1, "a"]}),
    ],
    ids=["no frame", "with an index", "objects", "mixed"],
)
def test_a_frame_that_cannot_be_stored_faithfully_is_refused(results, frame):
    with pytest.raises(UsageError, match="'toy'"):
        store.fetch("toy", Config(), lambda: frame, device="cpu", modules=MODULES)
    assert [path for path in results.rglob("*") if path.is_file()] == []


doubles = st.floats(allow_nan=False) | st.just(float("nan"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(-(2**62), 2**62), doubles, st.text(st.characters(codec="utf-8"), max_size=5)),
        max_size=5,
    )
)
def test_every_number_and_text_comes_back_exactly(results, rows):
    frame = pd.DataFrame(
        {
            "i": np.array([r[0] for r in rows], dtype=np.int64),
            "x": np.array([r[1] for r in rows], dtype=np.float64),
            "s": pd.array([r[2] for r in rows], dtype="str"),
        }
    )
    data = store._to_parquet("toy", frame)
    back = store._from_parquet(data)
    assert back["i"].tolist() == frame["i"].tolist() and back["s"].tolist() == frame["s"].tolist()
    assert back["x"].to_numpy().tobytes() == frame["x"].to_numpy().tobytes()
    assert store._to_parquet("toy", back) == data


def test_written_files_follow_the_umask(tmp_path):
    import os

    from lop_utils.evidence.files import write_atomically

    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
