"""The ledger as files: they say what the records say, all of it, and nothing else."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.evidence import badges, claims, export
from lop_utils.evidence.export_page import page
from lop_utils.evidence.judging import VERDICTS
from lop_utils.evidence.stats import interval

VALUES = [1.0, 1.1, 0.9, 1.2, 0.8]


@pytest.fixture
def recorded(book):
    """A record of one claim, with a measure that no test uses; the other claim has none."""
    measures = {"x": VALUES, "aside": [3.0, 4.0]}
    claims.record("grows", measures, profile="laptop", device="cpu", seeds=range(5), wall_s=2.5)
    return claims.ledger("laptop")


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_json_holds_everything_of_a_record(recorded, tmp_path, results):
    export.write(tmp_path / "out", recorded, profile="laptop")
    data = json.loads((tmp_path / "out" / "ledger.json").read_text())
    record = json.loads((results / "laptop" / "claims" / "grows.json").read_text())
    grows, other = data["claims"]
    assert grows["provenance"] == record["provenance"] and grows["provenance"]["versions"]["torch"]
    assert grows["provenance"]["seeds"] == [0, 1, 2, 3, 4] and grows["provenance"]["wall_s"] == 2.5
    assert grows["criterion"]["sha256"] == record["criterion"]
    assert (grows["where"], grows["kind"], grows["verdict"]) == ("the experiment on x", "empirical", "reproduced")
    found = interval(VALUES)
    stated, corrected, reported = grows["numbers"]
    assert (stated["estimate"], stated["low"], stated["high"], stated["n"]) == (
        found.estimate, found.low, found.high, 5,
    )  # fmt: skip
    assert (stated["outcome"], corrected["part"], reported["measure"]) == ("holds", "corrected", "aside")
    assert other["provenance"] is None and other["numbers"] == [] and other["verdict"] == "not judged"
    assert data["counts"] == {name: int(name == "reproduced") + int(name == "not judged") for name in VERDICTS}


def test_the_tables_have_a_row_a_claim_and_a_row_a_number(recorded, tmp_path):
    export.write(tmp_path, recorded, profile="laptop")
    one, other = rows(tmp_path / "ledger.csv")
    assert (one["id"], one["verdict"], one["seeds"]) == ("grows", "reproduced", "0 1 2 3 4")
    assert one["criterion"] == "mean of x > 0" and one["corrected_criterion"] == "mean of x > -1"
    assert "torch=" in one["versions"] and one["wall_s"] == "2.5" and other["seeds"] == ""
    numbers = rows(tmp_path / "numbers.csv")
    assert [row["measure"] for row in numbers] == ["x", "x", "aside"]
    assert float(numbers[0]["low"]) == interval(VALUES).low  # every digit


def test_the_columns_are_there_without_any_record(book, tmp_path):
    export.write(tmp_path, claims.ledger("laptop"), profile="laptop")
    assert (tmp_path / "numbers.csv").read_text() == ",".join(export.NUMBER_COLUMNS) + "\n"
    assert len(rows(tmp_path / "ledger.csv")) == 2


def test_a_profile_that_judges_nothing_exports_no_outcome(book, tmp_path):
    claims.record("grows", {"x": VALUES}, profile="smoke", device="cpu", seeds=range(5))
    (number, _) = export.claim_data(claims.ledger("smoke")[0])["numbers"]
    assert number["outcome"] is None and number["estimate"] == pytest.approx(1.0)


def test_the_page_names_every_claim_and_escapes_what_it_is_given(book, claims_text):
    book(claims_text.replace("statement: x grows", "statement: x <script>alert(1)</script> & grows"))
    claims.record("grows", {"x": VALUES}, profile="laptop", device="cpu", seeds=range(5))
    html = page(claims.ledger("laptop"), profile="laptop")
    assert "<script" not in html and "&lt;script&gt;" in html
    for name in claims.load_claims():
        assert f'id="claim-{name}"' in html and f'href="#claim-{name}"' in html
    assert "mean of x &gt; 0" in html and "python 3." in html


def test_a_folder_that_cannot_be_written_is_named(recorded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write into"):
        export.write(tmp_path / "file", recorded, profile="laptop")


@given(st.lists(st.sampled_from(VERDICTS), max_size=40))
def test_the_numbers_of_a_badge_add_up_to_all_claims(verdicts):
    words = badges.in_words(verdicts).split(", ")
    assert sum(int(word.split()[0]) for word in words if word != "none") == len(verdicts)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30))
def test_a_badge_is_whole_xml_and_keeps_every_text_inside_its_half(text):
    root = ElementTree.fromstring(badges.badge("label", text))
    space = "{http://www.w3.org/2000/svg}"
    texts = list(root.iter(f"{space}text"))
    assert texts[1].text == (text or None) and root.find(f"{space}title").text == f"label: {text}"
    starts = [float(t.get("x")) for t in texts]
    ends = [start + float(t.get("textLength")) for start, t in zip(starts, texts, strict=True)]
    assert ends[0] < starts[1] and ends[1] < float(root.get("width"))


def test_badges_load_nothing(recorded, tmp_path):
    for path in export.write(tmp_path, recorded, profile="laptop"):
        if path.suffix == ".svg":
            assert path.read_text().count("http") == 1, path.name  # the name space, which is no address
