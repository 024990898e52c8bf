"""The ledger's notebook, executed: with nothing recorded, and with records."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from lop_utils.evidence import claims
from lop_utils.kit import reference

ROOT = Path(__file__).resolve().parents[2]


def execute(profile):
    """The HTML of the executed page's tables."""
    notebook = nbformat.read(ROOT / "book" / "ledger.ipynb", 4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source += f'\nprofile, device = "{profile}", "cpu"'
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(ROOT))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert all(output.output_type != "stream" for output in outputs)
    return "\n".join(output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}))


@pytest.fixture(autouse=True)
def real_book(results, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(ROOT))


def test_the_page_shows_every_claim_when_nothing_is_recorded():
    html = execute("smoke")
    for name in claims.load_claims():
        assert f'<th scope="row">{name}</th>' in html
    captions = re.findall("<caption>(.*?)</caption>", html)
    chapters = {int(claim.chapter[:2]) for claim in claims.load_claims().values()}
    assert [int(caption[8:].split(":")[0]) for caption in captions if caption.startswith("Chapter ")] == sorted(
        chapters
    )
    others = [caption for caption in captions if not caption.startswith("Chapter ")]
    recorded = [caption for caption in others if caption.startswith("Base seed ")]  # one for each other base seed
    assert len(others) - len(recorded) == 4 and len(recorded) == len(reference.other_seeds("laptop"))


def test_the_page_shows_verdict_interval_and_origin_of_a_record():
    claims.record("clone-sgd-confined", {"r2_last": [1.0] * 5}, profile="laptop", device="cpu", seeds=range(5))
    claims.record("T23", {"dimension_mismatch": [1.0]}, profile="laptop", device="cpu", seeds=[0])
    html = execute("laptop")
    assert "every r2_last &gt;= 0.999999; measured 1 (range 1 to 1, n = 5): holds" in html
    assert "not reproduced" in html and "laptop profile, cpu, seeds 0, 1, 2, 3, 4" in html
