"""States of runs as bytes and back, exactly, and without pickle: one npz of plain arrays and a sealed description.

Numbers keep their bits, tuples stay tuples, tensors return to the kind of device that they came from.
"""

import json
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import BinaryIO

import numpy as np
import torch

from lop_utils.evidence.files import Unusable, sha256
from lop_utils.evidence.provenance import digest

DESCRIPTION = "description"


def pack(file: BinaryIO, header: Mapping, state: object) -> None:
    """Write `state` to `file`, with a `header` of JSON data. Raises `TypeError` for what is not plain data.

    >>> file = BytesIO()
    >>> pack(file, {"key": "k"}, {"step": 3, "rows": [(0, "loss", 0.5)], "w": torch.ones(2)})
    >>> unpack(file.getvalue())
    ({'key': 'k'}, {'step': 3, 'rows': [(0, 'loss', 0.5)], 'w': tensor([1., 1.])})
    """
    arrays: list[np.ndarray] = []
    tree = _described(state, arrays)
    sums = [sha256(np.ascontiguousarray(array).tobytes()) for array in arrays]
    record = {"header": dict(header), "tree": tree, "sums": sums}
    text = json.dumps({**record, "seal": digest(record)}).encode()
    named = {f"a{i}": array for i, array in enumerate(arrays)}
    np.savez(file, **{DESCRIPTION: np.frombuffer(text, dtype=np.uint8)}, **named)


def unpack(data: bytes) -> tuple[dict, object]:
    """The header and the state. Raises `Unusable` for bytes that are not what was packed."""
    try:
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            record = json.loads(stored[DESCRIPTION].tobytes())
            if record.pop("seal") != digest(record):
                raise Unusable("its description does not match its seal")
            arrays = [stored[f"a{i}"] for i in range(len(record["sums"]))]
    except Unusable:
        raise
    except Exception as error:  # damaged zip files raise errors of a dozen kinds
        raise Unusable(f"it cannot be read ({type(error).__name__})") from error
    for array, known in zip(arrays, record["sums"], strict=True):
        if sha256(np.ascontiguousarray(array).tobytes()) != known:
            raise Unusable("its numbers do not match their checksum")
    return record["header"], _restored(record["tree"], arrays)


def _described(value: object, arrays: list[np.ndarray]) -> object:
    """`value` as JSON data; arrays go to the list."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else {"bits": struct.pack("<d", value).hex()}
    if isinstance(value, tuple):
        return {"tuple": [_described(part, arrays) for part in value]}
    if isinstance(value, list):
        return [_described(part, arrays) for part in value]
    if isinstance(value, Mapping):
        return {"pairs": [[_described(k, arrays), _described(v, arrays)] for k, v in value.items()]}
    if isinstance(value, torch.Tensor):
        arrays.append(value.detach().cpu().numpy().copy())  # TypeError for what numpy lacks
        return {"tensor": len(arrays) - 1, "device": value.device.type, **_form(arrays[-1])}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays.append(value)
        return {"array": len(arrays) - 1, **_form(value)}
    raise TypeError(f"a {type(value).__name__} cannot be kept in a checkpoint")


def _form(array: np.ndarray) -> dict:
    return {"type": str(array.dtype), "shape": list(array.shape)}


def _restored(tree: object, arrays: list[np.ndarray]) -> object:
    if isinstance(tree, list):
        return [_restored(part, arrays) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "bits" in tree:
        return struct.unpack("<d", bytes.fromhex(tree["bits"]))[0]
    if "tuple" in tree:
        return tuple(_restored(part, arrays) for part in tree["tuple"])
    if "pairs" in tree:
        return {_restored(k, arrays): _restored(v, arrays) for k, v in tree["pairs"]}
    array = arrays[tree["tensor"] if "tensor" in tree else tree["array"]]
    if _form(array) != {name: tree[name] for name in ("type", "shape")}:
        raise Unusable("its numbers have another type or shape")
    return torch.from_numpy(array).clone().to(tree["device"]) if "tensor" in tree else array
