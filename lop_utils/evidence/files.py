"""Files that are whole or absent: atomic writes, and JSON records sealed with their own checksum."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lop_utils.evidence.provenance import digest

try:
    import fcntl
except ImportError:  # Windows has no advisory locks on folders; the checksums still catch a mixed pair
    fcntl = None


class Unusable(Exception):
    """A stored file that must not be used; the message says why."""


def sha256(data: bytes) -> str:
    """Hexadecimal sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either all of it or what it held before, also after a crash."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would keep results from other users
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    except (OSError, ValueError) as error:
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
    folder = Path(tempfile.gettempdir()) / f"lop-locks-{os.getuid()}"
    try:
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
