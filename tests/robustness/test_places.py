"""Odd places to run in: other locales and paths, no home, no network, no numba. Each in a new interpreter."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from harsh import NAME, SIZES, Child, command

import lop_utils

PACKAGE = Path(lop_utils.__file__).resolve().parents[1]
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def lop(*words, environment, before="", cwd=None):
    """`lop WORDS` in a new interpreter that first does `before`."""
    code = textwrap.dedent(before) + "\nfrom lop_utils.kit.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, cwd=cwd, capture_output=True, timeout=240
    )


def experiment(environment, before="", cwd=None, table=None):
    settings = [word for setting in SIZES for word in ("--set", setting)]
    words = ["experiment", NAME, "--profile", "laptop", "--device", "cpu", "--seeds", "1", *settings]
    return lop(*words, *(["--table", str(table)] if table else []), environment=environment, before=before, cwd=cwd)


def environment(**changes):
    """This process's environment with changes; None takes a variable away."""
    merged = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def judged(grid, tally, case, done):
    well = done.returncode == 0 and grid.whole() and b"Traceback" not in done.stderr
    tally(case, "harmless" if well else "lost", (done.returncode, done.stderr[-2000:]))


def test_results_are_the_same_at_a_path_with_spaces_and_letters_of_many_alphabets(grid, tmp_path, monkeypatch, tally):
    place = tmp_path / "a b  é 中文 'quoted' $HOME;rm #1"
    place.mkdir()
    monkeypatch.setenv("LOP_RESULTS", str(place / "results"))
    monkeypatch.chdir(place)
    code = Child(lambda: command("--table", str(place / "tablé.csv"))).code()
    well = code == 0 and grid.whole() and len((place / "tablé.csv").read_text()) > 100
    tally("spaces and unicode in paths", "harmless" if well else "lost", code)


@pytest.mark.slow
def test_results_are_the_same_in_a_locale_without_unicode_at_a_path_with_it(grid, tmp_path, monkeypatch, tally):
    place = tmp_path / "é 中文"
    place.mkdir()
    monkeypatch.setenv("LOP_RESULTS", str(place / "results"))
    judged(grid, tally, "locale C at a path with unicode", experiment(environment(**ASCII), table=place / "té.csv"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["list", "--profile", "smoke"], ["data", "list"], ["--help"], ["experiment", "--help"]]
)
def test_what_lop_says_can_be_said_in_a_locale_without_unicode(tmp_path, tally, words):
    place = tmp_path / "é 中文"
    place.mkdir()
    changes = {**ASCII, "LOP_RESULTS": str(place), "LOP_DATA": str(place), "LOP_BOOK": str(PACKAGE)}
    done = lop(*words, environment=environment(**changes))
    well = done.returncode == 0 and len(done.stdout) > 100
    tally("locale C, what lop says", "harmless" if well else "lost", (words, done.stderr[-2000:]))


HOMELESS = ("HOME", "XDG_CACHE_HOME", "LOGNAME", "USER")


@pytest.mark.slow
def test_results_are_the_same_without_a_home(grid, results, tally):
    judged(grid, tally, "no HOME", experiment(environment(**dict.fromkeys(HOMELESS))))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
def test_results_are_the_same_for_a_user_whom_the_machine_does_not_know(grid, public, monkeypatch, tally):
    monkeypatch.setenv("LOP_RESULTS", str(public / "results"))

    def nobody():
        os.setgid(54321)
        os.setuid(54321)
        for name in HOMELESS:
            os.environ.pop(name, None)
        return command()

    code = Child(nobody).code()
    tally("no HOME", "harmless" if code == 0 and grid.whole() else "lost", code)


def test_a_user_without_a_home_is_told_what_to_set(tmp_path, monkeypatch, tally):
    from lop_utils.errors import UsageError
    from lop_utils.evidence import paths
    from lop_utils.streams import cache

    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    for name in ("LOP_RESULTS", "LOP_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(paths, "book_root", lambda: None)
    for place, setting in ((paths.results_root, "LOP_RESULTS"), (cache.folder, "LOP_DATA")):
        with pytest.raises(UsageError, match=f"no home folder; set {setting}"):
            place()
        tally("no home and no setting", "detected")
        monkeypatch.setenv(setting, "~/here")
        with pytest.raises(UsageError, match=f"{setting}='~/here'.*without ~"):
            place()
        tally("no home and no setting", "detected")


NO_NETWORK = """
    import socket

    def refuse(*arguments, **options):
        raise OSError("the network is down")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
"""


@pytest.mark.slow
def test_results_are_the_same_without_a_network(grid, results, tally):
    judged(grid, tally, "no network", experiment(environment(), before=NO_NETWORK))


@pytest.mark.slow
def test_results_are_the_same_without_numba_where_it_has_no_part(grid, results, tally):
    done = experiment(environment(), before="import sys\nsys.modules['numba'] = None")
    judged(grid, tally, "no numba, an experiment that does without", done)


ONLINE = ("steps=60", "period=20", "every=20", "measure_every=20", "checkpoints=0", "widths=[3]", "linear=false")


@pytest.mark.slow
def test_without_numba_online_learning_says_so_and_its_result_is_not_taken_for_the_compiled_one(results, tally):
    settings = [word for setting in ONLINE for word in ("--set", setting)]
    words = ["experiment", "bit_flipping", "--device", "cpu", "--seeds", "1", *settings]
    tables = []
    for before in ("import sys\nsys.modules['numba'] = None", ""):
        table = results.parent / f"{len(tables)}.csv"
        done = lop(*words, "--table", str(table), environment=environment(), before=before)
        assert done.returncode == 0, done.stderr
        tables.append((done, table))
    import pandas as pd

    (slow, first), (fast, second) = tables
    said = b"numba is not installed" in slow.stderr and b"numba" in fast.stderr and b"1 computed" in fast.stdout
    a, b = pd.read_csv(first), pd.read_csv(second)
    same = abs(a["value"] - b["value"]).max() < 1e-9
    tally("no numba, online learning", "detected" if said and same else "lost", (fast.stderr, json.dumps(said)))
