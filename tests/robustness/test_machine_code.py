"""Machine code that numba left on disk: of other sources it is not looked at, unreadable it is made anew."""

import logging
import pickle
import subprocess
import sys
import textwrap

import pytest

from lop_utils.training import compiled

pytestmark = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder for machine code."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "code"))
    compiled.folder.cache_clear()
    yield compiled.folder()
    compiled.folder.cache_clear()


def twice(x):
    return x + x


def fresh():
    """The function compiled as a new process would: from the folder, if it is there."""
    return compiled.compiled(twice)


class Gone:
    """Pickled by name; the name is then taken away."""


def damage_gone(path):
    data = pickle.dumps(("a stamp", {("signature", Gone()): "name"}))
    import numba

    path.write_bytes(pickle.dumps(numba.__version__) + data.replace(b"Gone", b"Away"))


def damage_empty(path):
    path.write_bytes(b"")


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def damage_noise(path):
    path.write_bytes(bytes(range(1, 200)))


DAMAGES = [damage_gone, damage_empty, damage_cut, damage_noise]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.removeprefix("damage_"))
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_machine_code_that_cannot_be_read_is_said_and_made_anew(place, tally, caplog, damage, kind):
    assert fresh()(3) == 6
    (file,) = place.rglob(f"*.{kind}")
    damage(file)
    with pytest.raises(Exception):  # noqa: B017  this is what numba does by itself
        fresh()(3)
    function = fresh()
    with caplog.at_level(logging.WARNING):
        value = compiled.settled(lambda: function(3))
    said = "is made anew" in caplog.text
    again = fresh()
    tally("machine code damaged", "detected" if value == 6 and said and again(4) == 8 else "lost", caplog.text)
    assert again.stats.cache_hits


def test_machine_code_of_other_sources_is_not_looked_at(place, tally, tmp_path, monkeypatch):
    """A file that a function is compiled into another from counts too: numba alone would use the old code."""
    for path in compiled._HERE.glob(compiled.SOURCES):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(compiled, "_HERE", tmp_path)
    compiled.folder.cache_clear()
    assert compiled.folder() == place
    for path in sorted(tmp_path.glob(compiled.SOURCES)):
        before = compiled.folder()
        path.write_text(path.read_text() + "\n")
        compiled.folder.cache_clear()
        tally("machine code of other sources", "detected" if compiled.folder() != before else "lost", path)


def test_an_error_of_the_call_itself_is_raised(place):
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiled.settled(fails)
    assert fresh()(3) == 6
    with pytest.raises(ZeroDivisionError):
        compiled.settled(fails)


def test_without_a_place_for_machine_code_functions_are_compiled_in_this_process(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(compiled, "_bases", lambda: [blocked / "below"])
    compiled.folder.cache_clear()
    assert compiled.folder() is None
    assert fresh()(3) == 6
    compiled.folder.cache_clear()


@pytest.mark.slow
def test_an_online_run_survives_an_index_of_another_day(tmp_path, tally):
    """The whole way: every index of the kernel's functions names a class that is gone."""
    code = """
        import sys, pickle, pathlib, numba
        from lop_utils.training import compiled
        from lop_utils.training.online import Method, initial
        from lop_utils.training.online_packed import learn_together
        from lop_utils.streams.bit_flipping import BitFlipping
        method, stream = Method(width=3), BitFlipping()
        states = [initial(method, stream, seed=0)]
        print([w.loss.hex() for (w,) in learn_together(method, [stream], states, steps=50, every=10)])
        for path in compiled.folder().rglob("*.nbi"):
            path.write_bytes(pickle.dumps(numba.__version__) + b"cno.such.module\\nclass\\n.")
    """
    environment = {**__import__("os").environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2)]
    well = [run.returncode for run in runs] == [0, 0] and runs[0].stdout == runs[1].stdout
    said = "is made anew" in runs[1].stderr
    tally("machine code damaged", "detected" if well and said else "lost", runs[1].stderr[-2000:])
