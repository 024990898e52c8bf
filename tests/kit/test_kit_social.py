"""What a page says of itself where a link to it is pasted, read back from its tags."""

from html.parser import HTMLParser

import pytest

from lop_utils.kit import social

ADDRESS = "https://someone.github.io/book/"
PAGE = """<html><head><title>Clones \u2014 The Book</title></head><body><nav><p>Not of the page.</p></nav>
<article><h1>Clones &amp; twins<a class="headerlink" href="#a">#</a></h1>
<div class="cell"><p>printed</p><img src="data:image/png;base64,AA" alt="inline"></div>
<figure><img src="../_images/a%20b.png" alt='the "same"'><figcaption><p>A caption.</p></figcaption></figure>
<p>   </p><p>The rank of
<span class="math notranslate">\\(H_{1}\\)</span> stays.</p><p>Second.</p></article></body></html>"""


class Tags(HTMLParser):
    """The meta tags of a page, as a browser reads them."""

    def __init__(self, html):
        super().__init__()
        self.found = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "meta" and (key := given.get("property") or given.get("name")):
            assert key not in self.found, key
            self.found[key] = given["content"]


@pytest.fixture
def site(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images/a b.png").write_bytes(b"png")
    (tmp_path / "book/clones.html").write_text(PAGE)
    return tmp_path


def tags(site, page="book/clones.html", *, address=ADDRESS, first="book/intro"):
    social.describe(site, name="The Book", first=first, address=address)
    return Tags((site / page).read_text()).found


def test_a_page_says_its_heading_first_paragraph_address_and_first_picture(site):
    assert tags(site) == {
        "description": "The rank of H_1 stays.",
        "og:title": "Clones & twins",
        "og:description": "The rank of H_1 stays.",
        "og:type": "article",
        "og:site_name": "The Book",
        "og:url": ADDRESS + "book/clones.html",
        "og:image": ADDRESS + "_images/a%20b.png",
        "og:image:alt": 'the "same"',
    }


def test_a_site_without_an_address_names_none(site):
    assert set(tags(site, address=None)) == {
        "description",
        *(f"og:{x}" for x in ("title", "description", "type", "site_name")),
    }


def test_the_tags_stand_in_the_head_and_nothing_else_of_the_page_changes(site):
    social.describe(site, name="The Book", first="book/intro")
    html = (site / "book/clones.html").read_text()
    head, rest = html.split("</head>")
    start, end = PAGE.split("</head>")
    assert rest == end and head.startswith(start) and head.count("<meta") == 5


@pytest.mark.parametrize(
    "gone", ["../_images/gone.png", "https://a.org/a.png", "../_images/a.svg", "../_static/minus.png"]
)
def test_a_page_without_a_picture_of_the_site_shows_the_books_own(site, gone):
    (site / "_images/a.svg").write_text("<svg/>")
    (site / "_static").mkdir()
    (site / "_static/minus.png").write_bytes(b"png")
    (site / "book/clones.html").write_text(PAGE.replace("../_images/a%20b.png", gone))
    found = tags(site)
    assert found["og:image"] == ADDRESS + social.PICTURE and found["og:image:alt"] == social.PICTURE_TEXT


def test_the_file_that_leads_to_the_first_page_shows_that_page_under_the_sites_address(site):
    (site / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=book/clones.html" />\n')
    found = tags(site, "index.html", first="book/clones")
    assert found["og:title"] == "Clones & twins" and found["og:url"] == ADDRESS and found["og:type"] == "website"
    assert (site / "index.html").read_text().startswith('<meta http-equiv="Refresh"')


def test_a_long_paragraph_ends_at_a_word(site):
    (site / "book/clones.html").write_text(PAGE.replace("stays.", "stays " + "there " * 60))
    text = tags(site)["og:description"]
    assert 180 < len(text) <= social.LENGTH and text.endswith("there \u2026")


def test_a_page_without_an_article_says_what_stands_beside_its_heading(site):
    body = '<div><h1>Search</h1><input placeholder="Search this book..."></div><footer><p>By us.</p></footer>'
    (site / "book/clones.html").write_text(f"<html><head></head><body>{body}</body></html>")
    assert tags(site)["og:description"] == "Search this book"


@pytest.mark.parametrize(
    ("article", "description"),
    [
        ("<h1>Index</h1><ul><li>rank</li><li>unit</li></ul>", "rank unit"),
        ('<h1>I</h1><div class="genindex-jumpbox"><p>A | B</p></div><table><tr><td>rank</td></tr></table>', "rank"),
        ("<h1>Search</h1><noscript><p>Use JavaScript.</p></noscript><p>Several words.</p>", "Several words."),
        ('<h1>Search</h1><input placeholder="Search this book...">', "Search this book"),
        ("<h1>Empty</h1>", "Empty"),
    ],
)
def test_a_page_without_a_paragraph_says_what_it_has(site, article, description):
    (site / "book/clones.html").write_text(f"<html><head></head><body><article>{article}</article></body></html>")
    assert tags(site)["og:description"] == description
