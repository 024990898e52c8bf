"""Launchable copies, the buttons to them, and that no button leads nowhere."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from typer.testing import CliRunner

from lop_utils.errors import UsageError
from lop_utils.kit import launch
from lop_utils.kit.cli import app
from lop_utils.kit.launch import Source

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Source("https://github.com/someone/book", "v1.0")


@pytest.fixture
def book(make_book):
    made = make_book({"01_one": ["# Text", "import lop_utils"]})
    environment = {"name": "x", "dependencies": ["python", {"pip": ["mnist1d", "-e ."]}]}
    (made.home / "environment.yml").write_text(yaml.safe_dump(environment))
    return made


@pytest.mark.parametrize("url", ["someone/book", "https://gitlab.com/a/b", "https://github.com/a", ""])
def test_an_address_that_is_none_is_named(url):
    with pytest.raises(UsageError, match=r"is not one on GitHub.*OWNER/NAME"):
        Source(url)
    with pytest.raises(UsageError, match="no name of a tag"):
        Source("https://github.com/a/b", "v1; rm")


def test_the_tree_holds_every_chapter_with_the_installing_cell_first_and_the_sources_stay_as_they_are(book, tmp_path):
    written = launch.write(tmp_path / "tree", SOURCE)
    assert [path.name for path in written] == ["01_one.ipynb", "environment.yml"]
    copy = nbformat.read(written[0], as_version=4)
    nbformat.validate(copy)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert code[0].id == "bootstrap" and SOURCE.wanted in code[0].source
    assert code[1].metadata.tags == ["parameters"]
    assert "bootstrap" not in [cell.id for cell in book.read("01_one").cells]
    pip = yaml.safe_load(written[1].read_text())["dependencies"][-1]["pip"]
    assert pip == ["mnist1d", SOURCE.wanted]
    (tmp_path / "tree" / "book" / "old.ipynb").write_text("{}")
    launch.write(tmp_path / "tree", SOURCE)
    assert not (tmp_path / "tree" / "book" / "old.ipynb").exists()


def test_a_folder_with_other_things_is_left_alone(book, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not empty"):
        launch.write(tmp_path / "mine", SOURCE)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def asked_of_pip(versions):
    """What the installing cell asks of pip, in a Python where the package is absent and these versions are there."""
    fake = f"""
import importlib.metadata, importlib.util, json, subprocess
calls, versions = [], {versions}
def version(name):
    if name not in versions:
        raise importlib.metadata.PackageNotFoundError(name)
    return versions[name]
importlib.metadata.version = version
importlib.metadata.requires = lambda name: [
    "torch>=2.5", "numpy>=2.0", "scipy>=1.14", "mnist1d>=0.0.2", "ipython>=8.20", "papermill>=2.6",
    "pytest>=8; extra == 'dev'"
]
importlib.util.find_spec = lambda name: None
subprocess.run = lambda command, check: calls.append(command[4:])
exec({SOURCE.bootstrap!r})
print(json.dumps(calls))
"""
    done = subprocess.run([sys.executable, "-c", fake], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_installing_cell_asks_only_for_what_is_missing_and_leaves_torch_and_the_kernel_as_they_are():
    there = {"torch": "2.13.0+cpu", "numpy": "2.1", "scipy": "1.0", "ipython": "7.34.0"}
    first, second = asked_of_pip(there)
    assert first == ["--quiet", "--no-warn-conflicts", "--no-deps", SOURCE.wanted]
    assert second == [
        "--quiet",
        "--no-warn-conflicts",
        "scipy>=1.14",
        "mnist1d>=0.0.2",
        "torch==2.13.0",
        "ipython==7.34.0",
    ]
    nothing_missing = {"torch": "2.4", "numpy": "2.1", "scipy": "1.14", "mnist1d": "0.0.2", "ipython": "7.34.0"}
    assert len(asked_of_pip(nothing_missing)) == 1


def test_where_there_is_no_torch_one_is_installed():
    assert "torch>=2.5" in asked_of_pip({"numpy": "2.1"})[1]


def test_chapters_need_nothing_of_what_only_builds_the_book():
    """All their imports, in a Python where importing such a package fails."""
    modules = {name.replace("-", "_") for name in launch._UNUSED}
    lines = set()
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            nodes = ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ()
            lines |= {ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)}
    assert len(lines) > 50
    code = f"""
import sys
from pathlib import Path
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ImportError(f"{{name}} only builds the book")
sys.meta_path.insert(0, Barred())
"""
    subprocess.run([sys.executable, "-c", code + "\n".join(sorted(lines))], check=True)
    barred = subprocess.run([sys.executable, "-c", code + "import papermill"], capture_output=True, text=True)
    assert "papermill only builds the book" in barred.stderr


def test_where_the_package_is_there_nothing_is_installed():
    quiet = f"import subprocess; subprocess.run = None; exec({SOURCE.bootstrap!r})"
    subprocess.run([sys.executable, "-c", quiet], check=True)


COLAB = f"{launch.COLAB}/github/someone/book/blob/launch/book/01_one.ipynb"
BINDER = f"{launch.BINDER}/v2/gh/someone/book/launch?urlpath=lab/tree/book%2F01_one.ipynb"
EDIT = f"{SOURCE.url}/edit/v1.0/book/01_one.ipynb"
INTRO = f"{SOURCE.url}/edit/v1.0/book/intro.md"


def links_of(book, tmp_path, *links):
    site = tmp_path / "site" / "book"
    site.mkdir(parents=True)
    (site / "intro.html").write_text(f'<a href="{INTRO}">')
    (site / "01_one.html").write_text("".join(f'<a href="{link}">' for link in links))
    launch.write(tmp_path / "tree", SOURCE)
    return launch.broken_links(tmp_path / "site", tmp_path / "tree", SOURCE)


def test_links_to_what_is_there_are_sound(book, tmp_path):
    assert links_of(book, tmp_path, COLAB, BINDER, EDIT) == []


@pytest.mark.parametrize(
    "broken",
    [
        COLAB.replace("01_one", "1_one"),
        COLAB.replace("launch", "main"),
        COLAB.replace("someone", "else"),
        BINDER.replace("01_one", "02_two"),
        BINDER.replace("/launch?", "/main?"),
        EDIT.replace("book/01_one", "01_one"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(book, tmp_path, broken):
    found = links_of(book, tmp_path, COLAB, BINDER, EDIT, broken)
    assert len(found) == 1 and found[0].startswith("01_one.html: ")


def test_a_chapter_without_buttons_is_named(book, tmp_path):
    assert links_of(book, tmp_path, EDIT) == ["01_one.html: 0 launch and 1 edit links"]


def test_the_command_writes_the_branch_and_says_what_to_do_with_it(book, tmp_path):
    done = CliRunner().invoke(app, ["launch", str(tmp_path / "t"), "--repository", SOURCE.repository])
    assert done.exit_code == 0 and "push them as the branch launch" in done.output
    assert CliRunner().invoke(app, ["launch", str(tmp_path / "u")]).exit_code == 2


@pytest.mark.slow
@pytest.mark.parallel
def test_a_launched_chapter_runs_from_its_first_cell_to_its_last_in_a_folder_of_its_own(tmp_path, monkeypatch):
    """As on Colab: a copy alone in a folder, a fresh kernel, another home; only the results have their place."""
    home, folder = tmp_path / "home", tmp_path / "content"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    launch.write(tmp_path / "tree", SOURCE)
    for name in ("LOP_BOOK", "LOP_DATA", "MPLBACKEND", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "results"))
    notebook = nbformat.read(tmp_path / "tree" / "book" / "intro.ipynb", as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert (tmp_path / "results").is_dir() and not list(folder.iterdir())
    assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for cell in code for o in cell.outputs)
