"""What the project's own files say, parsed."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"pytorch": "torch"}  # conda-forge's name: the name in pyproject.toml


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch):
    """The script of benchmarks/ of that name, as a module; it finds the others beside it while the test runs."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def by_name(lines: list[str]) -> dict[str, Requirement]:
    """Requirements under their canonical names."""
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def extras() -> dict[str, Requirement]:
    return by_name([line for lines in project()["optional-dependencies"].values() for line in lines])


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return by_name([line for line in lines if line and not line.startswith("#")])


def environment() -> dict[str, Requirement]:
    """The dependencies of environment.yml under pyproject's names, without python, pip and the project itself."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [line for line in lines if isinstance(line, str)]
    pip = [line for group in lines if isinstance(group, dict) for line in group["pip"] if not line.startswith("-e")]
    named = by_name(conda + pip)
    return {CONDA_NAMES.get(name, name): r for name, r in named.items() if name not in ("python", "pip")}


def tracked() -> list[Path]:
    """Files of the project that git knows or would add, without the vendored ones."""
    try:
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, check=True, text=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    files = [ROOT / name for name in names.split("\0") if name]
    return [path for path in files if path.is_file() and "vendor" not in path.parts]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
