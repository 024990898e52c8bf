"""Where the book and the results are found."""

import pytest

from lop_utils.errors import UsageError
from lop_utils.evidence import paths


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.delenv("LOP_BOOK", raising=False)
    monkeypatch.delenv("LOP_RESULTS", raising=False)


def make_book(folder):
    folder.mkdir(parents=True)
    (folder / "_toc.yml").touch()
    return folder


def test_the_book_is_found_from_a_folder_deep_inside_it(tmp_path, monkeypatch):
    root = make_book(tmp_path / "root")
    inside = root / "book" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert paths.book_root() == root
    assert paths.results_root() == root / "_results"


def test_the_variable_goes_before_the_working_directory(tmp_path, monkeypatch):
    asked, here = make_book(tmp_path / "asked"), make_book(tmp_path / "here")
    monkeypatch.chdir(here)
    monkeypatch.setenv("LOP_BOOK", str(asked))
    assert paths.book_root() == asked


def test_a_variable_that_points_nowhere_is_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(tmp_path))
    with pytest.raises(UsageError, match="LOP_BOOK"):
        paths.book_root()


def test_results_go_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "elsewhere"))
    assert paths.results_root() == tmp_path / "elsewhere"


def test_without_a_book_results_go_to_the_users_cache_and_claims_come_from_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "site" / "lop_utils"
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.book_root() is None
    assert paths.results_root() == tmp_path / "cache" / "lop-book" / "_results"
    with pytest.raises(UsageError, match=r"claims\.yml"):
        paths.claims_file()
    (package / "claims.yml").touch()
    assert paths.claims_file() == package / "claims.yml"
