"""Files of the store and of the data cache that are cut short, flipped, or of another version: said, and made anew."""

import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from harsh import heard

from lop_utils.errors import UsageError
from lop_utils.evidence import files, store
from lop_utils.streams import cache, external

SEED = 7


def lengths(size):
    """A few lengths that a file of this size may have been cut to."""
    return sorted({0, 1, 7, size // 4, size // 2, size - 20, size - 1} - {size})


def flips(size, count, seed):
    """(position, bit) of `count` flipped bits."""
    rng = random.Random(seed)
    return [(rng.randrange(size), rng.randrange(8)) for _ in range(count)]


def flipped(data, position, bit):
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def damaged(data, count, seed):
    """(what was done, the damaged bytes) for one file."""
    for length in lengths(len(data)):
        yield "cut short", data[:length]
    for position, bit in flips(len(data), count, seed):
        yield "a bit flipped", flipped(data, position, bit)
    yield "longer", data + b"\0"
    yield "replaced by zeros", bytes(len(data))
    yield "replaced by noise", random.Random(seed).randbytes(len(data))


FRAME = pd.DataFrame({"seed": 0, "metric": "loss", "value": np.random.default_rng(0).normal(size=200)})


class Stored:
    """One result in the store, and how often it was computed."""

    def __init__(self):
        self.computed = 0
        self.fetch()
        self.path = store.place("toy", {"rate": 0.1}, "cpu")
        self.true = self.path.read_bytes()

    def compute(self):
        self.computed += 1
        return FRAME.copy()

    def fetch(self):
        return store.fetch("toy", {"rate": 0.1}, self.compute, device="cpu", modules=["lop_utils.errors"])

    def judge(self, record):
        """What came of the present damage, `record` being what the undamaged sidecar said."""
        before = self.computed
        with heard() as said:
            result = self.fetch()
        if not result.frame.equals(FRAME) or self.path.read_bytes() != self.true:
            return "lost"
        if self.computed == before:  # only where the record still says the same, as after a flip in white space
            return "harmless" if files.unseal(self.path.with_suffix(".json")) == record else "lost"
        return "detected" if str(self.path) in said.getvalue() else "lost"


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_every_damage_to_a_stored_result_is_said_and_made_good(results, tally, suffix):
    stored = Stored()
    path, record = stored.path.with_suffix(suffix), files.unseal(stored.path.with_suffix(".json"))
    for what, data in damaged(path.read_bytes(), 60, SEED):
        path.write_bytes(data)
        tally(f"store, {'data' if suffix == '.parquet' else 'record'}: {what}", stored.judge(record), data[:20])


def other_versions(record):
    """Records that another version of the kit, or of a library, might have written."""
    version = record["version"]
    yield record | {"version": version | {"format": store.FORMAT + 1}}
    yield record | {"version": version | {"libraries": version["libraries"] | {"torch": "99"}}}
    yield record | {"version": version | {"libraries": version["libraries"] | {"numba": "absent"}}}
    yield record | {"version": version | {"sources": {}}}
    yield record | {"version": version | {"sources": ["a", "list"]}}
    yield record | {"version": "2"}
    yield record | {"version": None}
    yield {key: value for key, value in record.items() if key != "version"}
    yield {"key": record["key"], "made": "by something else"}
    yield {}


def test_a_result_of_any_other_version_is_said_and_made_anew(results, tally):
    stored = Stored()
    sidecar = stored.path.with_suffix(".json")
    for other in other_versions(files.unseal(sidecar)):
        sidecar.write_bytes(files.seal(other))
        tally("store: of another version", stored.judge(None), other)
    for text in (b"[1, 2]", b"null", b"3", b'"text"', b"[" * 100_000, b'{"seal": 1}', b"\xff\xfe"):
        sidecar.write_bytes(text)
        tally("store: of another version", stored.judge(None), text[:20])


def test_no_byte_of_the_store_is_ever_unpickled(results, monkeypatch):
    import pickle

    refuse = lambda *args, **kwargs: pytest.fail("something was unpickled")  # noqa: E731
    stored = Stored()
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    stored.path.with_suffix(".json").write_bytes(pickle.dumps({"key": stored.path.stem}))
    assert stored.fetch().fresh
    stored.path.write_bytes(pickle.dumps(FRAME))
    assert stored.fetch().fresh and not stored.fetch().fresh


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A tiny "MNIST" in the cache, with the folder of its original files."""
    monkeypatch.setenv("LOP_DATA", str(tmp_path / "data"))
    entry = external.EXTERNAL["mnist"]
    facts = replace(entry.facts, shape=(1, 4, 4), train=30, test=10)
    rng = np.random.default_rng(0)
    parts = {
        part: (rng.integers(0, 256, (n, *facts.shape), np.uint8), rng.integers(0, 10, n, np.uint8))
        for part, n in (("train", 30), ("test", 10))
    }
    made = replace(entry, facts=facts, md5={}, read=lambda folder, sums: ((p, *a) for p, a in parts.items()))
    monkeypatch.setitem(external.EXTERNAL, "mnist", made)
    originals = tmp_path / "originals"
    originals.mkdir()
    return lambda: external.fetch("mnist", folder=originals)


def fetched_again(data, true, sealed):
    """What came of the present damage to the cache: refused with the remedy, fetched again, and then whole."""
    try:
        images, _ = external.ready("mnist").arrays()
    except (UsageError, cache.Unusable):
        pass
    else:
        same = json.loads((cache.folder() / "mnist.json").read_bytes()) == sealed and bytes(images) == true[:640]
        return "harmless" if same else "lost"
    with heard() as said:
        found = data()
    whole = found.path.read_bytes() == true
    return "detected" if whole and str(cache.folder()) in said.getvalue() else "lost"


@pytest.mark.parametrize("suffix", ["u8", "json"])
def test_every_damage_to_fetched_data_is_said_and_made_good(data, tally, suffix):
    found = data()
    true, sealed = found.path.read_bytes(), json.loads((cache.folder() / "mnist.json").read_bytes())
    path = cache.folder() / f"mnist.{suffix}"
    for what, damage in damaged(path.read_bytes(), 60, SEED):
        path.write_bytes(damage)
        tally(
            f"data, {'bytes' if suffix == 'u8' else 'record'}: {what}", fetched_again(data, true, sealed), damage[:20]
        )


def test_fetched_data_of_another_version_are_said_and_fetched_again(data, tally):
    found = data()
    true, beside = found.path.read_bytes(), cache.folder() / "mnist.json"
    record = json.loads(beside.read_bytes())
    record.pop("seal")
    others = [record | {"format": 2}, record | {"format": "1"}, {"format": cache.FORMAT + 1}, {}]
    for other in others:
        beside.write_text(json.dumps(other | {"seal": cache._seal(other)}))
        tally("data: of another version", fetched_again(data, true, None), other)
    for text in (b"[1, 2]", b"null", b"3", b'"text"', b"[" * 100_000, b'{"seal": 1}', b"\xff\xfe"):
        beside.write_bytes(text)
        tally("data: of another version", fetched_again(data, true, None), text[:20])


def test_data_without_their_record_or_a_record_without_its_data_are_fetched_again(data, tally):
    found = data()
    true = found.path.read_bytes()
    found.path.unlink()
    tally("data, bytes: missing", fetched_again(data, true, None))
    (cache.folder() / "mnist.json").unlink()
    assert data().path.read_bytes() == true
    tally("data, record: missing", "detected")
