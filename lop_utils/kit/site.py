"""From executed chapters to the site: stage a copy of the book, build it with Jupyter Book, put it in place at once."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import nbformat
import yaml

from lop_utils import profiles
from lop_utils.errors import UsageError
from lop_utils.kit import icons, launch, ledger_files, maths, social, stamps
from lop_utils.kit.launch import Source
from lop_utils.kit.pages import Page, check_stripped, pages, read, root

CONFIG = "_config.yml"
_BUILD = "from jupyter_book.cli.main import main; main()"
_PROBLEM = re.compile(r"\b(WARNING|ERROR|CRITICAL|Exception|Error)\b")
_FAREWELL = re.compile(
    r"$|=+$|Finished generating|Your book's HTML|You can look|Or paste|The HTML pages|.*_build/stage/_build/html"
)
_WIDGET = "application/vnd.jupyter.widget-view+json"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(Exception):
    """The site could not be built; the arguments are the problems, a line each."""


def build(profile: str, *, say: Callable[[str], None], source: Source | None = None) -> Path:
    """Build the site from the chapters executed under `profile`; the path of its first page.

    With a `source` its pages have buttons for Colab, Binder, issues and edits, see `kit.launch`. An earlier site stays
    as it is until the new one is complete. `say` is given each line of progress. Raises `UsageError` for a chapter that
    is not executed or has outputs, `BuildError` if there is any warning, a button leads nowhere or an icon is lacking.
    """
    profiles.check(profile)
    check_jupyter_book()
    home, found = root(), pages()
    stage = stage_book(profile, say=say, source=source)
    say(f"building {len(found)} pages in {stage}")
    problems = _run([sys.executable, "-c", _BUILD, "build", str(stage), "-W", "-n", "--keep-going"], say)
    html = stage / "_build" / "html"
    missing = [f"{page.document}.html was not built" for page in found if not (html / f"{page.document}.html").exists()]
    if not (html / "index.html").exists():
        missing.append("index.html was not built")
    if problems or missing:
        raise BuildError(*problems, *missing)
    _finish(html, first=found[0].document, source=source)
    _swap(html, home / "_site")
    return home / "_site" / "index.html"


def _finish(html: Path, *, first: str, source: Source | None) -> None:
    """What Jupyter Book leaves undone: links to the source, light pages, words for those who link to a page."""
    if source is not None and (broken := _wire(html, source)):
        raise BuildError(*(f"broken link: {link}" for link in broken))
    if lacking := icons.trim(html):
        raise BuildError(*lacking)
    maths.leave_out(html)
    name = yaml.safe_load((root() / CONFIG).read_text(encoding="utf-8")).get("title", "")
    social.describe(html, name=name, first=first, address=source.pages if source else None)


def check_jupyter_book() -> None:
    """Raise `UsageError` unless Jupyter Book 1 is installed: version 2 is another program and builds nothing here."""
    remedy = "run: pip install 'jupyter-book<2'"
    try:
        version = metadata.version("jupyter-book")
    except metadata.PackageNotFoundError:
        raise UsageError("jupyter-book is not installed", remedy=remedy) from None
    if version.split(".")[0] != "1":
        raise UsageError(f"jupyter-book {version} cannot build this book, which needs version 1", remedy=remedy)


def _wire(html: Path, source: Source) -> list[str]:
    """Point the edit links to the source; the launch and edit links that would lead nowhere."""
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(launch.point_edits(text, source), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        launch.write(tree, source)
        return launch.broken_links(html, tree, source)


def stage_book(profile: str, *, say: Callable[[str], None], source: Source | None = None) -> Path:
    """A fresh copy of the book in `_build/stage`, executed chapters in place of their sources, execution off."""
    home = root()
    stage = home / "_build" / "stage"
    chapters = [page for page in pages() if page.is_chapter]
    contents = {page: staged(page, profile, say=say) for page in chapters}
    shutil.rmtree(stage, ignore_errors=True)  # a build over an old one hides warnings
    stage.mkdir(parents=True)
    (stage / CONFIG).write_text(_config(home, source, profile), encoding="utf-8")
    shutil.copy(home / "_toc.yml", stage)
    ignored = shutil.ignore_patterns("*.ipynb", ".*", "__pycache__")
    for folder in sorted({Path(page.document).parts[0] for page in pages() if len(Path(page.document).parts) > 1}):
        shutil.copytree(home / folder, stage / folder, ignore=ignored)
    for page in pages():
        target = stage / page.path.relative_to(home)
        if page in contents:
            nbformat.write(contents[page], target)
        elif not target.exists():  # a page beside the table of contents
            shutil.copy(page.path, target)
    return stage


def _config(home: Path, source: Source | None, profile: str) -> str:
    try:
        config = yaml.safe_load((home / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{home} has no {CONFIG}", remedy="restore it from git") from None
    config["execute"] = {**config.get("execute", {}), "execute_notebooks": "off"}
    sphinx = config.get("sphinx", {})
    if ledger_files.EXTENSION in sphinx.get("extra_extensions", []):
        sphinx["config"] = {**sphinx.get("config", {}), ledger_files.OPTION: profile}
    if source is not None:
        config = launch.with_buttons(config, source)
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False)


def staged(page: Page, profile: str, *, say: Callable[[str], None]) -> nbformat.NotebookNode:
    """A chapter's present text with the outputs of its last run; says so if they are no longer up to date.

    Raises `UsageError` if the chapter is not executed, or was with other code.
    """
    source = read(page.path)
    check_stripped(page, source)
    remedy = f"run: lop run --profile {profile}"
    if stamps.load(page, profile) is None:
        why = "its last run failed" if stamps.failed(page, profile).exists() else "it has not been run"
        raise UsageError(f"chapter {page.name} has no results at profile {profile}: {why}", remedy=remedy)
    result = stamps.merge(source, read(stamps.executed(page, profile)))
    if result is None:
        raise UsageError(f"chapter {page.name} has other code than its last run at profile {profile}", remedy=remedy)
    stale = stamps.why_stale(page, profile)
    if stale:
        say(f"note: the results of {page.name} are not up to date: {stale}; {remedy}")
    if not any(_shows_widget(cell) for cell in result.cells):
        result.metadata.pop("widgets", None)  # else the page would load the widget manager, a megabyte, for nothing
    for cell in result.cells:
        if cell.cell_type == "markdown":
            cell.source = timed(cell.source, page)
        if "injected-parameters" in cell.metadata.get("tags", []):  # for the run, not for the reader
            cell.metadata["tags"] = [*cell.metadata["tags"], "remove-cell"]
    return result


def timed(text: str, page: Page) -> str:
    """A cell's text with what its author says of the run time (from "**Run time**" to the paragraph's end) measured.

    Measured are the chapter's last runs at the profiles at which it has been run.
    """
    measured = {profile: stamps.load(page, profile) for profile in profiles.PROFILES}
    parts = [f"{profile} {_duration(stamp['seconds'])}" for profile, stamp in measured.items() if stamp]
    if not parts:
        return text
    sentence = f"**Run time**, as measured in the last run: {', '.join(parts)}."
    return re.sub(r"\*\*Run time\*\*.*?(?=\n\s*\n|\Z)", lambda _: sentence, text, count=1, flags=re.DOTALL)


def _duration(seconds: float) -> str:
    """
    >>> _duration(7.2), _duration(95), _duration(400)
    ('7 seconds', '1.6 minutes', '7 minutes')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 300 else f"{seconds / 60:.0f} minutes"


def _shows_widget(cell: nbformat.NotebookNode) -> bool:
    """Whether a widget of the cell reaches the page."""
    if {"remove-output", "remove-cell"} & set(cell.metadata.get("tags", [])):
        return False
    return any(_WIDGET in output.get("data", {}) for output in cell.get("outputs", []))


def _run(command: list[str], say: Callable[[str], None]) -> list[str]:
    """Run a build, passing on its lines; its warnings and errors if it did not succeed."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    problems, last = [], ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
    ) as process:
        try:
            for line in map(_plain, process.stdout):
                if not _FAREWELL.match(line):
                    say(line)
                last = line.strip() or last
                if _PROBLEM.search(line):
                    problems.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return []
    return list(dict.fromkeys(problems)) or [f"jupyter-book ended with code {process.returncode}: {last}"]


def _plain(line: str) -> str:
    return _COLOUR.sub("", line).rstrip()


def _swap(new: Path, site: Path) -> None:
    """Move `new` to `site` with renames only; an earlier one is put aside first and then removed."""
    aside = Path(tempfile.mkdtemp(prefix="._site.", dir=site.parent))
    try:
        if site.exists():
            os.replace(site, aside / "old")
        try:
            os.replace(new, site)
        except BaseException:
            if (aside / "old").exists() and not site.exists():
                os.replace(aside / "old", site)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
