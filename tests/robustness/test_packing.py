"""States as bytes: every bit comes back, and no damage goes unnoticed."""

import io
import math
import random
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.evidence.files import Unusable
from lop_utils.evidence.packing import pack, unpack

KINDS = [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]
_NUMPY = dict(zip(KINDS, ["f4", "f8", "i8", "i4", "u1", "?"], strict=True))
bits = st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0])
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | bits | st.text(max_size=4)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def packed(state, **header):
    file = io.BytesIO()
    pack(file, header, state)
    return file.getvalue()


def same(a, b):
    """Equal in kind, order and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


@settings(max_examples=60, deadline=None)
@given(trees)
def test_every_bit_of_a_state_comes_back(state):
    header, back = unpack(packed(state, key="k"))
    assert header == {"key": "k"} and same(back, state)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2**31))
def test_every_bit_of_a_tensor_comes_back(kind, shape, seed):
    noise = np.random.default_rng(seed).bytes(8 * math.prod(shape))
    size = torch.empty((), dtype=kind).element_size()
    raw = np.frombuffer(noise[: size * math.prod(shape)], dtype=np.uint8).copy()
    values = (torch.from_numpy(raw) & 1).bool() if kind == torch.bool else torch.from_numpy(raw.view(_NUMPY[kind]))
    tensor = values.reshape(shape)
    state = {"one": tensor, "many": [tensor, tensor.numpy()], "part": tensor.T if tensor.ndim == 2 else tensor}
    assert same(unpack(packed(state))[1], {**state, "part": state["part"].contiguous()})


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), torch.zeros(1, dtype=torch.bfloat16)])
def test_what_is_not_plain_data_is_refused(value):
    with pytest.raises(TypeError):
        packed({"value": value})


def test_no_damage_to_a_state_goes_unnoticed(tally):
    state = {"w": torch.arange(50.0), "n": torch.arange(9), "rows": [(0, "loss", 0.5)] * 5}
    data, rng = packed(state, key="k"), random.Random(3)
    damaged = [data[:length] for length in (0, 1, 10, len(data) // 2, len(data) - 20, len(data) - 1)]
    for _ in range(300):
        position = rng.randrange(len(data))
        damaged.append(data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :])
    for found in damaged:
        try:
            header, back = unpack(found)
        except Unusable:
            tally("checkpoint damaged", "detected")
        else:  # a flip in a time stamp of the archive, say
            tally("checkpoint damaged", "harmless" if same(back, state) and header == {"key": "k"} else "lost")


def test_other_numbers_under_the_same_description_are_noticed():
    """The archive's own checksums are right then."""
    whole = io.BytesIO(packed({"w": torch.zeros(3)}))
    with np.load(whole) as stored:
        parts = {name: stored[name] for name in stored}
    parts["a0"] = parts["a0"] + 1
    file = io.BytesIO()
    np.savez(file, **parts)
    with pytest.raises(Unusable, match="checksum"):
        unpack(file.getvalue())


def test_a_pickle_is_no_state():
    import pickle

    file = io.BytesIO()
    np.savez(file, description=np.array([{"a": 1}], dtype=object))
    for data in (pickle.dumps({"a": 1}), file.getvalue()):
        with pytest.raises(Unusable):
            unpack(data)
