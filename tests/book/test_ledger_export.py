"""The ledger as a page that stands alone: in order for assistive technology, and without dead ends."""

from pathlib import Path

import pytest
from accessibility import dead_anchors, structure, violations

from lop_utils.evidence import claims, export

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The page of this book's ledger with one record in it."""
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    monkeypatch.setenv("LOP_RESULTS", str(tmp_path / "results"))
    claims.record("clone-sgd-confined", {"r2_last": [1.0] * 5}, profile="laptop", device="cpu", seeds=range(5))
    export.write(tmp_path / "out", claims.ledger("laptop"), profile="laptop")
    return tmp_path / "out" / "ledger.html"


def test_the_page_is_in_order_and_its_links_lead_somewhere(exported):
    assert structure(exported) == []
    assert dead_anchors(exported, {}) == []


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.browser
def test_axe_finds_nothing_serious_on_the_page(exported, browser):
    browser.load(exported)
    assert violations(browser) == []
