"""The dependency direction of lop_utils, read from its source: a floor imports only from floors below it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# from the roof down; a floor may import itself and what stands after it
FLOORS = (
    "kit",
    "figures",
    "experiments",
    "evidence",
    "training",
    "streams",
    "optim",
    "manifolds",
    "metrics",
    "models",
    "theory",
)
BASE = ("errors", "device", "profiles")  # single modules, usable everywhere
THEORY_MAY_USE = {"numpy", "scipy", "lop_utils"} | set(sys.stdlib_module_names)
THEORY_BASE = {"errors"}


def imported(path: Path, package: Path) -> Iterator[tuple[str, ...]]:
    """Every module that a file imports, also inside functions, as name parts; relative imports made absolute."""
    here = (package.name, *path.relative_to(package).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level] if node.level else ()
            stem = (*start, *(node.module.split(".") if node.module else ()))
            yield from ((*stem, alias.name) for alias in node.names)


def violations(package: Path) -> list[str]:
    """Imports that go upwards, and imports of `theory` beyond numpy, scipy and the standard library."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        for name in imported(path, package):
            problem = _problem(room, name, package.name)
            if problem:
                found.append(f"{path.relative_to(package.parent)}: {'.'.join(name)}: {problem}")
    return found


def _problem(room: str, name: tuple[str, ...], package: str) -> str:
    if room == "theory" and name[0] not in THEORY_MAY_USE:
        return "theory uses only numpy, scipy and the standard library"
    if name[0] != package or len(name) == 1:
        return ""
    target = name[1]
    if target not in (*FLOORS, *BASE, "__version__"):
        return f"{target} is not a floor"
    if target in FLOORS and room not in FLOORS:
        return f"{room} stands below every floor"
    if target in FLOORS and FLOORS.index(target) < FLOORS.index(room):
        return f"{room} stands below {target}"
    if room == "theory" and target not in ("theory", *THEORY_BASE):
        return f"theory does not use {target}"
    return ""
