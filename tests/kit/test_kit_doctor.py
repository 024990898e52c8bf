"""What `lop doctor` says about a machine."""

from importlib import metadata

import pytest
import torch
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
    assert {
        "python",
        "book",
        "jupyter-book",
        "device",
        "precision",
        "determinism",
        "threads",
        "memory",
        "data",
        "results",
        "disk",
        "kernel",
    } <= set(told)


def test_a_results_folder_that_cannot_be_written_is_wrong_with_a_remedy(make_book, tmp_path, monkeypatch):
    make_book({"01_one": []})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "file"))
    (finding,) = doctor._results()  # nothing about its disk
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


def test_the_arithmetic_that_torch_is_set_to_is_told_and_less_than_full_precision_is_noted():
    before = torch.get_float32_matmul_precision()
    try:
        for setting, state in (("highest", OK), ("high", NOTE)):
            torch.set_float32_matmul_precision(setting)
            finding = doctor._precision()
            assert finding.state == state and f"products are {setting}" in finding.detail
            assert bool(finding.remedy) == (state == NOTE)
    finally:
        torch.set_float32_matmul_precision(before)


def test_on_an_accelerator_results_that_may_differ_are_noted_unless_only_deterministic_algorithms_run(monkeypatch):
    monkeypatch.setattr(doctor, "resolve", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    assert doctor._determinism().state == NOTE
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert doctor._determinism().state == OK


def test_the_threads_are_those_that_torch_would_use(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert "torch would use 7" in doctor._threads().detail
