"""What users hand over by mistake, and what only an enemy would: values to put in the place of any argument.

Each entry is a label and a function that makes the value anew, so that a call can be made twice alike.
"""

from __future__ import annotations

import decimal
import fractions
import itertools
import pathlib
import random
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim

from . import evil
from .context import Context

Maker = Callable[[Context], Any]

SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    np.True_,
    0,
    1,
    -1,
    2,
    3,
    7,
    63,
    64,
    65,
    255,
    256,
    257,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**31),
    -(2**63),
    -(2**63) - 1,
    10**400,
    10**5000,
    -(10**5000),
    0.0,
    -0.0,
    0.25,
    0.5,
    1.0,
    1.5,
    -0.1,
    1 + 2**-52,
    5e-324,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
    float("-inf"),
    1j,
    complex("nan"),
    decimal.Decimal("0.5"),
    decimal.Decimal("sNaN"),
    fractions.Fraction(1, 2),
    np.int8(-1),
    np.int64(3),
    np.uint64(2**63),
    np.float16("nan"),
    np.float32(0.5),
    np.longdouble("0.5"),
    np.complex64(1j),
    np.datetime64("2020-01-01"),
    np.timedelta64(1, "s"),
    np.str_("0.5"),
    np.bytes_(b"x"),
    "",
    "0.5",
    "mean",
    "row",
    "abc",
    "x" * 20000,
    "\ud800",
    "a\nb",
    "float32",
    "cpu",
    "{x!r}",
    "%s",
    "no/such/file",
    b"",
    b"\x00\xff",
    Ellipsis,
    NotImplemented,
    int,
    np.ndarray,
    fd.Mask,
    len,
    fd,
    np.float32,
    np.dtype("U3"),
    (),
    (1,),
    (2, 3),
    (4, 6),
    (-1,),
    (0,),
    (None, 1),
    (2**62, 4),
    (2**31, 2**31, 2),
    (1,) * 64,
    (1,) * 65,
    (0.5, 0.5),
    (True,),
    ("a", "b"),
    ((1, 2), (3,)),
    slice(None),
    slice(0, None, 0),
    slice("a"),
    slice(2**70),
    frozenset({1}),
    range(3),
    (slice(None),) * 66,
    (Ellipsis, Ellipsis),
)

CONTAINERS: dict[str, Callable[[], Any]] = {
    "list": list,
    "dict": dict,
    "set": set,
    "{1, 2}": lambda: {1, 2},
    "[1]": lambda: [1],
    "[4, 6]": lambda: [4, 6],
    "[0.5, 'a']": lambda: [0.5, "a"],
    "ragged": lambda: [[1.0], [2.0, 3.0]],
    "[None]": lambda: [None],
    "[[0.5]*6]*4": lambda: [[0.5] * 6] * 4,
    "{'a': 1}": lambda: {"a": 1},
    "{1: 2}": lambda: {1: 2},
    "100 deep": lambda: nested(100),
    "5000 deep": lambda: nested(5000),
    "itself": evil.recursive_list,
    "itself as a value": evil.recursive_dict,
    "iterator": lambda: iter([1, 2]),
    "endless": itertools.count,
    "endless list": lambda: evil.Sequence(np.inf),
    "bytearray": lambda: bytearray(96),
    "memoryview": lambda: memoryview(bytes(96)),
    "OrderedDict": OrderedDict,
    "mappingproxy": lambda: vars(int),
    "object": object,
    "lambda": lambda: lambda: None,
    "Path": lambda: pathlib.Path("no/such/file"),
    "folder": tempfile.gettempdir,
    "closed file": evil.closed_file,
    "{'params': 1}": lambda: {"params": 1},
    "[{'params': []}]": lambda: [{"params": []}],
    "{'key': 1, 'call': 2}": lambda: {"key": 1, "call": 2},
    "{'key': 1, 'call': 2, 'seed_seq': 3}": lambda: {"key": 1, "call": 2, "seed_seq": {"entropy": "a"}},
}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


DTYPES: tuple[Any, ...] = (
    "?",
    "i1",
    "u1",
    "i2",
    "i4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "g",
    "c8",
    "c16",
    "O",
    "U3",
    "S3",
    "M8[s]",
    "m8[s]",
    "V5",
    [("a", "f4"), ("b", "i8")],
    ">f4",
    ">f8",
    ">i8",
    ">f2",
)
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (0,),
    (1,),
    (3,),
    (6,),
    (4, 6),
    (6, 4),
    (4, 1),
    (24,),
    (0, 3),
    (3, 0),
    (2, 3, 4),
    (2, 3, 4, 4),
    (2, 3, 2, 4, 4),
    (1,) * 12,
    (1,) * 64,
    (4, 6, 1),
    (128, 64),
)


def values(shape: tuple[int, ...], dtype: Any, source: random.Random) -> Any:
    """An array with what such a dtype can hold at its worst."""
    size = int(np.prod(shape))
    kind = np.dtype(dtype).kind
    if kind == "f":
        few = (0.0, -0.0, 1.0, -2.5, float("nan"), float("inf"), float("-inf"), 1e30)
        with np.errstate(over="ignore"):
            return np.array([source.choice(few) for _ in range(size)], np.float64).astype(dtype).reshape(shape)
    if kind == "O":
        few_objects = (None, 1, "a", 0.5, 2**70, [1])
        made = np.empty(size, object)
        made[:] = [source.choice(few_objects) for _ in range(size)]
        return made.reshape(shape)
    return (
        np.frombuffer(source.randbytes(size * np.dtype(dtype).itemsize), np.uint8).view(dtype).reshape(shape).copy()
        if (size and kind not in "U?")
        else np.zeros(shape, dtype)
    )


def array(context: Context) -> Any:
    """An array of any dtype, shape and layout."""
    source = context.source
    dtype = source.choice(DTYPES if source.random() < 0.5 else ("f4", "f8", "f2", "i8"))
    a = values(source.choice(SHAPES if source.random() < 0.5 else ((4, 6), (2, 3, 4), (2, 3, 4, 4))), dtype, source)
    return LAYOUTS[source.choice(tuple(LAYOUTS))](a)


def _strided(a: Any) -> Any:
    if a.ndim > 12:
        return a
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)[tuple(slice(None, None, 2) for _ in a.shape)]
    if a.ndim:
        wide[...] = a
    return wide


def _unaligned(a: Any) -> Any:
    if a.dtype.hasobject:
        return a
    made = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    made[...] = a
    return made


def _overlapping(a: Any) -> Any:
    return np.lib.stride_tricks.as_strided(a, a.shape, tuple(s // 2 for s in a.strides)) if not a.dtype.hasobject else a


def _read_only(a: Any) -> Any:
    a.setflags(write=False)
    return a


def _memmap(a: Any) -> Any:
    if a.dtype.hasobject or not a.nbytes:
        return a
    made = np.memmap(tempfile.TemporaryFile(), a.dtype, "w+", shape=a.shape)
    made[...] = a
    return made


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "reversed": lambda a: a[tuple(slice(None, None, -1) for _ in a.shape)],
    "strided": _strided,
    "unaligned": _unaligned,
    "overlapping": _overlapping,
    "read-only": _read_only,
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and a.size else a,
    "memmap": _memmap,
    "matrix": lambda a: np.asmatrix(a) if a.ndim <= 2 else a,
    "masked": np.ma.masked_array,
    "transposed": lambda a: a.T,
    "writeable copies": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (0,) * a.ndim),
    "subclass": lambda a: a.view(evil.Lying),
}


def tensor(context: Context) -> Any:
    """A tensor of fastdrop.nn: a leaf, a computed one, or one over an odd array."""
    source = context.source
    a = array(context) if source.random() < 0.5 else np.ones((4, 6), np.float32)
    try:
        made = nn.Tensor(a)
    except TypeError:  # there is no tensor of such a dtype
        return a
    if made.array.dtype.kind == "f" and source.random() < 0.5:
        made.requires_grad_()
        return made if source.random() < 0.5 else made * 2
    return made


def _exhausted(left: int) -> Any:
    rng = fd.Generator(0)
    rng.state = {"key": 1, "call": 2**64 - 1 - left}
    return rng


def mask(context: Context) -> Any:
    source = context.source
    shape = source.choice(
        ((), (0,), (4, 6), (6, 4), (1, 6), (4, 6, 6), (2, 3, 4), (24,), (3,), (1,) * 64, (2**40, 2**20))
    )
    made = fd.Mask(source.choice((0, 2**64 - 1)), 3, source.choice((0.5, 0.0, 1.0, 0.1)), shape)
    return source.choice((made, made.T, made[..., ::-1] if shape else made, made[None] if len(shape) < 9 else made))


OBJECTS: dict[str, Maker] = {
    "a mask": mask,
    "noise": lambda c: fd.Noise(0, 0, c.source.choice(((4, 6), (3,), (2**40, 2**20)))),
    "a bare mask": lambda c: fd.Mask.__new__(fd.Mask),
    "bare noise": lambda c: fd.Noise.__new__(fd.Noise),
    "a bare generator": lambda c: fd.Generator.__new__(fd.Generator),
    "a generator": lambda c: fd.Generator(c.source.randrange(9)),
    "a spent generator": lambda c: _exhausted(c.source.randrange(3)),
    "NumPy's generator": lambda c: np.random.default_rng(0),
    "a seed sequence": lambda c: np.random.SeedSequence(c.source.choice((0, [1, 2]))),
    "a module": lambda c: nn.Linear(6, 2),
    "a bare module": lambda c: nn.Linear.__new__(nn.Linear),
    "a parameter": lambda c: nn.Parameter(np.ones((4, 6), np.float32)),
    "an optimizer": lambda c: optim.SGD([nn.Parameter(np.ones(2, np.float32))], lr=0.1),
    "a history": lambda c: nn.History(),
    "saved rows": lambda c: fd.softmax.SoftmaxRows(array(c), None, mask(c), c.source.choice((0, -1, 7, None))),
    "a list of masks": lambda c: [mask(c) for _ in range(c.source.randrange(4))],
    "a list of arrays": lambda c: [array(c) for _ in range(c.source.randrange(4))],
    "a pair of arrays": lambda c: (array(c), array(c)),
    "a list of tensors": lambda c: [tensor(c) for _ in range(c.source.randrange(4))],
    "a state": lambda c: {"weight": array(c), "bias": c.source.choice((None, "a", array(c)))},
    "another argument": lambda c: c.other(),
    "a view of another argument": lambda c: c.overlapping(),
}


def choose(context: Context) -> tuple[str, Any]:
    """A value from all of it, and what to call it."""
    source = context.source
    kind = source.randrange(12)
    if kind < 4:
        value = source.choice(SCALARS)
        return repr(value)[:60] if not (isinstance(value, int) and abs(value) > 10**30) else "a huge int", value
    if kind < 5:
        label = source.choice(tuple(CONTAINERS))
        return label, CONTAINERS[label]()
    if kind < 8:
        value = array(context)
        shape = np.ndarray.__getattribute__(value, "shape") if isinstance(value, np.ndarray) else "alone"
        return f"{type(value).__name__} {getattr(value, 'dtype', '')} {shape}", value
    if kind < 9:
        return "a tensor", tensor(context)
    if kind < 10:
        label = source.choice(tuple(OBJECTS))
        return label, OBJECTS[label](context)
    label = source.choice(tuple(evil.OBJECTS))
    return label, evil.OBJECTS[label](context)
