"""What a result was made from: sources, library versions, device, seeds, time."""

import ast
import dataclasses
import enum
import functools
import hashlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

import lop_utils
from lop_utils.errors import UsageError
from lop_utils.evidence.paths import PACKAGE

LIBRARIES = (
    "torch", "numpy", "scipy", "numba", "pandas", "pyarrow", "scikit-learn", "matplotlib", "seaborn", "mnist1d",
    "papermill", "jupyter-book", "lop-book",
)  # fmt: skip
_ROOT = lop_utils.__name__
_first_seen: dict[str, str] = {}  # module -> sha256 of its source when this process first looked


def canonical(obj: object) -> object:
    """`obj` as JSON data: dataclasses as objects, sets sorted, numpy scalars as numbers, devices and paths as text.

    Raises `TypeError` naming the type of anything else.
    """
    if obj is None or (isinstance(obj, bool | int | float | str) and not isinstance(obj, enum.Enum | np.generic)):
        return obj
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {field.name: canonical(getattr(obj, field.name)) for field in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        if not all(isinstance(key, str) for key in obj):
            raise TypeError(f"keys must be text to be digested, got {list(obj)!r}")
        return {key: canonical(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [canonical(value) for value in obj]
    if isinstance(obj, set | frozenset):
        return sorted((canonical(value) for value in obj), key=_dumps)
    if isinstance(obj, enum.Enum):
        return canonical(obj.value)
    if isinstance(obj, np.generic):
        return canonical(obj.item())
    if isinstance(obj, torch.device | torch.dtype | Path):
        return str(obj)
    raise TypeError(f"cannot digest a {type(obj).__name__}: {obj!r}")


def _dumps(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(obj: object) -> str:
    """sha256 of the canonical JSON of `obj`: equal content gives equal digests, whatever the order of keys.

    >>> digest({"a": 1.0, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1.0})
    True
    >>> digest({"a": 1.0}) == digest({"a": 1})
    False
    """
    return hashlib.sha256(_dumps(canonical(obj)).encode()).hexdigest()


def _source_file(module: str) -> Path | None:
    """The source of `module`, or None where there is no such module in this package or among the loaded ones."""
    head, *tail = module.split(".")
    if head == _ROOT:
        stem = PACKAGE.joinpath(*tail)
        return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    return Path(loaded) if loaded and loaded.endswith(".py") else None


def _with_packages(module: str) -> list[str]:
    """`a.b.c` -> [`a`, `a.b`, `a.b.c`]: importing a module runs the `__init__` of every package above it."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def imports_of_code(code: str, *, package: str = "") -> set[str]:
    """Modules of this package that `code` imports, anywhere in it; `package` resolves relative imports.

    >>> sorted(imports_of_code("from lop_utils.evidence import stats"))
    ['lop_utils', 'lop_utils.evidence', 'lop_utils.evidence.stats']
    """
    return {name for name in _named_imports(code, package) if _source_file(name)}


@functools.cache
def _named_imports(code: str, package: str) -> frozenset[str]:
    """What `code` imports under this package's name, whether there is such a module or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == _ROOT:
                found.update(_with_packages(name))
    return frozenset(found)


def source_closure(modules: Iterable[str]) -> dict[str, str]:
    """sha256 of the source of `modules` and of every module of this package that they reach through imports.

    Imports are read from the syntax tree (inside functions too), nothing is imported. A module from outside the package
    counts when it is loaded from a file. Raises `UsageError` for a module without source.

    >>> sorted(source_closure(["lop_utils.profiles"]))
    ['lop_utils', 'lop_utils.errors', 'lop_utils.profiles']
    """
    waiting, closure = [], {}
    for name in modules:
        if _source_file(name) is None:
            raise UsageError(f"module {name!r} has no source file", remedy="name an importable module, not a notebook")
        waiting += [name, *(part for part in _with_packages(name) if _source_file(part))]
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        path = _source_file(name)
        source = path.read_bytes()
        closure[name] = hashlib.sha256(source).hexdigest()
        _first_seen.setdefault(name, closure[name])
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += imports_of_code(source.decode(), package=package)
    return dict(sorted(closure.items()))


def edited_since_loaded(closure: Mapping[str, str]) -> list[str]:
    """Modules of `closure` whose source changed after this process first looked: what runs may be the old code."""
    return [name for name, sha in closure.items() if _first_seen.get(name, sha) != sha and name in sys.modules]


def library_versions() -> dict[str, str]:
    """Versions of python and of the libraries that results depend on; `absent` where one is not installed."""
    return {"python": platform.python_version(), **{name: _installed(name) for name in LIBRARIES}}


@functools.cache  # what was loaded first is what this process runs
def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return lop_utils.__version__ if name == "lop-book" else "absent"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def provenance(*, device: torch.device | str, seeds: Iterable[int], wall_s: float, **extra: object) -> dict:
    """Where, when and with what a result was made, as JSON data; `wall_s` in seconds, `date` in UTC."""
    device = torch.device(device)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "seeds": [int(seed) for seed in seeds],
        "wall_s": round(float(wall_s), 3),
        "versions": library_versions(),
        **canonical(extra),
    }
