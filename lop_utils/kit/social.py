"""What a link to a page shows where it is pasted: Open Graph tags with the page's own title, first paragraph, picture.

Source: the Open Graph protocol, https://ogp.me. Addresses and pictures must be absolute there, so they are written only
for a site that knows its own address, that is, one built with a repository, see `launch.Source.pages`.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from bs4 import BeautifulSoup, Tag

LENGTH = 200  # characters of a description
PICTURE = "_static/readme-cloning.png"  # of a page that has none
PICTURE_TEXT = "A network widened with copies of its units: without noise the copies stay copies"
_LEADS_ON = re.compile(r'http-equiv="Refresh"[^>]*\burl=([^"]+)"', re.IGNORECASE)
_CODE = re.compile(r"<pre>.*?</pre>", re.DOTALL)  # most of a page, slow to parse, and nothing to say here
_NO_TEXT = "script, style, noscript, nav, .headerlink, .genindex-jumpbox, .modindex-jumpbox, [class*=kbd]"
_NO_PARAGRAPH = ".cell p, figure p, table p, p.admonition-title"
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")  # what others show; not SVG


@dataclass(frozen=True)
class Card:
    """What a page says of itself; `picture` is a file of the site, from its root, with a text in its place."""

    title: str
    description: str
    picture: str = PICTURE
    picture_text: str = PICTURE_TEXT


def describe(site: Path, *, name: str, first: str, address: str | None = None) -> None:
    """Write the tags into the head of every page of a site called `name`, and into the file that leads to the `first`.

    `address` is the one that the site will be read at, with a slash at its end; without it no page gets `og:url` and
    `og:image`.
    """
    for page in sorted(site.rglob("*.html")):
        html = page.read_text(encoding="utf-8")
        path = page.relative_to(site).as_posix()
        leads = _LEADS_ON.search(html)
        if leads or "</head>" in html:
            of = page.parent / unquote(leads[1]) if leads else page
            card = read(of, site)
            kind = "website" if of == site / f"{first}.html" else "article"
            tags = "\n".join(_tags(card, name=name, kind=kind, path=path, address=address))
            html = f"{html.rstrip()}\n{tags}\n" if leads else html.replace("</head>", f"{tags}\n</head>", 1)
            page.write_text(html, encoding="utf-8")


def read(page: Path, site: Path) -> Card:
    """The card of one page: its heading, its first paragraph or else what it says at all, its first picture."""
    html = _CODE.sub("", page.read_text(encoding="utf-8"))
    soup = BeautifulSoup(html, "html.parser")
    article = soup.find("article") or (soup.find("h1") or soup).parent or soup
    picture = next(_pictures(article, page, site), (PICTURE, PICTURE_TEXT))
    for part in article.select(_NO_TEXT):
        part.decompose()
    heading = article.find("h1")
    title = _words(heading.extract()) if heading else _words(soup.title).partition(" \u2014 ")[0]
    aside = set(map(id, article.select(_NO_PARAGRAPH)))
    paragraphs = (_words(part) for part in article.find_all("p") if id(part) not in aside)
    rest = " ".join(article.get_text(" ").split())
    text = next((words for words in paragraphs if words), "") or rest or _prompt(soup) or title
    return Card(title, textwrap.shorten(text, LENGTH, placeholder=" \u2026"), *picture)


def _words(part: Tag) -> str:
    """The text of a part in one line, without the marks of maths.

    >>> _words(BeautifulSoup(r'<p>The rank  of <span class="math">\\\\(H_{1}\\\\)</span>.</p>', "html.parser"))
    'The rank of H_1.'
    """
    for formula in part.select(".math"):
        text = re.sub(r"\\(?:mathrm|mathbf|mathcal|text|operatorname|boldsymbol)\b|\\[()\[\]]|[{}$]", "", formula.text)
        formula.string = text.replace("\\", "")
    return " ".join(part.text.split())


def _prompt(soup: BeautifulSoup) -> str:
    """What the page's field asks for, of a page that is a field and no text."""
    field = soup.find("input", placeholder=True)
    return field["placeholder"].strip(" .\u2026") if field else ""


def _pictures(article: Tag, page: Path, site: Path) -> Iterator[tuple[str, str]]:
    """(path from the root of the site, text) of the book's own pictures in an article, not those of the theme."""
    home = site.resolve()
    for image in article.find_all("img", src=True):
        parts = urlsplit(image["src"])
        file = (page.parent / unquote(parts.path)).resolve()
        own = not parts.scheme and file.is_relative_to(home / "_images") and file.is_file()
        if own and file.suffix in _PICTURES:
            yield file.relative_to(home).as_posix(), image.get("alt") or ""


def _tags(card: Card, *, name: str, kind: str, path: str, address: str | None) -> Iterator[str]:
    values = {"title": card.title, "description": card.description, "type": kind, "site_name": name}
    if address:
        values |= {"url": address + quote("" if path == "index.html" else path)}
        values |= {"image": address + quote(card.picture), "image:alt": card.picture_text}
    yield f'<meta name="description" content="{escape(card.description)}" />'
    for key, value in values.items():
        yield f'<meta property="og:{key}" content="{escape(value)}" />'
