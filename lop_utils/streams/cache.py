"""The folder of fetched data: one file of bytes a data set, a sealed description beside it, whole or absent."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lop_utils.errors import UsageError, writing

try:
    import fcntl
except ImportError:  # Windows: two fetches of one name at a time are not kept apart there
    fcntl = None

FORMAT = 1
SETTING = "LOP_DATA"
_BLOCK = 500  # images handled at a time
Chunk = tuple[str, np.ndarray, np.ndarray]  # "train" or "test", images (n, C, H, W) uint8, labels (n,)
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


class Unusable(Exception):
    """A cached file that must not be used; the message names the file and says why."""


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before it is read: shape (C, H, W), classes, samples of each part, and its terms."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    licence: str
    citation: str
    source: str

    @property
    def image_bytes(self) -> int:
        """Bytes of all images."""
        return (self.train + self.test) * int(np.prod(self.shape))

    @property
    def size(self) -> int:
        """Bytes of the file: all images, training ones first, then one label byte an image in the same order."""
        return self.image_bytes + self.train + self.test


@dataclass(frozen=True)
class Cached:
    """A data set in the cache: its facts, mean and sd of each channel over the training images, and its checksum."""

    facts: Facts
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    sha256: str
    path: Path

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (train + test, C, H, W) and labels (train + test,), uint8, mapped from the file, not read into memory.

        Raises `Unusable` when the file is not what was written.
        """
        if (found := _sha256(self.path)) != self.sha256:
            raise Unusable(f"{self.path} is damaged: its checksum is {found[:12]}, not {self.sha256[:12]}")
        data = np.memmap(self.path, dtype=np.uint8, mode="c")  # copy on write: torch wants writable memory
        images, labels = data[: self.facts.image_bytes], data[self.facts.image_bytes :]
        return images.reshape(-1, *self.facts.shape), labels


def folder() -> Path:
    """The folder of fetched data: $LOP_DATA, else one in the user's cache."""
    return chosen(SETTING) or user_cache(SETTING) / "data"


def chosen(setting: str) -> Path | None:
    """The folder that the environment variable `setting` names, None where it names none."""
    asked = os.environ.get(setting)
    try:
        return Path(asked).expanduser().resolve() if asked else None
    except RuntimeError as error:
        raise UsageError(f"{setting}={asked!r}: {error}", remedy="name the folder without ~") from error


def user_cache(setting: str) -> Path:
    """This package's folder in the user's cache. Raises `UsageError` for a user without a home: `setting` helps."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "lop-book"
    except RuntimeError as error:
        raise UsageError("this user has no home folder", remedy=f"set {setting} to a folder") from error


def find(name: str) -> Cached | None:
    """The data set `name`, None if it was never fetched; raises `Unusable` for a pair of files that do not match."""
    data, beside = _files(name)
    if not beside.exists():
        return None
    try:
        record = json.loads(beside.read_bytes())
        seal = record.pop("seal")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable(f"{beside} cannot be read ({type(error).__name__})") from error
    if seal != _seal(record):
        raise Unusable(f"{beside} is damaged: its content does not match its seal")
    if record.get("format") != FORMAT:
        raise Unusable(f"{beside} has format {record.get('format')}, not {FORMAT}")
    facts = Facts(**{**record["facts"], "shape": tuple(record["facts"]["shape"])})
    size = data.stat().st_size if data.exists() else 0
    if size != facts.size:
        raise Unusable(f"{data} has {size} bytes, not {facts.size}")
    return Cached(facts, tuple(record["mean"]), tuple(record["sd"]), record["sha256"], data)


def store(facts: Facts, chunks: Iterable[Chunk], progress: Progress = lambda *_: None) -> Cached:
    """Write what `chunks` yield into the cache: the file of bytes first, its description last, each by renaming.

    All training chunks come before all test chunks. Whatever ends this early leaves nothing that `find` would use.
    Raises `UsageError` for images that are not what `facts` say, and when the disk is full.
    """
    data, beside = _files(facts.name)
    part = data.with_suffix(".part")
    with writing(part.parent, f"{facts.name} ({_megabytes(facts.size)})", setting=SETTING):
        part.parent.mkdir(parents=True, exist_ok=True)
        require_space(part.parent, facts.size, f"{facts.name}, decoded")
        try:
            with part.open("wb") as file:
                statistics = _write(file, facts, chunks, progress)
                file.flush()
                os.fsync(file.fileno())
            beside.unlink(missing_ok=True)  # never a description beside bytes that it does not describe
            os.replace(part, data)
            record = {"format": FORMAT, "facts": asdict(facts), **statistics, "sha256": _sha256(data)}
            part.write_text(json.dumps({**record, "seal": _seal(record)}, indent=1) + "\n")
            os.replace(part, beside)
        finally:
            part.unlink(missing_ok=True)
    stored = find(facts.name)
    assert stored is not None
    return stored


def _write(file, facts: Facts, chunks: Iterable[Chunk], progress: Progress) -> dict[str, tuple[float, ...]]:
    """Images as they come, labels after the last; returns mean and sd of each channel over the training images."""
    counts, labels = {"train": 0, "test": 0}, []
    total = np.zeros((2, facts.shape[0]), dtype=np.int64)  # sums of values and of squares, exact in whole numbers
    for part, images, own in chunks:
        _check(facts, part, images, own, counts)
        labels.append(own.astype(np.uint8))
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK]
            if part == "train":
                wide = block.astype(np.uint32)
                total += wide.sum((0, 2, 3), dtype=np.int64), (wide * wide).sum((0, 2, 3), dtype=np.int64)
            file.write(np.ascontiguousarray(block).data)
            counts[part] += len(block)
            progress("decoding", sum(counts.values()), facts.train + facts.test)
    if counts != {"train": facts.train, "test": facts.test}:
        problem = f"{facts.name}: {counts['train']} training and {counts['test']} test images"
        raise UsageError(problem, remedy=f"the published set has {facts.train} and {facts.test}; fetch it whole")
    file.write(np.concatenate(labels).tobytes())
    mean = total[0] / (facts.train * facts.shape[1] * facts.shape[2])
    square = total[1] / (facts.train * facts.shape[1] * facts.shape[2])
    return {"mean": tuple(mean.tolist()), "sd": tuple(np.sqrt(np.maximum(square - mean**2, 1e-12)).tolist())}


def _check(facts: Facts, part: str, images: np.ndarray, labels: np.ndarray, counts: dict[str, int]) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != facts.shape or len(images) != len(labels):
        problem = f"{facts.name}: images {images.shape} {images.dtype} with {len(labels)} labels"
        raise UsageError(problem, remedy=f"expected bytes of shape {facts.shape}, one label each: take the original")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < facts.classes:
        problem = f"{facts.name}: labels from {labels.min()} to {labels.max()}"
        raise UsageError(problem, remedy=f"expected 0 to {facts.classes - 1}: take the original files")
    if part == "train" and counts["test"]:
        raise ValueError("training images after test images")


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of `name` while it is fetched; raises `UsageError` when another process holds it."""
    root = folder()
    with writing(root, name, setting=SETTING):
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{name} is being fetched by another process", remedy="wait for it") from None
            except OSError:  # some network file systems refuse; then two fetches are not kept apart
                pass
        yield
    finally:
        os.close(handle)


def require_space(where: Path, size: int, what: str) -> None:
    """Raise as a full disk would when `size` bytes do not fit, before the work begins."""
    if shutil.disk_usage(where).free < size:
        raise OSError(errno.ENOSPC, f"{what} needs {_megabytes(size)}")


def _files(name: str) -> tuple[Path, Path]:
    return folder() / f"{name}.u8", folder() / f"{name}.json"


def _seal(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
