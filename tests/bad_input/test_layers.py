"""Layers, losses and initial weights: what is wrong in ways that one of them alone knows."""

from __future__ import annotations

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import functional as F

from .check import Row, refuses_row
from .made import x

LAYERS = (
    Row(
        "linear of another width",
        {"a": x(2, 5), "layer": lambda: nn.Linear(6, 2)},
        lambda a, layer: layer(a),
        RuntimeError,
        ("linear", r"\(2, 5\)", r"\(\.\.\., 6\)"),
    ),
    Row(
        "linear of float64",
        {"layer": lambda: nn.Linear(6, 2)},
        lambda layer: layer(np.ones((2, 6))),
        RuntimeError,
        ("linear", "float64", r"\.float\(\)"),
    ),
    Row(
        "a bias of another size",
        {"a": x(2, 6)},
        lambda a: F.linear(a, np.ones((3, 6), np.float32), np.ones(2, np.float32)),
        RuntimeError,
        ("bias", r"\(2,\)", r"\(3,\)"),
    ),
    Row(
        "images of other channels",
        {"a": x(1, 2, 5, 5), "layer": lambda: nn.Conv2d(3, 2, 2)},
        lambda a, layer: layer(a),
        RuntimeError,
        ("channels", "3", "2"),
    ),
    Row(
        "a kernel larger than the image",
        {"a": x(1, 1, 2, 2), "layer": lambda: nn.Conv2d(1, 1, 3)},
        lambda a, layer: layer(a),
        RuntimeError,
        ("Kernel size", "2 x 2", "3 x 3"),
    ),
    Row(
        "groups that do not divide",
        {},
        lambda: nn.Conv2d(3, 4, 2, groups=2),
        ValueError,
        ("in_channels", "3", "divisible by groups"),
    ),
    Row(
        "another word for padding",
        {},
        lambda: nn.Conv2d(3, 4, 2, padding="some"),
        ValueError,
        ("padding", "'some'", "'valid', 'same'"),
    ),
    Row(
        "three strides",
        {},
        lambda: nn.Conv2d(3, 4, 2, stride=(1, 2, 3)),
        TypeError,
        ("stride", r"\(1, 2, 3\)", "pair of ints"),
    ),
    Row("a stride of 0", {}, lambda: nn.MaxPool2d(2, 0), ValueError, ("stride", "0", "at least 1")),
    Row(
        "a dilation beyond all images",
        {},
        lambda: nn.MaxPool2d(2, dilation=2**40),
        ValueError,
        ("dilation", str(2**40), r"below 2\*\*30"),
    ),
    Row(
        "a duration for a kernel",
        {},
        lambda: nn.MaxPool2d(np.timedelta64(1)),
        TypeError,
        ("kernel_size", "timedelta64", "int"),
    ),
    Row(
        "padding beyond half a window",
        {"a": x(1, 1, 4, 4)},
        lambda a: F.max_pool2d(a, 2, padding=2),
        ValueError,
        ("padding", r"\(2, 2\)", "half of kernel_size"),
    ),
    Row(
        "a token beyond the table",
        {"layer": lambda: nn.Embedding(8, 2)},
        lambda layer: layer(np.array([8])),
        IndexError,
        ("token 8", "0 to 7"),
    ),
    Row(
        "a token below 0",
        {"layer": lambda: nn.Embedding(8, 2)},
        lambda layer: layer(np.array([-1])),
        IndexError,
        ("token -1", "0 to 7"),
    ),
    Row(
        "a padding row beyond the table",
        {},
        lambda: nn.Embedding(8, 2, padding_idx=8),
        (ValueError, IndexError),
        ("padding_idx", "8"),
    ),
    Row(
        "normalized over another shape",
        {"a": x(2, 5), "layer": lambda: nn.LayerNorm(6)},
        lambda a, layer: layer(a),
        (RuntimeError, ValueError),
        ("normalized_shape", r"\[2, 5\]", r"\[\*, 6\]"),
    ),
    Row(
        "one value per channel",
        {"a": x(1, 6), "layer": lambda: nn.BatchNorm1d(6)},
        lambda a, layer: layer(a),
        ValueError,
        ("more than 1 value", r"\[1, 6\]"),
    ),
    Row(
        "batch norm of images, in 1d",
        {"a": x(2, 6, 3, 3), "layer": lambda: nn.BatchNorm1d(6)},
        lambda a, layer: layer(a),
        ValueError,
        ("2D or 3D", "4D input"),
    ),
    Row(
        "a sequence of another width",
        {"a": x(5, 2, 7), "layer": lambda: nn.LSTM(6, 3)},
        lambda a, layer: layer(a),
        RuntimeError,
        ("7", "6"),
    ),
    Row(
        "no step at all",
        {"a": x(0, 2, 6), "layer": lambda: nn.GRU(6, 3)},
        lambda a, layer: layer(a),
        RuntimeError,
        ("at least one step", r"\(0, 2, 6\)"),
    ),
    Row(
        "one state for an LSTM",
        {"a": x(5, 2, 6), "h": x(1, 2, 3), "layer": lambda: nn.LSTM(6, 3)},
        lambda a, h, layer: layer(a, h),
        TypeError,
        ("hx", "Tensor", "h_0, c_0"),
    ),
    Row(
        "two states for a GRU",
        {"a": x(5, 2, 6), "h": x(1, 2, 3), "layer": lambda: nn.GRU(6, 3)},
        lambda a, h, layer: layer(a, (h, h)),
        TypeError,
        ("hx", "tuple", "one Tensor"),
    ),
    Row(
        "a state of another size",
        {"a": x(5, 2, 6), "h": x(1, 2, 4), "layer": lambda: nn.GRU(6, 3)},
        lambda a, h, layer: layer(a, h),
        RuntimeError,
        (r"\(1, 2, 4\)", r"\(1, 2, 3\)"),
    ),
    Row(
        "heads that do not divide",
        {},
        lambda: nn.MultiheadAttention(6, 4),
        ValueError,
        ("embed_dim", "6", "divisible by num_heads"),
    ),
    Row(
        "attention of another width",
        {"a": x(5, 2, 7), "layer": lambda: nn.MultiheadAttention(6, 2)},
        lambda a, layer: layer(a, a, a),
        RuntimeError,
        ("6 features of query", r"\(5, 2, 7\)"),
    ),
    Row(
        "an attention mask of another shape",
        {"a": x(5, 2, 6), "layer": lambda: nn.MultiheadAttention(6, 2)},
        lambda a, layer: layer(a, a, a, attn_mask=np.ones((4, 5), bool)),
        RuntimeError,
        ("attn_mask", r"\(4, 5\)", r"\(5, 5\)"),
    ),
    Row(
        "a weight that a module has not",
        {"layer": lambda: nn.Linear(2, 2)},
        lambda layer: nn.WeightDrop(layer, 0.5, ["weight_hh"]),
        ValueError,
        ("names", "'weight_hh'", "weight"),
    ),
    Row(
        "names that are one",
        {"layer": lambda: nn.Linear(2, 2)},
        lambda layer: nn.WeightDrop(layer, 0.5, "weight"),
        TypeError,
        ("names", "'weight'", "sequence"),
    ),
    Row(
        "a norm for an encoder",
        {"layer": lambda: nn.TransformerEncoderLayer(6, 2, 8)},
        lambda layer: nn.TransformerEncoder(layer, 1, norm=3),
        TypeError,
        ("norm", "int", "Module"),
    ),
    Row(
        "a class beyond the last",
        {"a": x(2, 3)},
        lambda a: F.cross_entropy(a, np.array([0, 3])),
        IndexError,
        ("Target 3", "3 classes"),
    ),
    Row(
        "a class below 0",
        {"a": x(2, 3)},
        lambda a: F.nll_loss(a, np.array([0, -1])),
        IndexError,
        ("Target -1", "3 classes"),
    ),
    Row(
        "targets of another size",
        {"a": x(2, 3)},
        lambda a: F.cross_entropy(a, np.array([0, 1, 2])),
        ValueError,
        ("target", r"\(2,\)", r"\(3,\)"),
    ),
    Row(
        "class weights of another size",
        {"a": x(2, 3)},
        lambda a: F.cross_entropy(a, np.array([0, 1]), np.ones(2)),
        RuntimeError,
        ("weight", r"\(2,\)", r"\(3,\)"),
    ),
    Row(
        "smoothing above 1",
        {"a": x(2, 3)},
        lambda a: F.cross_entropy(a, np.array([0, 1]), label_smoothing=2.0),
        ValueError,
        ("label_smoothing", "2.0", "0.0 and 1.0"),
    ),
    Row(
        "a float to ignore",
        {"a": x(2, 3)},
        lambda a: F.cross_entropy(a, np.array([0, 1]), ignore_index=0.5),
        TypeError,
        ("ignore_index", r"0\.5", "integer"),
    ),
    Row(
        "a target of another shape",
        {"a": x(2, 3), "b": x(3, 2)},
        lambda a, b: F.mse_loss(a, b),
        ValueError,
        ("target", r"\(3, 2\)", r"\(2, 3\)"),
    ),
    Row(
        "a gain for nothing known",
        {},
        lambda: nn.init.calculate_gain("maxout"),
        ValueError,
        ("nonlinearity", "'maxout'", "leaky_relu"),
    ),
    Row(
        "a vector to fill by fans",
        {"a": x(3)},
        lambda a: nn.init.xavier_uniform_(a),
        ValueError,
        ("at least 2 axes", r"\(3,\)"),
    ),
    Row("an array to fill", {}, lambda: nn.init.ones_(np.ones(3)), TypeError, ("Tensor", "ndarray")),
    Row(
        "a range upside down",
        {"a": x(3)},
        lambda a: nn.init.uniform_(a, 2.0, 1.0),
        ValueError,
        ("a must not be above b", "a=2.0"),
    ),
    Row("a negative spread", {"a": x(3)}, lambda a: nn.init.normal_(a, std=-1.0), ValueError, ("std", "-1.0")),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in LAYERS])
def test_a_wrong_call(row: Row) -> None:
    refuses_row(row)
