"""What is counted of a built page, on pages whose counts are known."""

import gzip
import os

import pytest

from lop_utils.kit.survey import Facts, files, rows, sent, survey, weight

HEAD = '<html lang="en"><head><link rel="stylesheet" href="s/a.css?v=1"><script src="s/x.js"></script></head>'
BODY = """<body><h1>A</h1><h2>B</h2><span class="math notranslate">x</span>
<img alt="a" src="pic%20one.png"><img alt="again" src="pic%20one.png">
<img alt="" src="https://a.org/b.png"></body></html>"""


@pytest.fixture
def site(tmp_path):
    """One page, a script, a picture, a style sheet that asks for another one and for a font in two forms."""
    (tmp_path / "s").mkdir()
    (tmp_path / "a.html").write_text(HEAD + BODY)
    (tmp_path / "s/x.js").write_text("x" * 1000)
    (tmp_path / "pic one.png").write_bytes(os.urandom(500))
    (tmp_path / "s/a.css").write_text('@import "b.css"; @font-face { src: url(f.woff2), url(f.ttf) }')
    (tmp_path / "s/b.css").write_text("@import url(a.css); p { background: url(data:image/png;base64,AA) }")
    (tmp_path / "s/f.woff2").write_bytes(os.urandom(300))
    (tmp_path / "s/f.ttf").write_bytes(os.urandom(900))
    (tmp_path / "s/unused.js").write_text("y" * 1000)
    return tmp_path


def test_a_page_weighs_what_it_asks_for_once_compressed_as_sent(site):
    asked = {"a.html", "x.js", "pic one.png", "a.css", "b.css", "f.woff2"}
    assert {path.name for path in files(site / "a.html")} == asked
    texts = [site / "a.html", site / "s/x.js", site / "s/a.css", site / "s/b.css"]
    compressed = sum(len(gzip.compress(path.read_bytes(), 6)) for path in texts)
    assert weight(site / "a.html") == compressed + 500 + 300


def test_a_file_that_changes_is_weighed_anew(site):
    before = sent(site / "pic one.png")
    (site / "pic one.png").write_bytes(os.urandom(700))
    os.utime(site / "pic one.png", ns=(1, 1))
    assert (before, sent(site / "pic one.png")) == (500, 700)


def test_a_page_without_faults_counts_its_formulas_alone(site):
    html = (HEAD + BODY).replace('alt="" src="https://a.org/b.png"', 'alt="c" src="pic%20one.png"')
    (site / "a.html").write_text(html)
    assert survey(site) == [Facts("a.html", weight(site / "a.html"), 0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("", "", (1, 1, 0, 1)),  # the picture from elsewhere has no text either
        ("h2>", "h3>", (1, 1, 1, 1)),
        ("<h2>B</h2>", "<h1>B</h1>", (1, 1, 1, 1)),
        ("<h1>A</h1>", "", (1, 1, 1, 1)),
        ('alt="a"', "", (1, 2, 0, 1)),
        ('alt=""', 'role="presentation"', (1, 0, 0, 1)),
        ("<h1>", '<div class="math">y</div><h1>', (1, 1, 0, 2)),
    ],
)
def test_each_fault_is_counted_in_its_own_column(site, old, new, counts):
    assert old in BODY
    (site / "a.html").write_text(HEAD + BODY.replace(old, new) if old else HEAD + BODY)
    (found,) = survey(site)
    assert (found.outside, found.unnamed, found.headings, found.formulas) == counts


def test_pages_that_lead_on_and_files_of_the_theme_are_no_pages(site):
    (site / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=a.html" />')
    (site / "_static").mkdir()
    (site / "_static/macros.html").write_text("<p>")
    assert [facts.page for facts in survey(site)] == ["a.html"]


def test_the_table_ends_with_totals_and_is_empty_where_there_are_no_pages():
    facts = [Facts("a", 3_000_000, 1, 2, 3, 4), Facts("b", 1_000_000, 0, 0, 0, 1), Facts("c", 1_500_000, 0, 0, 0, 0)]
    assert rows(facts)[-2:] == [("median", "1.50", "", "", "", ""), ("most; sums", "3.00", "1", "2", "3", "5")]
    assert [row[0] for row in rows(facts)[:-2]] == ["a", "b", "c"] and rows([]) == []
