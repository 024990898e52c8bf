"""axe-core over a page, anchors that exist, and what a page weighs."""

import gzip
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from browser_tools import Browser

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
# what the theme and the notebook layer write themselves and no page of ours can change, each with its reason
THEIRS = {
    ".theme-switch-button": "names itself anew at every switch; what axe takes for its text are the names of icons",
}
_STILL = """
const style = document.createElement('style');
style.textContent = '* { transition: none !important; animation: none !important; }';
document.head.append(style);
"""
_RUN = """
const done = arguments[arguments.length - 1];
axe.run({exclude: arguments[0].map(css => [css])}, {resultTypes: ['violations']}).then(
  found => done(found.violations.map(v => ({
    id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.target.join(' ') + ' | ' + n.html.slice(0, 160))
  }))), reason => done([{id: 'axe', impact: 'critical', help: String(reason), nodes: []}]));
"""


def violations(browser: Browser, *, impacts: Iterable[str] = ("serious", "critical")) -> list[str]:
    """What axe-core objects to on the page that is open, at these impacts; a line for each rule and element."""
    browser.driver.execute_script(_STILL + AXE.read_text(encoding="utf-8"))  # colours on their way are no colours
    found = browser.driver.execute_async_script(_RUN, list(THEIRS))
    return [f"{v['id']} ({v['help']}): {node}" for v in found if v["impact"] in impacts for node in v["nodes"] or [""]]


class _Page(HTMLParser):
    """Ids, links, resources and headings of a page, as they stand in its file."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.headings: list[int] = []
        self.language = ""
        self.unnamed: list[str] = []  # images without a text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "html":
            self.language = given.get("lang") or ""
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img") and given.get("src"):
            self.resources.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon") and given.get("href"):
            self.resources.append(given["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" and not given.get("alt") and given.get("role") != "presentation":
            self.unnamed.append(given.get("src") or "")


def parsed(page: Path) -> _Page:
    """A page without the title that the theme repeats for print, hidden on screen."""
    text = page.read_text(encoding="utf-8")
    return _Page(re.sub(r'<div id="jb-print-docs-body".*?(?=<article|</body)', "", text, flags=re.DOTALL))


def dead_anchors(page: Path, ids: dict[Path, set[str]]) -> list[str]:
    """Links of a page to places that do not exist, on it or on another page of the site; `ids` is filled on the way."""
    problems = []
    for link in parsed(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or not parts.fragment:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
        if target.suffix != ".html":
            continue
        if target not in ids:
            ids[target] = parsed(target).ids if target.exists() else set()
        if unquote(parts.fragment) not in ids[target]:
            problems.append(f"no such place: {link}")
    return sorted(set(problems))


def structure(page: Path) -> list[str]:
    """What is wrong with headings, language and images' texts."""
    found = parsed(page)
    problems = [] if found.language else ["the page names no language"]
    if found.headings.count(1) != 1:
        problems.append(f"{found.headings.count(1)} headings of the first rank")
    jumps = [(a, b) for a, b in zip(found.headings, found.headings[1:], strict=False) if b > a + 1]
    problems += [f"a heading of rank {b} follows one of rank {a}" for a, b in jumps]
    return problems + [f"image without a text: {src[:80]}" for src in found.unnamed]


def weight(page: Path) -> int:
    """Bytes of a page with all that its file asks for, text compressed as web servers do."""
    local = {(page.parent / unquote(urlsplit(src).path)).resolve() for src in parsed(page).resources if ":" not in src}
    return sum(_sent(path) for path in [page, *sorted(local)] if path.is_file())


def _sent(path: Path) -> int:
    data = path.read_bytes()
    return len(gzip.compress(data, 6)) if path.suffix in (".html", ".css", ".js", ".svg", ".json") else len(data)
