"""Embedded data sets as tensors: nothing is downloaded, everything has a licence and a checksum."""

import hashlib
import random
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from lop_utils.errors import UsageError, check_choice

PATCH, SIDE, PATCHES = 40, 8, 200  # window in pixels, image side after averaging, number of classes
TRAIN_VIEWS, TEST_VIEWS = 10, 4


@dataclass(frozen=True)
class Source:
    """A classification data set on one device.

    inputs (N, *shape) float32, standardised over the training set; targets (N,) int64 in 0..classes-1; the same for
    test. `checksum` is the sha256 of all values rounded to 1e-3, so that it holds across platforms.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int
    licence: str
    citation: str
    checksum: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    @property
    def size(self) -> int:
        """Number of values in one input."""
        return self.inputs[0].numel()

    def to(self, device: torch.device | str) -> "Source":
        """The same source with its tensors on `device`."""
        names = ("inputs", "targets", "test_inputs", "test_targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


CHECKSUMS = {
    "digits": "fd1cbfb887b12251b96d6dfe05133c64dbab7e4eef0fc71f71079e4ef0101b73",
    "mnist1d": "7e3d79337999d3121887a366cf60fc02ab77e30cc157dcde2580dc1ab594d532",
    "patches": "21bcb23dab8e64b27e4537389f13989a179a310525cd50f65ae8b2c3c3b2bde5",
}


def load(name: str, device: torch.device | str = "cpu") -> Source:
    """The embedded source `name` on `device`: digits, mnist1d or patches.

    Raises `UsageError` for an unknown name, and when the data made here differ from those the book was checked with.

    >>> load("digits").inputs.shape
    torch.Size([1497, 8, 8])
    """
    check_choice("source", name, _MAKERS)
    source = _checked(name)
    if source.checksum != CHECKSUMS[name]:
        raise UsageError(
            f"source {name} has checksum {source.checksum[:12]}, not {CHECKSUMS[name][:12]}",
            remedy="install the scikit-learn and mnist1d versions of constraints.txt",
        )
    return source.to(device)


@cache
def _checked(name: str) -> Source:
    source = _MAKERS[name]()
    digest = hashlib.sha256()
    for values in (source.inputs, source.targets, source.test_inputs, source.test_targets):
        digest.update(np.round(values.double().numpy() * 1000).astype("<i4").tobytes())
    return replace(source, checksum=digest.hexdigest())


def _make(name: str, train: tuple, test: tuple, classes: int, licence: str, citation: str) -> Source:
    mean, sd = train[0].mean(), train[0].std()
    tensors = []
    for x, y in (train, test):
        tensors += [torch.as_tensor((x - mean) / sd, dtype=torch.float32), torch.as_tensor(y, dtype=torch.long)]
    return Source(name, *tensors, classes=classes, licence=licence, citation=citation)


def _digits() -> Source:
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x, y = bunch.images[order], bunch.target[order]  # (1797, 8, 8) in 0..16
    return _make("digits", (x[:1497], y[:1497]), (x[1497:], y[1497:]), 10, "CC BY 4.0", "Alpaydin & Kaynak 1998")


def _mnist1d() -> Source:
    from mnist1d.data import get_dataset_args, make_dataset

    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        data = make_dataset(get_dataset_args())  # seeds numpy's and Python's global generators
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    train, test = (data["x"], data["y"]), (data["x_test"], data["y_test"])
    return _make("mnist1d", train, test, 10, "Apache-2.0", "Greydanus & Kobak 2024")


def _patches() -> Source:
    rng = np.random.default_rng(0)
    photographs = [image.astype(np.float64) for image in load_sample_images().images]  # (427, 640, 3) each
    corners = [
        (i, top, left)
        for i, image in enumerate(photographs)
        for top in range(8, image.shape[0] - PATCH - 8, PATCH)
        for left in range(8, image.shape[1] - PATCH - 8, PATCH)
    ]
    texture = [photographs[i][t : t + PATCH, s : s + PATCH].mean(2).std() for i, t, s in corners]
    chosen = [corners[j] for j in np.argsort(texture)[::-1][:PATCHES]]
    views = [[_view(photographs[i], t, s, rng) for _ in range(TRAIN_VIEWS + TEST_VIEWS)] for i, t, s in chosen]
    x = np.round(np.array(views))  # (200, 14, 3, 8, 8) in 0..255
    labels = np.repeat(np.arange(PATCHES)[:, None], TRAIN_VIEWS + TEST_VIEWS, 1)
    parts = [(x[:, a:b].reshape(-1, 3, SIDE, SIDE), labels[:, a:b].ravel()) for a, b in ((0, 10), (10, 14))]
    return _make("patches", *parts, PATCHES, "CC BY 2.0", "two photographs by danielbuechele, shipped by scikit-learn")


def _view(photograph: np.ndarray, top: int, left: int, rng: np.random.Generator) -> np.ndarray:
    """One window (3, 8, 8), 0..255, seen under a small random rotation, scale, shift and change of colour."""
    angle, scale = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(0.92, 1.08)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([top, left]) + (PATCH - 1) / 2 + rng.uniform(-2, 2, 2)
    offset = centre - turn @ np.full(2, (PATCH - 1) / 2)
    gain, shift = rng.uniform(0.9, 1.1, 3), rng.uniform(-8, 8, 3)
    fine = [
        affine_transform(photograph[..., c], turn, offset, (PATCH, PATCH), order=1, mode="nearest") for c in range(3)
    ]
    step = PATCH // SIDE
    coarse = np.array(fine).reshape(3, SIDE, step, SIDE, step).mean((2, 4))
    return np.clip(coarse * gain[:, None, None] + shift[:, None, None], 0, 255)


_MAKERS = {"digits": _digits, "mnist1d": _mnist1d, "patches": _patches}
SOURCES = tuple(_MAKERS)
