"""A tiny book in a temporary folder: chapters from lists of cells, a table of contents, a claims file."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'profile: str = "smoke"  # size\ndevice: str = "auto"  # where\nseed: int = 0  # base seed'


def notebook(cells: Sequence[str]) -> nbformat.NotebookNode:
    """A stripped chapter: a heading, the parameters, then `cells` (text that starts with # is markdown)."""
    made = [new_markdown_cell("# A title"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    made += [new_markdown_cell(text) if text.startswith("#") else new_code_cell(text) for text in cells]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def claim(name: str, chapter: str, *, at_least: float | None = 1.0) -> dict:
    """A claim that says: every x >= at_least; without a criterion if that is None."""
    test = {"measure": "x", "statistic": "every", "op": ">=", "value": at_least}
    texts = dict.fromkeys(("statement", "where", "quantity", "paper_reports"), "words")
    criterion = None if at_least is None else {"as_stated": [test]}
    return {"id": name, "kind": "empirical", "chapter": chapter, **texts, "criterion": criterion}


class Book:
    """The book in `home`, and how tests change it."""

    def __init__(self, home: Path, chapters: Mapping[str, Sequence[str]], claims: Sequence[dict] = ()):
        self.home = home
        (home / "book").mkdir(parents=True)
        (home / "book" / "intro.md").write_text("# Intro\n\nWords.\n")
        for name, cells in chapters.items():
            self.write(name, notebook(cells))
        toc = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": f"book/{name}"} for name in chapters]}
        (home / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
        config = {"title": "Tiny", "only_build_toc_files": True, "execute": {"execute_notebooks": "auto"}}
        (home / "_config.yml").write_text(yaml.safe_dump(config))
        self.write_claims(claims)

    def path(self, name: str) -> Path:
        return self.home / "book" / f"{name}.ipynb"

    def read(self, name: str) -> nbformat.NotebookNode:
        return nbformat.read(self.path(name), as_version=4)

    def write(self, name: str, content: nbformat.NotebookNode) -> None:
        nbformat.write(content, self.path(name))

    def write_claims(self, claims: Sequence[dict]) -> None:
        (self.home / "book" / "claims.yml").write_text(yaml.safe_dump({"claims": list(claims)}))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace `old` in every cell of a chapter."""
        content = self.read(name)
        assert any(old in cell.source for cell in content.cells)
        for cell in content.cells:
            cell.source = cell.source.replace(old, new)
        self.write(name, content)

    def tag(self, name: str, position: int, tags: list[str]) -> None:
        """Set the tags of one cell."""
        content = self.read(name)
        content.cells[position].metadata["tags"] = tags
        self.write(name, content)


def copy_package(target: Path) -> Path:
    """A copy of the package's sources, to be edited."""
    import lop_utils

    source = Path(lop_utils.__file__).parent
    return shutil.copytree(source, target / "lop_utils", ignore=shutil.ignore_patterns("__pycache__"))


def printed(path: Path) -> str:
    """All text that the cells of an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")
