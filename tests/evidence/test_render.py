"""Claim boxes and the ledger as HTML that assistive technology can read."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lop_utils.evidence import claims, render
from lop_utils.evidence.judging import VERDICTS

VALUES = [1.0, 1.1, 0.9, 1.2, 0.8]
VOID = {"br"}


class Page(HTMLParser):
    """Checks that tags nest and collects text and header cells."""

    def __init__(self, html):
        super().__init__()
        self.open, self.headers, self.captions, self.text = [], [], 0, ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.captions += tag == "caption"
        if tag == "th":
            self.headers.append(dict(attributes).get("scope"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def verdict(book):
    measures = {"x": VALUES, "extra": [3.0]}
    return claims.record("grows", measures, profile="laptop", device="cpu", seeds=range(5))


def test_a_claim_box_states_claim_source_measured_interval_verdict_and_origin(verdict):
    text = Page(verdict._repr_html_()).text
    tests = [
        "mean of x > 0",
        "mean of extra",
        "n = 5",
        "x stays above -1",
        "reproduced",
        "laptop profile",
        "0, 1, 2, 3, 4",
    ]
    for piece in ["grows", "the experiment on x", *tests]:
        assert piece in text
        assert piece in verdict._repr_markdown_() or piece == "n = 5"


@pytest.mark.parametrize("name", VERDICTS)
def test_a_verdict_is_in_words_and_not_in_colour_alone(verdict, name):
    page = Page(replace(verdict, verdict=name)._repr_html_())
    assert name in page.text


def test_tables_have_a_caption_and_header_cells_with_scope(verdict):
    for html in (verdict._repr_html_(), render.ledger(claims.ledger("laptop"), title="All").html):
        page = Page(html)
        assert page.captions == 1
        assert set(page.headers) == {"row", "col"}


def test_the_ledger_works_when_nothing_is_recorded(book):
    verdicts = claims.ledger("laptop")
    page = Page(render.ledger(verdicts, title="Everything").html)
    assert "not run yet" in page.text
    assert "as stated: mean of x > 0" in page.text and "no criterion yet" in page.text
    assert "not judged: 2" in repr(render.counts(verdicts))
    assert Page(render.counts(verdicts).html).captions == 1


def test_counts_add_up_to_all_claims(verdict):
    verdicts = claims.ledger("laptop")
    lines = dict(line.split(": ") for line in repr(render.counts(verdicts)).splitlines())
    assert lines["reproduced"] == "1" and sum(map(int, lines.values())) == len(verdicts)


def test_outcomes_are_hidden_where_nothing_is_judged(book):
    verdict = claims.record("grows", {"x": VALUES}, profile="smoke", device="cpu", seeds=range(5))
    assert "holds" not in Page(verdict._repr_html_()).text


def test_text_from_the_claims_file_cannot_become_markup(verdict):
    evil = replace(verdict, claim=replace(verdict.claim, statement='<script>alert("x")</script> a < b'))
    for html in (evil._repr_html_(), render.ledger([evil], title="<b>").html):
        assert "<script>" not in html
        Page(html)
