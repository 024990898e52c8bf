"""The front page, the glossary, the reference pages and the index: complete, in order, and without dead ends."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml

from lop_utils.evidence import claims, render
from lop_utils.evidence.paths import MARKER
from lop_utils.kit import front
from lop_utils.kit.citation import bibtex, citation

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
GLOSSARY = (BOOK / "glossary.md").read_text(encoding="utf-8")


def text_of(path, kinds=("markdown", "code")):
    """A page's source; of a notebook the cells of some kinds."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type in kinds)


def toc_files(node):
    """All documents below a node of the table of contents, in order."""
    if isinstance(node, dict):
        return [node[key] for key in ("root", "file") if key in node] + toc_files(list(node.values()))
    return [name for child in node for name in toc_files(child)] if isinstance(node, list) else []


TOC = toc_files(yaml.safe_load((ROOT / MARKER).read_text(encoding="utf-8")))
CHAPTERS = [Path(name).name for name in TOC if re.match(r"book/\d", name)]


class Rows(HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self, html):
        super().__init__()
        self.rows = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """The book's claims with three records at the laptop profile."""
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path))
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    claims.record("clone-sgd-confined", {"r2_last": [1.0] * 5}, profile="laptop", device="cpu", seeds=range(5))
    claims.record("T23", {"dimension_mismatch": [1.0]}, profile="laptop", device="cpu", seeds=[0])
    return claims.ledger("laptop")


def test_the_map_has_the_counts_that_the_ledger_has(recorded):
    header, *body, total = Rows(front.claims_map(recorded, "laptop").html).rows
    names = [name.replace("\u00ad", "") for name in header[2:]]
    ledger = {row[0]: row[-1] for row in Rows(render.counts(recorded).html).rows[1:]}
    assert dict(zip(names, total[2:], strict=True)) == ledger
    assert {"1"} <= set(ledger.values()) and int(total[1]) == len(recorded)
    for column in range(1, len(total)):
        assert sum(int(row[column]) for row in body) == int(total[column])


def test_each_row_of_the_map_has_its_own_chapters_verdicts_and_leads_to_it(recorded):
    html = front.claims_map(recorded, "laptop").html
    rows = {row[0]: row for row in Rows(html).rows}
    own = Counter(v.verdict for v in recorded if v.claim.chapter == "05_cloning")
    (row,) = [row for name, row in rows.items() if name.startswith("5.")]
    assert [int(cell) for cell in row[2:]] == [own[name] for name in claims.VERDICTS]
    assert '<a href="05_cloning.html">' in html and f'href="ledger.html#{front.anchor("05_cloning")}"' in html


def test_every_chapter_of_the_book_and_every_chapter_of_a_claim_is_on_the_map(recorded):
    names = {entry.name for entry in front.entries(recorded, "laptop")}
    assert names == {*CHAPTERS, *(verdict.claim.chapter for verdict in recorded)}


def test_the_parts_of_the_ledger_hold_every_claim_once_under_a_line_that_counts_their_verdicts(recorded):
    parts = {name: str(front.folded(recorded, name)._repr_html_()) for name in {v.claim.chapter for v in recorded}}
    assert sum(html.count('<th scope="row">') for html in parts.values()) == len(recorded)
    html = parts["05_cloning"]
    line = re.search(r"<summary><strong>Chapter 5: cloning</strong>, (.*?)</summary>", html)[1]
    here = [v.verdict for v in recorded if v.claim.chapter == "05_cloning"]
    assert {name: int(n) for n, name in re.findall(r"(\d+) ([a-z ]+)", line)} == dict(Counter(here))
    assert html.index("<summary>") < html.index(f'id="{front.anchor("05_cloning")}"') < html.index("</details>")


def test_what_pages_paste_from_the_ledger_is_glued_there():
    ledger = text_of(BOOK / "ledger.ipynb", ["code"])
    pasted = set()
    for page in [*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")]:
        pasted |= set(re.findall(r"\{glue:\} (\w+)\n:doc: ledger\.ipynb", text_of(page, ["markdown"])))
    assert {"claims_map", "reading_paths", "chapter_times", "citation"} <= pasted
    for key in pasted:
        assert f'glue("{key}"' in ledger
    assert "front.folded(" in ledger


def test_times_are_said_to_be_missing_where_nothing_has_run(recorded):
    text = str(front.paths(recorded, "laptop"))
    assert "not measured yet at the laptop profile" in text and "Reader, all of it: " in text


def test_the_table_of_times_has_a_dash_where_nothing_was_measured(recorded, monkeypatch):
    measured = {("05_cloning", "laptop"): {"seconds": 130.0}}
    monkeypatch.setattr(front.stamps, "load", lambda page, profile: measured.get((page.name, profile)))
    rows = re.findall(r"<tr .*?</tr>", front.times(recorded, "laptop")._repr_html_())
    cells = {re.search(r'href="(\w+)', row)[1]: re.findall(r"<td>(.*?)</td>", row)[1:] for row in rows}
    assert set(cells) == set(CHAPTERS) and cells.pop("05_cloning") == ["–", "3 minutes"]
    assert set(map(tuple, cells.values())) == {("–", "–")}


def test_the_front_page_lists_the_chapters_of_the_table_of_contents_in_order():
    (table,) = re.findall(r"## The chapters\n(.*?)\n(?=## |\Z)", text_of(BOOK / "intro.ipynb", ["markdown"]), re.S)
    assert re.findall(r"\]\((\w+)\.ipynb\)", table) == CHAPTERS


def terms():
    """(names, definition) of each entry of the glossary."""
    (body,) = re.findall(r":::\{glossary\}\n(.*?)\n:::", GLOSSARY, re.S)
    entries = [entry.splitlines() for entry in body.split("\n\n")]
    return [([x for x in lines if x[0] != " "], " ".join(x.strip() for x in lines if x[0] == " ")) for lines in entries]


def test_the_terms_of_the_glossary_are_sorted_and_each_is_there_once():
    names = [name.lower() for entry, _ in terms() for name in entry]
    first = [entry[0].lower() for entry, _ in terms()]
    assert len(names) > 40 and len(set(names)) == len(names)
    assert first == sorted(first)


def slug(heading):
    """The anchor that MyST gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(path):
    return {slug(line.lstrip("#").strip()) for line in text_of(path, ["markdown"]).splitlines() if line.startswith("#")}


def dead_links(text):
    """Links to files and headings of the book, and to labels, that are not there."""
    for name, anchor in re.findall(r"\]\(([\w/]+\.(?:ipynb|md))(?:#([\w-]+))?\)", text):
        if not (BOOK / name).exists() or (anchor and anchor not in anchors(BOOK / name)):
            yield f"{name}#{anchor}"
    sources = "\n".join(text_of(path, ["markdown"]) for path in BOOK.glob("*.ipynb"))
    for kind, label in re.findall(r"\{(prf:ref|eq)\}`([\w-]+)`", text):
        if (f":label: {label}\n" if kind == "prf:ref" else f"({label})") not in sources + "\n":
            yield f"{kind} {label}"


def test_every_term_leads_to_the_place_that_defines_it():
    for names, definition in terms():
        assert re.search(r"\]\([\w/]+\.(ipynb|md)", definition), f"{names[0]} has no link"
    assert list(dead_links(GLOSSARY)) == []


def test_a_dead_link_in_the_glossary_would_be_seen():
    bad = "[a](05_cloning.ipynb#no-such-heading) [b](99_nothing.ipynb) {prf:ref}`def-nothing` [c](ledger.ipynb)"
    assert len(list(dead_links(bad))) == 3


def test_every_symbol_has_one_row():
    (body,) = re.findall(r"## Symbols\n(.*)", GLOSSARY, re.S)
    cells = [row.split(" | ")[0] for row in body.strip().splitlines()[2:]]
    symbols = [symbol for cell in cells for symbol in re.findall(r"\$([^$]+)\$", cell)]
    assert len(symbols) > 20 and len(set(symbols)) == len(symbols)


def test_every_word_that_a_page_looks_up_is_in_the_glossary():
    known = {name.lower() for names, _ in terms() for name in names}
    for page in [*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")]:
        for text in re.findall(r"\{term\}`([^`]+)`", text_of(page, ["markdown"])):
            found = re.search(r"<(.+)>$", text)
            assert (found[1] if found else text).lower() in known, f"{page.name}: {text}"


def modules():
    """Every public module of the package, by its floor (`base` for those on none)."""
    found = {}
    for path in sorted((ROOT / "lop_utils").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not parts[-1].startswith("_"):
            found.setdefault(parts[1] if len(parts) > 2 else "base", []).append(".".join(parts))
    return found


def test_every_public_module_is_on_the_page_of_its_floor():
    for floor, names in modules().items():
        page = (BOOK / "api" / f"{floor}.md").read_text(encoding="utf-8")
        assert re.findall(r"automodule:: ([\w.]+)\n   :members:", page) == names, (
            f"book/api/{floor}.md: a heading and an automodule for each module, sorted"
        )


def test_the_reference_pages_and_the_index_are_in_the_table_of_contents():
    assert {f"book/api/{floor}" for floor in modules()} <= set(TOC)
    assert {"book/glossary", "book/how_to_run", "genindex"} <= set(TOC) and TOC[-1] == "genindex"


def test_the_citation_names_the_book_and_the_paper_of_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    text = bibtex(content)
    assert str(citation()) == text and text.count("@") == 1 + len(content["references"])
    for work in (content, *content["references"]):
        assert work["title"] in text
    with pytest.raises(ValueError, match="no title"):
        bibtex({"authors": []})
