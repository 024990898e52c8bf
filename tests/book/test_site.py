"""The site that `lop build` made, page by page, in a browser. Skipped until it exists."""

import os
import re
from html import unescape
from pathlib import Path
from statistics import median
from urllib.parse import unquote

import pytest
from accessibility import OBJECTIONS, dead_anchors, structure
from tiny_book import ROOT
from visit import visit

from lop_utils.kit import icons
from lop_utils.kit.survey import parsed, sent, weight

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SITE = Path(os.environ.get("LOP_SITE", ROOT / "_site"))
FILES = sorted(page for page in SITE.rglob("*.html") if "_static" not in page.parts)
PAGES = [page.relative_to(SITE).as_posix() for page in FILES if 'http-equiv="Refresh"' not in page.read_text()]


def test_the_start_page_leads_to_the_introduction(browser):
    if not FILES and not os.environ.get("LOP_SITE"):
        pytest.skip("no site has been built yet: make book")
    browser.load(SITE / "index.html")
    browser.wait(lambda: "The LoP Book" in browser.js("return document.querySelector('h1')?.textContent ?? ''"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_whole_offline_for_all_eyes_and_on_a_phone(browser, page, record_property):
    seen = visit(browser, SITE / page)
    record_property(OBJECTIONS, [page, seen.objections])
    assert seen.problems + seen.unweighed(SITE / page) == []
    assert (SITE / page).resolve() in seen.loaded


@pytest.mark.parametrize("page", PAGES)
def test_headings_language_and_image_texts_are_in_order_on_every_page(page):
    assert structure(SITE / page) == []


def test_every_link_inside_the_book_leads_to_a_place_that_exists():
    ids: dict[Path, set[str]] = {}
    assert [(page, link) for page in PAGES for link in dead_anchors(SITE / page, ids)] == []


def test_pages_are_light():
    """Compressed as sent, with all that they ask for: below 1.5 MB in the median and 4 MB in all."""
    weights = {page: weight(SITE / page) for page in PAGES}
    if not weights:
        pytest.skip("no site has been built yet: make book")
    print("\n".join(f"{size / 1e6:5.2f} MB  {page}" for page, size in sorted(weights.items(), key=lambda x: -x[1])))
    assert median(weights.values()) < 1.5e6 and max(weights.values()) < 4e6


def test_the_icons_that_no_page_shows_are_gone():
    assert not PAGES or sent(SITE / icons.SCRIPT) < 40_000  # half a million with all of them


@pytest.mark.parametrize("page", PAGES)
def test_only_pages_with_maths_or_widgets_load_the_script_that_sets_it(page):
    html = (SITE / page).read_text(encoding="utf-8")
    needed = parsed(SITE / page).formulas or '<script type="application/vnd.jupyter.widget-view' in html
    assert ("tex-svg-full.js" in html) == bool(needed)


def cards() -> dict[str, dict[str, str]]:
    """The Open Graph tags of every page and of the file that leads to the first one."""
    pages = [*PAGES, "index.html"] if PAGES else []
    return {
        page: dict(re.findall(r'<meta property="og:([\w:]+)" content="([^"]*)"', (SITE / page).read_text()))
        for page in pages
    }


def test_every_page_says_what_it_is_where_a_link_to_it_is_pasted():
    found = cards()
    for page, card in found.items():
        assert {"title", "description", "type", "site_name"} <= set(card), page
        assert len(card["title"]) >= 3 and card["site_name"] == "The LoP Book", page
        assert 10 < len(unescape(card["description"])) <= 200 and not re.search(r"\\|\$", card["description"]), page
    own = [card["description"] for page, card in found.items() if page != "index.html"]
    assert [text for text in own if own.count(text) > 1] == []


def test_a_site_with_an_address_shows_a_picture_that_it_has():
    addressed = {page: card for page, card in cards().items() if "url" in card}
    if not addressed:
        pytest.skip("the site was built without --repository")
    assert set(addressed) == {*PAGES, "index.html"}
    for page, card in addressed.items():
        home = addressed["index.html"]["url"]
        assert home.endswith("/") and card["url"] == home + ("" if page == "index.html" else page), page
        assert (SITE / unquote(card["image"].removeprefix(home))).is_file(), page


def test_the_search_finds_duplicate_units(browser):
    if not PAGES:
        pytest.skip("no site has been built yet: make book")
    browser.load(SITE / "search.html")
    browser.js("location.search = '?q=duplicate+units'")
    found = browser.wait(lambda: [e.text for e in browser.all("#search-results li a")])
    assert any("Measuring plasticity" in title for title in found)


def test_a_link_to_a_part_of_the_ledger_unfolds_it(browser):
    if not PAGES:
        pytest.skip("no site has been built yet: make book")
    browser.load(SITE / "book/ledger.html")
    folded = "return document.getElementById('ledger-05-cloning').closest('details').open"
    assert browser.js(folded) is False
    browser.all("a[href$='#ledger-05-cloning']")[0].click()
    assert browser.wait(lambda: browser.js(folded))
    browser.leave()
    browser.driver.get((SITE / "book/ledger.html").resolve().as_uri() + "#ledger-05-cloning")
    assert browser.wait(lambda: browser.js(folded))
