"""What the command line answers, and its exit codes."""

import pytest
import torch
from kit_book import claim
from typer.testing import CliRunner

from lop_utils.kit import notebooks, site
from lop_utils.kit.cli import app
from lop_utils.kit.running import Outcome


def lop(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "fast"], "profile 'fast' is unknown; choose one of: smoke, laptop, paper"),
        (["build", "--profile", "fast"], "profile 'fast' is unknown; choose one of: smoke, laptop, paper"),
        (["check", "--profile", "fast"], "profile 'fast' is unknown; choose one of: smoke, laptop, paper"),
        (["list", "--profile", "fast"], "profile 'fast' is unknown; choose one of: smoke, laptop, paper"),
        (["run", "--device", "tpu"], "device 'tpu' is unknown; choose one of: auto, cpu, cuda, mps"),
        (["run", "01_on"], "chapter '01_on' is unknown; did you mean 01_one?"),
        (["run", "-p", "width=3"], "parameter 'width' is unknown to 01_one.ipynb; it has: profile, device, seed"),
        (["run", "-p", "width"], "parameter 'width' is not NAME=VALUE; write it like -p width=64"),
        (["build", "--profile", "smoke"], "chapter 01_one has no results at profile smoke: it has not been run"),
        (["check", "--profile", "smoke", "--record"], "profile smoke judges nothing"),
    ],
)  # fmt: skip
def test_a_usage_error_is_one_line_with_the_remedy_and_exit_code_2(make_book, arguments, message):
    make_book({"01_one": ["print(1)"]})
    result = lop(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ") and message in result.stderr


def test_an_absent_accelerator_is_a_usage_error(make_book, monkeypatch):
    make_book({"01_one": ["print(1)"]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = lop("run", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr == "error: device 'cuda' is not available on this machine; use --device auto or cpu\n"


@pytest.mark.parametrize("command", [["run", "--profile", "smoke"], ["build", "--profile", "smoke"]])
def test_a_notebook_with_outputs_is_a_usage_error(make_book, command):
    book = make_book({"01_one": ["print(1)"]})
    content = book.read("01_one")
    content.cells[-1].execution_count = 1
    book.write("01_one", content)
    result = lop(*command)
    assert result.exit_code == 2
    remedy = f"run: nbstripout --keep-id {book.path('01_one')}"
    assert result.stderr == f"error: 01_one.ipynb has outputs; chapters are kept without them; {remedy}\n"


def test_outside_a_book_every_command_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(tmp_path))
    for command in ("run", "build", "check", "list"):
        result = lop(command)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("arguments", [["run", "--jobs", "x"], ["run", "--nonsense"], ["run", "--jobs", "0"], ["walk"]])
def test_options_that_do_not_exist_or_fit_exit_with_2(arguments):
    assert lop(*arguments).exit_code == 2


def outcome(name, state, **more):
    return Outcome(name, state, 1.0, **more)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([outcome("a", "executed"), outcome("b", "cached")], 0),
        ([outcome("a", "executed"), outcome("b", "failed", error="code cell 3 `f()`: ValueError: x")], 1),
        ([outcome("a", "failed", error="e", usage=True)], 2),
        ([outcome("a", "failed", error="e", usage=True), outcome("b", "failed", error="e")], 1),
    ],
)
def test_the_exit_code_of_a_run_is_that_of_its_worst_chapter(monkeypatch, outcomes, code):
    monkeypatch.setattr(notebooks, "run", lambda *_, **__: outcomes)
    result = lop("run")
    assert result.exit_code == code
    failed = [o for o in outcomes if o.state == "failed"]
    assert result.stderr.splitlines() == [f"error: chapter {o.name}, {o.error}" for o in failed]


def test_parameters_are_read_as_numbers_and_truth_values(monkeypatch):
    seen = {}
    monkeypatch.setattr(notebooks, "run", lambda *_, **options: seen.update(options) or [])
    lop("run", "-p", "width=64", "-p", "norm=none", "-p", "bias=true", "-p", "lr=0.1")
    assert seen["extra"] == {"width": 64, "norm": "none", "bias": True, "lr": 0.1}
    assert (seen["profile"], seen["device"], seen["seed"]) == ("laptop", "auto", 0)


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "run", interrupt)
    assert lop("run").exit_code == 130


def test_a_site_that_cannot_be_built_exits_with_1_and_repeats_the_warnings(monkeypatch):
    def fail(*_, **__):
        raise site.BuildError("a.md:1: WARNING: one", "b.html was not built")

    monkeypatch.setattr(site, "build", fail)
    result = lop("build")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == ["  a.md:1: WARNING: one", "  b.html was not built"]


def test_a_build_ends_with_a_table_of_its_pages_and_their_totals(monkeypatch, tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=a.html" />')
    (tmp_path / "a.html").write_text("<h1>A</h1><h3>B</h3><img src='https://a.org/b.png'>")
    monkeypatch.setattr(site, "build", lambda *_, **__: tmp_path / "index.html")
    result = lop("build")
    assert result.exit_code == 0
    table = [line.split() for line in result.stdout.splitlines()]
    assert ["a.html", "0.00", "1", "1", "1", "0"] in table and ["median", "0.00"] in table
    assert ["most;", "sums", "0.00", "1", "1", "1", "0"] in table
    assert result.stdout.splitlines()[-1] == f"the site is ready: {tmp_path / 'index.html'}"


def test_the_list_has_a_line_for_each_chapter_with_its_state(make_book):
    make_book({"01_one": [], "ledger": []}, [claim("a", "01_one"), claim("b", "01_one")])
    result = lop("list", "--profile", "laptop")
    assert result.exit_code == 0
    assert "01_one" in result.stdout and "not run yet" in result.stdout and "2 not judged" in result.stdout


def test_a_plan_names_hours_and_memory_and_refuses_what_does_not_exist():
    found = lop("plan", "mlp", "--members", "1", "--steps", "2", "--device", "cpu")
    assert found.exit_code == 0 and "20,000 steps =" in found.output and "1,664,840 parameters" in found.output
    assert lop("plan", "rnn").exit_code == 2
