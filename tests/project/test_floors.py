import pytest
from floors import BASE, FLOORS, violations
from project_files import ROOT

PACKAGE = ROOT / "lop_utils"


def test_every_floor_imports_only_from_floors_below_it():
    assert violations(PACKAGE) == []


def test_every_room_of_the_package_is_a_known_floor():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders == set(FLOORS)
    assert modules == set(BASE)


@pytest.mark.parametrize(
    ("room", "line", "problem"),
    [
        ("models", "from lop_utils.metrics.units import dead", "models stands below metrics"),
        ("models", "def f():\n    import lop_utils.kit.cli", "models stands below kit"),
        ("models", "from lop_utils import training", "models stands below training"),
        ("models", "from ..evidence import store", "models stands below evidence"),
        ("theory", "import torch", "only numpy"),
        ("theory", "from lop_utils.device import resolve", "does not use device"),
        ("metrics", "from lop_utils.misc import thing", "misc is not a floor"),
    ],
)
def test_an_upward_import_is_found(tmp_path, room, line, problem):
    folder = tmp_path / "lop_utils" / room
    folder.mkdir(parents=True)
    (folder / "bad.py").write_text(line)
    (found,) = violations(tmp_path / "lop_utils")
    assert problem in found


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("metrics", "from lop_utils.models.spaces import Space"),
        ("metrics", "from . import units"),
        (
            "theory",
            "import math\nimport numpy as np\nfrom scipy.special import erf\nfrom lop_utils.errors import UsageError",
        ),
        ("kit", "import torch\nfrom lop_utils.evidence import store"),
    ],
)
def test_a_downward_import_is_allowed(tmp_path, room, line):
    folder = tmp_path / "lop_utils" / room
    folder.mkdir(parents=True)
    (folder / "good.py").write_text(line)
    assert violations(tmp_path / "lop_utils") == []
