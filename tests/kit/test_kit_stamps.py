"""What makes an executed chapter stale, and what does not. Nothing is executed here."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit_book import claim, copy_package, notebook
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lop_utils.evidence import provenance
from lop_utils.evidence.files import sha256
from lop_utils.kit import pages, stamps

PARAMETERS = {"profile": "smoke", "device": "cpu", "seed": 0}
CELLS = ["# Text", "from lop_utils import profiles", "x = 1\nprint(x)"]


def execute(book, name="01_one"):
    """What papermill makes of a chapter: outputs, counts, and a cell of parameters."""
    done = book.read(name)
    for count, cell in enumerate(stamps.code_cells(done), start=1):
        cell.execution_count = count
        cell.outputs = [new_output("stream", name="stdout", text=f"output {count}")]
    injected = new_code_cell("seed = 0", metadata={"tags": [stamps.INJECTED]})
    done.cells.insert(2, injected)
    done.metadata["papermill"] = {"duration": 1.0}
    return done


@pytest.fixture
def ran(make_book):
    """A book whose chapter counts as executed; gives the book, its page, and why the page is stale."""
    book = make_book({"01_one": CELLS}, [claim("a", "01_one"), claim("b", "02_two")])
    page = pages.chapters()[0]
    path = stamps.executed(page, "smoke")
    path.parent.mkdir(parents=True)
    record = path.parents[1] / "claims" / "a.json"
    record.parent.mkdir()
    record.write_text("a record")
    write(book, page, {"a": sha256(b"a record")})

    def why(**changed):
        now = stamps.dependencies(page, pages.read(page.path), {**PARAMETERS, **changed})
        return stamps.why_stale(page, "smoke", now)

    return book, page, why


def write(book, page, left):
    import nbformat

    nbformat.write(execute(book), stamps.executed(page, "smoke"))
    made_from = stamps.dependencies(page, pages.read(page.path), PARAMETERS)
    stamps.write(page, "smoke", made_from=made_from, left=left, seconds=1.0)


def says(found_stored):
    """A notebook that glued how many results it found stored."""
    notebook = new_notebook(cells=[new_code_cell("book.provenance()")])
    data, metadata = {"application/papermill.record/text/plain": found_stored}, {"scrapbook": {"name": "found_stored"}}
    notebook.cells[0].outputs = [new_output("stream", text="x"), new_output("display_data", data, metadata=metadata)]
    return notebook


@pytest.mark.parametrize(
    ("found", "seconds", "counts"),
    [
        ("0", 0.25, 0.25),  # all computed again, and faster: the new time
        ("3", 0.25, 1.0),  # it only read: the time of the run before, which computed
        ("3", 4.0, 4.0),  # it read some and computed for longer than the run before
    ],
)
def test_a_run_that_found_its_results_stored_does_not_shorten_the_time(ran, found, seconds, counts):
    _, page, _ = ran  # its stamp says 1 second
    assert stamps.cold_seconds(page, "smoke", says(found), seconds) == counts
    assert stamps.cold_seconds(page, "laptop", says(found), seconds) == seconds  # no run before


def test_an_unchanged_chapter_is_not_stale(ran):
    _, page, why = ran
    assert why() == ""
    assert stamps.why_stale(page, "smoke") == ""
    assert stamps.why_stale(page, "laptop") == "not run yet"


def test_edited_text_does_not_make_it_stale(ran):
    book, _, why = ran
    book.edit("01_one", "Text", "Better text")
    assert why() == ""


def test_edited_code_makes_it_stale(ran):
    book, _, why = ran
    book.edit("01_one", "x = 1", "x = 2")
    assert why() == "its code cells changed"


def test_an_edited_tag_of_a_code_cell_makes_it_stale(ran):
    book, _, why = ran
    book.tag("01_one", 4, ["remove-output"])
    assert why() == "its code cells changed"


def test_an_edit_of_an_imported_source_makes_it_stale_and_is_named(ran, tmp_path, monkeypatch):
    _, _, why = ran
    package = copy_package(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert why() == ""  # a faithful copy
    with (package / "errors.py").open("a") as file:  # reached through lop_utils.profiles only
        file.write("\n# edited\n")
    assert why() == "lop_utils.errors changed"


def test_an_edit_of_a_source_that_is_not_imported_does_not(ran, tmp_path, monkeypatch):
    _, _, why = ran
    package = copy_package(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    with (package / "models" / "mlp.py").open("a") as file:
        file.write("\n# edited\n")
    assert why() == ""


def test_other_parameters_or_another_kind_of_device_make_it_stale(ran):
    _, _, why = ran
    assert why(seed=1) == "seed differs"
    assert why(device="cuda") == "device differs"
    assert why(width=3) == "width differs"


def test_another_version_of_a_library_makes_it_stale(ran, monkeypatch):
    _, _, why = ran
    versions = {**provenance.library_versions(), "torch": "0.1"}
    monkeypatch.setattr(stamps, "library_versions", lambda: versions)
    assert why() == "torch has another version"


def test_another_criterion_of_its_own_claims_makes_it_stale_and_of_others_does_not(ran):
    book, _, why = ran
    book.write_claims([claim("a", "01_one"), claim("b", "02_two", at_least=7.0)])
    assert why() == ""
    book.write_claims([claim("a", "01_one", at_least=2.0), claim("b", "02_two")])
    assert why() == "its claims changed"


def test_a_record_that_is_gone_or_changed_makes_it_stale(ran):
    _, page, why = ran
    record = stamps.folder("smoke").parent / "claims" / "a.json"
    record.write_text("another record")
    assert why() == "the record of a is changed"
    record.unlink()
    assert why() == "the record of a is missing"
    assert stamps.why_stale(page, "smoke") == "the record of a is missing"


def test_a_damaged_stamp_or_an_edited_result_is_noticed(ran):
    _, page, why = ran
    done = stamps.executed(page, "smoke")
    done.write_text(done.read_text().replace("output 1", "output I"))
    assert why() == "the executed notebook was edited"
    stamp = stamps.stamp_of(page, "smoke")
    stamp.write_text(stamp.read_text()[:-20])
    assert why() == "its stamp is missing or damaged"
    done.unlink()
    assert why() == "not run yet"


def test_the_ledger_is_stale_when_there_is_a_record_it_has_not_read(make_book):
    book = make_book({"ledger": []}, [claim("a", "01_one")])
    page = pages.chapters()[0]
    stamps.folder("smoke").mkdir(parents=True)
    import nbformat

    nbformat.write(execute(book, "ledger"), stamps.executed(page, "smoke"))
    made_from = stamps.dependencies(page, pages.read(page.path), PARAMETERS)
    stamps.write(page, "smoke", made_from=made_from, left={}, seconds=1.0)
    assert stamps.why_stale(page, "smoke") == ""
    (stamps.folder("smoke").parent / "claims").mkdir()
    (stamps.folder("smoke").parent / "claims" / "a.json").write_text("new")
    assert stamps.why_stale(page, "smoke") == "the record of a is new"


def test_merging_shows_the_present_text_with_the_outputs_of_the_run(ran):
    book, _, _ = ran
    done = execute(book)
    book.edit("01_one", "Text", "Better text")
    source = book.read("01_one")
    source.cells.append(source.cells[0].copy())
    merged = stamps.merge(source, done)
    texts = [cell.source for cell in merged.cells]
    assert "# Better text" in texts and len(texts) == len(source.cells) + 1
    assert texts[2] == "seed = 0"  # right after the parameters
    assert [cell.outputs[0].text for cell in stamps.code_cells(merged)] == ["output 1", "output 2", "output 3"]
    assert merged.metadata["papermill"] == {"duration": 1.0}
    assert all(not cell.outputs for cell in stamps.code_cells(source))  # the source is left alone


def test_merging_refuses_other_code_other_order_and_other_tags(ran):
    book, _, _ = ran
    done = execute(book)
    changed, swapped, tagged = (book.read("01_one") for _ in range(3))
    changed.cells[-1].source = "x = 3"
    swapped.cells[-1], swapped.cells[-2] = swapped.cells[-2], swapped.cells[-1]
    tagged.cells[-1].metadata["tags"] = ["hide-input"]
    assert all(stamps.merge(source, done) is None for source in (changed, swapped, tagged))


@given(st.lists(st.sampled_from(["# a", "# b", "x = 1", "y = 2"]), max_size=6))
def test_merging_a_run_into_its_own_source_keeps_every_cell_in_order(cells):
    source = notebook(cells)
    merged = stamps.merge(source, source)
    assert [cell.source for cell in merged.cells] == [cell.source for cell in source.cells]
    assert [cell.id for cell in merged.cells] == [cell.id for cell in source.cells]


def test_imports_are_found_behind_magics_shell_lines_and_in_functions():
    cells = [
        "%pip install x\nfrom lop_utils import device",
        "%%time\nimport lop_utils.profiles",
        "!ls\ndef f():\n    from lop_utils.evidence.stats import interval",
        "this is not python",
    ]
    found = stamps.imports(notebook(cells))
    assert {"lop_utils.device", "lop_utils.profiles", "lop_utils.evidence.stats"} <= found


def test_a_stamp_is_plain_text_that_says_what_the_chapter_was_made_from(ran):
    _, page, _ = ran
    content = yaml.safe_load(stamps.stamp_of(page, "smoke").read_text())
    assert content["made_from"]["parameters"] == PARAMETERS
    assert set(content["made_from"]["sources"]) == {"lop_utils", "lop_utils.errors", "lop_utils.profiles"}
