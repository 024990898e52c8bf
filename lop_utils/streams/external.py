"""The data sets of the papers: where they are, what they must look like, and fetching them: once, when asked."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lop_utils.errors import UsageError, check_choice, writing
from lop_utils.streams import cache, formats, hub
from lop_utils.streams.cache import Cached, Chunk, Facts, Progress

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class External:
    """One data set: its facts, how to read its original files, and the hub's repository with its column of labels.

    `md5` are the sums of the published original files, unzipped; `test` is what the hub calls the test set.
    """

    facts: Facts
    read: Callable[[Path, Mapping[str, str]], Iterator[Chunk]]
    repository: str
    label: str = "label"
    test: str = "test"
    md5: Mapping[str, str] = field(default_factory=dict)


_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MNIST_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
_FASHION_MD5 = (
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
)
_CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_CIFAR100_MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
_TORONTO = "none stated by its authors"
_KRIZHEVSKY = "Krizhevsky 2009, Learning multiple layers of features from tiny images"


def _listed(*found: External) -> dict[str, External]:
    return {external.facts.name: external for external in found}


# Facts: name, shape, classes, training and test images, licence, citation, where the originals were published
EXTERNAL = _listed(
    External(
        Facts("mnist", (1, 28, 28), 10, 60_000, 10_000, "MIT on the hub; CC BY-SA 3.0 elsewhere",
              "LeCun, Cortes & Burges 1998", "yann.lecun.com/exdb/mnist"),
        formats.mnist, "ylecun/mnist", md5=dict(zip(_MNIST_FILES, _MNIST_MD5, strict=True)),
    ),
    External(
        Facts("fashion_mnist", (1, 28, 28), 10, 60_000, 10_000, "MIT",
              "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747", "github.com/zalandoresearch/fashion-mnist"),
        formats.mnist, "zalando-datasets/fashion_mnist", md5=dict(zip(_MNIST_FILES, _FASHION_MD5, strict=True)),
    ),
    External(
        Facts("cifar10", (3, 32, 32), 10, 50_000, 10_000, _TORONTO,
              _KRIZHEVSKY, "www.cs.toronto.edu/~kriz/cifar"),
        partial(formats.cifar, labels="labels"), "uoft-cs/cifar10", md5=_CIFAR10_MD5,
    ),
    External(
        Facts("cifar100", (3, 32, 32), 100, 50_000, 10_000, _TORONTO,
              _KRIZHEVSKY, "www.cs.toronto.edu/~kriz/cifar"),
        partial(formats.cifar, labels="fine_labels"), "uoft-cs/cifar100", label="fine_label", md5=_CIFAR100_MD5,
    ),
    External(
        Facts("tiny_imagenet", (3, 64, 64), 200, 100_000, 10_000, "ImageNet's terms: research and teaching only",
              "Le & Yang 2015, Tiny ImageNet challenge", "cs231n.stanford.edu/tiny-imagenet-200.zip"),
        formats.tiny_imagenet, "zh-plus/tiny-imagenet", test="valid",
    ),
)  # fmt: skip


def fetch(
    name: str,
    *,
    folder: Path | None = None,
    verified: bool = True,
    progress: Progress = lambda *_: None,
) -> Cached:
    """Bring the data set `name` into the cache, from the hub or from a `folder` of its original files; once only.

    What is there and whole is returned as it is; what is damaged is fetched again. `verified` compares local files with
    the published MD5 sums, downloads are always checked. Raises `UsageError` that names the file and the remedy.
    """
    check_choice("data set", name, EXTERNAL)
    external = EXTERNAL[name]
    found = _whole(name)  # without the lock, which a folder that can only be read does not give
    if found is not None:
        return found
    with cache.locked(name):
        if folder is not None:
            return _from_folder(external, Path(folder).expanduser(), verified, progress)
        downloads = cache.folder() / "downloads" / name
        with writing(downloads, f"the download of {name}", setting=cache.SETTING):
            files = hub.download(external.repository, ("train", external.test), downloads, progress)
        facts = replace(external.facts, source=f"{hub.endpoint()}/datasets/{external.repository}")
        stored = cache.store(facts, hub.decoded(files, external, downloads), progress)
        hub.forget(downloads)
        return stored


def _whole(name: str) -> Cached | None:
    """The data set if it is in the cache and whole; a damaged one is named in a warning."""
    try:
        found = cache.find(name)
        if found is not None:
            found.arrays()
        return found
    except cache.Unusable as error:
        _LOG.warning("%s; fetching it again", error)
        return None


def _from_folder(external: External, folder: Path, verified: bool, progress: Progress) -> Cached:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", remedy="name the folder of the original files")
    facts = replace(external.facts, source=f"original files in {folder.resolve()}")
    return cache.store(facts, external.read(folder, external.md5 if verified else {}), progress)


def ready(name: str) -> Cached:
    """The fetched data set `name`. Raises `UsageError` with the remedy when it is absent or damaged."""
    check_choice("data set", name, EXTERNAL)
    try:
        found = cache.find(name)
    except cache.Unusable as error:
        raise UsageError(str(error), remedy=f"run: lop data fetch {name}") from error
    if found is None:
        problem = f"{name} has not been fetched into {cache.folder()}"
        raise UsageError(problem, remedy=f"run: lop data fetch {name} (see lop data list)")
    return found
