"""Data sets as tensors, each with its licence and checksum: embedded ones, and fetched ones (`lop data fetch`)."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.streams import cache as fetched
from lop_utils.streams import external

PATCH, SIDE, PATCHES = 40, 8, 200  # window in pixels, image side after averaging, number of classes
TEST_VIEWS = 4


def _as_is(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Source:
    """A classification data set on one device.

    inputs (N, *shape) float32, standardised over the training set; targets (N,) int64 in 0..classes-1; the same for
    test. `checksum` is the sha256 of all values rounded to 1e-3, so that it holds across platforms.

    A fetched source loaded with `as_bytes` keeps its inputs as uint8, a quarter of the memory; `decode` makes any part
    of them (..., *shape) the standardised float32, at best when a batch is cut (`augment.prepared`). Elsewhere `decode`
    returns what it is given. The checksum of a fetched source is that of its file of bytes.
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
    decode: Callable[[Tensor], Tensor] = _as_is

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
    "patches_jittered": "3aa180787bd51d75c3dd55c0593d2b6e6d37d12c0ae8b8175e67a8aabc20f292",
}


@dataclass(frozen=True)
class Standardise:
    """Bytes (..., C, H, W) to float32 of mean 0 and variance 1 in each channel, on the bytes' own device.

    >>> Standardise(mean=(2.0,), sd=(2.0,))(torch.tensor([[[0, 4]]], dtype=torch.uint8))
    tensor([[[-1.,  1.]]])
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __call__(self, values: Tensor) -> Tensor:
        mean, sd = (torch.tensor(v, device=values.device)[:, None, None] for v in (self.mean, self.sd))
        return values.float().sub_(mean).div_(sd)


def load(name: str, device: torch.device | str = "cpu", *, as_bytes: bool = False) -> Source:
    """The source `name` on `device`. Embedded, always there: digits, mnist1d, patches, or patches_jittered (the same
    windows, fifty views of each and far more apart). Once fetched with `lop data fetch`: those in `external.EXTERNAL`.

    `as_bytes` keeps a fetched source's inputs as uint8, see `Source`. Raises `UsageError` for an unknown name, for data
    that have not been fetched or are damaged, and when embedded data differ from those the book was checked with.

    >>> load("digits").inputs.shape
    torch.Size([1497, 8, 8])
    """
    check_choice("source", name, (*SOURCES, *external.EXTERNAL))
    if name in external.EXTERNAL:
        return _fetched(name, device, as_bytes)
    source = _checked(name)
    if source.checksum != CHECKSUMS[name]:
        raise UsageError(
            f"source {name} has checksum {source.checksum[:12]}, not {CHECKSUMS[name][:12]}",
            remedy="install the scikit-learn and mnist1d versions of constraints.txt",
        )
    return source.to(device)


def _fetched(name: str, device: torch.device | str, as_bytes: bool) -> Source:
    """A source from the cache: its bytes go to the device as they are and become numbers there."""
    found = external.ready(name)
    try:
        images, labels = map(torch.from_numpy, found.arrays())
    except fetched.Unusable as error:
        raise UsageError(str(error), remedy=f"run: lop data fetch {name}") from error
    cut, decode, facts = found.facts.train, Standardise(found.mean, found.sd), found.facts
    parts = [part.to(device) for part in (images[:cut], labels[:cut], images[cut:], labels[cut:])]
    tensors = [part.long() if i % 2 else part if as_bytes else decode(part) for i, part in enumerate(parts)]
    terms = (facts.classes, facts.licence, facts.citation, found.sha256)
    return Source(name, *tensors, *terms, *([decode] if as_bytes else []))


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


@dataclass(frozen=True)
class _Jitter:
    """How far the views of one window lie apart; every number is the largest deviation to either side.

    angle in degrees, scale relative, move in pixels of the photograph, gain relative and shift of the colours (0..255).
    """

    angle: float = 8
    scale: float = 0.08
    move: float = 2
    gain: float = 0.1
    shift: float = 8
    views: int = 10


def _patches(name: str = "patches", jitter: _Jitter = _Jitter()) -> Source:
    rng, views = np.random.default_rng(0), jitter.views + TEST_VIEWS
    photographs = [image.astype(np.float64) for image in load_sample_images().images]  # (427, 640, 3) each
    corners = [
        (i, top, left)
        for i, image in enumerate(photographs)
        for top in range(8, image.shape[0] - PATCH - 8, PATCH)
        for left in range(8, image.shape[1] - PATCH - 8, PATCH)
    ]
    texture = [photographs[i][t : t + PATCH, s : s + PATCH].mean(2).std() for i, t, s in corners]
    chosen = [corners[j] for j in np.argsort(texture)[::-1][:PATCHES]]
    x = np.round(np.stack([_views(photographs[i], (t, s), rng, jitter, views) for i, t, s in chosen]))
    labels = np.repeat(np.arange(PATCHES)[:, None], views, 1)  # x (200, views, 3, 8, 8) in 0..255
    cut = ((0, jitter.views), (jitter.views, views))
    parts = [(x[:, a:b].reshape(-1, 3, SIDE, SIDE), labels[:, a:b].ravel()) for a, b in cut]
    return _make(name, *parts, PATCHES, "CC BY 2.0", "two photographs by danielbuechele, shipped by scikit-learn")


def _views(
    photograph: np.ndarray, corner: tuple[int, int], rng: np.random.Generator, jitter: _Jitter, views: int
) -> np.ndarray:
    """One window (views, 3, 8, 8), 0..255, seen under random rotations, scales, shifts and changes of colour."""
    height, width, _ = photograph.shape
    u = 2 * rng.random((views, 10)) - 1  # in this order: angle, scale, two of move, three each of gain and shift
    angle, scale = np.deg2rad(jitter.angle) * u[:, 0], 1 + jitter.scale * u[:, 1]
    gain, shift = 1 + jitter.gain * u[:, 4:7], jitter.shift * u[:, 7:]
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # (2, 2, views)
    within = np.indices((PATCH, PATCH)) - (PATCH - 1) / 2  # (2, 40, 40), from the middle of the window
    centre = np.array(corner) + (PATCH - 1) / 2 + jitter.move * u[:, 2:4]
    at = np.einsum("abv,bij->vija", turn, within) + centre[:, None, None]  # (views, 40, 40, 2): row, column
    grid = torch.from_numpy(2 * at[..., ::-1] / (width - 1, height - 1) - 1).flatten(0, 1)[None]
    channels = torch.from_numpy(photograph).permute(2, 0, 1)[None]  # (1, 3, 427, 640)
    fine = nn.functional.grid_sample(channels, grid, padding_mode="border", align_corners=True)[0]
    step = PATCH // SIDE
    coarse = fine.unflatten(1, (views, SIDE, step)).unflatten(4, (SIDE, step)).mean((3, 5)).transpose(0, 1).numpy()
    return np.clip(coarse * gain[..., None, None] + shift[..., None, None], 0, 255)


_MAKERS = {
    "digits": _digits,
    "mnist1d": _mnist1d,
    "patches": _patches,
    "patches_jittered": partial(_patches, "patches_jittered", _Jitter(96, 0.96, 24, 1.2, 96, views=50)),
}
SOURCES = tuple(_MAKERS)
