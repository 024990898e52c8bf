"""What `lop doctor` says about a machine."""

from importlib import metadata

import pytest
from packaging.version import Version

from lop_utils.kit import doctor
from lop_utils.kit.cli import app
from lop_utils.kit.doctor import NOTE, OK, WRONG


def states(findings):
    return {finding.what: finding.state for finding in findings}


def test_on_this_machine_nothing_would_break_a_run(make_book):
    from typer.testing import CliRunner

    make_book({"01_one": []})
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    told = [line.split()[1] for line in result.stdout.splitlines()[:-1]]
    assert {"python", "book", "jupyter-book", "device", "threads", "memory", "results", "disk", "kernel"} <= set(told)


def test_a_results_folder_that_cannot_be_written_is_wrong_with_a_remedy(make_book, tmp_path, monkeypatch):
    make_book({"01_one": []})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "file"))
    (finding,) = doctor._results()
    assert finding.state == WRONG and "LOP_RESULTS" in finding.remedy


def test_without_a_book_the_remedy_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(tmp_path))
    finding = doctor._book()
    assert finding.state == WRONG and "LOP_BOOK" in finding.detail + finding.remedy


def test_a_library_of_another_version_than_the_pins_is_noted(make_book):
    book = make_book({"01_one": []})
    pins = book.home / "constraints.txt"
    assert doctor._pins().state == NOTE
    pins.write_text(f"# pins\nnumpy=={metadata.version('numpy')}\ntorch==0.1  # old\n")
    finding = doctor._pins()
    assert finding.state == NOTE and "torch" in finding.detail and "numpy" not in finding.detail
    pins.write_text(f"torch=={Version(metadata.version('torch')).public}\n")
    assert doctor._pins().state == OK  # 2.13.0+cpu is 2.13.0


def test_an_absent_or_old_dependency_is_wrong(monkeypatch):
    needs = ["numpy>=1", "torch>=99", "no-such-package>=1", "dask>=99; extra == 'cluster'"]
    monkeypatch.setattr(metadata, "requires", lambda _: needs)
    found = list(doctor._requirements())
    assert states(found) == {"torch": WRONG, "no-such-package": WRONG}
    assert all("pip install" in finding.remedy for finding in found)


def test_another_jupyter_book_is_wrong(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: "2.0")
    assert doctor._jupyter_book().state == WRONG


@pytest.mark.parametrize("answer", ["/elsewhere/bin/python", ""])
def test_a_kernel_of_another_python_or_none_is_wrong(make_book, monkeypatch, answer):
    make_book({"01_one": []})

    class Done:
        returncode, stdout, stderr = int(not answer), answer, "Traceback\nNoSuchKernel: python3"

    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: Done)
    finding = doctor._kernel()
    assert finding.state == WRONG and finding.remedy
    assert (answer or "NoSuchKernel") in finding.detail
