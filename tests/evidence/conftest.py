"""A book of its own and an empty results folder for every test."""

import textwrap

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

CLAIMS = """
claims:
  - id: grows
    kind: empirical
    statement: x grows
    where: the experiment on x
    chapter: 05_cloning
    quantity: x
    paper_reports: it grows
    criterion:
      as_stated:
        - {measure: x, statistic: mean, op: ">", value: 0, min_n: 5}
      corrected:
        statement: x stays above -1
        tests:
          - {measure: x, statistic: mean, op: ">", value: -1, min_n: 5}
  - id: T1
    kind: theory
    statement: to be judged
    where: the definition
    chapter: 06_stability
    quantity: distance
    paper_reports: zero
    criterion: null
"""


@pytest.fixture
def claims_text():
    """The text of the claims file that `book` starts with."""
    return CLAIMS


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder that holds this test's results."""
    folder = tmp_path / "results"
    monkeypatch.setenv("LOP_RESULTS", str(folder))
    return folder


@pytest.fixture
def book(tmp_path, monkeypatch, results):
    """A book's root with two claims; returns a function that replaces the text of claims.yml."""
    root = tmp_path / "root"
    (root / "book").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\n")
    monkeypatch.setenv("LOP_BOOK", str(root))

    def write(text):
        (root / "book" / "claims.yml").write_text(textwrap.dedent(text))
        return root

    write(CLAIMS)
    return write
