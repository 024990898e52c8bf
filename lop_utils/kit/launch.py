"""Colab and Binder: copies of the chapters that install the package where they are opened, and the buttons to them.

A notebook that is opened on its own, on Colab say, finds no `lop_utils`. So each launchable copy begins with a cell
that installs the package of one version from its repository, and of its dependencies what is missing and what a chapter
uses when it runs; the torch and the Jupyter that are there stay, for they fit the machine and the kernel at work. The
copies go to a branch of their own, `BRANCH`, which `lop launch` writes and
the buttons of a site built with `lop build --repository` point to.
"""

import re
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import nbformat
import yaml

from lop_utils.errors import UsageError
from lop_utils.kit.pages import check_stripped, pages, read, root

BRANCH = "launch"
COLAB, BINDER = "https://colab.research.google.com", "https://mybinder.org"
_ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
_REF = re.compile(r"[\w./-]+")
_KEPT = ("torch", "ipykernel", "ipython", "ipywidgets", "matplotlib-inline")  # fit the machine, or run the notebook
_UNUSED = ("jupyter-book", "jupyterlab", "nbclient", "nbstripout", "papermill", "sphinx-exercise", "sphinx-proof")
_BOOTSTRAP = """\
# Where the book's package is missing (on Colab), install it. What runs this notebook, and torch, stay as they are.
import importlib.metadata
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("lop_utils") is None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    subprocess.run([*pip, "--no-deps", "{wanted}"], check=True)
    importlib.invalidate_caches()
    from packaging.requirements import Requirement

    missing, kept = [], []
    for line in importlib.metadata.requires("lop-book"):
        need = Requirement(line)
        if need.name in {unused} or (
            need.marker and not need.marker.evaluate({{"extra": ""}})
        ):
            continue  # only for building the book
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if version and need.name in {kept}:
            kept.append(f"{{need.name}}=={{version.split('+')[0]}}")  # pip may not choose another
        elif not version or not need.specifier.contains(version, prereleases=True):
            missing.append(f"{{need.name}}{{need.specifier}}")
    if missing:
        subprocess.run([*pip, *missing, *kept], check=True)
        importlib.invalidate_caches()
"""


@dataclass(frozen=True)
class Source:
    """A repository on GitHub and the version (tag, branch or commit) of it that is installed and edited.

    >>> Source("https://github.com/someone/book", "v1.0").wanted
    'lop-book @ git+https://github.com/someone/book@v1.0'
    """

    repository: str
    ref: str = "main"

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.repository):
            remedy = "give an address like https://github.com/OWNER/NAME"
            raise UsageError(f"repository {self.repository!r} is not one on GitHub", remedy=remedy)
        if not _REF.fullmatch(self.ref):
            raise UsageError(f"version {self.ref!r} is no name of a tag or branch", remedy="give one like v1.0 or main")

    @property
    def name(self) -> str:
        """OWNER/NAME."""
        return "/".join(_ADDRESS.fullmatch(self.repository).groups())

    @property
    def url(self) -> str:
        """The address without what may follow the name."""
        return f"https://github.com/{self.name}"

    @property
    def pages(self) -> str:
        """Where GitHub Pages shows the site of the repository.

        >>> Source("https://github.com/Someone/book").pages, Source("https://github.com/a/a.github.io").pages
        ('https://someone.github.io/book/', 'https://a.github.io/')
        """
        owner, name = self.name.split("/")
        host = f"{owner.lower()}.github.io"
        return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"

    @property
    def wanted(self) -> str:
        """The package as pip wants to have it named."""
        return f"lop-book @ git+{self.url}@{self.ref}"

    @property
    def bootstrap(self) -> str:
        """The code of the first cell of a launchable chapter."""
        return _BOOTSTRAP.format(wanted=self.wanted, kept=_KEPT, unused=_UNUSED)


def launchable(notebook: nbformat.NotebookNode, source: Source) -> nbformat.NotebookNode:
    """A copy of a chapter with the installing cell before its first code cell."""
    copy = deepcopy(notebook)
    cell = nbformat.v4.new_code_cell(source.bootstrap, id="bootstrap", metadata={"tags": ["remove-cell"]})
    first = next((i for i, c in enumerate(copy.cells) if c.cell_type == "code"), len(copy.cells))
    copy.cells.insert(first, cell)
    return copy


def write(folder: Path, source: Source) -> list[Path]:
    """Write the whole `BRANCH` into an empty or new folder: chapters that install themselves, and Binder's environment.

    Raises `UsageError` if the folder holds anything but an earlier such tree, or a chapter has outputs.
    """
    home, marker = root(), folder / "environment.yml"
    if folder.exists() and any(p.name != ".git" for p in folder.iterdir()) and not marker.exists():
        raise UsageError(f"{folder} is not empty", remedy="give an empty folder, or one that an earlier call wrote")
    for old in folder.glob("*") if folder.exists() else ():
        if old.name != ".git":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    written = []
    for page in pages():
        if page.is_chapter:
            notebook = read(page.path)
            check_stripped(page, notebook)
            target = folder / page.path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(launchable(notebook, source), target)
            written.append(target)
    marker.write_text(_binder(home, source), encoding="utf-8")
    return [*written, marker]


def _binder(home: Path, source: Source) -> str:
    """environment.yml with the package from its repository in place of the folder that it lies in."""
    environment = yaml.safe_load((home / "environment.yml").read_text(encoding="utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, Mapping))
    pip[pip.index("-e .")] = source.wanted
    return yaml.safe_dump(environment, allow_unicode=True, sort_keys=False)


def with_buttons(config: dict, source: Source) -> dict:
    """The book's configuration with buttons for the repository, issues, edits, Colab and Binder.

    They are options of the theme; those under Jupyter Book's own keys are lost where Sphinx's are set as well.
    """
    copy = deepcopy(config)
    theme = copy.setdefault("sphinx", {}).setdefault("config", {}).setdefault("html_theme_options", {})
    theme |= {
        "repository_url": source.url,
        "repository_branch": BRANCH,
        "path_to_docs": "",
        "use_repository_button": True,
        "use_issues_button": True,
        "use_edit_page_button": True,
        "launch_buttons": {"notebook_interface": "jupyterlab", "binderhub_url": BINDER, "colab_url": COLAB},
    }
    return copy


def point_edits(page: str, source: Source) -> str:
    """The HTML of a page with edit links that lead to the source, not to the launchable copies."""
    return page.replace(f"{source.url}/edit/{BRANCH}/", f"{source.url}/edit/{source.ref}/")


def broken_links(site: Path, launch: Path, source: Source) -> list[str]:
    """Launch and edit links of the pages of `site` whose file is neither in the tree `launch` nor in the book.

    One line a link; also a line for a chapter without launch buttons, and for a link to another repository.
    """
    problems, home = [], root()
    for page in pages():
        html = site / f"{page.document}.html"
        links = [unescape(link) for link in re.findall(r'href="([^"]+)"', html.read_text(encoding="utf-8"))]
        launches = [link for link in links if link.startswith((COLAB, BINDER))]
        edits = [link for link in links if link.startswith(f"{source.url}/edit/")]
        wanted = 2 if page.is_chapter else 0
        written = page.path.suffix in (".md", ".ipynb")  # Sphinx makes the index itself: nothing to edit there
        if len(launches) < wanted or (written and not edits):
            problems.append(f"{html.name}: {len(launches)} launch and {len(edits)} edit links")
        problems += [f"{html.name}: {link}" for link in launches if not _opens(link, launch, source)]
        paths = [link.removeprefix(f"{source.url}/edit/{source.ref}/") for link in edits]
        problems += [f"{html.name}: {path}" for path in paths if not (home / path).is_file()]
    return problems


def _opens(link: str, launch: Path, source: Source) -> bool:
    """Whether a launch link names this repository, the branch, and a notebook that is in the tree."""
    parts = urlsplit(link)
    if link.startswith(COLAB):
        start = f"/github/{source.name}/blob/{BRANCH}/"
        path = unquote(parts.path).removeprefix(start) if parts.path.startswith(start) else ""
    else:
        query = parse_qs(parts.query).get("urlpath", [""])[0]
        path = re.sub(r"^(lab/tree|tree|notebooks)/", "", query.split("?")[0])
        path = path if parts.path.rstrip("/") == f"/v2/gh/{source.name}/{BRANCH}" else ""
    return path.endswith(".ipynb") and (launch / path).is_file()
