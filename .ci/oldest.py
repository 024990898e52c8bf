"""The oldest supported libraries, as constraints for pip: every lower bound of pyproject.toml, dev extra included.

python .ci/oldest.py [NAME ...] > oldest.txt    # without the names given, which then may be newer
pip install -e '.[dev]' -c oldest.txt
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def lower_bounds(pyproject: Path) -> dict[str, str]:
    """Name and lower bound of each dependency, those of the dev extra among them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    bounds = {}
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        bounds[requirement.name] = next(part.version for part in requirement.specifier if part.operator == ">=")
    return bounds


if __name__ == "__main__":
    for name, bound in lower_bounds(ROOT / "pyproject.toml").items():
        if name not in sys.argv[1:]:
            print(f"{name}=={bound}")
