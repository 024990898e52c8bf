"""Files that are whole or absent: atomic writes, and JSON records sealed with their own checksum."""

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lop_utils.errors import writing
from lop_utils.evidence.paths import SETTING
from lop_utils.evidence.provenance import digest

try:
    import fcntl
except ImportError:  # Windows has no advisory locks on folders; the checksums still catch a mixed pair
    fcntl = None
_PROBE = 2**20  # bytes that there must be room for


class Unusable(Exception):
    """A stored file that must not be used; the message says why."""


def sha256(data: bytes) -> str:
    """Hexadecimal sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either all of it or what it held before, also after a crash.

    Raises `UsageError` when the disk is full or the folder cannot be written.
    """
    with writing(path.parent, path.name, setting=SETTING), replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all went well, and is gone otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would keep results from other users
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes left of writing `path`; call it where nobody else is writing it."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Make `folder` and see that something can be written there, before hours of work rather than behind them.

    Raises `UsageError` where it cannot.
    """
    with writing(folder, "results", setting=SETTING):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def seal(record: dict) -> bytes:
    """`record` as JSON with a `seal`: the digest of all the rest."""
    return (json.dumps({**record, "seal": digest(record)}, indent=1, sort_keys=True) + "\n").encode()


def unseal(path: Path) -> dict:
    """The record that `seal` wrote to `path`, without its seal. Raises `Unusable` for anything else."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Unusable(f"it cannot be read ({type(error).__name__})") from error
    if not isinstance(record, dict) or record.pop("seal", None) != digest(record):
        raise Unusable("its content does not match its seal")
    return record


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an advisory lock on `folder` while two files change together; does nothing where there are no such locks."""
    if fcntl is None:
        yield
        return
    with _held(os.open(folder, os.O_RDONLY)):
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time work on `path`; the others wait, and may then find it done.

    The lock lies in the machine's temporary folder, so nothing is left beside `path`, and a process that dies lets go.
    """
    if fcntl is None:
        yield
        return
    try:
        folder = Path(tempfile.gettempdir()) / f"lop-locks-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(folder / digest(str(path.resolve())), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # no room, or no right to it: two processes may then do the same work
        yield
        return
    with _held(handle):
        yield


@contextlib.contextmanager
def _held(handle: int) -> Iterator[None]:
    """Hold an exclusive lock on an open file or folder, and close it in the end."""
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
