"""Ctrl-C, and worse: nothing half-written stays, no kernel lives on."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

SLEEP = """
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "300"])
pathlib.Path(os.environ["PIDS"] + ".new").write_text(f"{os.getpid()} {child.pid}")
os.replace(os.environ["PIDS"] + ".new", os.environ["PIDS"])
time.sleep(300)
"""


@pytest.fixture
def sleeping(make_book, tmp_path):
    """`lop run` in the middle of a cell: (its process, pids of the kernel and of its child, folder)."""
    make_book({"01_one": ["print(1)", SLEEP]})
    pids, scratch = tmp_path / "pids", tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "lop_utils.kit.cli", "run", "--profile", "smoke", "--device", "cpu"],
        env={**os.environ, "PIDS": str(pids), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    deadline = time.monotonic() + 120
    while not pids.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    yield process, [int(pid) for pid in pids.read_text().split()], tmp_path
    process.kill()
    process.communicate()
    for pid in pids.read_text().split():
        if psutil.pid_exists(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def gone(pid, seconds=10.0):
    """Whether a process is dead, or is within a few seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_leaves_no_file_and_no_process(sleeping, sent):
    process, pids, folder = sleeping
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines() == ["interrupted: everything that was running has been stopped"]
    assert all(gone(pid, 1.0) for pid in pids)
    assert [path for path in (folder / "results").rglob("*") if path.is_file()] == []
    assert list((folder / "scratch").iterdir()) == []


def test_a_run_that_is_killed_takes_its_kernel_along_and_nothing_looks_finished(sleeping):
    process, pids, folder = sleeping
    process.kill()
    process.communicate(timeout=30)
    assert gone(pids[0])
    assert not list((folder / "results" / "smoke" / "notebooks").glob("01_one*"))
