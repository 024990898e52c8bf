"""The table of contents and what must hold of a chapter's source."""

import pytest

from lop_utils.errors import UsageError
from lop_utils.kit import pages


def test_pages_come_in_the_order_of_the_table_of_contents_through_parts_and_sections(make_book):
    book = make_book({"01_one": [], "02_two": [], "03_three": []})
    (book.home / "_toc.yml").write_text(
        "root: book/intro\nparts:\n- caption: A\n  chapters:\n  - file: book/03_three\n    sections:\n"
        "    - file: book/01_one.ipynb\n- chapters:\n  - url: https://example.org\n  - file: book/02_two\n"
    )
    assert [page.document for page in pages.pages()] == [
        "book/intro", "book/03_three", "book/01_one", "book/02_two",
    ]  # fmt: skip
    assert [page.name for page in pages.chapters()] == ["03_three", "01_one", "02_two"]


def test_the_ledger_is_the_last_chapter_and_never_left_behind(make_book):
    make_book({"ledger": [], "01_one": [], "02_two": []})
    assert [page.name for page in pages.chapters()] == ["01_one", "02_two", "ledger"]
    assert [page.name for page in pages.select(["02_two"])] == ["02_two", "ledger"]
    assert [page.name for page in pages.select(["book/01_one.ipynb"])] == ["01_one", "ledger"]


def test_an_unknown_chapter_is_answered_with_the_closest_ones(make_book):
    make_book({"05_cloning": [], "06_stability": []})
    with pytest.raises(UsageError, match="'05_clonig' is unknown; did you mean 05_cloning"):
        pages.select(["05_clonig"])
    with pytest.raises(UsageError, match="choose from: 05_cloning, 06_stability"):
        pages.select(["xyz"])


@pytest.mark.parametrize(
    ("toc", "message"),
    [
        ("root: book/intro\nchapters:\n- file: book/09_gone\n", "names book/09_gone, which does not exist"),
        ("root: [", "_toc.yml is not YAML"),
        ("format: jb-book\n", "names no page"),
        ("root: book/01_one\nchapters:\n- file: other/01_one\n", "two chapters are named 01_one"),
    ],
)
def test_a_malformed_table_of_contents_is_named(make_book, toc, message):
    book = make_book({"01_one": []})
    (book.home / "other").mkdir()
    (book.home / "other" / "01_one.ipynb").write_bytes(book.path("01_one").read_bytes())
    (book.home / "_toc.yml").write_text(toc)
    with pytest.raises(UsageError, match=message):
        pages.chapters()


@pytest.mark.parametrize("trace", ["outputs", "execution_count", "widgets"])
def test_any_trace_of_an_execution_is_an_output(make_book, trace):
    book = make_book({"01_one": ["1"]})
    page = pages.chapters()[0]
    content = book.read("01_one")
    pages.check_stripped(page, content)
    if trace == "widgets":
        content.metadata["widgets"] = {}
    elif trace == "outputs":
        content.cells[-1].outputs = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    else:
        content.cells[-1].execution_count = 3
    with pytest.raises(UsageError, match=r"01_one.ipynb has outputs.*nbstripout --keep-id .*01_one.ipynb"):
        pages.check_stripped(page, content)


def test_a_file_that_is_no_notebook_is_named_in_one_line(make_book):
    book = make_book({"01_one": []})
    book.path("01_one").write_text("{\n")
    with pytest.raises(UsageError, match=r"01_one.ipynb is not a notebook") as error:
        pages.read(book.path("01_one"))
    assert "\n" not in str(error.value)


def test_the_title_of_a_page_is_its_first_heading(make_book):
    make_book({"01_one": []})
    assert [pages.title(page) for page in pages.pages()] == ["Intro", "A title"]
