"""`lop ledger`, and the badge that stands beside the recorded verdicts."""

from pathlib import Path

import yaml
from kit_book import claim
from typer.testing import CliRunner

from lop_utils.evidence import claims
from lop_utils.kit import checks, ledger_files, reference
from lop_utils.kit.cli import app
from lop_utils.kit.offline import outside_in_html

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = [claim("a", "01_one"), claim("b", "01_one"), claim("c", "01_one", at_least=None)]


def test_the_command_lists_the_verdicts_and_writes_them_as_files(make_book, tmp_path):
    make_book({"01_one": []}, CLAIMS)
    claims.record("a", {"x": [2.0]}, profile="laptop", device="cpu", seeds=[0])
    claims.record("b", {"x": [0.0]}, profile="laptop", device="cpu", seeds=[0])
    listed = CliRunner().invoke(app, ["ledger"])
    assert listed.exit_code == 0
    assert listed.stdout.splitlines() == [
        "a  reproduced", "b  not reproduced", "c  not judged (no chapter has measured it yet)",
        "claims at profile laptop: 1 reproduced, 1 not, 1 open",
    ]  # fmt: skip
    written = CliRunner().invoke(app, ["ledger", "--export", str(tmp_path / "out")])
    assert written.exit_code == 0 and str(tmp_path / "out" / "ledger.csv") in written.stdout
    assert ">1 reproduced, 1 not, 1 open<" in (tmp_path / "out" / "claims.svg").read_text()
    page = (tmp_path / "out" / "ledger.html").read_text()
    assert outside_in_html(page) == [] and "<script" not in page and "<link" not in page
    assert CliRunner().invoke(app, ["ledger", "--profile", "fast"]).exit_code == 2


def test_the_badge_beside_the_recorded_verdicts_is_made_from_them():
    assert (ROOT / "reference/laptop/claims.svg").read_text() == reference.recorded_badge("laptop")


def figure(**changes):
    place = {"chapter": "01_one", "label": "fig-one"}
    return {"id": "x", "kind": "figure", "shows": "x", "where": "y", "claims": ["a"], "places": [place]} | changes


def test_the_check_names_a_figure_that_points_nowhere(make_book):
    book = make_book({"01_one": ["# Text\n\n:::{glue:figure} one\n:name: fig-one\n:::"]}, CLAIMS)
    path = book.home / "book" / "paper_figures.yml"
    path.write_text(yaml.safe_dump({"figures": [figure()]}))
    assert checks.check("laptop").problems == ()
    box = {"chapter": "01_one", "label": "claim-a"}
    for change, problem in [
        ({"places": [box]}, None),
        ({"claims": ["z"]}, "figure x: claim 'z' is unknown"),
        ({"places": [{"chapter": "01_one", "label": "fig-two"}]}, "figure x: 01_one has no label fig-two"),
        ({"places": [{"chapter": "01_won", "label": "fig-one"}]}, "figure x: chapter 01_won is not in the book"),
        ({"places": [{"chapter": "01_one", "label": "claim-z"}]}, "figure x: 01_one has no label claim-z"),
    ]:
        path.write_text(yaml.safe_dump({"figures": [figure(**change)]}))
        found = checks.check("laptop").problems
        assert found == () if problem is None else found[0].startswith(problem)


def test_every_place_in_this_book_exists(monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))
    found = ledger_files.figures()  # raises for one that does not
    assert len(found) >= 25 and len({place.chapter for f in found for place in f.places}) >= 7
