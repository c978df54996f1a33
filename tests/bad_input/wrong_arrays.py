"""What can be wrong with arrays, masks and noise: with inputs, outputs, and what has to fit an input."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastdrop as fd

from .check import Wrong, always, like, own

TYPE, VALUE = TypeError, ValueError
EITHER = (TypeError, ValueError)
SHAPED = (ValueError, RuntimeError, IndexError)

P = r"dropout probability|\b{name}\b"
BETWEEN = r"between 0 and 1"


def read_only(a: Any) -> Any:
    made = np.full_like(a, -77)
    made.setflags(write=False)
    return made


def itself_overlapping(a: Any) -> Any:
    made = np.full(a.size + 1, -77, a.dtype)
    return np.lib.stride_tricks.as_strided(made, a.shape, (a.itemsize,) * a.ndim)


FLOATING = r"float32|floating"

MASKS = (
    Wrong(
        "booleans",
        like(lambda a: np.ones(a.shape, bool)),
        TYPE,
        (r"mask has to be a fastdrop\.Mask", "ndarray"),
        ("rng",),
    ),
    Wrong(
        "noise", like(lambda a: fd.Noise(0, 0, a.shape)), TYPE, (r"mask has to be a fastdrop\.Mask", "Noise"), ("rng",)
    ),
    Wrong(
        "of another p",
        like(lambda a: fd.Mask(0, 0, 0.25, a.shape)),
        VALUE,
        ("mask has p=", r"0\.25", "has to be|take them"),
        ("rng",),
    ),
    Wrong(
        "with a generator",
        like(lambda a: fd.Mask(0, 0, 0.5, a.shape)),
        VALUE,
        ("(mask|bias_mask)", "rng|p="),
        (),
        ("p",),
    ),
    Wrong(
        "that does not broadcast",
        like(lambda a: fd.Mask(0, 0, 0.5, (*a.shape, 7))),
        VALUE,
        ("mask", "shape|p=", r"broadcast|take them"),
        ("rng",),
        ("p",),
    ),
)

NOISES = (
    Wrong("an array", like(np.zeros_like), TYPE, (r"noise has to be a fastdrop\.Noise", "ndarray"), ("rng",)),
    Wrong(
        "a mask",
        like(lambda a: fd.Mask(0, 0, 0.5, a.shape)),
        TYPE,
        (r"noise has to be a fastdrop\.Noise", "Mask"),
        ("rng",),
    ),
    Wrong("with a generator", like(lambda a: fd.Noise(0, 0, a.shape)), VALUE, ("noise brings its own", "no rng")),
    Wrong(
        "that does not broadcast",
        like(lambda a: fd.Noise(0, 0, (*a.shape, 7))),
        VALUE,
        ("noise of shape", "broadcast"),
        ("rng",),
    ),
)

OUTS = (
    Wrong("a list", own(lambda a: a.tolist()), TYPE, ("out has to be a NumPy array", "list")),
    Wrong("an int", always(3), TYPE, ("out has to be a NumPy array", "int")),
    Wrong(
        "of another shape",
        own(lambda a: np.full((*a.shape, 2), -77, a.dtype)),
        VALUE,
        (r"out has to have the shape", r", 2\)"),
    ),
    Wrong("of another dtype", own(lambda a: np.full(a.shape, -77, np.int8)), TYPE, (r"out has to be a native", "int8")),
    Wrong(
        "byte-swapped",
        own(lambda a: np.full(a.shape, -77, a.dtype.newbyteorder())),
        TYPE,
        ("out has to be a native", "byte-swapped"),
    ),
    Wrong("read-only", own(read_only), VALUE, ("out is read-only",)),
    Wrong(
        "overlapping x",
        like(lambda a: a[::-1]),
        VALUE,
        ("out overlaps (x|dy)|out may not share memory with x", "memory|needs x"),
    ),
    Wrong(
        "overlapping itself",
        own(itself_overlapping),
        VALUE,
        ("out may have elements that share memory", "strides", "its own"),
    ),
)

INPUTS = (
    Wrong(
        "int",
        like(lambda a: np.ones(a.shape, np.int64)),
        (*EITHER, RuntimeError),
        (r"\b(x|input|weight)\b|dtype", "int64", FLOATING),
    ),
    Wrong(
        "bool",
        like(lambda a: np.ones(a.shape, bool)),
        (*EITHER, RuntimeError),
        (r"\b(x|input|weight)\b|dtype", "bool", FLOATING),
    ),
    Wrong(
        "complex",
        like(lambda a: np.ones(a.shape, complex)),
        TYPE,
        (r"\b(x|input|weight)\b|dtype", "complex128", FLOATING + "|real numbers"),
    ),
    Wrong(
        "objects",
        like(lambda a: np.full(a.shape, None)),
        TYPE,
        (r"\b(x|input|weight)\b|dtype", "object", FLOATING + "|real numbers"),
    ),
    Wrong(
        "strings",
        like(lambda a: np.full(a.shape, "a")),
        TYPE,
        (r"\b(x|input|weight)\b|dtype", "U1", FLOATING + "|real numbers"),
    ),
    Wrong(
        "dates",
        like(lambda a: np.zeros(a.shape, "M8[s]")),
        TYPE,
        (r"\b(x|input|weight)\b|dtype", "datetime64", FLOATING + "|real numbers"),
    ),
    Wrong(
        "structured",
        like(lambda a: np.zeros(a.shape, [("a", "f4")])),
        TYPE,
        (r"\b(x|input|weight)\b|dtype", "'a'", FLOATING + "|real numbers"),
    ),
    Wrong(
        "ragged lists",
        always([[1.0], [2.0, 3.0]]),
        VALUE,
        (r"{name} has to be an array", r"\[\[1\.0\], \[2\.0, 3\.0\]\]"),
    ),
)

TOKENS = (
    Wrong("floats", like(lambda a: np.ones(a.shape)), TYPE, ("token", "float64", "integers")),
    Wrong("bools", like(lambda a: np.ones(a.shape, bool)), TYPE, ("token", "bool", "integers")),
    Wrong("strings", like(lambda a: np.full(a.shape, "a")), TYPE, ("token|input", "U1", "integers|real numbers")),
)

SECONDS = (
    Wrong(
        "of another dtype",
        own(lambda a: np.ones(a.shape, np.int16)),
        (TYPE, RuntimeError),
        (r"{name}", "int16", "dtype"),
    ),
    Wrong(
        "of a shape that does not fit",
        own(lambda a: np.ones((*a.shape, 7), a.dtype)),
        SHAPED,
        (r"{name}", r", 7\)", "shape|axes"),
    ),
    Wrong("ragged lists", always([[1.0], [2.0, 3.0]]), VALUE, (r"{name} has to be an array", r"\[\[1\.0\]")),
    Wrong("a string", always("abc"), (TYPE, VALUE), (r"{name}", "<U3|'abc'", "dtype|real numbers")),
)
