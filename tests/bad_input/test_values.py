"""Masks, noise, generators and the machine: what is wrong in ways that one function alone knows."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import random as fd_random

from .check import Row, refuses_row
from .made import f32, mask, rng


def noise() -> fd.Noise:
    return fd.Noise(1, 2, (4, 6))


def set_state(rng: fd.Generator, state: Any) -> None:
    rng.state = state


STATE = fd.Generator(3).state
VIEW = {"mask": mask}
M = "mask"

ROWS = (
    Row(
        "a bit beyond 2**63",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2,), 2**63 - 1),
        ValueError,
        ("mask would use bits", str(2**63), r"0 to 2\*\*63"),
    ),
    Row(
        "a bit below 0",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2,), 0, strides=(-1,)),
        ValueError,
        ("mask would use bits", "-1", r"0 to 2\*\*63"),
    ),
    Row(
        "a normal below 0",
        {},
        lambda: fd.Noise(0, 0, (2,), 0, strides=(-1,)),
        ValueError,
        ("noise would use", "-1", r"0 to 2\*\*63"),
    ),
    Row(
        "too few strides",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2, 3), strides=(1,)),
        ValueError,
        ("strides", r"\(1,\)", "one entry per axis"),
    ),
    Row(
        "strides of floats",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2,), strides=(1.0,)),
        TypeError,
        ("strides", r"1\.0", "integer"),
    ),
    Row(
        "strides beyond 64 bits",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2,), strides=(2**70,)),
        ValueError,
        ("strides", str(2**70), "between"),
    ),
    Row(
        "strides that are a word",
        {},
        lambda: fd.Mask(0, 0, 0.5, (2,), strides="ab"),
        TypeError,
        ("strides", "'ab'", "integer"),
    ),
    Row("a mask is immutable", VIEW, lambda mask: mask.__init__(0, 0, 0.5, 3), TypeError, ("Mask is immutable",)),
    Row(
        "noise is immutable",
        {"noise": noise},
        lambda noise: noise.__init__(0, 0, 3),
        TypeError,
        ("Noise is immutable",),
    ),
    Row(
        "an array as index",
        VIEW,
        lambda mask: mask[np.array([0])],
        IndexError,
        (M, r"array\(\[0\]\)", "integers, slices"),
    ),
    Row("a float as index", VIEW, lambda mask: mask[0.5], IndexError, (M, r"0\.5", "integers, slices")),
    Row("a bool as index", VIEW, lambda mask: mask[True], IndexError, (M, "True", "integers, slices")),
    Row("an index beyond the end", VIEW, lambda mask: mask[4], IndexError, ("index 4", "axis 0", "size 4")),
    Row("an index of 70 bits", VIEW, lambda mask: mask[2**70], IndexError, (f"index {2**70}", "axis 0", "size 4")),
    Row(
        "an index of 5000 digits", VIEW, lambda mask: mask[10**5000], IndexError, ("index <an int>", "axis 0", "size 4")
    ),
    Row("too many indices", VIEW, lambda mask: mask[0, 0, 0], IndexError, (M, "3", "2")),
    Row("two ellipses", VIEW, lambda mask: mask[..., ...], IndexError, ("'...'|ellipsis",)),
    Row("a step of 0", VIEW, lambda mask: mask[::0], ValueError, ("step", "zero|0")),
    Row("a slice of words", VIEW, lambda mask: mask["a":], (TypeError, IndexError), ("slice",)),
    Row("an index to 65 axes", VIEW, lambda mask: mask[(None,) * 63], IndexError, (M, "65", "at most 64")),
    Row(
        "transposed by one axis twice",
        VIEW,
        lambda mask: mask.transpose(0, 0),
        ValueError,
        ("axes", r"\(0, 0\)", "permutation"),
    ),
    Row(
        "transposed by another axis",
        VIEW,
        lambda mask: mask.transpose(0, 2),
        ValueError,
        ("axes", r"\(0, 2\)", "permutation"),
    ),
    Row("transposed by too few", VIEW, lambda mask: mask.transpose(0), ValueError, ("axes", r"\(0,\)", "permutation")),
    Row("transposed by floats", VIEW, lambda mask: mask.transpose(0.0, 1.0), TypeError, ("axes", r"0\.0", "integer")),
    Row(
        "reshaped to another size",
        VIEW,
        lambda mask: mask.reshape(5, 5),
        ValueError,
        ("reshape a mask", "24", r"\(5, 5\)"),
    ),
    Row(
        "reshaped with two -1",
        VIEW,
        lambda mask: mask.reshape(-1, -1),
        ValueError,
        ("shape", r"\(-1, -1\)", "one unknown"),
    ),
    Row(
        "reshaped to -2", VIEW, lambda mask: mask.reshape(-2, 12), ValueError, ("shape", r"\(-2, 12\)", "non-negative")
    ),
    Row(
        "reshaped where no view can",
        VIEW,
        lambda mask: mask.T.reshape(-1),
        ValueError,
        ("reshape a mask", r"\(6, 4\)", "np.asarray"),
    ),
    Row("reshaped by a string", VIEW, lambda mask: mask.reshape("24"), TypeError, ("shape", "'24'", "integer")),
    Row(
        "broadcast to fewer axes",
        VIEW,
        lambda mask: mask.broadcast_to((6,)),
        ValueError,
        ("broadcast a mask", r"\(6,\)", r"\(4, 6\)"),
    ),
    Row(
        "broadcast of another extent",
        VIEW,
        lambda mask: mask.broadcast_to((4, 7)),
        ValueError,
        ("broadcast a mask", r"\(4, 7\)", r"\(4, 6\)"),
    ),
    Row(
        "noise broadcast of another extent",
        {"noise": noise},
        lambda noise: noise.broadcast_to((4, 7)),
        ValueError,
        ("broadcast a noise", r"\(4, 7\)"),
    ),
    Row(
        "a part of another axis",
        VIEW,
        lambda mask: mask.shard(2, 0, 2),
        ValueError,
        ("axis", "-2 and 1", "2"),
    ),
    Row("a part beyond the last", VIEW, lambda mask: mask.shard(0, 2, 2), ValueError, ("rank", "0 and 1", "2")),
    Row("a part that is a float", VIEW, lambda mask: mask.shard(0, 0.5, 2), TypeError, ("rank", r"0\.5", "integer")),
    Row("no parts", VIEW, lambda mask: mask.shard(0, 0, 0), ValueError, ("size", "1 and", "0")),
    Row("parts in words", VIEW, lambda mask: mask.shard(0, 0, "two"), TypeError, ("size", "'two'", "how many parts")),
    Row(
        "parts of other extents",
        VIEW,
        lambda mask: mask.shard(0, 0, [1, 2]),
        ValueError,
        ("size", r"\(1, 2\) are 3", "4 elements"),
    ),
    Row(
        "parts of a negative extent",
        VIEW,
        lambda mask: mask.shard(0, 0, [5, -1]),
        ValueError,
        (r"size\[1\]", "-1", "between 0"),
    ),
    Row(
        "uneven parts dealt out one by one",
        VIEW,
        lambda mask: mask.shard(0, 0, [1, 3], interleaved=True),
        ValueError,
        ("size", r"\(1, 3\)", "interleaved"),
    ),
    Row(
        "dealt out maybe",
        VIEW,
        lambda mask: mask.shard(0, 0, 2, interleaved="no"),
        TypeError,
        ("interleaved", "'no'", "True or False"),
    ),
    Row("a shard of a named axis", {}, lambda: fd.Shard("x", 0, 2), TypeError, ("axis", "'x'", "integer")),
    Row(
        "a shard of an axis that no tensor has",
        {},
        lambda: fd.Shard(64, 0, 2),
        ValueError,
        ("axis", "64", "-64 and 63"),
    ),
    Row("a shard beyond the last", {}, lambda: fd.Shard(0, 3, (1, 2)), ValueError, ("rank", "0 and 1", "3")),
    Row("a shard of nothing", {}, lambda: fd.Shard(0, 0, ()), ValueError, ("size", "how many parts", "none")),
    Row("the truth of a mask", VIEW, lambda mask: bool(mask), ValueError, (M, "24 elements", "ambiguous")),
    Row(
        "the length of one without axes", {}, lambda: len(fd.Mask(0, 0, 0.5, ())), TypeError, ("len", M, "without axes")
    ),
    Row(
        "an array without a copy",
        VIEW,
        lambda mask: np.asarray(mask, copy=False),
        ValueError,
        (M, "copy=False", "always makes one"),
    ),
    Row(
        "a mask on another shape",
        {**VIEW, "x": f32(4, 7)},
        lambda mask, x: mask.apply(x),
        ValueError,
        ("broadcast a mask", r"\(4, 6\)", r"\(4, 7\)"),
    ),
    Row(
        "a method of another type",
        {"x": f32(4, 6)},
        lambda x: fd.Mask.apply(1.5, x),
        TypeError,
        ("apply", "float", "Mask"),
    ),
    Row(
        "noise's method on a mask",
        {**VIEW, "x": f32(4, 6)},
        lambda mask, x: fd.Noise.apply(mask, x, sigma=1.0),
        TypeError,
        ("apply", "Mask", "Noise"),
    ),
    Row(
        "a generator's method on a list",
        {},
        lambda: fd.Generator.spawn([], 3),
        TypeError,
        ("spawn", "list", "Generator"),
    ),
    Row(
        "noise without sigma", {"noise": noise, "x": f32(4, 6)}, lambda noise, x: noise.apply(x), TypeError, ("sigma",)
    ),
    Row(
        "masks of two p",
        {"x": f32(3)},
        lambda x: fd.apply_masks([fd.Mask(0, 0, 0.5, 3), fd.Mask(0, 1, 0.25, 3)], x),
        ValueError,
        (r"masks\[1\]", r"0\.25", "one p"),
    ),
    Row(
        "masks of two views",
        {"x": f32(3)},
        lambda x: fd.apply_masks([fd.Mask(0, 0, 0.5, 3), fd.Mask(0, 1, 0.5, 3, 8)], x),
        ValueError,
        (r"masks\[1\]", "8", "one view"),
    ),
    Row(
        "one mask for many",
        {**VIEW, "x": f32(4, 6)},
        lambda mask, x: fd.apply_masks(mask, x),
        TypeError,
        ("masks", "Mask", "sequence"),
    ),
    Row(
        "masks that are arrays",
        {"x": f32(3)},
        lambda x: fd.apply_masks([np.ones(3, bool)], x),
        TypeError,
        (r"masks\[0\]", "ndarray", "fastdrop.Mask"),
    ),
    Row(
        "masks without end, of numbers",
        {"x": f32(3)},
        lambda x: fd.apply_masks(iter(int, 1), x),
        TypeError,
        (r"masks\[0\]", "int", "fastdrop.Mask"),
    ),
    Row(
        "many into x",
        {"x": f32(3)},
        lambda x: fd.apply_masks([fd.Mask(0, 0, 0.5, 3)], x, x[None]),
        ValueError,
        ("out overlaps x", "memory of its own"),
    ),
    Row("spawned below 0", {"rng": rng}, lambda rng: rng.spawn(-1), ValueError, ("n_children", "-1", "between 0")),
    Row("spawned by a float", {"rng": rng}, lambda rng: rng.spawn(1.5), TypeError, ("n_children", r"1\.5", "integer")),
    Row(
        "a state that is none",
        {"rng": rng},
        lambda rng: set_state(rng, 3),
        ValueError,
        ("state", "3", "Generator.state"),
    ),
    Row(
        "a state without call",
        {"rng": rng},
        lambda rng: set_state(rng, {"key": 1}),
        ValueError,
        ("state", "'key': 1", "'key' and 'call'"),
    ),
    Row(
        "a state of another key",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "key": -1}),
        ValueError,
        (r"state\['key'\]", "-1", "between 0"),
    ),
    Row(
        "a state with a float call",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "call": 0.5}),
        TypeError,
        (r"state\['call'\]", r"0\.5", "integer"),
    ),
    Row(
        "a state of another seed_seq",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "seed_seq": 3}),
        ValueError,
        (r"state\['seed_seq'\]", "3", "Generator.state"),
    ),
    Row(
        "a state whose spawn_key holds itself",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "seed_seq": {"entropy": 1, "spawn_key": itself()}}),
        ValueError,
        (r"state\['seed_seq'\]", "spawn_key", "Generator.state"),
    ),
    Row(
        "a state whose entropy is a matrix",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "seed_seq": {"entropy": np.ones((2, 2)).view(np.matrix)}}),
        ValueError,
        (r"state\['seed_seq'\]", "matrix", "Generator.state"),
    ),
    Row(
        "a seed that holds no number of floats",
        {},
        lambda: fd.Generator(np.ones((2, 2)).view(np.matrix)),
        TypeError,
        ("seed has to be", "matrix", "non-negative integer"),
    ),
    Row(
        "a state with a word for entropy",
        {"rng": rng},
        lambda rng: set_state(rng, {**STATE, "seed_seq": {"entropy": "a"}}),
        ValueError,
        (r"state\['seed_seq'\]", "'a'", "Generator.state"),
    ),
    Row(
        "a damaged pickle of a mask",
        VIEW,
        lambda mask: mask.__reduce__()[0](1, 2, 7.0, (3,), 0, (1,)),
        ValueError,
        ("dropout probability", "7.0", "between 0 and 1"),
    ),
    Row(
        "a pickle of a mask beyond its bits",
        VIEW,
        lambda mask: mask.__reduce__()[0](1, 2, 0.5, (3,), 0, (-1,)),
        ValueError,
        ("mask would use bits", "-2"),
    ),
    Row(
        "a damaged pickle of a generator",
        {"rng": rng},
        lambda rng: rng.__reduce__()[0]({"key": 1}),
        ValueError,
        ("state", "'key'"),
    ),
    Row(
        "a truncated pickle",
        VIEW,
        lambda mask: pickle.loads(pickle.dumps(mask)[:-9]),
        (pickle.UnpicklingError, EOFError, ValueError),
        (),
    ),
    Row(
        "a seed of lists in lists",
        {},
        lambda: fd.Generator(itself()),
        TypeError,
        ("seed has to be", "list|\\.\\.\\.", "non-negative integer"),
    ),
    Row(
        "a seed sequence of a word",
        {},
        lambda: fd.manual_seed([1, "a"]),
        TypeError,
        ("seed has to be", "'a'", "sequence"),
    ),
    Row(
        "drawing from none",
        {},
        lambda: fd_random.drawing_from(None).__enter__(),
        TypeError,
        ("generator", "None", "fastdrop.Generator"),
    ),
    Row(
        "drawing from NumPy's",
        {},
        lambda: fd_random.drawing_from(np.random.default_rng(0)).__enter__(),
        TypeError,
        ("generator", "Generator", "fastdrop.Generator"),
    ),
    Row("another instruction set", {}, lambda: fd.set_isa("sse9"), ValueError, ("isa", "'sse9'", "one of portable")),
    Row("a number for an instruction set", {}, lambda: fd.set_isa(2), TypeError, ("isa", "2", "string")),
    Row("no threads", {}, lambda: fd.set_num_threads(0), ValueError, ("threads", "0", "between 1 and 256")),
    Row("257 threads", {}, lambda: fd.set_num_threads(257), ValueError, ("threads", "257", "between 1 and 256")),
    Row("half a thread", {}, lambda: fd.set_num_threads(0.5), TypeError, ("threads", r"0\.5", "integer")),
    Row("True threads", {}, lambda: fd.set_num_threads(True), TypeError, ("threads", "True", "integer")),
)


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_a_wrong_call(row: Row) -> None:
    refuses_row(row)
