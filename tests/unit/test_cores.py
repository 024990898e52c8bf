"""Cores that several programs share: never more at work than there are, and none lost with a program that dies."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lop_utils.training import cores as module
from lop_utils.training.cores import SETTING, a_core, cores, shared_cores

pytestmark = pytest.mark.skipif(module.fcntl is None, reason="no locks on this system")

HOLDER = """
import sys, time
from lop_utils.training.cores import a_core
with a_core():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def two_cores(monkeypatch):
    with shared_cores(2) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield Path(variables[SETTING])


def interval(_: int) -> tuple[float, float]:
    with a_core(for_process=True):
        began = time.monotonic()
        time.sleep(0.15)
        return began, time.monotonic()


def most_at_once(intervals: list[tuple[float, float]]) -> int:
    return max(sum(began <= at < ended for began, ended in intervals) for at, _ in intervals)


def test_of_five_processes_two_work_at_a_time(two_cores):
    with multiprocessing.get_context("spawn").Pool(5) as pool:
        intervals = pool.map(interval, range(10), chunksize=1)
    assert most_at_once(intervals) == 2


def test_threads_of_one_process_ask_for_a_core_each(two_cores):
    intervals: list[tuple[float, float]] = []

    def work() -> None:
        with a_core():
            began = time.monotonic()
            time.sleep(0.1)
            intervals.append((began, time.monotonic()))

    threads = [threading.Thread(target=work) for _ in range(5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(intervals) == 5 and most_at_once(intervals) == 2


def test_what_a_process_asks_for_while_it_holds_one_as_a_whole_it_has_already(two_cores):
    with shared_cores(1) as variables:
        os.environ[SETTING] = variables[SETTING]
        with a_core(for_process=True), a_core(), a_core(for_process=True):
            pass
        assert not module._whole_process
        with a_core():  # the only one is free again
            pass


def test_a_process_that_is_killed_lets_go(monkeypatch):
    with shared_cores(1) as variables:
        monkeypatch.setenv(SETTING, variables[SETTING])
        holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout.readline() == "held\n"
            assert module._take(variables[SETTING]) is None
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
        with a_core():
            assert module._take(variables[SETTING]) is None


@pytest.mark.parametrize("folder", ["", "gone", "empty"])
def test_nothing_is_waited_for_where_no_cores_are_shared(folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(SETTING, str(tmp_path / folder) if folder else "")
    with a_core(), a_core():
        pass


def test_cores_are_those_that_this_process_may_use():
    asked = [sys.executable, "-c", "from lop_utils.training.cores import cores; print(cores())"]
    if not hasattr(os, "sched_setaffinity"):
        assert cores() == os.cpu_count()
        return
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        asked, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {one})
    )
    assert int(done.stdout) == 1


def test_one_that_asks_again_and_again_takes_turns_with_one_that_waits(monkeypatch):
    turns = []
    with shared_cores(1) as variables:
        monkeypatch.setenv(SETTING, variables[SETTING])

        def work(name: str) -> None:
            for _ in range(4):
                with a_core():
                    turns.append(name)
                    time.sleep(0.06)

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert sorted(turns) == list("aaaabbbb")
    assert sum(first != second for first, second in itertools.pairwise(turns)) >= 5
