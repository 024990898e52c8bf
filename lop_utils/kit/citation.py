"""How to cite: BibTeX entries for the book and for the paper it reproduces, from the book's CITATION.cff."""

from collections.abc import Mapping
from html import escape
from typing import Any

import yaml

from lop_utils.errors import UsageError
from lop_utils.evidence.paths import book_root
from lop_utils.evidence.render import Html

FILE = "CITATION.cff"


def citation() -> Html:
    """Two BibTeX entries, ready to be copied; outside a book the file's name, where they come from.

    Raises `UsageError` for a file that lacks a title, authors or a reference.
    """
    home = book_root()
    if home is None or not (home / FILE).is_file():
        return Html(f"<p>See <code>{FILE}</code> in the book's repository.</p>", f"see {FILE}")
    text = bibtex(yaml.safe_load((home / FILE).read_text(encoding="utf-8")))
    return Html(f'<pre class="lop-citation" tabindex="0"><code>{escape(text)}</code></pre>', text)


def bibtex(content: Mapping[str, Any]) -> str:
    """The entries of a CITATION.cff: the work itself, then each of its references.

    >>> person = {"family-names": "Noether", "given-names": "Emmy"}
    >>> print(bibtex({"title": "A Book", "version": "1.0", "authors": [person], "references": []}))
    @software{noether,
      author = {Noether, Emmy},
      title = {{A Book}},
      version = {1.0}
    }
    """
    works = [content, *content.get("references", ())]
    return "\n\n".join(_entry(work, "software" if work is content else work.get("type", "misc")) for work in works)


def _entry(work: Mapping[str, Any], kind: str) -> str:
    if not work.get("title") or not work.get("authors"):
        raise UsageError(f"an entry of {FILE} has no title or no authors", remedy="give it both")
    people = [_name(person) for person in work["authors"]]
    fields = {"author": " and ".join(people), "title": f"{{{work['title']}}}"}
    fields |= {key: str(work[key]) for key in ("year", "version", "url") if key in work}
    first = work["authors"][0]
    named = first.get("family-names") or work["title"].removeprefix("The ")
    key = f"{named.split()[0].lower()}{work.get('year', '')}"
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def _name(person: Mapping[str, str]) -> str:
    if "family-names" in person:
        return f"{person['family-names']}, {person['given-names']}"
    return f"{{{person['name']}}}"
