"""Readers of original files: MNIST's IDX, CIFAR's batches (binary and pickled), Tiny ImageNet's folders of JPEGs.

Each takes a folder and yields chunks ("train" or "test", images (n, C, H, W) uint8, labels (n,)), training ones first.
"""

import gzip
import hashlib
import io
import math
import pickle
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lop_utils.errors import UsageError
from lop_utils.streams.cache import Chunk

_TOGETHER = 500  # JPEGs in one chunk


def published(path: Path, known: Mapping[str, str]) -> bytes:
    """The bytes of `path`, unzipped if it ends in .gz.

    Raises `UsageError` when `known` has another MD5 sum of the unzipped data for this name (without .gz).
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy="fetch the original file again") from error
    expected = known.get(path.name.removesuffix(".gz").replace(".idx", "-idx"))
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if expected and found != expected:
        problem = f"{path} has MD5 sum {found}, the published data {expected}"
        raise UsageError(problem, remedy="fetch the original file again, or pass --unverified to use it all the same")
    return data


def mnist(folder: Path, known: Mapping[str, str]) -> Iterator[Chunk]:
    """MNIST and Fashion-MNIST: four IDX files, zipped or not, named with - or . before idx.

    An IDX file: two zero bytes, type 8 (bytes), the number of axes, each axis as a big-endian uint32, then the values.
    """
    for part, stem in (("train", "train"), ("test", "t10k")):
        images, labels = (
            _idx(_one_of(folder, [f"{stem}-{kind}{mark}idx{axes}-ubyte" for mark in "-."]), axes, known)
            for kind, axes in (("images", 3), ("labels", 1))
        )
        yield part, images[:, None], labels


def _idx(path: Path, axes: int, known: Mapping[str, str]) -> np.ndarray:
    data = published(path, known)
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(data[at : at + 4]) for at in range(4, start, 4))
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) != start + math.prod(shape):
        problem = f"{path} is no IDX file of bytes with {axes} axes, or cut short"
        raise UsageError(problem, remedy="fetch the original file again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def cifar(folder: Path, known: Mapping[str, str], *, labels: str) -> Iterator[Chunk]:
    """CIFAR-10 and CIFAR-100, the binary version (.bin) or the Python one.

    `labels`: "labels" (CIFAR-10) or "fine_labels" (CIFAR-100). A binary record is the label (CIFAR-100: the coarse one,
    then the fine one) and 3072 bytes, red then green then blue, row by row. A pickle is read without running any code.
    """
    fine = labels == "fine_labels"
    names = ["train", "test"] if fine else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name in names:
        path = _one_of(folder, [f"{name}.bin", name])
        data = published(path, known)
        images, own = _records(path, data, 2 if fine else 1) if path.suffix else _unpickled(path, data, labels)
        yield "test" if name.startswith("test") else "train", images.reshape(-1, 3, 32, 32), own


def _records(path: Path, data: bytes, before: int) -> tuple[np.ndarray, np.ndarray]:
    size = before + 3072
    if not data or len(data) % size:
        problem = f"{path} has {len(data)} bytes, no multiple of {size}"
        raise UsageError(problem, remedy="fetch the original file again")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return records[:, before:], records[:, before - 1]


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Makes numpy arrays of numbers and plain containers, and refuses any other name that a pickle asks for."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def _unpickled(path: Path, data: bytes, labels: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        named = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images, own = named["data"], np.asarray(named[labels], dtype=np.int64)
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or own.shape != (len(images),):
            raise ValueError(f"images {images.shape} of {images.dtype}, labels {own.shape}")
    except Exception as error:  # a broken pickle can raise anything
        problem = f"{path} is not a batch of CIFAR images ({error})"
        raise UsageError(problem, remedy="fetch the original file again") from error
    return images, own


def tiny_imagenet(folder: Path, known: Mapping[str, str]) -> Iterator[Chunk]:
    """Tiny ImageNet as unzipped: wnids.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt.

    Labels number the sorted wnids; grey images become three equal channels. Its test images have no public labels, so
    the test set is the validation set.
    """
    root = folder if (folder / "wnids.txt").is_file() else folder / "tiny-imagenet-200"
    try:
        number = {wnid: i for i, wnid in enumerate(sorted((root / "wnids.txt").read_text().split()))}
        lines = [line.split("\t") for line in (root / "val" / "val_annotations.txt").read_text().splitlines()]
        test = [(root / "val" / "images" / line[0], number[line[1]]) for line in lines]
    except (OSError, KeyError, IndexError) as error:
        problem = f"{folder} holds no Tiny ImageNet ({error})"
        raise UsageError(problem, remedy="name the folder that tiny-imagenet-200.zip was unpacked into") from error
    train = [(path, n) for wnid, n in number.items() for path in sorted((root / "train" / wnid).rglob("*.JPEG"))]
    for part, listed in (("train", train), ("test", test)):
        for start in range(0, len(listed), _TOGETHER):
            some = listed[start : start + _TOGETHER]
            yield part, np.stack([_jpeg(path) for path, _ in some]), np.array([label for _, label in some])


def _jpeg(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return colours(image, (3, 64, 64))
    except OSError as error:
        raise UsageError(f"{path} is no image ({error})", remedy="unpack the original archive again") from error


def colours(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """A PIL image as bytes (C, H, W), grey or colour as `shape` says. Raises `UsageError` for another size."""
    values = np.asarray(image.convert("L" if shape[0] == 1 else "RGB"))
    if values.shape[:2] != shape[1:]:
        problem = f"an image of {values.shape[0]} x {values.shape[1]} pixels, not {shape[1]} x {shape[2]}"
        raise UsageError(problem, remedy="take the original files")
    return values[None] if shape[0] == 1 else values.transpose(2, 0, 1)


def _one_of(folder: Path, names: list[str]) -> Path:
    """The first of `names`, plain or zipped, that lies in `folder` or in one of its own folders."""
    for name in names:
        for place in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    raise UsageError(f"{folder} has no file {' or '.join(names)}", remedy="name the folder of the original files")
