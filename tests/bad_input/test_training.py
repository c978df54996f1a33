"""Optimizers, training and its files: what is wrong in ways that one of them alone knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastdrop import nn, optim
from fastdrop.nn.state_file import read_state

from .check import Row, refuses, refuses_row
from .made import ADAM, MODEL, RUN, adam, closed, data, fit, load, model, parameter, two_groups, x

pytest.importorskip("safetensors", reason="weights are safetensors files")

TRAINING = (
    Row(
        "one tensor to optimize", {"p": parameter}, lambda p: optim.SGD(p), TypeError, ("params", "Tensor", "iterable")
    ),
    Row("nothing to optimize", {}, lambda: optim.SGD([]), ValueError, ("params", "empty", "Tensors or dicts")),
    Row("arrays to optimize", {}, lambda: optim.Adam([np.ones(3)]), TypeError, ("params", "ndarray", "Tensors")),
    Row(
        "numbers without end to optimize", {}, lambda: optim.Adam(iter(int, 1)), TypeError, ("params", "int", "Tensors")
    ),
    Row("a number to optimize", {}, lambda: optim.Adam(3), TypeError, ("params", "3", "iterable of Tensors")),
    Row("one parameter twice", {"p": parameter}, lambda p: optim.SGD([p, p]), ValueError, ("duplicate parameters",)),
    Row("a computed tensor to optimize", {"p": parameter}, lambda p: optim.SGD([p * 2]), ValueError, ("non-leaf",)),
    Row(
        "a group that is a list",
        ADAM,
        lambda optimizer: optimizer.add_param_group([]),
        TypeError,
        ("param_group", "list", "dict"),
    ),
    Row(
        "a group without params",
        ADAM,
        lambda optimizer: optimizer.add_param_group({"lr": 1.0}),
        ValueError,
        ("param_group", "'lr'", "'params'"),
    ),
    Row(
        "a group that is there",
        ADAM,
        lambda optimizer: optimizer.add_param_group(optimizer.param_groups[0]),
        ValueError,
        ("more than one parameter group",),
    ),
    Row(
        "betas of one",
        {"p": parameter},
        lambda p: optim.Adam([p], betas=(0.9,)),
        ValueError,
        ("betas", r"\(0\.9,\)", "pair"),
    ),
    Row(
        "a beta of 1",
        {"p": parameter},
        lambda p: optim.Adam([p], betas=(0.9, 1.0)),
        ValueError,
        ("beta", "1.0", "below 1"),
    ),
    Row(
        "a beta that is a word",
        {"p": parameter},
        lambda p: optim.Adam([p], betas=(0.9, "a")),
        TypeError,
        ("beta", "'a'", "real number"),
    ),
    Row(
        "a negative rate",
        {"p": parameter},
        lambda p: optim.SGD([p], lr=-1.0),
        ValueError,
        ("learning rate", "-1.0", "not negative"),
    ),
    Row(
        "an infinite decay",
        {"p": parameter},
        lambda p: optim.SGD([p], weight_decay=float("inf")),
        ValueError,
        ("weight_decay", "inf", "finite"),
    ),
    Row(
        "Nesterov without momentum",
        {"p": parameter},
        lambda p: optim.SGD([p], nesterov=True),
        ValueError,
        ("Nesterov", "momentum"),
    ),
    Row(
        "a state that is none",
        ADAM,
        lambda optimizer: optimizer.load_state_dict([]),
        TypeError,
        ("state_dict", r"\[\]", "gives"),
    ),
    Row(
        "a state without groups",
        ADAM,
        lambda optimizer: optimizer.load_state_dict({"state": {}}),
        TypeError,
        ("state_dict", "'state'", "gives"),
    ),
    Row(
        "a state of more groups",
        ADAM,
        lambda optimizer: load(optimizer, param_groups=optimizer.state_dict()["param_groups"] * 2),
        ValueError,
        ("state dict", "number of parameter groups"),
    ),
    Row(
        "a state of more parameters",
        ADAM,
        lambda optimizer: load(optimizer, param_groups=[{"params": [0, 1]}]),
        ValueError,
        ("state dict", "size of optimizer's group"),
    ),
    Row(
        "a state of groups of numbers",
        ADAM,
        lambda optimizer: load(optimizer, param_groups=[3]),
        TypeError,
        ("param_groups", r"\[3\]", "dicts with 'params'"),
    ),
    Row(
        "a state for a parameter that is not there",
        ADAM,
        lambda optimizer: load(optimizer, state={7: {}}),
        ValueError,
        ("state", "7", r"\[0\]"),
    ),
    Row(
        "a state that is a list of numbers",
        ADAM,
        lambda optimizer: load(optimizer, state=[1]),
        TypeError,
        ("state", r"\[1\]", "dict"),
    ),
    Row(
        "a state of words",
        ADAM,
        lambda optimizer: load(optimizer, state={0: {"exp_avg": ["a"]}}),
        TypeError,
        ("exp_avg", "'a'", "numbers"),
    ),
    Row(
        "a state of another shape",
        ADAM,
        lambda optimizer: load(optimizer, state={0: {"exp_avg": np.ones(7)}}),
        ValueError,
        ("exp_avg", r"\(7,\)", r"\(2, 3\)"),
    ),
    Row(
        "a bad option in the second group",
        {"o": two_groups},
        lambda o: load(o, param_groups=[{"params": [0], "lr": 9.0}, {"params": [1], "lr": -1.0}]),
        ValueError,
        ("learning rate", "-1.0"),
    ),
    Row("a step by a number", ADAM, lambda optimizer: optimizer.step(3), TypeError, ("closure", "3", "function")),
    Row(
        "a model that is a function",
        {"data": data},
        lambda data: nn.fit(len, data, epochs=1, optimizer=adam()),
        TypeError,
        ("model", "builtin_function_or_method", "Module"),
    ),
    Row(
        "data without targets",
        RUN,
        lambda model, data: fit(model, data[0]),
        TypeError,
        ("data", "ndarray", r"\(X, y\)"),
    ),
    Row(
        "data of two lengths",
        RUN,
        lambda model, data: fit(model, (data[0], data[1][:3])),
        ValueError,
        ("data", r"\(8, 6\)", r"\(3,\)"),
    ),
    Row(
        "data without examples",
        RUN,
        lambda model, data: fit(model, (data[0][:0], data[1][:0])),
        ValueError,
        ("data", "no examples"),
    ),
    Row(
        "validation without targets",
        RUN,
        lambda model, data: fit(model, data, validation=data[0]),
        TypeError,
        ("validation", "ndarray", r"\(X, y\)"),
    ),
    Row("no epochs", RUN, lambda model, data: fit(model, data, epochs=0), ValueError, ("epochs", "0", "positive int")),
    Row(
        "half a batch",
        RUN,
        lambda model, data: fit(model, data, batch_size=0.5),
        ValueError,
        ("batch_size", r"0\.5", "positive int"),
    ),
    Row(
        "a word for an optimizer",
        RUN,
        lambda model, data: fit(model, data, optimizer="sgd"),
        TypeError,
        ("optimizer", "'sgd'", "fastdrop.optim"),
    ),
    Row(
        "a word for a loss",
        RUN,
        lambda model, data: fit(model, data, loss="mse"),
        TypeError,
        ("loss", "'mse'", "function"),
    ),
    Row(
        "functions for callbacks",
        RUN,
        lambda model, data: fit(model, data, callbacks=[len]),
        TypeError,
        ("callbacks", "len", "Callback"),
    ),
    Row(
        "one callback, not in a list",
        RUN,
        lambda model, data: fit(model, data, callbacks=nn.Callback()),
        TypeError,
        ("callbacks", "Callback", "sequence"),
    ),
    Row(
        "progress by a word",
        RUN,
        lambda model, data: fit(model, data, progress="yes"),
        TypeError,
        ("progress", "'yes'", "True or False"),
    ),
    Row(
        "NumPy's generator to shuffle",
        RUN,
        lambda model, data: fit(model, data, generator=np.random.default_rng(0)),
        TypeError,
        ("generator", "Generator", "fastdrop.Generator"),
    ),
    Row(
        "a number for a checkpoint",
        RUN,
        lambda model, data: fit(model, data, checkpoint=3),
        TypeError,
        ("checkpoint", "int", "path"),
    ),
    Row(
        "a checkpoint in no folder",
        RUN,
        lambda model, data: fit(model, data, checkpoint="no/such/run.safetensors"),
        OSError,
        ("no",),
    ),
    Row(
        "a number of processes",
        RUN,
        lambda model, data: fit(model, data, comm=2),
        TypeError,
        ("comm", "2", "communicator of mpi4py"),
    ),
    Row(
        "a number of processes to evaluate on",
        RUN,
        lambda model, data: nn.evaluate(model, data, comm=2),
        TypeError,
        ("comm", "2", "communicator of mpi4py"),
    ),
    Row(
        "nothing to validate on",
        RUN,
        lambda model, data: fit(model, data, validation=(data[0][:0], data[1][:0])),
        ValueError,
        ("validation", "no examples"),
    ),
    Row(
        "prediction for a number",
        MODEL,
        lambda model: nn.predict(model, 3.0),
        ValueError,
        ("X", r"array\(3\.", "axis of examples"),
    ),
    Row(
        "prediction by a function",
        {},
        lambda: nn.predict(len, np.ones((2, 3))),
        TypeError,
        ("model", "builtin", "Module"),
    ),
    Row(
        "no passes",
        {**MODEL, "a": x(2, 6)},
        lambda model, a: nn.mc_predict(model, a, T=0),
        ValueError,
        ("T", "0", "between 1"),
    ),
    Row(
        "passes of another kind",
        {**MODEL, "a": x(2, 6)},
        lambda model, a: nn.mc_predict(model, a, kind="ranking"),
        ValueError,
        ("kind", "'ranking'", "'regression' or 'classification'"),
    ),
    Row(
        "passes told to a number",
        {**MODEL, "a": x(2, 6)},
        lambda model, a: nn.mc_predict(model, a, progress=3),
        TypeError,
        ("progress", "3", "function"),
    ),
    Row(
        "passes without dropout",
        {"a": x(2, 6), "layer": lambda: nn.Linear(6, 2)},
        lambda a, layer: nn.mc_predict(layer, a, T=2, seed=0),
        ValueError,
        ("no dropout", "equal"),
    ),
    Row(
        "a pass without its seed",
        MODEL,
        lambda model: nn.mc_dropout(model, t=3),
        ValueError,
        ("seed and t", "t=3", "both or neither"),
    ),
    Row("a norm of 0", {"a": x(2, 6)}, lambda a: nn.max_norm_(a, 0.0), ValueError, ("max_norm", "0.0", "above 0")),
    Row("patience below 0", {}, lambda: nn.EarlyStopping(patience=-1), ValueError, ("patience", "-1", "from 0 on")),
    Row("a monitor that is no name", {}, lambda: nn.EarlyStopping(3), TypeError, ("monitor", "3", "'val_loss'")),
    Row(
        "a metric that is not there",
        {},
        lambda: nn.History([{"loss": 1.0}])["accuracy"],
        KeyError,
        ("metric", "'accuracy'", "loss"),
    ),
    Row("a metric of nothing", {}, lambda: nn.History().best("loss"), ValueError, ("history is empty",)),
    Row("a history of numbers", {}, lambda: nn.History([1, 2]), TypeError, ("epochs", r"\[1, 2\]", "dicts")),
    Row("a history from a list", {}, lambda: nn.History.from_dict([]), TypeError, ("data", r"\[\]", "to_dict")),
    Row("weights of a number", {}, lambda: nn.save_weights(3, "a"), TypeError, ("model", "3", "Module")),
    Row("weights by number", {}, lambda: nn.save_weights({1: np.ones(3)}, "a"), TypeError, ("model", "1", "by name")),
    Row(
        "weights of complex numbers",
        {},
        lambda: nn.save_weights({"a": np.ones(3, complex)}, "a"),
        ValueError,
        ("model", "complex128", "safetensors"),
    ),
    Row(
        "weights to a closed file",
        MODEL,
        lambda model: nn.save_weights(model, closed()),
        TypeError,
        ("path", "BytesIO", "path"),
    ),
    Row(
        "weights to a name in no script",
        MODEL,
        lambda model: nn.save_weights(model, "\ud800"),
        ValueError,
        ("path", "ud800", "can write"),
    ),
    Row(
        "weights to no folder",
        MODEL,
        lambda model: nn.save_weights(model, "no/such/file"),
        FileNotFoundError,
        ("no/such", "no such folder"),
    ),
    Row("weights to a folder", MODEL, lambda model: nn.save_weights(model, "."), OSError, ("folder",)),
    Row(
        "weights from a closed file",
        MODEL,
        lambda model: nn.load_weights(model, closed()),
        TypeError,
        ("path", "BytesIO", "path"),
    ),
    Row(
        "weights from no file", MODEL, lambda model: nn.load_weights(model, "no-such"), FileNotFoundError, ("no-such",)
    ),
    Row("weights from a folder", MODEL, lambda model: nn.load_weights(model, "."), OSError, ("'.'",)),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in TRAINING])
def test_a_wrong_call(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuses_row(row)


DAMAGES = {
    "empty": lambda good: b"",
    "one byte": lambda good: good[:1],
    "a cut header": lambda good: good[:20],
    "cut in the middle": lambda good: good[: len(good) // 2],
    "cut by one": lambda good: good[:-1],
    "a byte more": lambda good: good + b"\0",
    "zeros": lambda good: bytes(len(good)),
    "a huge header": lambda good: b"\xff" * 8 + good[8:],
    "text": lambda good: b"hello world",
    "a zip archive": lambda good: b"PK\3\4" + good[4:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights, run = Path("weights.safetensors"), Path("run.safetensors")
    net = model()
    nn.save_weights(net, weights)
    fit(net, data(), checkpoint=run, progress=False)
    for path, reader in ((weights, lambda: nn.load_weights(net, weights)), (run, lambda: read_state(run))):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        refuses(reader, {"model": net}, ValueError, (str(path), "damaged|no checkpoint"))
    before = run.read_bytes()
    refuses(lambda: fit(net, data(), checkpoint=run, progress=False), {"model": net}, ValueError, (str(run),))
    assert run.read_bytes() == before
