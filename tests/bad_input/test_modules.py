"""Modules and tensors: what is wrong in ways that one of them alone knows."""

from __future__ import annotations

import numpy as np
import pytest

from fastdrop import nn

from .check import Row, refuses_row
from .made import MODEL, bare, itself, parameter, x

MODULES = (
    Row(
        "a module without forward",
        {"layer": lambda: nn.Module()},
        lambda layer: layer(1),
        NotImplementedError,
        ("Module", "forward"),
    ),
    Row("training mode 1", MODEL, lambda model: model.train(1), ValueError, ("training mode", "1", "boolean")),
    Row("no dtype to cast to", MODEL, lambda model: model.to("float33"), TypeError, ("dtype", "'float33'", "float32")),
    Row("ints to cast to", MODEL, lambda model: model.to(np.int64), TypeError, ("dtype", "int64", "floating")),
    Row(
        "an array for a child",
        MODEL,
        lambda model: setattr(model, "0", np.ones(3)),
        TypeError,
        ("'0'", "ndarray", "nn.Module or None"),
    ),
    Row(
        "an array for a parameter",
        {"layer": lambda: nn.Linear(2, 2)},
        lambda layer: setattr(layer, "weight", np.ones(3)),
        TypeError,
        ("'weight'", "ndarray", "nn.Parameter or None"),
    ),
    Row("a name with a dot", MODEL, lambda model: model.add_module("a.b", nn.ReLU()), KeyError, ("module name", r"\.")),
    Row("an empty name", MODEL, lambda model: model.add_module("", nn.ReLU()), KeyError, ("module name", "empty")),
    Row(
        "a number for a name",
        MODEL,
        lambda model: model.register_buffer(3, None),
        TypeError,
        ("buffer name", "int", "string"),
    ),
    Row(
        "a name that is taken",
        MODEL,
        lambda model: model.register_buffer("forward", None),
        KeyError,
        ("'forward'", "already exists"),
    ),
    Row(
        "a function for a module",
        MODEL,
        lambda model: model.append(len),
        TypeError,
        ("module", "builtin_function_or_method", "Module"),
    ),
    Row("the class for a layer", {}, lambda: nn.Sequential(nn.ReLU), TypeError, ("module", "type", "Module")),
    Row("modules that are a number", {}, lambda: nn.ModuleList(3), TypeError, ("modules", "3", "iterable of Modules")),
    Row("a layer beyond the last", MODEL, lambda model: model[3], IndexError, ("index 3", "out of range", "3 modules")),
    Row("a layer by a float", MODEL, lambda model: model[0.5], TypeError, ("index", r"0\.5", "integer")),
    Row(
        "a state that is a list",
        MODEL,
        lambda model: model.load_state_dict([]),
        TypeError,
        ("state_dict", "list", "dict-like"),
    ),
    Row(
        "a state without a key",
        MODEL,
        lambda model: model.load_state_dict({}),
        RuntimeError,
        ("Missing key", "0.weight", "state_dict"),
    ),
    Row(
        "a state with a key more",
        MODEL,
        lambda model: model.load_state_dict({**model.state_dict(), "a": 1}),
        RuntimeError,
        ("Unexpected key", '"a"', "state_dict"),
    ),
    Row(
        "a state of another shape",
        MODEL,
        lambda model: model.load_state_dict({**model.state_dict(), "0.weight": np.ones(3)}),
        RuntimeError,
        ("0.weight", r"\(3,\)", r"\(4, 6\)"),
    ),
    Row(
        "a state of words",
        MODEL,
        lambda model: model.load_state_dict({**model.state_dict(), "0.weight": "abc"}),
        TypeError,
        ("0.weight", "<U3", "float32"),
    ),
    Row(
        "a state of ragged lists",
        MODEL,
        lambda model: model.load_state_dict({**model.state_dict(), "0.weight": [[1], [1, 2]]}),
        ValueError,
        ("0.weight", r"\[\[1\], \[1, 2\]\]", "array"),
    ),
    Row(
        "a state, strict as a word",
        MODEL,
        lambda model: model.load_state_dict(model.state_dict(), "no"),
        TypeError,
        ("strict", "'no'", "True or False"),
    ),
)

TENSORS = (
    Row(
        "backward of what does not record",
        {"x": x(3)},
        lambda x: x.sum().backward(),
        RuntimeError,
        ("does not require grad",),
    ),
    Row(
        "numpy of what records",
        {"p": parameter},
        lambda p: p.numpy(),
        RuntimeError,
        ("numpy", "requires grad", "detach"),
    ),
    Row("a leaf in place", {"p": parameter}, lambda p: p.mul_(2), RuntimeError, ("leaf", "in-place")),
    Row(
        "assignment to what records",
        {"p": parameter},
        lambda p: p.__setitem__(0, 1.0),
        RuntimeError,
        ("leaf", "requires grad", "in-place"),
    ),
    Row(
        "gradients of ints",
        {},
        lambda: nn.Tensor(np.ones(3, int)).requires_grad_(),
        RuntimeError,
        ("floating", "int64"),
    ),
    Row("a tensor of words", {}, lambda: nn.Tensor(np.array(["a"])), TypeError, ("array", "U1", "real numbers")),
    Row("a tensor of complex numbers", {}, lambda: nn.tensor([1j]), TypeError, ("data", "complex", "real numbers")),
    Row("a list in itself", {}, lambda: nn.tensor(itself()), ValueError, ("data", "64", "lists in lists")),
    Row(
        "numbers that a dtype does not hold",
        {},
        lambda: nn.tensor([300], dtype=np.int8),
        ValueError,
        ("data", "300", "int8"),
    ),
    Row("a list for from_numpy", {}, lambda: nn.from_numpy([1.0]), TypeError, ("array", "list", "np.ndarray")),
    Row("the item of several", {"x": x(3)}, lambda x: x.item(), RuntimeError, ("3 elements", "Scalar")),
    Row("the truth of several", {"x": x(3)}, lambda x: bool(x), RuntimeError, ("Boolean value", "more than one")),
    Row("the length of one number", {}, lambda: len(nn.tensor(1.0)), TypeError, ("len", "0-d tensor")),
    Row(
        "an index of ragged lists",
        {"x": x(3)},
        lambda x: x[[[0], [1, 2]]],
        ValueError,
        (r"index a tensor of shape \(3,\)", r"\[\[0\], \[1, 2\]\]"),
    ),
    Row(
        "an index of 70 bits",
        {"x": x(3)},
        lambda x: x[2**70],
        IndexError,
        (f"index .* by {2**70}", "integers", r"\(3,\)"),
    ),
    Row("a float as an index", {"x": x(3)}, lambda x: range(3)[x], TypeError, ("integer tensors", "index")),
    Row(
        "an operand of another shape",
        {"a": x(3), "b": x(4)},
        lambda a, b: a + b,
        ValueError,
        ("operands", r"\(3,\)", r"\(4,\)"),
    ),
    Row("an operand that is a word", {"a": x(3)}, lambda a: a + "b", TypeError, ("operand", "Tensor", "str")),
    Row("an operand of 400 digits", {"a": x(3)}, lambda a: a * 10**400, ValueError, ("operand", "float32", "holds")),
    Row(
        "matmul of another width",
        {"a": x(2, 3), "b": x(2, 3)},
        lambda a, b: a @ b,
        RuntimeError,
        ("mat1 and mat2", "2x3"),
    ),
    Row(
        "matmul of a number",
        {"a": x(2, 3)},
        lambda a: a @ nn.tensor(1.0),
        RuntimeError,
        ("matmul", "0D", "at least 1D"),
    ),
    Row(
        "reshaped to another size",
        {"a": x(2, 3)},
        lambda a: a.reshape(4),
        ValueError,
        ("shape", r"\(4,\)", "6 elements"),
    ),
    Row(
        "permuted by one axis twice",
        {"a": x(2, 3)},
        lambda a: a.permute(0, 0),
        ValueError,
        ("dims", r"\(0, 0\)", "once"),
    ),
    Row(
        "summed over one axis twice", {"a": x(2, 3)}, lambda a: a.sum((0, 0)), ValueError, ("dim", r"\(0, 0\)", "once")
    ),
    Row("the mean of ints", {}, lambda: nn.tensor([1, 2]).mean(), RuntimeError, ("mean", "int64", "floating")),
    Row(
        "the argmax over two axes",
        {"a": x(2, 3)},
        lambda a: a.argmax((0, 1)),
        TypeError,
        ("dim", r"\(0, 1\)", "integer or None"),
    ),
    Row(
        "flattened backwards", {"a": x(2, 3, 4)}, lambda a: a.flatten(2, 1), RuntimeError, ("start_dim=2", "end_dim=1")
    ),
    Row("t of three axes", {"a": x(2, 3, 4)}, lambda a: a.t(), RuntimeError, ("t\\(\\)", "3D", "<= 2")),
    Row("joined arrays", {}, lambda: nn.cat([np.ones(3)]), TypeError, ("element 0", "ndarray", "Tensor")),
    Row("nothing joined", {}, lambda: nn.cat([]), RuntimeError, ("cat", "non-empty")),
    Row("joined numbers", {}, lambda: nn.cat([nn.tensor(1.0)]), RuntimeError, ("cat", "zero-dimensional", "stack")),
    Row(
        "joined of another width",
        {"a": x(2, 3), "b": x(2, 4)},
        lambda a, b: nn.cat([a, b]),
        RuntimeError,
        ("cat", r"\(2, 3\)", r"\(2, 4\)"),
    ),
    Row(
        "stacked of another shape",
        {"a": x(2, 3), "b": x(2, 4)},
        lambda a, b: nn.stack([a, b]),
        RuntimeError,
        ("stack", r"\(2, 3\)", r"\(2, 4\)"),
    ),
    Row("integers from 3 below 3", {}, lambda: nn.randint(3, 3, (2,)), ValueError, ("low", "3", "below high")),
    Row("random ints by randn", {}, lambda: nn.randn(3, dtype=np.int64), TypeError, ("dtype", "int64", "floating")),
    Row("steps of 0", {}, lambda: nn.arange(0, 3, 0), ValueError, ("step", "0", "another number")),
    Row("up to infinity", {}, lambda: nn.arange(float("inf")), ValueError, ("start", "inf", "finite")),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in (*MODULES, *TENSORS)])
def test_a_wrong_call(row: Row) -> None:
    refuses_row(row)


def test_before_init() -> None:
    """AttributeError, as in PyTorch: a subclass has forgotten to call ``super().__init__()``."""
    with pytest.raises(AttributeError, match=r"cannot call Module before Module.__init__"):
        bare(nn.Module)(1)
    with pytest.raises(AttributeError, match=r"cannot assign parameters before Module.__init__"):
        bare(nn.Module).w = parameter()
