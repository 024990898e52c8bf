"""What a built site would ask of other hosts: scripts, styles, images, fonts and frames that are not its own."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_OUTSIDE = re.compile(r"\s*(?:https?:|wss?:|ftp:)?//", re.IGNORECASE)
_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?\s*((?:https?:)?//[^"')\s;]+)""", re.IGNORECASE)
_SCRIPT = re.compile(r"""(?:\bimport\b|\bfrom\b|\brequire\b)\s*[(\[\s]*["']((?:https?:)?//[^"']+)""")
_SOURCES = {  # element -> attributes that the browser loads by itself
    "script": ("src",), "img": ("src", "srcset"), "source": ("src", "srcset"), "iframe": ("src",), "embed": ("src",),
    "video": ("src", "poster"), "audio": ("src",), "track": ("src",), "input": ("src",), "object": ("data",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"), "frame": ("src",),
}  # fmt: skip
_LOADING_LINKS = {
    "stylesheet", "icon", "shortcut", "apple-touch-icon", "mask-icon", "manifest", "preload", "prefetch",
    "modulepreload", "preconnect", "dns-prefetch",
}  # fmt: skip


class _Page(HTMLParser):
    """Collects what a page loads from other hosts, as `<element attribute=address>`."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("script", "style") else ""
        values = {name: value or "" for name, value in attrs}
        wanted = _SOURCES.get(tag, ())
        if tag == "link" and _LOADING_LINKS & set(values.get("rel", "").lower().split()):
            wanted = ("href",)
        for name in wanted:
            addresses = values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]
            self.found += [f"<{tag} {name}={a.strip()}>" for a in addresses if _OUTSIDE.match(a)]
        self.found += [f"<{tag} style={address}>" for address in _CSS.findall(values.get("style", ""))]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        pattern = {"style": _CSS, "script": _SCRIPT}.get(self._inside)
        if pattern:
            self.found += [f"<{self._inside}> {address}" for address in pattern.findall(data)]


def outside_in_html(text: str) -> list[str]:
    """What a page of HTML loads from other hosts; links that a reader follows are none of it.

    >>> outside_in_html('<a href="https://a.org">a</a><script src="https://b.org/c.js"></script>')
    ['<script src=https://b.org/c.js>']
    """
    page = _Page()
    page.feed(text)
    page.close()
    return page.found


def outside_requests(site: Path) -> Iterator[str]:
    """One line for each thing that a page or a style sheet of the site loads from another host."""
    for path in sorted(site.rglob("*.html")):
        for found in dict.fromkeys(outside_in_html(path.read_text(encoding="utf-8", errors="replace"))):
            yield f"{path.relative_to(site)} loads {found} from another host"
    for path in sorted(site.rglob("*.css")):
        for found in dict.fromkeys(_CSS.findall(path.read_text(encoding="utf-8", errors="replace"))):
            yield f"{path.relative_to(site)} loads {found} from another host"
