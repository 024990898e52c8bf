"""Digests, source closures and provenance."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lop_utils
from lop_utils.errors import UsageError
from lop_utils.evidence import provenance

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
data = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    widths: tuple[int, ...] = (16, 16)


@given(st.dictionaries(st.text(max_size=3), data, max_size=4))
def test_the_order_of_keys_does_not_change_a_digest(mapping):
    assert provenance.digest(mapping) == provenance.digest(dict(reversed(mapping.items())))


@given(data, data)
def test_digests_are_equal_exactly_when_the_content_is(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (provenance.digest(a) == provenance.digest(b)) == same


def test_floats_count_to_the_last_bit():
    assert provenance.digest(0.1 + 0.2) != provenance.digest(0.3)


def test_a_dataclass_has_the_digest_of_its_fields_and_tuples_that_of_lists():
    assert provenance.digest(Config()) == provenance.digest({"rate": 0.1, "widths": [16, 16]})
    assert provenance.digest(Config(rate=0.2)) != provenance.digest(Config())


def test_numpy_scalars_devices_sets_and_paths_have_digests():
    assert provenance.digest(np.float64(0.1)) == provenance.digest(0.1)
    assert provenance.digest(torch.device("cpu")) == provenance.digest("cpu")
    assert provenance.digest({"b", "a"}) == provenance.digest(["a", "b"])
    assert provenance.digest(Path("x")) == provenance.digest("x")


@pytest.mark.parametrize("value", [object(), len, np.zeros(2), Config, {1: 2}])
def test_what_has_no_stable_content_is_refused(value):
    with pytest.raises(TypeError, match=r"digest"):
        provenance.digest(value)


def test_a_digest_is_the_same_in_another_process():
    code = "from lop_utils.evidence.provenance import digest; print(digest({'a': {3, 1, 2}, 'b': ('x', 0.1)}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == provenance.digest({"a": {3, 1, 2}, "b": ("x", 0.1)})


def test_the_closure_is_what_an_import_really_loads():
    """Oracle: the modules of the package that a fresh interpreter has loaded after the import."""
    code = "import sys, lop_utils.evidence.claims; print(*[m for m in sys.modules if m.split('.')[0] == 'lop_utils'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert loaded <= set(provenance.source_closure(["lop_utils.evidence.claims"]))


@pytest.mark.parametrize(
    "code",
    [
        "import lop_utils.errors",
        "import lop_utils.errors as e",
        "from lop_utils import errors",
        "from lop_utils.errors import UsageError",
        "def f():\n    if True:\n        from lop_utils.errors import UsageError",
        "try:\n    import lop_utils.errors\nexcept ImportError:\n    pass",
    ],
)
def test_every_form_of_import_is_seen(code):
    assert provenance.imports_of_code(code) == {"lop_utils", "lop_utils.errors"}


def test_relative_imports_are_resolved():
    found = provenance.imports_of_code(
        "from . import stats\nfrom ..errors import UsageError", package="lop_utils.evidence"
    )
    assert {"lop_utils.evidence.stats", "lop_utils.errors"} <= found


def test_other_packages_are_no_part_of_the_closure():
    assert provenance.imports_of_code("import torch, lop_utilsx\nfrom numpy import array") == set()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules that stands in for this one: a imports b inside a function, c is alone."""
    folder = tmp_path / "lop_utils"
    folder.mkdir()
    for name, source in {
        "__init__": "",
        "a": "def f():\n    from lop_utils import b\n",
        "b": "x = 1\n",
        "c": "",
    }.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    monkeypatch.setattr(provenance, "_first_seen", {})
    return folder


def test_an_edit_below_changes_the_closure_and_an_edit_elsewhere_does_not(package):
    before = provenance.source_closure(["lop_utils.a"])
    assert set(before) == {"lop_utils", "lop_utils.a", "lop_utils.b"}
    (package / "c.py").write_text("y = 2\n")
    assert provenance.source_closure(["lop_utils.a"]) == before
    (package / "b.py").write_text("x = 2\n")
    after = provenance.source_closure(["lop_utils.a"])
    assert [name for name in before if before[name] != after[name]] == ["lop_utils.b"]


def test_a_loaded_module_that_changed_on_disk_is_named(package, monkeypatch):
    provenance.source_closure(["lop_utils.a"])
    (package / "b.py").write_text("x = 2\n")
    monkeypatch.setitem(sys.modules, "lop_utils.b", object())
    assert provenance.edited_since_loaded(provenance.source_closure(["lop_utils.a"])) == ["lop_utils.b"]


def test_cycles_of_imports_end(package):
    (package / "b.py").write_text("import lop_utils.a\n")
    assert set(provenance.source_closure(["lop_utils.a"])) == {"lop_utils", "lop_utils.a", "lop_utils.b"}


def test_a_module_without_source_is_named():
    with pytest.raises(UsageError, match=r"lop_utils\.nothing"):
        provenance.source_closure(["lop_utils.nothing"])


def test_versions_name_every_library_and_this_package():
    versions = provenance.library_versions()
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert versions["numpy"] == np.__version__
    assert versions["lop-book"] == lop_utils.__version__
    assert set(provenance.LIBRARIES) | {"python"} == set(versions)


def test_provenance_is_json_with_device_seeds_time_and_extras():
    made = provenance.provenance(device="cpu", seeds=range(3), wall_s=1.23456, profile="smoke")
    assert json.loads(json.dumps(made)) == made
    assert (made["device"], made["seeds"], made["wall_s"], made["profile"]) == ("cpu", [0, 1, 2], 1.235, "smoke")
