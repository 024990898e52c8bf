"""Fixtures of the kit's tests: a book and its results in a folder of the test's own."""

import pytest
from kit_book import Book


@pytest.fixture
def make_book(tmp_path, monkeypatch):
    """`make_book({"01_one": ["print(1)"]})` writes a book and makes it the current one."""

    def make(chapters, claims=()):
        book = Book(tmp_path / "home", chapters, claims)
        monkeypatch.setenv("LOP_BOOK", str(book.home))
        monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "results"))
        return book

    return make
