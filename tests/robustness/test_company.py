"""Two processes at one store, and clocks that jump."""

import os
import time

import pandas as pd
import pytest
from harsh import Child, command, heard

from lop_utils.evidence import provenance, store


def test_two_commands_at_once_share_one_store(grid, results, tally):
    children = [Child(command) for _ in range(2)]
    codes = [child.code() for child in children]
    tally("two processes at one store", "harmless" if codes == [0, 0] and grid.whole() else "lost", codes)


@pytest.mark.slow
def test_one_of_two_commands_is_killed_and_the_other_is_not_hindered(grid, results, tally):
    for part in range(1, 6):
        for path in grid.paths():
            path.unlink(missing_ok=True)
        children = [Child(command) for _ in range(2)]
        children[0].kill_after(part / 6 * grid.seconds)
        code = children[1].code()
        tally("one of two processes killed", "harmless" if code == 0 and grid.whole() else "lost", code)


CLOCKS = {"in 1970": 0, "a year ago": -365 * 86_400, "in a hundred years": 100 * 365 * 86_400}


@pytest.mark.parametrize("when", CLOCKS)
def test_results_written_under_another_clock_are_used_and_come_out_the_same(results, tally, monkeypatch, when):
    """The clock jumps between two runs, and so do the times of the files."""
    frame = pd.DataFrame({"seed": [0], "value": [1.5]})
    now = time.time()
    shown = now + CLOCKS[when] if CLOCKS[when] else 1.0

    class Clock(provenance.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(shown, tz)

    fetch = lambda: store.fetch("toy", when, lambda: frame, device="cpu", modules=["lop_utils.errors"])  # noqa: E731
    with monkeypatch.context() as jumped:
        jumped.setattr(provenance, "datetime", Clock)
        jumped.setattr(time, "time", lambda: shown)
        first = fetch()
    for file in first.path.parent.iterdir():
        os.utime(file, (shown, shown))
    with heard() as said:
        again = fetch()
    well = first.fresh and not again.fresh and again.frame.equals(frame) and not said.getvalue()
    tally("clock jumps", "harmless" if well else "lost", said.getvalue())


def test_the_seconds_of_a_run_do_not_come_from_a_clock_that_jumps(results, tally, monkeypatch):
    frame = pd.DataFrame({"seed": [0], "value": [1.5]})
    backwards = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(backwards)))
    made = store.fetch("toy", 0, lambda: frame, device="cpu", modules=["lop_utils.errors"]).provenance
    tally("clock jumps", "harmless" if 0 <= made["wall_s"] < 60 else "lost", made["wall_s"])
