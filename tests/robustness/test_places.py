"""Odd places to run in: other locales and paths, no home, no network, no numba. Each in a new interpreter."""

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


HOMELESS = ("HOME", "XDG_CACHE_HOME", "LOGNAME", "USER")
NOTHING = """
    import socket, sys

    def refuse(*arguments, **options):
        raise OSError("the network is down")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
    sys.modules["numba"] = None
"""


@pytest.mark.slow
def test_results_are_the_same_without_unicode_home_network_and_numba(grid, tmp_path, monkeypatch, tally):
    """All at once, at a path that the locale cannot write."""
    place = tmp_path / "é 中文"
    place.mkdir()
    monkeypatch.setenv("LOP_RESULTS", str(place / "results"))
    changes = {**ASCII, **dict.fromkeys(HOMELESS)}
    done = experiment(environment(**changes), before=NOTHING, table=place / "té.csv")
    for case in ("locale C at a path with unicode", "no HOME", "no network", "no numba, an experiment without it"):
        judged(grid, tally, case, done)


@pytest.mark.slow
def test_what_lop_says_can_be_said_in_a_locale_without_unicode(tmp_path, tally):
    place = tmp_path / "é 中文"
    place.mkdir()
    changes = {**ASCII, "LOP_RESULTS": str(place), "LOP_DATA": str(place), "LOP_BOOK": str(PACKAGE)}
    spoken = [["list", "--profile", "smoke"], ["data", "list"], ["--help"], ["experiment"], ["experiment", "--help"]]
    before = f"""
        import sys
        from lop_utils.kit import cli

        for words in {spoken[:-1]!r}:
            print("saying", *words)
            sys.argv[1:] = words
            try:
                cli.main()
            except SystemExit as end:
                assert not end.code, words
        sys.argv[1:] = {spoken[-1]!r}
    """
    done = lop(environment=environment(**changes), before=before)
    for words in spoken[:-1]:
        said = f"saying {' '.join(words)}".encode() in done.stdout and done.returncode == 0
        tally("locale C, what lop says", "harmless" if said else "lost", (words, done.stderr[-2000:]))


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


ONLINE = ("steps=60", "period=20", "every=20", "measure_every=20", "checkpoints=0", "widths=[3]", "linear=false")


@pytest.mark.slow
def test_without_numba_online_learning_says_so_and_its_result_is_not_taken_for_the_compiled_one(results, tally):
    settings = [word for setting in ONLINE for word in ("--set", setting)]
    words = ["experiment", "bit_flipping", "--device", "cpu", "--seeds", "1", *settings]
    absent = "import sys\nsys.modules['numba'] = None"
    slow = lop(*words, environment=environment(), before=absent)
    again = lop(*words, "--dry-run", environment=environment(), before=absent)
    other = lop(*words, "--dry-run", environment=environment())
    said = b"numba is not installed" in slow.stderr and b"1 computed" in slow.stdout
    kept = b"stored" in again.stdout and b"to run" in other.stdout and b"numba changed" in other.stderr
    detail = [(run.returncode, run.stdout, run.stderr[-1000:]) for run in (slow, again, other)]
    tally("no numba, online learning", "detected" if said and kept else "lost", detail)
