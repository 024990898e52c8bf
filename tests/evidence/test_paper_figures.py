"""The list of the paper's figures: its schema, and what the verdicts say of a figure."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.evidence import claims, export
from lop_utils.evidence.judging import VERDICTS
from lop_utils.evidence.paper_figures import STATUSES, PaperFigure, Place, load_figures, misplaced, status

GOOD = {
    "id": "curves", "kind": "figure", "shows": "curves of x", "where": "there", "claims": ["grows"],
    "places": [{"chapter": "05_cloning", "label": "fig-x"}],
}  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def load(root, *entries):
    path = root / "book" / "paper_figures.yml"
    path.write_text(yaml.safe_dump({"figures": list(entries)}))
    return load_figures(path)


def test_an_entry_is_read_as_it_stands(book, claims_text):
    (figure,) = load(book(claims_text), GOOD)
    assert figure == PaperFigure(
        "curves", "figure", "curves of x", "there", ("grows",), (Place("05_cloning", "fig-x"),)
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"claims": ["grows", "grow"]}, "figure curves: claim 'grow' is unknown"),
        ({"kind": "drawing"}, "figure curves: kind 'drawing' is unknown"),
        ({"id": "Curves 1"}, "figure number 1: id 'Curves 1' is not kebab-case"),
        ({"shows": ""}, "figure curves: shows is missing"),
        ({"status": "reproduced"}, "figure curves: key 'status' is unknown"),
        ({"places": [{"chapter": "05_cloning"}]}, "figure curves: place {'chapter': '05_cloning'} is not understood"),
        ({"claims": []}, "figure curves: claims and places must both be given"),
        ({"claims": [], "places": []}, "or neither and a note"),
    ],
)
def test_what_breaks_the_schema_is_named(book, claims_text, change, problem):
    with pytest.raises(UsageError) as error:
        load(book(claims_text), GOOD | change)
    assert problem in str(error.value)


def test_an_id_that_occurs_twice_and_a_file_without_figures_are_named(book, claims_text):
    with pytest.raises(UsageError, match="figure curves: id occurs twice"):
        load(book(claims_text), GOOD, GOOD)
    (book(claims_text) / "book" / "paper_figures.yml").write_text("figures: 3")
    with pytest.raises(UsageError, match="holds no list of figures"):
        load_figures()


def test_a_chapter_or_label_that_is_not_in_the_book_is_named(book, claims_text):
    found = load(book(claims_text), GOOD)
    assert misplaced(found, {"05_cloning": {"fig-x"}}) == []
    assert misplaced(found, {"05_cloning": {"fig-y"}}) == ["figure curves: 05_cloning has no label fig-x"]
    assert misplaced(found, {"06_stability": {"fig-x"}}) == ["figure curves: chapter 05_cloning is not in the book"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not judged"], "in part"),
        (["reproduced with correction", "reproduced with correction"], "in part"),
        (["not reproduced", "reproduced"], "in part"),
        (["not reproduced", "inconclusive"], "not reproduced"),
        (["inconclusive", "not judged"], "inconclusive"),
        (["not judged", "not judged"], "not judged"),
        ([], "not attempted"),
    ],
)
def test_the_status_follows_from_the_verdicts_of_the_claims(verdicts, expected):
    names = tuple("abc"[: len(verdicts)])
    figure = PaperFigure("x", "figure", "", "", names, ())
    assert status(figure, dict(zip(names, verdicts, strict=True))) == expected


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=5))
def test_only_claims_that_are_all_reproduced_make_a_figure_reproduced(verdicts):
    names = tuple(f"c{i}" for i in range(len(verdicts)))
    found = status(PaperFigure("x", "figure", "", "", names, ()), dict(zip(names, verdicts, strict=True)))
    assert found in STATUSES
    assert (found == "reproduced") == (set(verdicts) == {"reproduced"})


def test_the_figures_are_in_the_exported_files(book, claims_text, tmp_path):
    figures = load(book(claims_text), GOOD, {**GOOD, "id": "other", "claims": ["T1"]})
    claims.record("grows", {"x": [1.0, 1.1, 0.9, 1.2, 0.8]}, profile="laptop", device="cpu", seeds=range(5))
    export.write(tmp_path, claims.ledger("laptop"), profile="laptop", figures=figures)
    data = json.loads((tmp_path / "ledger.json").read_text())["figures"]
    assert [(figure["id"], figure["status"]) for figure in data] == [("curves", "reproduced"), ("other", "not judged")]
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    assert rows[0]["status"] == "reproduced" and rows[0]["places"] == "05_cloning#fig-x"
    page = (tmp_path / "ledger.html").read_text()
    assert "curves of x" in page and '<a href="05_cloning' not in page  # the page stands alone


def test_every_empirical_claim_about_curves_of_the_paper_belongs_to_a_figure(monkeypatch):
    """The claims whose place in the paper is a curve, a bar, a grid or a figure, and so has a counterpart."""
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    attached = {name for figure in load_figures() for name in figure.claims}
    words = ("curves", "bars", "bar charts", "grid", "scatter", "the figure")
    drawn = [c.id for c in claims.load_claims().values() if c.kind == "empirical" and any(w in c.where for w in words)]
    assert len(drawn) > 15 and [name for name in drawn if name not in attached] == []
