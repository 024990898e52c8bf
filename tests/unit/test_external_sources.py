"""Fetched data sets: every original format, the cache that is whole or absent, downloads that go on, exact errors."""

import errno
import gzip
import hashlib
import io
import json
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lop_utils.errors import UsageError
from lop_utils.streams import cache, external, formats, hub, sources
from lop_utils.streams.augment import prepared, random_crop, random_flip
from lop_utils.streams.batches import batches, member_batches

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts the real files


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(hub, "_PAUSE", 0.0)
    return tmp_path / "data"


def small(monkeypatch, name, train, test, **changes):
    """Pretend that the published set `name` has so many images."""
    entry = external.EXTERNAL[name]
    facts = replace(entry.facts, train=train, test=test)
    monkeypatch.setitem(external.EXTERNAL, name, replace(entry, facts=facts, **{"md5": {}, **changes}))
    return facts


def pixels(count, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def write_idx(path, values):
    head = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    data = head + values.tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def write_mnist(folder, train, test, suffix=".gz"):
    folder.mkdir(exist_ok=True)
    for stem, (x, y) in (("train", train), ("t10k", test)):
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", x[:, 0])
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", y)


def python2_batch(images, labels):
    """A batch as Python 2's pickle protocol 2 wrote CIFAR's: byte strings for keys, an old-style numpy array."""
    flat, labels = images.reshape(len(images), -1), [int(label) for label in labels]
    short = lambda text: b"U" + bytes([len(text)]) + text  # noqa: E731
    number = lambda n: b"J" + int(n).to_bytes(4, "little", signed=True)  # noqa: E731
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR("
        + b"K\x01" + number(flat.shape[0]) + number(flat.shape[1]) + b"\x86"
        + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + number(-1) + number(-1) + b"K\x00tb"
        + b"\x89T" + int(flat.size).to_bytes(4, "little") + flat.tobytes() + b"tb"
    )  # fmt: skip
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"data") + array + short(b"labels") + listed + b"u."


def write_tiny(folder, wnids, train, test):
    """Images as JPEGs of one colour each, in Tiny ImageNet's folders; returns nothing."""
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(wnids) + "\n")
    for wnid, tones in train.items():
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for i, tone in enumerate(tones):
            Image.new("RGB", (64, 64), tone).save(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
    lines = []
    for i, (wnid, tone) in enumerate(test):
        Image.new("L", (64, 64), tone).save(folder / "val" / "images" / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t62\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


# Formats


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx_files_come_back_as_they_were_written(tmp_path, monkeypatch, suffix):
    small(monkeypatch, "mnist", 7, 3)
    train, test = pixels(7, (1, 28, 28)), pixels(3, (1, 28, 28), 1)
    write_mnist(tmp_path / "raw", train, test, suffix)
    images, labels = external.fetch("mnist", folder=tmp_path / "raw").arrays()
    assert (images == np.concatenate([train[0], test[0]])).all()
    assert (labels == np.concatenate([train[1], test[1]])).all()


def cifar_folder(folder, kind, seed=0):
    folder.mkdir()
    wanted = []
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        x, y = pixels(4, (3, 32, 32), seed + i)
        wanted.append((x, y))
        if kind == "binary":
            records = np.concatenate([y[:, None], x.reshape(4, -1)], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        elif kind == "python 2":
            (folder / name).write_bytes(python2_batch(x, y))
        else:
            batch = {b"data": x.reshape(4, -1), b"labels": y.tolist(), b"batch_label": b"x"}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    return np.concatenate([x for x, _ in wanted]), np.concatenate([y for _, y in wanted])


@pytest.mark.parametrize("kind", ["binary", "python 2", "python 3"])
def test_cifar10_batches_come_back_as_they_were_written(tmp_path, monkeypatch, kind):
    small(monkeypatch, "cifar10", 20, 4)
    x, y = cifar_folder(tmp_path / "raw", kind)
    images, labels = external.fetch("cifar10", folder=tmp_path / "raw").arrays()
    assert (images == x).all() and (labels == y).all()


@pytest.mark.parametrize("kind", ["binary", "python 3"])
def test_cifar100_uses_the_fine_labels(tmp_path, monkeypatch, kind):
    small(monkeypatch, "cifar100", 4, 4)
    (tmp_path / "raw").mkdir()
    fine, coarse = np.array([3, 99, 0, 50], dtype=np.uint8), np.zeros(4, dtype=np.uint8)
    for name in ("train", "test"):
        x, _ = pixels(4, (3, 32, 32))
        if kind == "binary":
            records = np.concatenate([coarse[:, None], fine[:, None], x.reshape(4, -1)], axis=1)
            (tmp_path / "raw" / f"{name}.bin").write_bytes(records.tobytes())
        else:
            batch = {b"data": x.reshape(4, -1), b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist()}
            (tmp_path / "raw" / name).write_bytes(pickle.dumps(batch, protocol=4))
    _, labels = external.fetch("cifar100", folder=tmp_path / "raw").arrays()
    assert labels.tolist() == [*fine, *fine]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    small(monkeypatch, "cifar10", 20, 4)
    cifar_folder(tmp_path / "raw", "python 2")
    (tmp_path / "raw" / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil(tmp_path / "ran")}))
    with pytest.raises(UsageError, match=r"data_batch_1 is not a batch of CIFAR images \(it asks for pathlib"):
        external.fetch("cifar10", folder=tmp_path / "raw")
    assert not (tmp_path / "ran").exists()


def test_tiny_imagenet_is_read_from_its_folders_with_sorted_classes_and_grey_made_colour(tmp_path, monkeypatch):
    small(monkeypatch, "tiny_imagenet", 3, 2)
    train = {"n02": [(200, 0, 0), (0, 200, 0)], "n01": [(0, 0, 200)]}
    write_tiny(tmp_path / "raw" / "tiny-imagenet-200", ["n02", "n01"], train, [("n02", 90), ("n01", 30)])
    images, labels = external.fetch("tiny_imagenet", folder=tmp_path / "raw").arrays()
    assert labels.tolist() == [0, 1, 1, 1, 0]
    centre = images[:, :, 32, 32].astype(int)
    wanted = [[0, 0, 200], [200, 0, 0], [0, 200, 0], [90] * 3, [30] * 3]
    assert np.abs(centre - np.array(wanted)).max() <= 3  # JPEG


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_passes_its_published_checksums_and_is_standardised():
    external.fetch("fashion_mnist", folder=FASHION)
    source = sources.load("fashion_mnist")
    assert source.inputs.shape == (60_000, 1, 28, 28) and source.test_inputs.shape == (10_000, 1, 28, 28)
    assert (source.targets.bincount() == 6000).all() and (source.test_targets.bincount() == 1000).all()
    assert abs(float(source.inputs.double().mean())) < 1e-6 and abs(float(source.inputs.double().std()) - 1) < 1e-6


# The source


def fetched(tmp_path, monkeypatch, train=12, test=5):
    small(monkeypatch, "cifar10", train, test)
    parts = pixels(train, (3, 32, 32)), pixels(test, (3, 32, 32), 1)
    cache.store(external.EXTERNAL["cifar10"].facts, (("train", *parts[0]), ("test", *parts[1])))
    return parts


def test_statistics_and_values_are_those_of_numpy_over_the_training_images(tmp_path, monkeypatch):
    (x, _), (held_out, _) = fetched(tmp_path, monkeypatch)
    source = sources.load("cifar10")
    mean, sd = x.mean((0, 2, 3), keepdims=True), x.std((0, 2, 3), keepdims=True)
    for found, raw in ((source.inputs, x), (source.test_inputs, held_out)):
        assert np.allclose(found.numpy(), (raw - mean) / sd, atol=1e-5)
    assert source.targets.dtype == torch.int64 and source.classes == 10 and source.shape == (3, 32, 32)


def test_bytes_stay_bytes_until_a_batch_is_cut_and_then_equal_the_decoded_source(tmp_path, monkeypatch):
    fetched(tmp_path, monkeypatch)
    whole, compact = sources.load("cifar10"), sources.load("cifar10", as_bytes=True)
    assert compact.inputs.dtype == torch.uint8
    plain = batches(whole.inputs, whole.targets, batch_size=4, seed=3)
    cut = prepared(batches(compact.inputs, compact.targets, batch_size=4, seed=3), decode=compact.decode)
    for _ in range(5):
        (a, y), (b, z) = next(plain), next(cut)
        assert torch.equal(a, b) and torch.equal(y, z)


def test_decode_takes_members_side_by_side(tmp_path, monkeypatch):
    fetched(tmp_path, monkeypatch)
    source = sources.load("cifar10", as_bytes=True)
    both = torch.stack([source.inputs, source.inputs.flip(0)])
    stream = member_batches(both, torch.stack([source.targets] * 2), batch_size=3, seeds=(0, 1))
    x, _ = next(prepared(stream, decode=source.decode, pad=2, flip=0.5))
    assert x.shape == (2, 3, 3, 32, 32) and x.dtype == torch.float32


def test_an_embedded_source_decodes_to_itself():
    source = sources.load("digits")
    assert source.decode(source.inputs) is source.inputs


def test_a_source_that_was_not_fetched_names_the_command():
    with pytest.raises(UsageError, match=r"mnist has not been fetched into .*; run: lop data fetch mnist"):
        sources.load("mnist")


def test_an_unknown_source_lists_embedded_and_fetchable_ones():
    with pytest.raises(UsageError, match=r"source 'imagenet' is unknown; choose one of: digits, .*tiny_imagenet"):
        sources.load("imagenet")


def test_importing_the_package_does_not_import_datasets():
    code = "import sys, lop_utils.streams.sources, lop_utils.kit.data_commands; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The cache: whole or absent


def test_a_second_fetch_reads_no_file(tmp_path, monkeypatch):
    fetched(tmp_path, monkeypatch)
    assert external.fetch("cifar10", folder=tmp_path / "nowhere").facts.train == 12


@pytest.mark.parametrize("damage", ["a changed byte", "cut short", "no bytes", "a changed description", "no JSON"])
def test_a_damaged_cache_is_named_with_the_remedy_and_fetched_again(tmp_path, monkeypatch, data, damage):
    fetched(tmp_path, monkeypatch)
    file, beside = data / "cifar10.u8", data / "cifar10.json"
    raw = bytearray(file.read_bytes())
    if damage == "a changed byte":
        raw[100] ^= 1
        file.write_bytes(raw)
    elif damage == "cut short":
        file.write_bytes(raw[:-1])
    elif damage == "no bytes":
        file.unlink()
    elif damage == "a changed description":
        beside.write_text(beside.read_text().replace('"classes": 10', '"classes": 11'))
    else:
        beside.write_text("{")
    with pytest.raises(UsageError, match=r"cifar10\.(u8|json) .*; run: lop data fetch cifar10"):
        sources.load("cifar10")
    small(monkeypatch, "cifar10", 20, 4)
    x, _ = cifar_folder(tmp_path / "raw", "binary")
    external.fetch("cifar10", folder=tmp_path / "raw")
    assert (sources.load("cifar10", as_bytes=True).inputs.numpy() == x[:20]).all()


@pytest.mark.parametrize("end", [KeyboardInterrupt, UsageError("x", remedy="y"), OSError(errno.EIO, "disk")])
def test_an_interrupted_decode_leaves_nothing_that_would_be_used(monkeypatch, data, end):
    facts = small(monkeypatch, "cifar10", 8, 4)

    def chunks():
        yield "train", *pixels(4, (3, 32, 32))
        raise end

    with pytest.raises((KeyboardInterrupt, UsageError, OSError)) as caught:
        cache.store(facts, chunks())
    assert caught.value is end or caught.type is end
    assert cache.find("cifar10") is None
    assert list(data.glob("*.part")) == [] and list(data.glob("*.u8")) == []


def test_what_a_killed_decode_leaves_is_not_used_and_is_overwritten(tmp_path, monkeypatch, data):
    data.mkdir()
    (data / "cifar10.part").write_bytes(b"half")
    assert cache.find("cifar10") is None
    fetched(tmp_path, monkeypatch)
    assert not (data / "cifar10.part").exists() and cache.find("cifar10") is not None


def test_a_full_disk_is_found_before_the_work_begins(tmp_path, monkeypatch, data):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UsageError, match=r"no space left in .*data for cifar10 \(.* MiB\); make room, or set LOP_DATA"):
        fetched(tmp_path, monkeypatch)
    assert cache.find("cifar10") is None


def test_a_disk_that_fills_up_in_between_is_named_and_leaves_nothing(monkeypatch, data):
    facts = small(monkeypatch, "cifar10", 4, 4)

    class Full(io.RawIOBase):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self):
            return 0

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda p, *a, **k: Full() if p.suffix == ".part" else real(p, *a, **k))
    with pytest.raises(UsageError, match="no space left in"):
        cache.store(facts, [("train", *pixels(4, (3, 32, 32)))])
    assert list(data.glob("*.u8")) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOP_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(UsageError, match=r"file/data cannot be written \(.*\); make room, or set LOP_DATA"):
        external.fetch("cifar10", folder=tmp_path)


def test_two_fetches_of_one_name_are_kept_apart(tmp_path):
    with cache.locked("mnist"), pytest.raises(UsageError, match="mnist is being fetched by another process"):
        external.fetch("mnist", folder=tmp_path)


# Local files that are not the published ones


def test_a_file_with_another_checksum_is_refused_unless_asked_for(tmp_path, monkeypatch):
    entry = external.EXTERNAL["mnist"]
    small(monkeypatch, "mnist", 7, 3, md5=entry.md5)
    write_mnist(tmp_path / "raw", pixels(7, (1, 28, 28)), pixels(3, (1, 28, 28)))
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte.gz has MD5 sum .*--unverified"):
        external.fetch("mnist", folder=tmp_path / "raw")
    assert external.fetch("mnist", folder=tmp_path / "raw", verified=False).facts.train == 7


def test_a_set_with_images_missing_is_refused(tmp_path, monkeypatch):
    small(monkeypatch, "mnist", 8, 3)
    write_mnist(tmp_path / "raw", pixels(7, (1, 28, 28)), pixels(3, (1, 28, 28)))
    with pytest.raises(UsageError, match=r"mnist: 7 training and 3 test images; the published set has 8 and 3"):
        external.fetch("mnist", folder=tmp_path / "raw")


def test_labels_beyond_the_classes_are_refused(tmp_path, monkeypatch):
    small(monkeypatch, "mnist", 2, 2)
    x, _ = pixels(2, (1, 28, 28))
    write_mnist(tmp_path / "raw", (x, np.array([1, 10], dtype=np.uint8)), (x, np.array([1, 1], dtype=np.uint8)))
    with pytest.raises(UsageError, match=r"mnist: labels from 1 to 10; expected 0 to 9"):
        external.fetch("mnist", folder=tmp_path / "raw")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0" * 11, "is no IDX file of bytes with 3 axes, or cut short"),
        ("train-images-idx3-ubyte", b"", "is no IDX file"),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"x" * 999, mtime=0)[:-12], "cannot be read"),
        ("train-images-idx3-ubyte.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name} {message}.*fetch the original file again"):
        list(formats.mnist(tmp_path, {}))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"has no file train-images-idx3-ubyte or train-images\.idx3-ubyte"):
        list(formats.mnist(tmp_path, {}))
    with pytest.raises(UsageError, match="holds no Tiny ImageNet"):
        list(formats.tiny_imagenet(tmp_path, {}))
    with pytest.raises(UsageError, match="nowhere is no folder"):
        external.fetch("mnist", folder=tmp_path / "nowhere")


# Downloads, from a hub of our own on this machine


class Hub:
    """A small hub: lists and serves files, honours ranges, can break connections and send wrong bytes."""

    def __init__(self, repository, files):
        self.repository, self.files = repository, files
        self.requests: list[tuple[str, str | None]] = []
        self.breaks = 0  # connections that end after a third of what was asked for
        self.garbled = self.deaf = False

    def listing(self):
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        return [
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40, "lfs": {"oid": sums[name]}}
            for name, data in self.files.items()
        ] + [{"type": "directory", "path": "data"}]

    def answer(self, request):
        self.requests.append((request.path, request.headers.get("Range")))
        if request.path == f"/api/datasets/{self.repository}/tree/main?recursive=true":
            return self.send(request, 200, json.dumps(self.listing()).encode())
        name = request.path.removeprefix(f"/datasets/{self.repository}/resolve/main/")
        if name not in self.files:
            return self.send(request, 404, b"no such file")
        data, start = self.files[name], 0
        if request.headers.get("Range") and not self.deaf:
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = bytes(len(data) - start) if self.garbled else data[start:]
        return self.send(request, 206 if start else 200, body)

    def send(self, request, status, body):
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.breaks and "/resolve/" in request.path:
            self.breaks -= 1
            body = body[: len(body) // 3]
        request.wfile.write(body)
        request.close_connection = True


@contextmanager
def serving(served, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parquet(tmp_path, x, y, image="img", label="label"):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(num_classes=10)})
    pictures = [Image.fromarray(one.transpose(1, 2, 0) if one.shape[0] == 3 else one[0]) for one in x]
    table = datasets.Dataset.from_dict({image: pictures, label: y.tolist()}, features=features)
    table.to_parquet(str(tmp_path / "made.parquet"))
    return (tmp_path / "made.parquet").read_bytes()


@pytest.fixture
def cifar_hub(tmp_path, monkeypatch):
    small(monkeypatch, "cifar10", 9, 4)
    train, test = pixels(9, (3, 32, 32)), pixels(4, (3, 32, 32), 1)
    files = {
        "README.md": b"# CIFAR-10",
        "plain_text/train-00000-of-00002.parquet": parquet(tmp_path, train[0][:5], train[1][:5]),
        "plain_text/train-00001-of-00002.parquet": parquet(tmp_path, train[0][5:], train[1][5:]),
        "plain_text/test-00000-of-00001.parquet": parquet(tmp_path, *test),
    }
    wanted = np.concatenate([train[0], test[0]]), np.concatenate([train[1], test[1]])
    with serving(Hub("uoft-cs/cifar10", files), monkeypatch) as served:
        yield served, wanted


def test_a_download_is_decoded_kept_and_its_files_removed(cifar_hub, data):
    served, (x, y) = cifar_hub
    stages = []
    found = external.fetch("cifar10", progress=lambda what, done, total: stages.append((what.split()[0], done / total)))
    images, labels = found.arrays()
    assert (images == x).all() and (labels == y).all()
    assert found.facts.source.endswith("/datasets/uoft-cs/cifar10")
    assert not any(path.endswith("README.md") for path, _ in served.requests)
    assert not (data / "downloads" / "cifar10").exists()
    assert {what for what, _ in stages} == {"downloading", "decoding"} and stages[-1] == ("decoding", 1.0)
    before = len(served.requests)
    external.fetch("cifar10")
    assert len(served.requests) == before  # once only


def test_a_broken_connection_is_continued_from_where_it_broke(cifar_hub):
    served, (x, _) = cifar_hub
    served.breaks = 3
    images, _ = external.fetch("cifar10").arrays()
    assert (images == x).all()
    assert sum(span is not None for _, span in served.requests) == 3


def test_a_later_process_continues_what_an_interrupted_one_left(cifar_hub, data, monkeypatch):
    served, (x, _) = cifar_hub
    monkeypatch.setattr(hub, "_BLOCK", 1000)

    def stop(what, done, total):
        if done > 2500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        external.fetch("cifar10", progress=stop)
    (part,) = (data / "downloads" / "cifar10").glob("*.part")
    have = part.stat().st_size
    assert have >= 2500
    images, _ = external.fetch("cifar10").arrays()
    assert (images == x).all()
    assert f"bytes={have}-" in [span for _, span in served.requests]


def test_a_server_that_keeps_sending_nothing_is_given_up(cifar_hub):
    served, _ = cifar_hub
    send = served.send
    served.send = lambda request, status, body: send(request, status, body if "/api/" in request.path else b"")
    with pytest.raises(UsageError, match=r"cannot be fetched \(it sends nothing\).*it goes on where it broke off"):
        external.fetch("cifar10")


def test_a_server_without_ranges_sends_the_file_anew(cifar_hub):
    served, (x, _) = cifar_hub
    served.breaks, served.deaf = 1, True
    images, _ = external.fetch("cifar10").arrays()
    assert (images == x).all()


def test_a_download_with_a_wrong_checksum_is_removed_and_named(cifar_hub, data):
    served, (x, _) = cifar_hub
    served.garbled = True
    with pytest.raises(
        UsageError, match=r"train-00000-of-00002\.parquet as downloaded has sha256 .*it has been removed"
    ):
        external.fetch("cifar10")
    assert cache.find("cifar10") is None and not list((data / "downloads" / "cifar10").glob("*.parquet"))
    served.garbled = False
    assert (external.fetch("cifar10").arrays()[0] == x).all()


def test_grey_images_and_other_columns_are_found(tmp_path, monkeypatch):
    small(monkeypatch, "mnist", 6, 2)
    x, y = pixels(8, (1, 28, 28))
    files = {
        "mnist/train-00000-of-00001.parquet": parquet(tmp_path, x[:6], y[:6], image="image"),
        "mnist/test-00000-of-00001.parquet": parquet(tmp_path, x[6:], y[6:], image="image"),
    }
    with serving(Hub("ylecun/mnist", files), monkeypatch):
        images, labels = external.fetch("mnist").arrays()
    assert (images == x).all() and (labels == y).all()


def test_files_without_the_label_column_are_refused(tmp_path, monkeypatch):
    small(monkeypatch, "cifar100", 6, 2)
    x, y = pixels(8, (3, 32, 32))
    files = {f"cifar100/{part}-0.parquet": parquet(tmp_path, x[:6], y[:6]) for part in ("train", "test")}
    with serving(Hub("uoft-cs/cifar100", files), monkeypatch), pytest.raises(UsageError, match="and fine_label"):
        external.fetch("cifar100")


def test_a_repository_without_the_part_is_named(monkeypatch):
    pytest.importorskip("datasets")
    with (
        serving(Hub("zh-plus/tiny-imagenet", {"data/train-0.parquet": b"x"}), monkeypatch),
        pytest.raises(UsageError, match=r"tiny-imagenet on the hub has no Parquet file of its part 'valid'; .*--from"),
    ):
        external.fetch("tiny_imagenet")


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"ylecun/mnist.* cannot be fetched \(.*\); check the network .*--from FOLDER"):
        external.fetch("mnist")


def test_without_datasets_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs the package datasets.*pip install 'lop-book\[data\]', or use --from"):
        external.fetch("mnist")


# Augmentation


def per_image_crop(images, pad, generator):
    offsets = torch.randint(2 * pad + 1, (2, len(images), 1), generator=generator)[..., 0].tolist()
    cut = []
    for image, top, left in zip(images, *offsets, strict=True):
        channels, height, width = image.shape
        wide = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=image.dtype)
        wide[:, pad : pad + height, pad : pad + width] = image
        cut.append(wide[:, top : top + height, left : left + width])
    return torch.stack(cut)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("pad", [0, 1, 4])
def test_batched_crops_are_those_of_a_loop_over_images(pad, dtype):
    images = torch.randint(256, (40, 3, 7, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    looped = per_image_crop(images, pad, torch.Generator().manual_seed(1))
    assert torch.equal(random_crop(images, pad=pad, generator=torch.Generator().manual_seed(1)), looped)


def test_all_offsets_occur_and_are_equally_likely():
    image = torch.zeros(9000, 1, 3, 3)
    image[..., 1, 1] = 1
    cut = random_crop(image, pad=1, generator=torch.Generator().manual_seed(0)).flatten(1)
    share = cut.mean(0)
    assert ((share - 1 / 9).abs() < 4 * (8 / 81 / 9000) ** 0.5).all()


def test_batched_flips_are_those_of_a_loop_over_images_and_half_of_them():
    images = torch.rand(2000, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(2000, generator=torch.Generator().manual_seed(1)) < 0.5
    looped = torch.stack([image.flip(-1) if flip else image for image, flip in zip(images, drawn, strict=True)])
    found = random_flip(images, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, looped)
    assert 0.45 < float((found != images).flatten(1).any(1).float().mean()) < 0.55


def test_augmented_batches_repeat_with_the_seed_and_differ_between_epochs(tmp_path, monkeypatch):
    fetched(tmp_path, monkeypatch)
    source = sources.load("cifar10", as_bytes=True)

    def epochs(seed):
        stream = batches(source.inputs, source.targets, batch_size=12, seed=0)
        cut = prepared(stream, decode=source.decode, pad=4, flip=0.5, seed=seed)
        return [next(cut)[0] for _ in range(2)]

    first, second = epochs(0), epochs(0)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].sort(0).values, first[1].sort(0).values)
    assert not torch.equal(first[0], epochs(1)[0])


def test_senseless_augmentation_is_refused():
    generator = torch.Generator()
    with pytest.raises(UsageError, match="padding -1"):
        random_crop(torch.zeros(1, 1, 2, 2), pad=-1, generator=generator)
    with pytest.raises(UsageError, match=r"probability 1\.5"):
        random_flip(torch.zeros(1, 1, 2, 2), generator=generator, share=1.5)
