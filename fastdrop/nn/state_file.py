"""One safetensors file that holds nested plain data: arrays under flat names, the rest as JSON in its metadata.

What is read is what was written, bit for bit and type for type, or a ValueError: a checksum covers all of it. Nothing
in such a file is code.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastdrop._extra import extra
from fastdrop._files import whole_file
from fastdrop.nn.autograd import Array
from fastdrop.nn.tensor import Tensor

FORMAT = "fastdrop.checkpoint.1"
#: What safetensors holds as it is; arrays of other numbers are written as bytes.
NATIVE = frozenset(np.dtype(code) for code in ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d"))


def pack(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return `value` as data that JSON holds exactly; its arrays go into `arrays`, under `name` and where they stand.

    None, bool, int, str and finite floats stand for themselves and lists for lists; all else is a dict of one entry
    that names its kind.

    Raises
    ------
    TypeError
        Naming the place of what no file of this kind can hold.

    Examples
    --------
    >>> arrays = {}
    >>> pack({"a": np.ones(2), "b": (1, float("inf"))}, "state", arrays)
    {'dict': {'a': {'array': 'state.a'}, 'b': {'tuple': [1, {'float': '7ff0000000000000'}]}}}
    >>> arrays
    {'state.a': array([1., 1.])}
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        # Python limits the digits it reads, not those of a power of two.
        return value if -(2**63) <= value < 2**64 else {"int": hex(value)}
    if kind is float:
        return value if np.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if isinstance(value, np.generic):
        return {"scalar": pack(np.asarray(value), name, arrays)}
    if isinstance(value, Tensor):
        return {"tensor": pack(value.array, name, arrays)}
    if isinstance(value, np.ndarray):
        return _pack_array(np.asarray(value), name, arrays)
    if kind is list or kind is tuple:
        items = [pack(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    if isinstance(value, dict):
        if all(type(key) is str for key in value):
            return {"dict": {key: pack(item, f"{name}.{key}", arrays) for key, item in value.items()}}
        return {
            "items": [
                [pack(key, f"{name}.{key}", arrays), pack(item, f"{name}.{key}", arrays)] for key, item in value.items()
            ]
        }
    raise TypeError(
        f"{name} is a {kind.__name__}, which a checkpoint cannot hold: numbers, strings, None, arrays, tensors, and "
        "lists, tuples and dicts of them can be saved"
    )


def _pack_array(array: Array, name: str, arrays: dict[str, Array]) -> Any:
    name = name.encode("ascii", "backslashreplace").decode()  # safetensors takes no lone surrogates
    while name in arrays:  # {"a.b": x, "a": {"b": y}}
        name += "_"
    # Not ascontiguousarray, which gives a 0-d array an axis.
    array = np.asarray(array, order="C")
    if array.dtype in NATIVE and array.dtype.isnative:
        arrays[name] = array
        return {"array": name}
    if array.dtype.kind not in "biufcSUmM":
        raise TypeError(f"{name} is an array of dtype {array.dtype}, which a checkpoint cannot hold")
    arrays[name] = np.frombuffer(array.tobytes(), np.uint8)
    return {"bytes": [name, array.dtype.str, list(array.shape)]}


def unpack(value: Any, arrays: Mapping[str, Array]) -> Any:
    """Return what `pack` was given; every array is a new one.

    Examples
    --------
    >>> unpack({"tuple": [1, {"float": "7ff0000000000000"}]}, {})
    (1, inf)
    """
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "int":
        return int(held, 16)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(held))[0]
    if kind == "scalar":
        return unpack(held, arrays)[()]
    if kind == "tensor":
        return Tensor(unpack(held, arrays))
    if kind == "array":
        return np.array(arrays[held])
    if kind == "bytes":
        name, dtype, shape = held
        return np.frombuffer(arrays[name].tobytes(), np.dtype(dtype)).reshape(shape).copy()
    if kind == "tuple":
        return tuple(unpack(item, arrays) for item in held)
    if kind == "dict":
        return {key: unpack(item, arrays) for key, item in held.items()}
    if kind == "items":
        return {unpack(key, arrays): unpack(item, arrays) for key, item in held}
    raise ValueError(f"no kind of value: {kind!r}")


def _digest(text: str, arrays: Mapping[str, Array]) -> str:
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"\n{name!r} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def pack_state(state: dict[str, Any], name: str) -> bytes:
    """Return the bytes of such a file, which errors call by that name.

    Raises
    ------
    TypeError, ValueError
        If `state` holds what such a file cannot, or more than 100 MB that is not in arrays.
    """
    safetensors = extra("safetensors.numpy", "nn")
    arrays: dict[str, Array] = {}
    text = json.dumps({key: pack(value, key, arrays) for key, value in state.items()}, allow_nan=False)
    try:
        content: bytes = safetensors.save(arrays, metadata={FORMAT: text, "sha256": _digest(text, arrays)})
    except Exception as error:  # safetensors' own is no ValueError
        raise ValueError(
            f"{name} cannot hold this state, with {len(arrays)} arrays and {len(text)} characters beside them: {error}"
        ) from error
    return content


def write_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write the file, whole or not at all.

    Raises
    ------
    OSError
        Naming the file, which is then as it was before.
    TypeError, ValueError
        As of `pack_state`.
    """
    content = pack_state(state, os.fspath(path))
    try:
        with whole_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        # An error of write() knows no name, and one of the part names a file that is gone.
        why = f"cannot write the checkpoint: {error.strerror or error}"
        if error.errno is None:
            raise OSError(f"{why}: {os.fspath(path)!r}") from error
        raise OSError(error.errno, why, os.fspath(path)) from error


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises
    ------
    ValueError
        Naming the file, if it is something else, of another version, or damaged.
    """
    return unpack_state(Path(path).read_bytes(), os.fspath(path))


def unpack_state(content: bytes, name: str) -> dict[str, Any]:
    """Return the state of which `pack_state` gave the bytes; ValueError calls them by that name."""
    safetensors = extra("safetensors.numpy", "nn")
    try:
        arrays = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except Exception as error:  # safetensors' own is no ValueError, and there may be dtypes that it does not know
        raise ValueError(f"{name} is no checkpoint, or a damaged one: {error}") from error
    text = metadata.get(FORMAT)
    if text is None:
        raise ValueError(f"{name} is no checkpoint that this version of fastdrop.nn.fit has written")
    if metadata.get("sha256") != _digest(text, arrays):
        raise ValueError(f"{name} is damaged: its content does not have the checksum that was written with it")
    return {key: unpack(value, arrays) for key, value in json.loads(text).items()}
