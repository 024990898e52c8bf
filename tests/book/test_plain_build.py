"""Plain `jupyter-book build .` executes the notebooks itself, and fails when one of them fails."""

import nbformat
import pytest
import tiny_book

pytestmark = [pytest.mark.slow, pytest.mark.parallel]


def test_a_plain_build_executes_stripped_notebooks(tmp_path):
    folder = tiny_book.write(tmp_path, executed=False)
    built = tiny_book.build(folder, "-W", "-n", "--keep-going")
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    page = (folder / "_build/html/book/notebook.html").read_text()
    assert "42.0" in page and "Fig. 1" in page


def test_a_plain_build_fails_when_a_cell_raises(tmp_path):
    folder = tiny_book.write(tmp_path, executed=False)
    path = folder / "book/notebook.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source += "\nraise ValueError('on purpose')"
    nbformat.write(notebook, path)
    built = tiny_book.build(folder)
    assert built.returncode != 0
    assert "on purpose" in built.stdout + built.stderr
