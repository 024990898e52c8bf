"""What can be counted of the built pages without a browser: weight, requests, images' texts, headings, formulas."""

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urlsplit

from lop_utils.kit.offline import outside_in_html

_AS_TEXT = (".html", ".css", ".js", ".svg", ".json")  # what web servers compress
_IN_CSS = re.compile(r"""(?:url\(|@import\s)\s*["']?([^"')\s;]+)""")
_LATER_CHOICE = (".ttf", ".woff", ".eot")  # fonts of which the style sheet names a smaller form first
_FOR_PRINT = re.compile(r'<div id="jb-print-docs-body".*?(?=<article|</body)', re.DOTALL)  # the title again, hidden


class Parsed(HTMLParser):
    """Ids, links, files, headings, images and formulas of a page, as they stand in its HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.files: list[str] = []
        self.headings: list[int] = []
        self.language = ""
        self.unnamed: list[str] = []  # images without a text
        self.formulas = 0
        self.feed(_FOR_PRINT.sub("", html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.formulas += "math" in given.get("class", "").split()
        if tag == "html":
            self.language = given.get("lang", "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img") and given.get("src"):
            self.files.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload") and given.get("href"):
            self.files.append(given["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not given.get("alt") and given.get("role") != "presentation":
            self.unnamed.append(given.get("src", ""))

    @property
    def jumps(self) -> list[tuple[int, int]]:
        """Ranks of neighbouring headings of which the second is more than one below the first."""
        return [(a, b) for a, b in zip(self.headings, self.headings[1:], strict=False) if b > a + 1]


@dataclass(frozen=True)
class Facts:
    """One page: its name, its weight in bytes, and how many of each there are; all but formulas should be 0."""

    page: str
    weight: int
    outside: int  # requests to other hosts
    unnamed: int  # images without a text
    headings: int  # that are out of order, or missing or second ones of the first rank
    formulas: int


def parsed(page: Path) -> Parsed:
    """A page of the site, read."""
    return Parsed(page.read_text(encoding="utf-8"))


def files(page: Path) -> set[Path]:
    """The page and every file of the site that it asks for, those that its style sheets ask for among them."""
    found, open_ = set(), {page.resolve(), *_local(page, parsed(page).files)}
    while open_:
        path = open_.pop()
        found.add(path)
        if path.suffix == ".css":
            open_ |= _asked(path, path.stat().st_mtime_ns) - found
    return found


@cache
def _asked(sheet: Path, _changed: int) -> frozenset[Path]:
    named = _IN_CSS.findall(sheet.read_text(encoding="utf-8"))
    return frozenset(path for path in _local(sheet, named) if path.suffix not in _LATER_CHOICE)


def _local(origin: Path, addresses: Sequence[str]) -> Iterator[Path]:
    for address in addresses:
        parts = urlsplit(address)
        path = (origin.parent / unquote(parts.path)).resolve()
        if not parts.scheme and not parts.netloc and parts.path and path.is_file():
            yield path


def weight(page: Path) -> int:
    """Bytes that a first visit to a page may load at most: its `files`, text compressed as web servers do.

    An upper bound: a font that the page names but does not use is counted. What scripts load is not.
    """
    return sum(sent(path) for path in files(page))


def sent(path: Path) -> int:
    """Bytes of a file as a web server sends it."""
    return _sent(path, path.stat().st_mtime_ns)


@cache
def _sent(path: Path, _changed: int) -> int:
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in _AS_TEXT else len(data)


def survey(site: Path) -> list[Facts]:
    """The facts of every page of a site, by name; pages that only lead on to another are none."""
    found = []
    for page in sorted(site.rglob("*.html")):
        html = page.read_text(encoding="utf-8")
        if "_static" in page.parts or 'http-equiv="Refresh"' in html:
            continue
        seen, name = Parsed(html), page.relative_to(site).as_posix()
        order = len(seen.jumps) + (seen.headings.count(1) != 1)
        outside = len(outside_in_html(html))
        found.append(Facts(name, weight(page), outside, len(seen.unnamed), order, seen.formulas))
    return found


def rows(facts: Sequence[Facts]) -> list[tuple[str, ...]]:
    """The cells of a table: a row for each page, its weight in MB, then the median, the most and the sums.

    >>> _, b, middle, last = rows([Facts("a.html", 1_200_000, 0, 0, 0, 7), Facts("b.html", 800_000, 0, 1, 0, 2)])
    >>> b, last
    (('b.html', '0.80', '0', '1', '0', '2'), ('most; sums', '1.20', '0', '1', '0', '9'))
    >>> middle
    ('median', '1.00', '', '', '', '')
    """
    if not facts:
        return []
    cells = [(f.page, f"{f.weight / 1e6:.2f}", *map(str, _counts(f))) for f in facts]
    weights = [f.weight / 1e6 for f in facts]
    sums = map(sum, zip(*map(_counts, facts), strict=True))
    middle = ("median", f"{median(weights):.2f}", "", "", "", "")
    return [*cells, middle, ("most; sums", f"{max(weights):.2f}", *map(str, sums))]


def _counts(facts: Facts) -> tuple[int, ...]:
    return facts.outside, facts.unnamed, facts.headings, facts.formulas
