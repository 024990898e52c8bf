"""Experiment results, stored under the digest of what was asked and never used unless they are whole and current.

<results>/store/<experiment>/<key>.parquet    the data and nothing else: the same seed gives the same bytes
<results>/store/<experiment>/<key>.json       its checksum, the version of what made it, its provenance; written last
<results>/store/<experiment>/<key>.unfinished checkpoints of a run that has not finished, see `evidence.unfinished`
"""

import contextlib
import importlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lop_utils.errors import UsageError
from lop_utils.evidence.files import Unusable, alone, locked, prepare, seal, sha256, sweep, unseal, write_atomically
from lop_utils.evidence.paths import results_root
from lop_utils.evidence.provenance import (
    canonical,
    digest,
    edited_since_loaded,
    library_versions,
    provenance,
    source_closure,
)
from lop_utils.evidence.unfinished import Unfinished
from lop_utils.training.checkpoint import kept_by

log = logging.getLogger(__name__)
FORMAT = 1
SESSION = time.time_ns()
NUMERICAL = ("python", "torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "mnist1d")
COMPILED = "lop_utils.training.compiled"  # a result whose sources include it depends on numba
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Result:
    """One experiment's data with where it came from; `fresh` says that this call computed it."""

    frame: pd.DataFrame
    provenance: dict
    path: Path
    fresh: bool


def fetch(
    name: str,
    config: object,
    compute: Callable[[], pd.DataFrame],
    *,
    device: torch.device | str,
    modules: Iterable[str],
    resume: bool = True,
) -> Result:
    """The stored result of experiment `name` for `config` on this kind of device; computed and stored if need be.

    The key is the digest of (name, config, device type). A stored result counts only if its checksum matches and it was
    made by the same sources (`modules` and what they import from this package) and numerical libraries; one that does
    not is named in a warning and computed again. `compute` returns a frame with a plain range index. An interrupted
    call leaves checkpoints behind, where `compute` makes any (`training.checkpoint`), and nothing else; the next call
    goes on from them, or starts anew without `resume`. Of two processes of one machine that want the same result, one
    computes and the other waits for it; on two machines with one store both compute, and the first to finish stores.

    Raises `UsageError` for a bad name and a frame that cannot be stored, `TypeError` for a config that has no digest.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"experiment name {name!r} is not a name", remedy="use lower-case letters, digits, - and _")
    device, version = torch.device(device), _version(modules)
    path = place(name, config, device)
    with alone(path):
        run = Unfinished(path, {"key": path.stem, **version})
        stored = _load(path, path.stem, version)
        if stored is None:
            if not resume:
                run.clear()
            stored = _computed(name, config, compute, device, run, path)
            run.clear()
        return stored


def result_of(experiment: ModuleType, config: object, *, device: torch.device | str, resume: bool = True) -> Result:
    """`fetch` for a module with NAME and ``run(config, device) -> DataFrame``: chapters and grids ask in this way."""
    device = torch.device(device)
    compute = lambda: experiment.run(config, device)  # noqa: E731
    return fetch(experiment.NAME, config, compute, device=device, modules=[experiment.__name__], resume=resume)


def begun(name: str, config: object, *, device: torch.device | str) -> bool:
    """Whether there are checkpoints of a run that is not finished."""
    return Unfinished(place(name, config, device), {}).folder.exists()


def place(name: str, config: object, device: torch.device | str) -> Path:
    """Where the result of `name` for `config` on this kind of device is or will be; the file's stem is the key."""
    key = digest([name, config, torch.device(device).type])[:32]
    return results_root() / "store" / name / f"{key}.parquet"


def peek(name: str, config: object, *, device: torch.device | str, modules: Iterable[str]) -> Result | None:
    """The stored result if it is whole and current, else None; computes nothing."""
    path = place(name, config, device)
    return _load(path, path.stem, _version(modules))


def _computed(
    name: str, config: object, compute: Callable[[], pd.DataFrame], device: torch.device, run: Unfinished, path: Path
) -> Result:
    """Compute and store; the provenance says if the run was `resumed`, its seconds are then those since."""
    prepare(path.parent)
    started = time.perf_counter()
    with kept_by(run):
        data = _to_parquet(name, compute())
    wall, extra = time.perf_counter() - started, {"resumed": True} if run.resumed else {}
    version = {name: part for name, part in run.made_by.items() if name != "key"}
    record = {
        "experiment": name,
        "key": path.stem,
        "config": canonical(config),
        "sha256": sha256(data),
        "version": version,
        "provenance": provenance(device=device, seeds=_seeds(data), wall_s=wall, **extra),
    }
    return _publish(path, data, record)


def _publish(path: Path, data: bytes, record: dict) -> Result:
    """Store the pair of files, unless another process was first; the sidecar comes last and makes the pair count."""
    prepare(path.parent)  # it may have been removed meanwhile
    with locked(path.parent):
        for file in (path, path.with_suffix(".json")):
            sweep(file)
        with contextlib.suppress(Unusable):
            return _checked(path, record["key"], record["version"])
        write_atomically(path, data)
        write_atomically(path.with_suffix(".json"), seal(record))
    return Result(_from_parquet(data), record["provenance"], path, fresh=True)


def _version(modules: Iterable[str]) -> dict:
    """What must be the same for a stored result to count: sources, numerical libraries, format."""
    sources, installed = source_closure(modules), library_versions()
    version = {"format": FORMAT, "sources": sources, "libraries": {name: installed[name] for name in NUMERICAL}}
    if COMPILED in sources:  # asked for only now: it imports numba, which takes a while, and may be there and broken
        usable = importlib.import_module(COMPILED).AVAILABLE
        version["libraries"]["numba"] = installed["numba"] if usable else "absent"
    edited = edited_since_loaded(sources)
    if edited:  # what runs may be the old code: usable in this process only
        log.warning("%s changed while this process runs; restart it to keep what it computes", ", ".join(edited))
        version["session"] = SESSION
    return version


def _load(path: Path, key: str, version: dict) -> Result | None:
    """The stored result, or None after a warning that names the file and what is wrong with it."""
    if not path.exists() and not path.with_suffix(".json").exists():
        return None
    try:
        with locked(path.parent):
            stored = _checked(path, key, version)
        Unfinished(path, {}).clear()  # where a process was killed between storing and this
        return stored
    except Unusable as reason:
        log.warning("stored result %s is not used and will be computed again: %s", path, reason)
        return None


def _checked(path: Path, key: str, version: dict) -> Result:
    """The stored result after every check; raises `Unusable` with the first that fails."""
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        raise Unusable(f"{sidecar.name} beside it is missing (an interrupted write)")
    try:
        record = unseal(sidecar)
    except Unusable as reason:
        raise Unusable(f"{sidecar.name} beside it is damaged: {reason}") from reason
    if record.get("key") != key:
        raise Unusable(f"it belongs to another key, {record.get('key')}")
    if record.get("version") != version:
        raise Unusable(f"it is from another version: {what_differs(record.get('version'), version)} changed")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"the data cannot be read ({type(error).__name__})") from error
    if sha256(data) != record["sha256"]:
        raise Unusable("the data do not match their checksum (truncated or altered)")
    return Result(_from_parquet(data), record["provenance"], path, fresh=False)


def what_differs(old: object, new: dict) -> str:
    """Names of the sources and libraries in which two versions differ; `old` may be anything that was in a file."""
    names = []
    for part in ("sources", "libraries"):
        before, after = old.get(part) if isinstance(old, dict) else None, new[part]
        before = before if isinstance(before, dict) else {}
        names += [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return ", ".join(names) or "format or session"


def _to_parquet(name: str, frame: pd.DataFrame) -> bytes:
    """`frame` as parquet bytes that depend on its data only: no pandas metadata, no index, nothing pickled."""
    if not isinstance(frame, pd.DataFrame):
        raise UsageError(f"experiment {name!r} returned a {type(frame).__name__}", remedy="return a pandas DataFrame")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise UsageError(f"the frame of experiment {name!r} has an index", remedy="call reset_index() on it")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"the frame of experiment {name!r} cannot be stored: {error}", remedy="one plain type a column"
        ) from error
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _from_parquet(data: bytes) -> pd.DataFrame:
    return pq.read_table(BytesIO(data)).to_pandas()


def _seeds(data: bytes) -> list[int]:
    """The seeds that occur in the data."""
    frame = _from_parquet(data)
    return sorted({int(seed) for seed in frame["seed"]}) if "seed" in frame else []
