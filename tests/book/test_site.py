"""The site that `lop build` made, page by page, in a browser. Skipped until it exists."""

import os
from pathlib import Path

import pytest
from browser_tools import audit
from tiny_book import ROOT

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
def test_every_page_works_offline_on_a_desktop_and_on_a_phone(browser, page):
    assert audit(browser, SITE / page) == []
