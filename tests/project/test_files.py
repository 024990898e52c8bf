"""What stands in the project's files: nothing of one machine, vendored files as published, commands that exist."""

import hashlib
import re
import tomllib

import pytest
import yaml
from project_files import ROOT, make_targets, project, tracked

from lop_utils.kit.pages import pages

VENDOR = ROOT / "book/_static/vendor"
# written with spaces, so that this file does not contain what it looks for
PLACES = ["/ work /", "../ shared", "/ root /", "/ home /", "/ opt /wheels", "/ opt /pypi", "/ Users /", "C: / Users"]
HOSTS = [
    "pypi .org",
    "files .pythonhosted",
    "download .pytorch",
    "registry .npmjs",
    "anaconda .org",
    "deb .debian",
]
FOREIGN = [words.replace(" ", "") for words in PLACES + HOSTS]


def manifest() -> dict[str, str]:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def test_vendored_files_are_exactly_those_of_the_manifest():
    present = {p.relative_to(VENDOR).as_posix() for p in VENDOR.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert present == set(manifest())
    for name, digest in manifest().items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_every_vendored_package_has_its_licence():
    for folder in (path for path in VENDOR.iterdir() if path.is_dir()):
        assert (folder / "LICENSE").stat().st_size > 500, folder.name


@pytest.mark.parametrize("words", FOREIGN)
def test_no_file_names_a_place_on_one_machine_or_a_package_registry(words):
    texts = ((path, path.read_bytes()) for path in tracked())
    assert [str(path.relative_to(ROOT)) for path, text in texts if words.encode() in text] == []


def test_nothing_that_the_book_loads_comes_from_another_host():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    local = [
        config["mathjax_path"],
        *config["nb_ipywidgets_js"],
        *config["html_css_files"],
        config["html_js_files"][0][0],
    ]
    for name in local:
        assert (ROOT / "book/_static" / name).is_file(), name


def test_every_page_of_the_table_of_contents_exists(monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    found = pages()  # raises for one that does not exist
    assert found[0].document == "book/intro" and len({page.document for page in found}) == len(found) > 12


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "book/how_to_run.md"])
def test_make_commands_in_the_documents_are_targets(name):
    used = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(code(name))))
    assert used <= make_targets(), used - make_targets()
    assert used


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "book/how_to_run.md"])
def test_lop_commands_and_files_in_the_documents_exist(name):
    from lop_utils.kit import cli

    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    text = "\n".join(code(name))
    assert set(re.findall(r"^lop ([a-z]+)", text, flags=re.MULTILINE)) <= known
    for path in set(re.findall(r"\bbook/[\w/]+\.ipynb", text)) - {"book/NN_name.ipynb"}:
        assert (ROOT / path).is_file(), path


def test_the_python_of_the_readme_runs(capsys):
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})
    assert "tensor(" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_between_the_documents_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def code(name: str) -> list[str]:
    """The lines of a document's fenced code blocks, and its inline code."""
    text = (ROOT / name).read_text()
    fenced = [
        line.strip() for block in re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    return fenced + re.findall(r"`([^`\n]+)`", text)


def test_the_citation_file_parses_and_agrees_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"] == "MIT"
    assert any("2510.00304" in str(entry) for entry in citation["references"])


def test_the_workflows_and_the_hooks_parse():
    for path in [*(ROOT / ".github/workflows").glob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "_config.yml"]:
        assert yaml.safe_load(path.read_text()), path
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_browser_and_slow_tests_are_left_out_by_default():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "not slow and not gpu" in options["addopts"]


def test_every_slow_test_is_run_by_one_of_the_two_commands():
    """The first runs those marked parallel, the second all others."""
    recipe = re.search(r"^test-slow:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1]
    selections = re.findall(r"-m '([^']+)'(.*)", recipe)
    assert [selection for selection, _ in selections] == [
        "slow and parallel and not gpu",
        "slow and not parallel and not gpu",
    ]
    assert not any("tests/" in rest for _, rest in selections)
    parallel, slow, both = "@pytest.mark.parallel", "@pytest.mark.slow", "[pytest.mark.slow, pytest.mark.parallel"
    texts = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.name != "test_files.py"}
    marked = [path for path, text in texts.items() if "mark.parallel" in text]
    assert marked
    for path in marked:
        decorated = texts[path].count(f"{slow}\n{parallel}")
        assert decorated + texts[path].count(both) == texts[path].count("mark.parallel"), path
