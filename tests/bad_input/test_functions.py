"""The functions on arrays: what is wrong in ways that one function alone knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import softmax

from .check import Row, refuses_row
from .made import f32, rng


def saved(**changes: Any) -> Any:
    def make() -> softmax.SoftmaxRows:
        return softmax.softmax_dropout_forward(f32(4, 6)(), 0.5, rng=rng())[1]._replace(**changes)

    return make


ROWS = (
    Row(
        "saved is an array",
        {"dy": f32(4, 6)},
        lambda dy: fd.softmax_dropout_backward(dy, dy),
        TypeError,
        ("saved", "ndarray", "softmax_dropout_forward"),
    ),
    Row(
        "saved without x",
        {"dy": f32(4, 6), "s": saved(x=None)},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        TypeError,
        ("saved.x", "NoneType", "NumPy array"),
    ),
    Row(
        "saved x of ints",
        {"dy": f32(4, 6), "s": saved(x=np.ones((4, 6), int))},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        TypeError,
        ("x", "int64", "float32"),
    ),
    Row(
        "saved mask of booleans",
        {"dy": f32(4, 6), "s": saved(mask=np.ones((4, 6), bool))},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        TypeError,
        ("saved.mask", "ndarray", "fastdrop.Mask"),
    ),
    Row(
        "saved mask of another shape",
        {"dy": f32(4, 6), "s": saved(mask=fd.Mask(0, 0, 0.5, 3))},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        ValueError,
        ("saved.mask", r"\(3,\)", r"\(4, 6\)"),
    ),
    Row(
        "saved rows of another shape",
        {"dy": f32(4, 6), "s": saved(rows=np.ones((4, 3), np.float32))},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        ValueError,
        ("saved.rows", r"\(4, 3\)", r"\(4, 2\)"),
    ),
    Row(
        "saved rows of another dtype",
        {"dy": f32(4, 6), "s": saved(rows=np.ones((4, 2)))},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        ValueError,
        ("saved.rows", "float64", "float32"),
    ),
    Row(
        "saved rows that are a list",
        {"dy": f32(4, 6), "s": saved(rows=[1])},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        TypeError,
        ("saved.rows", "list", "NumPy array or None"),
    ),
    Row(
        "saved axis beyond",
        {"dy": f32(4, 6), "s": saved(axis=2)},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        ValueError,
        ("saved.axis", "2", "between 0 and 1"),
    ),
    Row(
        "a gradient of another shape",
        {"dy": f32(6, 4), "s": saved()},
        lambda dy, s: fd.softmax_dropout_backward(dy, s),
        ValueError,
        ("dy", r"\(6, 4\)", r"\(4, 6\)"),
    ),
    Row(
        "softmax into x, for backward",
        {"x": f32(4, 6)},
        lambda x: fd.softmax_dropout_forward(x, out=x),
        ValueError,
        ("out may not share memory with x",),
    ),
    Row(
        "softmax without axes",
        {},
        lambda: fd.softmax_dropout(np.float32(1)),
        ValueError,
        ("softmax_dropout takes at least 1 axis", "without one"),
    ),
    Row(
        "words beyond their dtype",
        {"t": lambda: np.zeros(3, np.int8)},
        lambda t: fd.word_dropout(t, unknown=200),
        ValueError,
        ("unknown", "200", "between -128 and 127"),
    ),
    Row(
        "unknown is a float",
        {"t": lambda: np.zeros(3, np.int8)},
        lambda t: fd.word_dropout(t, unknown=1.0),
        TypeError,
        ("unknown", r"1\.0", "integer"),
    ),
    *(
        Row(
            f"{name} of {len(shape)} axes",
            {"x": f32(*shape)},
            lambda x, name=name: getattr(fd, name)(x),
            ValueError,
            (f"{said} takes", r"\(", "axes|axis"),
        )
        for name, said, shape in (
            ("dropout1d", "dropout1d", (3,)),
            ("dropout1d", "dropout1d", (1, 2, 3, 4)),
            ("dropout2d", "dropout2d", (2, 3)),
            ("dropout3d", "dropout3d", (2, 3, 4)),
            ("spatial_dropout", "spatial dropout", (2, 3)),
            ("locked_dropout", "locked_dropout", (3,)),
            ("embedding_dropout", "embedding_dropout", (3,)),
            ("feature_alpha_dropout", "feature_alpha_dropout", (3,)),
            ("drop_block1d", "drop_block1d", (3,)),
            ("drop_block2d", "drop_block2d", (2, 3)),
            ("drop_block3d", "drop_block3d", (2, 3, 4)),
            ("drop_path", "drop_path", ()),
            ("token_dropout", "token_dropout", ()),
        )
    ),
    Row(
        "seeds that are an array",
        {},
        lambda: fd.drop_block_mask(np.ones(3), 3),
        TypeError,
        ("seeds", "ndarray", "fastdrop.Mask"),
    ),
    Row(
        "more seeds than places",
        {},
        lambda: fd.drop_block_mask(fd.Mask(0, 0, 0.5, (9,)), (8,)),
        ValueError,
        ("seeds", r"\(9,\)", "from 1 to x's extent"),
    ),
    Row(
        "a fourth spatial axis",
        {},
        lambda: fd.drop_block_seeds((1, 2, 3, 4), 4),
        ValueError,
        ("spatial", "4", "1, 2 or 3"),
    ),
    Row(
        "True spatial axes",
        {},
        lambda: fd.drop_block_seeds((2, 3, 8), True),
        ValueError,
        ("spatial", "True", "1, 2 or 3"),
    ),
    Row(
        "seeds of another p",
        {"x": f32(2, 8, 8)},
        lambda x: fd.drop_block2d(x, 0.1, 3, mask=fd.Mask(0, 0, 0.1, (2, 6, 6))),
        ValueError,
        ("mask has p=0.1", "drop_block_seeds"),
    ),
    Row(
        "weights of 3 axes",
        {"x": f32(4, 6)},
        lambda x: fd.dropconnect(x, np.ones((1, 3, 6), np.float32)),
        ValueError,
        ("w has to have 2 axes", r"\(1, 3, 6\)", r"\(out, in\)"),
    ),
    Row(
        "inputs of another width",
        {"x": f32(4, 7)},
        lambda x: fd.dropconnect(x, np.ones((3, 6), np.float32)),
        ValueError,
        ("x has to have shape", r"\(4, 7\)", r"\(\.\.\., 6\)"),
    ),
    Row(
        "bias_mask without a bias",
        {"x": f32(4, 6)},
        lambda x: fd.dropconnect(x, np.ones((3, 6), np.float32), bias_mask=fd.Mask(0, 0, 0.5, (4, 3))),
        ValueError,
        ("bias_mask", "with a bias"),
    ),
    Row(
        "drop_bias with a mask",
        {"x": f32(4, 6)},
        lambda x: fd.dropconnect(
            x, np.ones((3, 6), np.float32), np.ones(3, np.float32), drop_bias=True, mask=fd.Mask(0, 0, 0.5, (4, 3, 6))
        ),
        ValueError,
        ("drop_bias", "bias_mask"),
    ),
    Row(
        "backward without a mask",
        {"x": f32(4, 6)},
        lambda x: fd.dropconnect_backward(np.ones((4, 3), np.float32), x, np.ones((3, 6), np.float32), None),
        TypeError,
        ("mask", "NoneType", "fastdrop.Mask"),
    ),
    Row(
        "backward under a small mask",
        {"x": f32(4, 6)},
        lambda x: fd.dropconnect_backward(
            np.ones((4, 3), np.float32), x, np.ones((3, 6), np.float32), fd.Mask(0, 0, 0.5, (4, 3))
        ),
        ValueError,
        ("broadcast a mask", r"\(4, 3\)", r"\(4, 3, 6\)"),
    ),
    Row(
        "a tensor that records, as x",
        {"x": lambda: fd.Tensor(np.ones(3, np.float32), requires_grad=True)},
        lambda x: fd.dropout(x),
        TypeError,
        ("x has to be an array", "tensor"),
    ),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_a_wrong_call(row: Row) -> None:
    refuses_row(row)
