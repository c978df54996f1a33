"""Every kind of wrong value, for every function that has the argument."""

from __future__ import annotations

import pytest

from trust.sweep.target import Target
from trust.sweep.targets import TARGETS

from .check import Wrong, refuses_crossed
from .crossed import CROSSED

#: What takes as right what the table says is wrong: functions by argument, and the kinds ("" are all).
INTEGERS = ("F.relu", "F.tanh", "F.sigmoid", "F.flatten", "F.word_dropout", "F.embedding", "F.mse_loss")
RIGHT = {
    *((name, "input", kind) for name in INTEGERS for kind in ("int", "bool")),
    ("fd.SoftmaxRows parts", "mask", ""),  # its p is its own
    ("fd.SoftmaxRows parts", "x", "ragged lists"),
    ("fd.dropconnect_backward", "mask", ""),
    ("fd.apply_masks", "out", "overlapping x"),
    ("nn.DropConnectLinear", "activation", ""),  # a function
    ("Module.train", "mode", ""),
    ("nn.load_weights", "strict", ""),  # the path is wrong
    ("nn.History", "epochs", ""),
    ("nn.randint", "size", "None"),
    ("nn.tensor", "dtype", "None"),
    ("nn.arange", "dtype", "None"),
    ("nn.mc_predict", "batch_size", "None"),
    ("nn.TransformerEncoder", "num_layers", "0"),
}


def fits(target: Target, of: tuple[str, ...]) -> bool:
    """Whether a function is one of those that a row is for: by its name, or by a prefix that ends in a dot."""
    if target.name.startswith(("_core.", "torch.")):
        return False
    return not of or any(target.name.startswith(name) if name.endswith(".") else target.name == name for name in of)


def kinds(target: Target) -> list[tuple[str, Wrong]]:
    found = [(name, wrong) for names, rows, of in CROSSED if fits(target, of) for name in names for wrong in rows]
    return [
        (name, wrong)
        for name, wrong in found
        if name in target.parameters and not {(target.name, name, ""), (target.name, name, wrong.what)} & RIGHT
    ]


@pytest.mark.parametrize("target", [pytest.param(t, id=t.name) for t in TARGETS if kinds(t)])
def test_wrong_arguments(target: Target) -> None:
    told = []
    for name, wrong in kinds(target):
        try:
            refuses_crossed(target, name, wrong)
        except BaseException as error:  # pytest's own is no Exception; every kind is to be heard of
            told.append(f"{name}: {wrong.what}: {type(error).__name__}: {error}")
    assert not told, "\n".join(told)
