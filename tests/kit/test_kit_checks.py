"""What `lop check` finds, on results written by hand."""

import json

import nbformat
import pytest
from kit_book import claim

from lop_utils.errors import UsageError
from lop_utils.evidence import claims
from lop_utils.kit import checks, pages, reference, stamps
from lop_utils.kit.overview import overview

CLAIMS = [claim("a", "01_one"), claim("b", "02_two"), claim("c", "07_later", at_least=None)]


def settle(name="01_one", values=None, profile="laptop", seed=0):
    """Make a chapter count as executed, with a record of `values` of x for each claim in `values`."""
    page = next(page for page in pages.chapters() if page.name == name)
    stamps.folder(profile).mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.read(page.path, as_version=4), stamps.executed(page, profile))
    for one, x in (values or {}).items():
        claims.record(one, {"x": x}, profile=profile, device="cpu", seeds=[seed])
    made_from = stamps.dependencies(page, pages.read(page.path), {"profile": profile, "device": "cpu", "seed": seed})
    left = {one: sha for one, (sha, _) in stamps.records(page, profile).items()}
    stamps.write(page, profile, made_from=made_from, left=left, seconds=12.34)


@pytest.fixture
def sound(make_book):
    """A book in which all is well: both chapters ran and judged their claims."""
    book = make_book({"01_one": ["x = 1"], "02_two": ["y = 2"]}, CLAIMS)
    settle("01_one", {"a": [2.0, 3.0]})
    settle("02_two", {"b": [0.0, 0.5]})
    return book


def test_a_sound_book_has_no_problem_and_its_verdicts_are_counted(sound):
    found = checks.check("laptop")
    assert found.problems == ()
    assert found.counts == {"reproduced": 1, "not reproduced": 1, "not judged": 1}
    assert any("no site" in note for note in found.notes)


def test_a_chapter_that_was_not_run_is_noted_but_no_problem(sound):
    found = checks.check("paper")
    assert found.problems == ()
    assert [note for note in found.notes if "not run" in note] == [
        "not run at profile paper: 01_one", "not run at profile paper: 02_two",
    ]  # fmt: skip


def test_a_notebook_with_outputs_is_a_problem(sound):
    content = sound.read("01_one")
    content.cells[-1].execution_count = 1
    sound.write("01_one", content)
    (problem,) = checks.check("laptop").problems
    assert problem.startswith("01_one.ipynb has outputs; run: nbstripout --keep-id")


def test_a_claim_of_a_misspelt_chapter_is_a_problem_and_one_of_a_planned_chapter_is_not(sound):
    misspelt = [claim("d", "01_won", at_least=None), claim("e", "09_one", at_least=None)]
    sound.write_claims([*CLAIMS, *misspelt])  # the same number; nearly the same name is planned: another number
    assert checks.check("laptop").problems == ("claim d: chapter 01_won is not in the book; did you mean 01_one?",)
    sound.write_claims([*CLAIMS, claim("f", "11_two_and_more", at_least=None)])
    assert checks.check("laptop").problems == ()


def test_a_claims_file_that_breaks_its_schema_is_a_usage_error(sound):
    sound.write_claims([{**CLAIMS[0], "kind": "guess"}])
    with pytest.raises(UsageError, match="claim a, kind: 'guess' is unknown"):
        checks.check("laptop")


def test_results_that_are_not_up_to_date_are_a_problem(sound):
    sound.edit("01_one", "x = 1", "x = 2")
    assert checks.check("laptop").problems == (
        "01_one is not up to date: its code cells changed; run: lop run --profile laptop",
    )


def test_a_failed_run_is_a_problem(sound):
    page = pages.chapters()[0]
    stamps.failed(page, "laptop").write_text("{}")
    (problem,) = checks.check("laptop").problems
    assert problem.startswith("01_one: its last run failed, see ")


def test_a_claim_with_a_criterion_that_its_chapter_did_not_judge_is_a_problem(make_book):
    make_book({"01_one": ["x = 1"]}, CLAIMS)
    settle("01_one")
    assert checks.check("laptop").problems == ("claim a has a criterion, but the last run of 01_one did not judge it",)


def test_a_criterion_changed_after_the_result_is_a_problem(sound):
    sound.write_claims([claim("a", "01_one", at_least=1.5), *CLAIMS[1:]])
    problems = checks.check("laptop").problems
    assert "01_one is not up to date: its claims changed; run: lop run --profile laptop" in problems
    assert any(p.startswith("claim a: its criterion changed after it was measured") for p in problems)


def test_a_lost_record_is_a_problem(sound):
    (stamps.folder("laptop").parent / "claims" / "a.json").unlink()
    problems = checks.check("laptop").problems
    assert "claim a: not run yet; run: lop run 01_one --profile laptop" in problems


def test_the_smoke_profile_needs_records_too_although_nothing_is_judged(make_book):
    make_book({"01_one": ["x = 1"]}, CLAIMS)
    settle("01_one", {"a": [0.0]}, profile="smoke")
    found = checks.check("smoke")
    assert found.problems == () and found.counts == {"not judged": 3}
    settle("01_one", profile="smoke")
    (stamps.folder("smoke").parent / "claims" / "a.json").unlink()
    assert checks.check("smoke").problems


def test_recorded_verdicts_are_what_a_fresh_run_is_held_against(sound, monkeypatch):
    assert checks.check("laptop", record=True).problems == ()
    stored = json.loads((sound.home / "reference" / "laptop" / "verdicts.json").read_text())
    assert {name: entry["verdict"] for name, entry in stored["verdicts"].items()} == {
        "a": "reproduced", "b": "not reproduced",
    }  # fmt: skip
    assert stored["versions"]["torch"]
    assert checks.check("laptop").problems == ()
    settle("01_one", {"a": [0.0, 3.0]})
    assert checks.check("laptop").problems == (
        "claim a drifted: reproduced in the reference, not reproduced now; no library changed since",
    )
    stored["versions"]["torch"] = "0.1"
    reference.path_of("laptop").write_text(json.dumps(stored))
    (problem,) = checks.check("laptop").problems
    assert "; changed since: torch 0.1 -> " in problem and "numpy" not in problem


def test_another_base_seed_is_recorded_beside_the_reference_and_only_contrary_verdicts_are_drift(sound):
    checks.check("laptop", record=True)
    settle("01_one", {"a": [0.0, 0.5]}, seed=1000)
    assert checks.check("laptop", record=True).problems == (
        "the chapters ran with base seeds 0 and 1000; run them all with one",
    )
    settle("02_two", {"b": [2.0, 3.0, 0.5]}, seed=1000)
    found = checks.check("laptop")
    assert [problem.partition(";")[0] for problem in found.problems] == [
        "claim a drifted: reproduced in the reference, not reproduced now at base seed 1000",
    ]
    recorded = checks.check("laptop", record=True).recorded
    assert recorded == sound.home / "reference" / "laptop" / "seed_1000.json"
    assert json.loads(reference.path_of("laptop").read_text())["verdicts"]["a"]["verdict"] == "reproduced"
    (seeds,) = reference.other_seeds("laptop").items()
    assert seeds == (
        1000, {"same": [("b", "not reproduced", "not reproduced")], "undecided": [],
               "contrary": [("a", "reproduced", "not reproduced")]},
    )  # fmt: skip
    shown = reference.seeds_table("laptop")
    assert (
        "of 2 claims judged from both, 1 have the same verdict, 0 are inconclusive from one, 1 have contrary ones"
        in shown.html
    )
    assert '<th scope="row">a</th><td>reproduced</td><td>not reproduced</td>' in shown.html


def test_a_claim_that_another_base_seed_contradicts_is_inconclusive_wherever_verdicts_are_summed_up(sound):
    checks.check("laptop", record=True)
    badge = reference.path_of("laptop").with_name("claims.svg")
    assert [v.verdict for v in reference.ledger("laptop")] == ["reproduced", "not reproduced", "not judged"]
    assert ">1 reproduced, 1 not<" in badge.read_text()
    settle("01_one", {"a": [0.0, 0.5]}, seed=1000)
    settle("02_two", {"b": [2.0, 3.0, 0.5]}, seed=1000)
    checks.check("laptop", record=True)
    assert {v.verdict for v in claims.ledger("laptop")[:2]} == {"not reproduced"}  # what this run says
    first, second, _ = reference.ledger("laptop")
    assert (first.verdict, second.verdict) == ("inconclusive", "not reproduced")
    assert first.reason == "not reproduced in this run, but reproduced from base seed 0"
    assert ">1 not, 1 open<" in badge.read_text()
    settle("01_one", {"a": [2.0, 3.0]})
    first = reference.ledger("laptop")[0]
    assert first.reason == "reproduced in this run, but not reproduced from base seed 1000"


def test_a_verdict_that_another_base_seed_leaves_open_is_a_note(sound):
    checks.check("laptop", record=True)
    stored = json.loads(reference.path_of("laptop").read_text())
    stored["verdicts"]["a"]["verdict"] = "inconclusive"
    reference.path_of("laptop").write_text(json.dumps(stored))
    assert checks.check("laptop").problems  # from the same seeds it would be drift
    settle("01_one", {"a": [2.0, 3.0]}, seed=7)
    settle("02_two", {"b": [0.0, 0.5]}, seed=7)
    found = checks.check("laptop")
    assert found.problems == () and any("at base seed 7" in note for note in found.notes)
    checks.check("laptop", record=True)
    assert reference.other_seeds("laptop")[7]["undecided"] == [("a", "inconclusive", "reproduced")]


def test_another_base_seed_may_be_recorded_for_some_chapters_but_the_reference_is_for_all(sound):
    checks.check("laptop", record=True)
    for path in (stamps.stamp_of, stamps.executed):
        path(pages.chapters()[1], "laptop").unlink()
    assert checks.check("laptop", record=True).problems == ("not run at profile laptop: 02_two",)
    settle("01_one", {"a": [2.0, 3.0]}, seed=7)
    assert checks.check("laptop", record=True).recorded.name == "seed_7.json"
    assert reference.other_seeds("laptop")[7]["same"] == [("a", "reproduced", "reproduced")]


def test_without_a_second_base_seed_the_table_says_so(sound):
    assert "No second base seed" in reference.seeds_table("laptop").html


def test_recording_is_refused_while_something_is_wrong_or_not_run(sound):
    sound.edit("01_one", "x = 1", "x = 2")
    assert checks.check("laptop", record=True).problems
    assert checks.check("paper", record=True).problems
    assert not reference.path_of("laptop").exists() and not reference.path_of("paper").exists()
    with pytest.raises(UsageError, match="smoke judges nothing"):
        checks.check("smoke", record=True)


def test_a_claim_that_left_the_book_and_a_damaged_reference_are_named(sound):
    checks.check("laptop", record=True)
    sound.write_claims([CLAIMS[0], CLAIMS[2]])
    settle("02_two")
    assert checks.check("laptop").problems == (
        "claim b is in the reference but not in claims.yml; run: lop check --record",
    )
    reference.path_of("laptop").write_text("{}")
    (problem,) = checks.check("laptop").problems
    assert "cannot be read" in problem


def test_a_site_that_loads_from_elsewhere_is_a_problem(sound):
    (sound.home / "_site").mkdir()
    page = sound.home / "_site" / "index.html"
    page.write_text('<a href="https://example.org">x</a>')
    assert checks.check("laptop").problems == ()
    page.write_text('<script src="https://example.org/x.js"></script>')
    assert checks.check("laptop").problems == (
        "index.html loads <script src=https://example.org/x.js> from another host",
    )


def test_the_overview_has_state_time_and_verdicts(sound):
    sound.edit("02_two", "y = 2", "y = 3")
    one, two = overview("laptop")
    assert (one.name, one.title, one.state, one.seconds) == ("01_one", "A title", "up to date", 12.34)
    assert one.counts == {"reproduced": 1}
    assert two.state == "outdated: its code cells changed"
