"""Stored results that are damaged or out of date: named, and computed again."""

import logging

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_toy import Config, Counted

from lop_utils.evidence import files, store


@pytest.fixture
def toy(results):
    return Counted()


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def damage_empty(path):
    path.write_bytes(b"")


def damage_sidecar_missing(path):
    path.with_suffix(".json").unlink()


def damage_sidecar_flip(path):
    damage_flip(path.with_suffix(".json"))


def damage_sidecar_edit(path):
    sidecar = path.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"seeds"', '"sead"'))


def damage_sidecar_truncate(path):
    damage_truncate(path.with_suffix(".json"))


def damage_sidecar_not_a_record(path):
    path.with_suffix(".json").write_text("[1, 2]")


def damage_sidecar_sealed_but_empty(path):
    path.with_suffix(".json").write_bytes(files.seal({}))


def damage_data_missing(path):
    path.unlink()


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.removeprefix("damage_"))
def test_a_damaged_result_is_named_in_a_warning_and_computed_again(toy, caplog, damage):
    first = toy.fetch()
    whole = first.path.read_bytes()
    damage(first.path)
    with caplog.at_level(logging.WARNING):
        again = toy.fetch()
    assert again.fresh and toy.runs == 2
    assert [record for record in caplog.records if str(first.path) in record.getMessage()]
    assert again.path.read_bytes() == whole
    caplog.clear()
    assert not toy.fetch().fresh and not caplog.records


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), suffix=st.sampled_from([".parquet", ".json"]))
def test_no_single_flipped_bit_goes_unnoticed(results, position, bit, suffix):
    toy = Counted()
    first = toy.fetch()
    path = first.path.with_suffix(suffix)
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))
    runs = toy.runs
    again = toy.fetch()
    same_record = suffix == ".json" and not again.fresh  # a flip in insignificant white space alters nothing
    assert (again.fresh and toy.runs == runs + 1) or (same_record and again.provenance == first.provenance)
    pd.testing.assert_frame_equal(again.frame, first.frame, check_exact=True)


def test_a_result_from_other_sources_is_named_with_the_source_and_computed_again(toy, caplog):
    toy.fetch()
    toy.modules = ["lop_utils.profiles"]
    with caplog.at_level(logging.WARNING):
        assert toy.fetch().fresh
    assert "another version" in caplog.text and "lop_utils.profiles" in caplog.text


def test_a_result_from_other_libraries_is_named_with_the_library(toy, caplog, monkeypatch):
    toy.fetch()
    installed = store.library_versions()
    monkeypatch.setattr(store, "library_versions", lambda: {**installed, "torch": "0.1"})
    with caplog.at_level(logging.WARNING):
        assert toy.fetch().fresh
    assert "torch changed" in caplog.text


def test_a_result_in_another_format_is_computed_again(toy, monkeypatch):
    toy.fetch()
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    assert toy.fetch().fresh


def test_tools_that_do_not_touch_numbers_do_not_make_results_stale(toy, monkeypatch):
    toy.fetch()
    installed = store.library_versions()
    monkeypatch.setattr(store, "library_versions", lambda: {**installed, "matplotlib": "0.1"})
    assert not toy.fetch().fresh


def test_what_a_process_computes_after_an_edit_of_its_sources_does_not_outlive_it(toy, monkeypatch, caplog):
    monkeypatch.setattr(store, "edited_since_loaded", lambda sources: ["lop_utils.errors"])
    assert toy.fetch().fresh
    assert "lop_utils.errors changed" in caplog.text
    assert not toy.fetch().fresh
    monkeypatch.setattr(store, "SESSION", store.SESSION + 1)
    assert toy.fetch().fresh


def test_a_result_copied_under_another_key_is_not_used(results):
    one, two = Counted(Config(seed=1)), Counted(Config(seed=2))
    first, second = one.fetch(), two.fetch()
    for suffix in (".parquet", ".json"):
        second.path.with_suffix(suffix).write_bytes(first.path.with_suffix(suffix).read_bytes())
    again = two.fetch()
    assert again.fresh
    pd.testing.assert_frame_equal(again.frame, second.frame, check_exact=True)
