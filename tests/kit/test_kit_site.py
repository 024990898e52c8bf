"""Staging, building, and putting the site in place."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_output

from lop_utils.errors import UsageError
from lop_utils.kit import ledger_files, notebooks, pages, site, stamps

PARAMETERS = {"profile": "smoke", "device": "cpu", "seed": 0}


@pytest.fixture
def ran(make_book):
    """A book of one chapter that counts as executed and prints 42."""
    book = make_book({"01_one": ["# Text", "print(42)"]})
    (book.home / "book" / "picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    page = pages.chapters()[0]
    done = book.read("01_one")
    done.cells[-1].outputs = [new_output("stream", name="stdout", text="42\n")]
    done.cells[-1].execution_count = 2
    stamps.folder("smoke").mkdir(parents=True)
    nbformat.write(done, stamps.executed(page, "smoke"))
    made_from = stamps.dependencies(page, pages.read(page.path), PARAMETERS)
    stamps.write(page, "smoke", made_from=made_from, left={}, seconds=1.0)
    return book


def test_the_stage_holds_the_present_text_with_the_outputs_and_executes_nothing(ran):
    ran.edit("01_one", "# Text", "# Newer text")
    said = []
    stage = site.stage_book("smoke", say=said.append)
    staged = nbformat.read(stage / "book" / "01_one.ipynb", as_version=4)
    assert staged.cells[2].source == "# Newer text"
    assert staged.cells[-1].outputs[0].text == "42\n"
    config = yaml.safe_load((stage / "_config.yml").read_text())
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["title"] == "Tiny"
    for name in ("_toc.yml", "book/intro.md", "book/picture.svg"):
        assert (stage / name).exists()
    assert said == []
    assert ran.read("01_one").cells[-1].outputs == []


def test_the_stage_gives_the_run_time_that_was_measured_in_place_of_what_the_author_guessed(ran):
    ran.edit("01_one", "# Text", "# Text\n\nYou need tea. **Run time** on one core: smoke\nan hour.\n\nEnd.")
    staged = nbformat.read(site.stage_book("smoke", say=print) / "book" / "01_one.ipynb", as_version=4)
    assert staged.cells[2].source == (
        "# Text\n\nYou need tea. **Run time**, as measured in the last run: smoke 1 seconds.\n\nEnd."
    )


def test_a_page_without_a_widget_carries_no_widget_states(ran):
    page = pages.chapters()[0]
    done = pages.read(stamps.executed(page, "smoke"))
    done.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(done, stamps.executed(page, "smoke"))
    assert "widgets" not in site.staged(page, "smoke", say=print).metadata
    view = new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "a"}})
    done.cells[-1].outputs.append(view)
    nbformat.write(done, stamps.executed(page, "smoke"))
    assert "widgets" in site.staged(page, "smoke", say=print).metadata


def test_staging_says_when_results_are_not_up_to_date(ran):
    from kit_book import claim

    ran.write_claims([claim("a", "01_one")])
    said = []
    site.stage_book("smoke", say=said.append)
    assert said == ["note: the results of 01_one are not up to date: its claims changed; run: lop run --profile smoke"]


def test_a_chapter_that_was_not_run_or_failed_or_has_other_code_stops_the_build_before_it_starts(ran):
    with pytest.raises(UsageError, match="it has not been run; run: lop run --profile laptop"):
        site.build("laptop", say=print)
    ran.edit("01_one", "print(42)", "print(43)")
    with pytest.raises(UsageError, match="01_one has other code than its last run at profile smoke; run: lop run"):
        site.build("smoke", say=print)
    page = pages.chapters()[0]
    stamps.stamp_of(page, "smoke").unlink()
    stamps.failed(page, "smoke").write_text("{}")
    with pytest.raises(UsageError, match="its last run failed"):
        site.build("smoke", say=print)
    assert not (ran.home / "_build").exists()


def test_another_jupyter_book_is_refused(ran, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "2.0.1")
    with pytest.raises(UsageError, match=r"jupyter-book 2.0.1 cannot build this book.*pip install 'jupyter-book<2'"):
        site.build("smoke", say=print)


def fake_build(monkeypatch, code):
    """Replace Jupyter Book by a few lines of Python; `html` is the folder that it fills."""
    start = "import pathlib, sys; html = pathlib.Path(sys.argv[2]) / '_build' / 'html'; html.mkdir(parents=True)\n"
    monkeypatch.setattr(site, "_BUILD", start + code)


WRITE = "(html / 'book').mkdir(); [(html / n).write_text('new') for n in ({})]\n"


def test_a_build_with_a_warning_fails_names_it_and_keeps_the_earlier_site(ran, monkeypatch):
    (ran.home / "_site").mkdir()
    (ran.home / "_site" / "index.html").write_text("old")
    code = "print('reading'); print('\\x1b[31mbook/a.md:3: WARNING: unknown label\\x1b[0m'); sys.exit(2)"
    fake_build(monkeypatch, code)
    said = []
    with pytest.raises(site.BuildError) as error:
        site.build("smoke", say=said.append)
    assert error.value.args[0] == "book/a.md:3: WARNING: unknown label"
    assert "reading" in said
    assert (ran.home / "_site" / "index.html").read_text() == "old"


def test_a_build_that_succeeds_without_every_page_fails(ran, monkeypatch):
    fake_build(monkeypatch, WRITE.format("'index.html', 'book/intro.html'"))
    with pytest.raises(site.BuildError) as error:
        site.build("smoke", say=print)
    assert error.value.args == ("book/01_one.html was not built",)
    assert not (ran.home / "_site").exists()


def test_a_complete_build_replaces_the_earlier_site_as_a_whole(ran, monkeypatch):
    (ran.home / "_site").mkdir()
    (ran.home / "_site" / "left_over.html").write_text("old")
    fake_build(monkeypatch, WRITE.format("'index.html', 'book/intro.html', 'book/01_one.html'"))
    assert site.build("smoke", say=print) == ran.home / "_site" / "index.html"
    assert not (ran.home / "_site" / "left_over.html").exists()
    assert [path.name for path in ran.home.iterdir() if path.name.startswith("._site")] == []


def test_a_build_that_dies_silently_is_told_by_its_code_and_last_line():
    problems = site._run([sys.executable, "-c", "import sys; print('so far'); sys.exit(3)"], lambda _: None)
    assert problems == ["jupyter-book ended with code 3: so far"]


def test_the_stage_tells_the_extension_that_writes_the_ledger_which_profile_is_shown(ran):
    path = ran.home / "_config.yml"
    config = yaml.safe_load(path.read_text())
    site.stage_book("smoke", say=print)
    assert "sphinx" not in yaml.safe_load((ran.home / "_build/stage/_config.yml").read_text())
    path.write_text(yaml.safe_dump({**config, "sphinx": {"extra_extensions": [ledger_files.EXTENSION]}}))
    site.stage_book("smoke", say=print)
    staged = yaml.safe_load((ran.home / "_build/stage/_config.yml").read_text())
    assert staged["sphinx"]["config"] == {"lop_profile": "smoke"}


@pytest.mark.slow
@pytest.mark.parallel
def test_the_built_site_holds_the_ledger_as_files_at_the_profile_that_it_shows(make_book):
    from kit_book import claim

    cells = ["from lop_utils.kit.chapter import Chapter", "Chapter('01_one', profile=profile).judge('a', x=[2.0])"]
    book = make_book({"01_one": cells}, [claim("a", "01_one")])
    config = yaml.safe_load((book.home / "_config.yml").read_text())
    extended = {**config, "sphinx": {"extra_extensions": [ledger_files.EXTENSION]}}
    (book.home / "_config.yml").write_text(yaml.safe_dump(extended))
    notebooks.run((), profile="laptop", device="cpu", jobs=1)
    folder = site.build("laptop", say=print).parent / ledger_files.FOLDER
    data = json.loads((folder / "ledger.json").read_text())
    assert (data["profile"], data["claims"][0]["verdict"]) == ("laptop", "reproduced")
    assert all((folder / name).exists() for name in re.findall(r"ledger/([\w.]+)", ledger_files.links().html))


@pytest.mark.slow
@pytest.mark.parallel
def test_jupyter_book_builds_a_real_site_from_the_stage(ran):
    index = site.build("smoke", say=print)
    text = (index.parent / "book" / "01_one.html").read_text()
    assert "42" in text and "Text" in text
    ran.edit("01_one", "# Text", "# Text {ref}`nowhere`")
    with pytest.raises(site.BuildError, match="nowhere"):
        site.build("smoke", say=print)
    assert Path(index).exists()
