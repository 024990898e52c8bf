"""The book as one PDF: the site's pages put together into one, set by MathJax and printed by a headless Chromium."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from lop_utils.errors import UsageError
from lop_utils.evidence.files import write_atomically
from lop_utils.kit.pages import pages, root

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 900  # seconds for the browser
_LEFT_OUT = "a.headerlink, .lop-explorable, script, .toc-toggle, button, .prev-next-area"
_STYLE = """
@page { size: A4; margin: 16mm 15mm; }
html { font-size: 13px; }
body { padding: 0 !important; }
article { break-before: page; }
article:first-of-type { break-before: auto; }
figure, table tr, .admonition-title { break-inside: avoid; }
h1, h2, h3 { break-after: avoid; }
pre { white-space: pre-wrap; }
img { max-width: 100%; }
"""


def write(target: Path, site: Path | None = None) -> int:
    """Print the built site as a PDF to `target`; the number of pages of the site in it.

    Links between pages become links inside the document, hidden solutions are open, sliders give way to the static
    figures beside them. Raises `UsageError` without a site, without a browser, and if the browser makes no PDF.
    """
    site = site or root() / "_site"
    documents = [page.document for page in pages()]
    missing = [name for name in documents if not (site / f"{name}.html").is_file()]
    if missing:
        raise UsageError(f"the site lacks {missing[0]}.html", remedy="run: lop build")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UsageError("no Chromium was found to print with", remedy="install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page, printed = site / f"print-{os.getpid()}.html", Path(folder) / "book.pdf"
        try:
            page.write_text(one_page(site, documents), encoding="utf-8")
            _print(browser, page, printed, Path(folder))
        finally:
            page.unlink(missing_ok=True)
        write_atomically(target, printed.read_bytes())
    return len(documents)


def _print(browser: str, page: Path, target: Path, profile: Path) -> None:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={profile / 'profile'}", f"--print-to-pdf={target}", "--virtual-time-budget=600000"]
    command = [browser, *options, page.resolve().as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"the browser did not finish in {PATIENCE} s", remedy="try again on an idle machine") from None
    if not target.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"the browser made no PDF: {last}", remedy="see that it can run headless here")


def one_page(site: Path, documents: Sequence[str]) -> str:
    """All pages of the site as one HTML page at its root, with ids of their own and links that lead inside."""
    first = _soup(site, documents[0])
    head = first.head
    for script in head.find_all("script"):
        if "MathJax" not in script.text:
            script.decompose()
    for link in head.find_all("link"):
        if link.get("href"):
            link["href"] = _moved(link["href"], documents[0])
    style = first.new_tag("style")
    style.string = _STYLE
    head.append(style)
    articles = [str(_article(_soup(site, name), name, documents)) for name in documents]
    maths = [script["src"] for script in first.find_all("script", src=True) if "mathjax" in script["src"]]
    loaded = "".join(f'<script src="{_moved(src, documents[0])}"></script>' for src in maths)
    body = f"<body>{''.join(articles)}{loaded}</body>"
    return f'<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">{head}{body}</html>'


def _soup(site: Path, document: str) -> BeautifulSoup:
    return BeautifulSoup((site / f"{document}.html").read_text(encoding="utf-8"), "html.parser")


def _article(page: BeautifulSoup, document: str, documents: Sequence[str]) -> Tag:
    article = page.find("article", class_="bd-article") or page.find("article")
    for element in article.select(_LEFT_OUT):
        element.decompose()
    for element in article.find_all(id=True):
        element["id"] = _place(document, element["id"])
    article["id"] = _place(document)
    for details in article.find_all("details"):
        details["open"] = ""
    for hidden in article.select(".toggle-hidden"):
        hidden["class"] = [name for name in hidden["class"] if name != "toggle-hidden"]
    for link in article.find_all("a", href=True):
        link["href"] = _inside(link["href"], document, documents)
    for image in article.find_all("img", src=True):
        image["src"] = _moved(image["src"], document)
        image.attrs.pop("loading", None)  # all of it is printed
    return article


def _place(document: str, fragment: str = "") -> str:
    """The id of a place of a page in the document.

    >>> _place("book/intro"), _place("book/intro", "fig-a")
    ('book-intro', 'book-intro--fig-a')
    """
    name = document.replace("/", "-")
    return f"{name}--{fragment}" if fragment else name


def _moved(address: str, document: str) -> str:
    """An address relative to a page, relative to the site's root.

    >>> _moved("../_images/a.png", "book/intro"), _moved("https://x.org/a", "book/intro"), _moved("data:,", "a")
    ('_images/a.png', 'https://x.org/a', 'data:,')
    """
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return address
    path = os.path.normpath(os.path.join(os.path.dirname(document), unquote(parts.path)))
    return quote(path) + (f"#{parts.fragment}" if parts.fragment else "")


def _inside(address: str, document: str, documents: Sequence[str]) -> str:
    """Where a link leads in the document: pages of the book become places in it.

    >>> _inside("b.html#x", "book/a", ["book/a", "book/b"]), _inside("#y", "book/a", ["book/a"])
    ('#book-b--x', '#book-a--y')
    """
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return address
    target = urlsplit(_moved(address, document)).path.removesuffix(".html") if parts.path else document
    return f"#{_place(unquote(target), unquote(parts.fragment))}" if unquote(target) in documents else address
