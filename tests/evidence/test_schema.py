"""The claims file: what is wrong is named with the claim's id and the key."""

import copy
from pathlib import Path

import pytest
import yaml

from lop_utils.errors import UsageError
from lop_utils.evidence import schema

GOOD = {
    "id": "a-claim",
    "kind": "empirical",
    "statement": "it grows",
    "where": "the experiment",
    "chapter": "05_cloning",
    "quantity": "size",
    "paper_reports": "growth",
    "criterion": {
        "as_stated": [{"measure": "x", "statistic": "mean", "op": ">", "value": 0}],
        "corrected": {
            "statement": "it shrinks",
            "tests": [{"measure": "y", "statistic": "every", "op": "<", "value": 1, "min_n": 3}],
        },
    },
}
ROOT = Path(__file__).resolve().parents[2]


def changed(path, value):
    """GOOD with `value` at the dotted `path`; None removes the key."""
    entry = copy.deepcopy(GOOD)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = entry
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return entry


def test_a_good_entry_becomes_a_claim():
    claim = schema.parse_claim(GOOD)
    assert claim.as_stated == (schema.Test("x", "mean", ">", 0.0, 5),)
    assert claim.corrected == (schema.Test("y", "every", "<", 1.0, 3),)
    assert claim.measures == ("x", "y")


def test_a_claim_without_criterion_has_no_tests():
    assert schema.parse_claim(changed("criterion", None)).as_stated == ()


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("kind", "guess", "kind"),
        ("kind", ..., "kind"),
        ("statement", "", "statement"),
        ("statement", 3, "statement"),
        ("where", ..., "where"),
        ("chapter", "Chapter 5", "chapter"),
        ("quantity", None, "quantity"),
        ("paper_reports", ..., "paper_reports"),
        ("verdict", "reproduced", "verdict"),
        ("note", [], "note"),
        ("criterion", ..., "criterion"),
        ("criterion", [], "criterion"),
        ("criterion.extra", 1, r"criterion\.extra"),
        ("criterion.as_stated", ..., r"criterion\.as_stated"),
        ("criterion.as_stated", [], r"criterion\.as_stated"),
        ("criterion.as_stated.0", "x > 0", r"criterion\.as_stated\[0\]"),
        ("criterion.as_stated.0.measure", "my measure", r"criterion\.as_stated\[0\]\.measure"),
        ("criterion.as_stated.0.statistic", "mode", r"criterion\.as_stated\[0\]\.statistic"),
        ("criterion.as_stated.0.op", "==", r"criterion\.as_stated\[0\]\.op"),
        ("criterion.as_stated.0.op", ["<"], r"criterion\.as_stated\[0\]\.op"),
        ("criterion.as_stated.0.value", "1e-12", r"criterion\.as_stated\[0\]\.value"),
        ("criterion.as_stated.0.value", True, r"criterion\.as_stated\[0\]\.value"),
        ("criterion.as_stated.0.value", float("nan"), r"criterion\.as_stated\[0\]\.value"),
        ("criterion.as_stated.0.min_n", 0, r"criterion\.as_stated\[0\]\.min_n"),
        ("criterion.as_stated.0.minn", 5, r"criterion\.as_stated\[0\]\.minn"),
        ("criterion.corrected", "better", r"criterion\.corrected"),
        ("criterion.corrected.statement", ..., r"criterion\.corrected\.statement"),
        ("criterion.corrected.tests", ..., r"criterion\.corrected\.tests"),
    ],
)
def test_what_breaks_the_schema_is_named_with_the_claim_and_the_key(path, value, key):
    with pytest.raises(UsageError, match=rf"^claim a-claim, {key}: "):
        schema.parse_claim(changed(path, value))


@pytest.mark.parametrize("bad", ["Upper", "a b", "", None, 7, "T0", "-a", "a--b"])
def test_an_id_that_is_none_is_named_with_its_place(bad):
    with pytest.raises(UsageError, match="claim number 3, id"):
        schema.parse_claim(changed("id", bad), 2)


@pytest.mark.parametrize("text", ["claims: 3", "a: b", "- 3", "claims: [", ""])
def test_a_file_without_claims_is_an_error(book, text):
    book(text)
    with pytest.raises(UsageError):
        schema.load_claims()


def test_an_id_that_occurs_twice_is_named(book):
    book(yaml.safe_dump({"claims": [GOOD, GOOD]}))
    with pytest.raises(UsageError, match="claim a-claim, id: it occurs twice"):
        schema.load_claims()


def test_an_edited_file_is_read_again(book):
    book(yaml.safe_dump({"claims": [GOOD]}))
    assert list(schema.load_claims()) == ["a-claim"]
    book(yaml.safe_dump({"claims": [changed("id", "another")]}))
    assert list(schema.load_claims()) == ["another"]


def test_the_criterion_alone_decides_its_digest():
    one = schema.parse_claim(GOOD)
    assert schema.parse_claim(changed("statement", "it grows a lot")).criterion_digest == one.criterion_digest
    assert schema.parse_claim(changed("criterion.as_stated.0.value", 1)).criterion_digest != one.criterion_digest
    assert schema.parse_claim(changed("criterion.corrected", None)).criterion_digest != one.criterion_digest


@pytest.fixture(scope="module")
def claims():
    return schema.load_claims(ROOT / "book" / "claims.yml")


def test_the_books_claims_name_every_theory_claim_of_the_paper(claims):
    theory = [claim.id for claim in claims.values() if claim.kind == "theory"]
    assert theory == [f"T{number}" for number in range(1, 31)]


def test_the_books_claims_are_told_apart_by_more_than_their_ids(claims):
    assert len({claim.statement for claim in claims.values()}) == len(claims)


def test_no_claim_is_located_by_a_bare_number(claims):
    for claim in claims.values():
        assert len(claim.where.split()) >= 4, claim.id


def test_a_claim_that_chapter_five_judges_needs_at_least_five_values(claims):
    """Integers that must match are the exception: one case suffices to see that they do."""
    tests = [(c.id, t) for c in claims.values() for t in (*c.as_stated, *c.corrected) if c.chapter == "05_cloning"]
    assert len(tests) >= 15
    assert all(test.min_n >= 5 for name, test in tests if name != "T23")
