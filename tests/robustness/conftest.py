"""Counts what was tried and how it ended; $LOP_ROBUSTNESS names a file for the counts (benchmarks/robustness.py)."""

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from harsh import Grid

OUTCOMES = ("tried", "detected", "harmless", "lost")
_counts: dict[str, Counter] = {}


@pytest.fixture
def tally():
    """``tally(case, outcome)``: one attempt, and whether it was detected and made good, did no harm, or lost something.

    The test fails at its end if anything was lost.
    """
    lost = []

    def count(case: str, outcome: str, detail: object = "") -> None:
        assert outcome in OUTCOMES[1:]
        _counts.setdefault(case, Counter()).update(["tried", outcome])
        if outcome == "lost":
            lost.append(f"{case}: {detail}")

    yield count
    assert not lost, "\n".join(lost)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty results folder."""
    folder = tmp_path / "results"
    monkeypatch.setenv("LOP_RESULTS", str(folder))
    return folder


@pytest.fixture
def public():
    """An empty folder that every user can reach and write."""
    folder = Path(tempfile.mkdtemp(prefix="lop-public-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    """Two tiny runs of an experiment and what they give when nothing goes wrong."""
    return Grid(tmp_path_factory.mktemp("undisturbed"))


def pytest_sessionfinish():
    wanted = os.environ.get("LOP_ROBUSTNESS")
    if wanted:
        rows = [{"case": case, **{name: found[name] for name in OUTCOMES}} for case, found in _counts.items()]
        Path(wanted).write_text(json.dumps(rows, indent=1))
