"""Downloads from the Hugging Face hub that go on where they broke off, and reading them with `datasets`.

The hub's own client finishes a file within one process or starts it anew in the next; here the part that has arrived
stays, is continued by a range request, and counts only when its sha256 is the one that the hub lists.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lop_utils.errors import UsageError
from lop_utils.streams.cache import Chunk, Progress, require_space
from lop_utils.streams.formats import colours

if TYPE_CHECKING:
    from lop_utils.streams.external import External

_TRIES, _PAUSE, _TIMEOUT, _BLOCK, _ROWS = 5, 1.0, 30.0, 2**18, 500
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def endpoint() -> str:
    """The hub's address: $HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def download(repository: str, parts: Sequence[str], folder: Path, progress: Progress) -> dict[str, list[Path]]:
    """The Parquet files of `parts` ("train", "test", ...) of a repository, each whole and checked, in `folder`.

    Raises `UsageError` when the hub cannot be reached, lacks the files, or sends something else than it lists.
    """
    require_reader()
    listed = _listing(repository)
    wanted = {part: sorted((row for row in listed if _is_part(row["path"], part)), key=_path) for part in parts}
    for part, rows in wanted.items():
        if not rows:
            problem = f"{repository} on the hub has no Parquet file of its part {part!r}"
            raise UsageError(problem, remedy="fetch from a folder of the original files: --from FOLDER")
    return {part: [_fetched(repository, row, folder, progress) for row in rows] for part, rows in wanted.items()}


def decoded(files: dict[str, list[Path]], external: "External", scratch: Path) -> Iterator[Chunk]:
    """The images and labels of Parquet files, in chunks; training ones first."""
    datasets = require_reader()
    for part, paths in files.items():
        names = [str(path) for path in paths]
        table = datasets.Dataset.from_parquet(names, cache_dir=str(scratch / "datasets"))
        column = next((name for name in table.column_names if name in ("image", "img")), None)
        if column is None or external.label not in table.column_names:
            problem = f"{names[0]} has columns {', '.join(table.column_names)}"
            raise UsageError(problem, remedy=f"expected image or img, and {external.label}: use --from FOLDER")
        table = table.cast_column(column, datasets.Image())
        for start in range(0, len(table), _ROWS):
            rows = table[start : start + _ROWS]
            images = np.stack([colours(image, external.facts.shape) for image in rows[column]])
            yield "train" if part == "train" else "test", images, np.asarray(rows[external.label])


def require_reader():
    """The module `datasets`; raises `UsageError` where it is not installed."""
    try:
        import datasets
    except ImportError:
        problem = "downloading needs the package datasets, which is not installed"
        raise UsageError(problem, remedy="run: pip install 'lop-book[data]', or use --from FOLDER") from None
    datasets.disable_progress_bars()
    return datasets


def forget(folder: Path) -> None:
    """Remove downloads that have been decoded."""
    shutil.rmtree(folder, ignore_errors=True)


def _path(row: dict) -> str:
    return row["path"]


def _is_part(path: str, part: str) -> bool:
    return path.endswith(".parquet") and re.search(rf"(^|[/_-]){part}[-._]", path) is not None


def _listing(repository: str) -> list[dict]:
    url = f"{endpoint()}/api/datasets/{repository}/tree/main?recursive=true"
    try:
        with _opened(url) as answer:
            return [row for row in json.load(answer) if row.get("type") == "file"]
    except (*_BROKEN, ValueError) as error:
        raise _unreachable(url, error) from error


def _fetched(repository: str, row: dict, folder: Path, progress: Progress) -> Path:
    """One file, continued from what is already there; its checksum decides whether it is used."""
    name, size = row["path"], int(row["size"])
    whole = folder / name.replace("/", "_")
    part = whole.with_name(f"{whole.name}.part")
    expected = (row.get("lfs") or {}).get("oid")
    if expected is None:
        raise UsageError(f"the hub lists no sha256 of {name}", remedy="use --from FOLDER")
    if not whole.exists():
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, size - (part.stat().st_size if part.exists() else 0), name)
        _receive(f"{endpoint()}/datasets/{repository}/resolve/main/{name}", part, size, progress)
        os.replace(part, whole)
    with whole.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        whole.unlink()
        problem = f"{name} as downloaded has sha256 {found[:12]}, the hub lists {expected[:12]}; it has been removed"
        raise UsageError(problem, remedy="run the same command again")
    return whole


def _receive(url: str, part: Path, size: int, progress: Progress) -> None:
    """Append to `part` until it has `size` bytes; a broken connection is taken up again, `_TRIES` times in a row."""
    failures = 0
    while (have := part.stat().st_size if part.exists() else 0) < size:
        try:
            _append(url, part, have, size, progress)
            failures = failures + 1 if part.stat().st_size == have else 0
        except _BROKEN as error:
            grown = part.exists() and part.stat().st_size > have
            failures = 1 if grown else failures + 1
            if failures >= _TRIES or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                raise _unreachable(url, error) from error
            time.sleep(_PAUSE * failures)
        if failures >= _TRIES:
            raise _unreachable(url, ConnectionError("it sends nothing"))


def _append(url: str, part: Path, have: int, size: int, progress: Progress) -> None:
    with _opened(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        if have and answer.status != 206:  # the server sends the file from its beginning
            have = 0
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                progress(f"downloading {part.stem}", min(have, size), size)


def _opened(url: str, headers: dict[str, str] | None = None):
    request = urllib.request.Request(url, headers={"User-Agent": "lop-book", **(headers or {})})
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _unreachable(url: str, error: Exception) -> UsageError:
    reason = getattr(error, "reason", None) or error
    remedy = "check the network and run the same command again, it goes on where it broke off; or use --from FOLDER"
    return UsageError(f"{url} cannot be fetched ({reason})", remedy=remedy)
