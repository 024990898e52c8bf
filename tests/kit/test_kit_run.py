"""Chapters executed for real, in a kernel: what is kept, what is reused, how a failure is told."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from kit_book import Book, claim, printed
from rich.console import Console

from lop_utils.errors import UsageError
from lop_utils.kit import notebooks, pages, running, stamps
from lop_utils.training.cores import cores

RECORD = """
import json, os, pathlib
folder = pathlib.Path(os.environ["LOP_RESULTS"]) / profile / "claims"
folder.mkdir(parents=True, exist_ok=True)
(folder / "a.json").write_text(json.dumps({"seed": seed}))
"""
ABOUT = """
import os, sys
print(sys.executable, os.environ["OMP_NUM_THREADS"], os.environ["LOP_RESULTS"], os.getcwd(), profile, device, seed)
"""


def run(*names, **options):
    console = Console(file=open("/dev/null", "w"), force_terminal=False)  # noqa: SIM115
    outcomes = notebooks.run(names, **{"profile": "smoke", "device": "cpu", **options}, console=console)
    return {outcome.name: outcome for outcome in outcomes}


def states(outcomes):
    return {name: outcome.state for name, outcome in outcomes.items()}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One run of chapters that do well, raise, hang, die and ask for the impossible: (outcomes, folder, home)."""
    folder = tmp_path_factory.mktemp("mixed")
    fail = "\n# a comment first\nraise ValueError('first\\nsecond')"
    impossible = "from lop_utils.profiles import check\ncheck('fast')"
    chapters = {
        "ledger": ["import pathlib, os", "print(sorted(os.listdir(os.environ['LOP_RESULTS'])))"],
        "01_good": [ABOUT],
        "02_raises": ["print('before')", fail, "print('after')"],
        "03_hangs": ["import time; time.sleep(60)"],
        "04_dies": ["import os; os._exit(3)"],
        "05_impossible": [impossible],
    }
    with pytest.MonkeyPatch.context() as patch:
        book = Book(folder / "home", chapters)
        patch.setenv("LOP_BOOK", str(book.home))
        patch.setenv("LOP_RESULTS", str(folder / "results"))
        patch.delenv("OMP_NUM_THREADS", raising=False)
        yield run(timeout=4, jobs=2), folder / "results" / "smoke" / "notebooks", book


def test_one_failure_does_not_keep_the_others_from_running(mixed):
    outcomes, _, _ = mixed
    assert states(outcomes) == {
        "01_good": "executed",
        "02_raises": "failed",
        "03_hangs": "failed",
        "04_dies": "failed",
        "05_impossible": "failed",
        "ledger": "executed",
    }
    assert list(outcomes)[-1] == "ledger"


def test_a_failure_names_the_cell_its_first_line_and_the_error(mixed):
    outcomes, _, _ = mixed
    assert outcomes["02_raises"].error == "code cell 3 `# a comment first`: ValueError: first second"
    assert outcomes["03_hangs"].error == "code cell 2 `import time; time.sleep(60)`: it did not finish within 4 s"
    assert outcomes["04_dies"].error.startswith("code cell 2 `import os; os._exit(3)`: the kernel died")
    assert not any(outcomes[name].usage for name in ("02_raises", "03_hangs", "04_dies"))


def test_a_chapter_that_was_asked_for_the_impossible_says_what_to_do(mixed):
    outcome = mixed[0]["05_impossible"]
    assert outcome.usage
    assert "profile 'fast' is unknown; choose one of" in outcome.error


def test_a_failure_leaves_its_partial_notebook_and_nothing_that_looks_finished(mixed):
    outcomes, folder, _ = mixed
    for name in ("02_raises", "03_hangs", "04_dies", "05_impossible"):
        assert outcomes[name].notebook == folder / f"{name}.failed.ipynb"
        nbformat.validate(nbformat.read(folder / f"{name}.failed.ipynb", as_version=4))
    assert printed(folder / "02_raises.failed.ipynb") == "before\n"
    present = {path.name for path in folder.iterdir()}
    failures = {f"{n}.failed.ipynb" for n in ("02_raises", "03_hangs", "04_dies", "05_impossible")}
    assert present == failures | {"01_good.ipynb", "01_good.stamp.json", "ledger.ipynb", "ledger.stamp.json"}


def test_a_chapter_runs_in_this_environment_with_its_share_of_the_cores_in_its_own_folder(mixed):
    _, folder, book = mixed
    python, threads, results, cwd, *parameters = printed(folder / "01_good.ipynb").split()
    assert Path(python).parent == Path(sys.executable).parent
    assert int(threads) == max(1, cores() // min(2, cores()))
    assert Path(results) == folder.parents[1]
    assert Path(cwd) == book.home / "book"
    assert parameters == ["smoke", "cpu", "0"]


def test_an_executed_notebook_does_not_tell_where_on_this_machine_it_was_made(mixed):
    _, folder, _ = mixed
    papermill = nbformat.read(folder / "01_good.ipynb", as_version=4).metadata["papermill"]
    assert papermill["duration"] > 0
    assert not {"input_path", "output_path"} & set(papermill)


def test_what_is_unchanged_is_reused_and_what_is_edited_runs_again(make_book):
    book = make_book({"01_one": ["# Text", "print('one', seed)"]})
    assert states(run()) == {"01_one": "executed"}
    done = stamps.executed(pages.chapters()[0], "smoke")
    first = done.read_bytes()
    book.edit("01_one", "# Text", "# Other text")
    assert states(run()) == {"01_one": "cached"}
    assert done.read_bytes() == first
    book.edit("01_one", "'one'", "'two'")
    assert states(run(seed=3)) == {"01_one": "executed"}
    assert printed(done) == "two 3\n"


def test_a_chapter_counts_only_with_the_records_that_it_left(make_book):
    book = make_book({"01_one": [RECORD]}, [claim("a", "01_one"), claim("b", "01_one")])
    other = stamps.folder("smoke").parent / "claims" / "b.json"
    other.parent.mkdir(parents=True)
    other.write_text("left by an older version of the chapter")
    assert states(run()) == {"01_one": "executed"}
    record = other.with_name("a.json")
    assert record.exists() and not other.exists()
    assert states(run()) == {"01_one": "cached"}
    record.unlink()
    assert states(run()) == {"01_one": "executed"}
    book.edit("01_one", "profile /", "'elsewhere' /")
    assert states(run()) == {"01_one": "executed"}
    assert not record.exists()
    page = pages.chapters()[0]
    assert stamps.load(page, "smoke")["records"] == {}


def test_a_later_failure_withdraws_the_earlier_result_and_a_repair_the_failure(make_book):
    book = make_book({"01_one": ["assert seed == 0"]})
    page = pages.chapters()[0]
    assert states(run()) == {"01_one": "executed"}
    assert states(run(seed=1)) == {"01_one": "failed"}
    assert stamps.why_stale(page, "smoke") == "not run yet"
    assert stamps.failed(page, "smoke").exists()
    assert states(run()) == {"01_one": "executed"}
    assert not stamps.failed(page, "smoke").exists()
    assert book.read("01_one").cells[-1].outputs == []


def test_all_that_can_be_wrong_is_found_before_anything_runs(make_book):
    book = make_book({"01_one": ["print(1)"], "02_two": ["print(2)"]})
    content = book.read("02_two")
    content.cells[-1].execution_count = 1
    book.write("02_two", content)
    with pytest.raises(UsageError, match=r"02_two.ipynb has outputs.*nbstripout --keep-id"):
        run()
    assert not stamps.folder("smoke").exists()


def test_parameters_must_be_known_to_the_chapter(make_book):
    book = make_book({"01_one": ["print(1)"]})
    with pytest.raises(UsageError, match=r"parameter 'sed' is unknown to 01_one.ipynb; did you mean seed\?"):
        run(extra={"sed": 1})
    with pytest.raises(UsageError, match="it has: profile, device, seed"):
        run(extra={"width": 1})
    with pytest.raises(UsageError, match="parameter 'seed' is set by its own option; use --seed"):
        run(extra={"seed": 1})
    book.edit("01_one", "seed: int = 0", "number: int = 0")  # and a chapter must have the three that all have
    with pytest.raises(UsageError, match=r"parameter 'seed' is unknown to 01_one.ipynb; add it to the cell tagged"):
        run()


def test_a_chapter_without_a_kernel_is_named_with_the_remedy(make_book):
    book = make_book({"01_one": ["print(1)"]})
    content = book.read("01_one")
    del content.metadata["kernelspec"]
    book.write("01_one", content)
    with pytest.raises(UsageError, match=r"01_one.ipynb cannot be given parameters: No kernel.*choose the kernel"):
        run()


def stand_in(folder, script):
    """A program in place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_kernel_that_does_not_start_is_started_once_more(make_book, tmp_path, monkeypatch):
    make_book({"01_one": ["print(1)"]})
    flag = tmp_path / "flag"
    script = f'if [ ! -e {flag} ]; then touch {flag}; exit 3; fi\nexec {sys.executable} "$@"'
    monkeypatch.setattr(running.sys, "executable", stand_in(tmp_path, script))
    assert states(run()) == {"01_one": "executed"}


def test_a_process_that_never_starts_is_a_failure_with_its_last_words(make_book, tmp_path, monkeypatch):
    make_book({"01_one": ["print(1)"]})
    count = tmp_path / "count"
    script = f"echo once >> {count}\necho 'no such thing' >&2\nexit 3"
    monkeypatch.setattr(running.sys, "executable", stand_in(tmp_path, script))
    outcome = run()["01_one"]
    assert outcome.error == "before its first cell: its process ended with code 3: no such thing"
    assert count.read_text().split() == ["once", "once"]
    assert outcome.notebook is None


def test_what_runs_is_told_line_by_line_without_a_terminal(make_book, tmp_path):
    make_book({"01_one": ["print(1)"], "02_[bold]": ["1 / 0"]})
    with (tmp_path / "out").open("w") as file:
        notebooks.run(profile="smoke", device="cpu", console=Console(file=file, width=40))
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0].startswith("profile smoke, device cpu")
    told = json.dumps(lines)
    assert "01_one                       running   not run yet" in told
    assert any(line.split()[:2] == ["01_one", "executed"] and line.endswith(" s") for line in lines)
    assert any(line.split()[:2] == ["02_[bold]", "failed"] and "ZeroDivisionError" in line for line in lines)
