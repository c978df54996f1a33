"""accelerate(): which modules of a model take fastdrop's forward, what they keep, and what is said of the others."""

from __future__ import annotations

import copy
import pickle
import types

import numpy as np
import pytest

import fastdrop as fd

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

nn = torch.nn
KINDS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")


class Tagged(nn.Dropout):
    """A subclass that has more to it, but PyTorch's forward."""

    def __init__(self, p, tag):
        super().__init__(p)
        self.tag = tag

    def extra_repr(self):
        return self.tag


class Own(nn.Dropout):
    def forward(self, input):
        return input * 3


class GaussDrop(nn.Module):
    def forward(self, input):
        return input


def next_mask(shape, p):
    key = int(torch.empty((), dtype=torch.int64).random_()) % 2**62
    return np.asarray(fd.Mask(key, 0, p, shape))


@pytest.mark.parametrize("kind", KINDS)
def test_modules_of_torch(kind):
    layer = getattr(nn, kind)(0.3)
    said = repr(layer)
    calls = []
    layer.register_forward_hook(lambda *args: calls.append(args))
    assert ft.accelerate(layer, verbose=False) is layer
    assert isinstance(layer, getattr(ft, kind)) and repr(layer) == said
    x = torch.randn({"Dropout1d": (6, 5, 4), "Dropout2d": (6, 5, 4, 3)}.get(kind, (6, 5, 4, 3, 2)))
    torch.manual_seed(0)
    y = layer(x)
    torch.manual_seed(0)
    assert torch.equal(y, getattr(ft, kind)(0.3)(x)) and len(calls) == 1
    assert layer.eval()(x) is x


def test_subclasses_stay_what_they_are():
    model = nn.Sequential(Tagged(0.3, "a"), Tagged(0.5, "b"))
    ft.accelerate(model, verbose=False)
    first, second = model
    assert type(first) is type(second) and isinstance(first, Tagged) and isinstance(first, ft.Dropout)
    assert repr(first) == "Tagged(a)" and second.tag == "b"
    for twin in (first, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert type(twin) is type(first) and twin.tag == "a"
        torch.manual_seed(0)
        mask = next_mask((40,), 0.3)
        torch.manual_seed(0)
        np.testing.assert_array_equal(twin(torch.ones(40)).numpy() != 0, mask)


def unchanged(self, x):
    return x


def named(package, name, forward, **attributes):
    """A module of a class from a package that is not here."""
    cls = type(name, (nn.Module,), {"__module__": f"{package}.layers.drop", "forward": forward})
    module = cls()
    vars(module).update(attributes)
    return module


@pytest.mark.parametrize(
    "package, name, attributes, noise, scale",
    [
        ("timm", "DropPath", {"drop_prob": 0.4, "scale_by_keep": True}, (40, 1, 1), 1 / 0.6),
        ("timm", "DropPath", {"drop_prob": 0.4, "scale_by_keep": False}, (40, 1, 1), 1.0),
        ("transformers", "ConvNextDropPath", {"drop_prob": 0.4}, (40, 1, 1), 1 / 0.6),
        ("torchvision", "StochasticDepth", {"p": 0.4, "mode": "row"}, (40, 1, 1), 1 / 0.6),
        ("torchvision", "StochasticDepth", {"p": 0.4, "mode": "batch"}, (1, 1, 1), 1 / 0.6),
    ],
)
def test_paths_of_other_packages(package, name, attributes, noise, scale):
    module = named(package, name, unchanged, **attributes)
    theirs = type(module)
    ft.accelerate(module, verbose=False)
    assert isinstance(module, theirs) and type(module).__name__ == name and type(module).__module__ == theirs.__module__
    x = torch.ones(40, 3, 2)
    torch.manual_seed(0)
    mask = np.broadcast_to(next_mask(noise, 0.4), x.shape)
    torch.manual_seed(0)
    np.testing.assert_allclose(module(x).numpy(), np.where(mask, scale, 0), rtol=1e-6)
    assert module.eval()(x) is x
    same = copy.deepcopy(module)
    assert type(same) is type(module) and vars(same)["training"] is False
    other = named("elsewhere", name, unchanged, **attributes)
    assert type(ft.accelerate(other, verbose=False)) is not type(module) and other(x) is x


def test_paths_without_a_rate():
    x = torch.ones(3, 2)
    for rate in (None, 0, 0.0):
        assert ft.accelerate(named("timm", "DropPath", unchanged, drop_prob=rate), verbose=False)(x) is x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_says_what_it_did(capsys):
    patched = nn.Dropout(0.5)
    patched.forward = types.MethodType(lambda self, x: x, patched)
    model = nn.ModuleDict(
        {
            "a": nn.Dropout(0.1), "b": nn.Dropout(0.2), "c": nn.Dropout2d(0.1), "mine": ft.DropPath(0.1),
            "own": Own(0.5), "patched": patched, "unknown": GaussDrop(), "linear": nn.Linear(2, 2),
            "lstm": nn.LSTM(2, 2, 2, dropout=0.1), "plain": nn.LSTM(2, 2), "quiet": nn.MultiheadAttention(4, 2),
            "mha": nn.MultiheadAttention(4, 2, dropout=0.1), "mha2": nn.MultiheadAttention(4, 2, dropout=0.1),
            "script": torch.jit.script(nn.Dropout(0.1)),
        }
    )  # fmt: skip
    ft.accelerate(model)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "fastdrop: accelerated 2 Dropout, 1 Dropout2d",
        "fastdrop: left own: Own has a forward of its own",
        "fastdrop: left patched: Dropout has a forward of its own",
        "fastdrop: left unknown: GaussDrop is not known",
        "fastdrop: left lstm: LSTM drops in C++; fastdrop.torch.enable() reaches it",
        "fastdrop: left mha and 1 more: MultiheadAttention drops in a function; fastdrop.torch.enable() reaches it",
        "fastdrop: left script: RecursiveScriptModule is TorchScript; fastdrop.torch.enable() reaches it",
    ]
    x = torch.ones(4)
    assert model["own"](x)[0] == 3 and model["patched"](x) is x
    ft.accelerate(nn.Linear(2, 2))
    assert capsys.readouterr().err == "fastdrop: accelerated nothing: no module is a dropout that it knows\n"
    ft.accelerate(nn.Dropout(0.1), verbose=False)
    assert capsys.readouterr().err == ""


def test_state_and_training_go_on():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.2), 2, enable_nested_tensor=False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    ft.accelerate(model, verbose=False)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    model.load_state_dict(state)
    model(torch.randn(5, 3, 16)).sum().backward()
    assert all(p.grad is not None for p in parameters)
    fresh = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.2), 2, enable_nested_tensor=False)
    fresh.load_state_dict(model.state_dict())


def test_compiled_models():
    model = ft.accelerate(nn.Sequential(Tagged(0.3, "a"), nn.Dropout(0.3)), verbose=False)
    x = torch.ones(40)
    call = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    mask = next_mask((40,), 0.3) & next_mask((40,), 0.3)
    torch.manual_seed(0)
    np.testing.assert_array_equal(call(x).numpy() != 0, mask)


@pytest.mark.parametrize("wrong", [None, nn.Dropout, 3])
def test_wrong_models(wrong):
    with pytest.raises(TypeError, match=r"model has to be a torch[.]nn[.]Module, but got a"):
        ft.accelerate(wrong)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_takes_pytorchs_own():
    model = nn.Sequential(nn.Linear(4, 40), Tagged(0.3, "a"), nn.Dropout(0.3))
    ft.accelerate(model, verbose=False)
    scripted = torch.jit.script(model)
    assert "fastdrop" not in str(scripted.inlined_graph) and scripted(torch.ones(2, 4)).shape == (2, 40)
    assert scripted.eval()(torch.ones(2, 4)).ne(0).all()


def test_symbolic_traces_are_what_they_were():
    """torch.fx calls modules of torch.nn, which listen to eval(), and looks into others."""
    model = nn.Sequential(nn.Dropout(0.3), Tagged(0.3, "a"))
    before = [(node.op, node.target) for node in torch.fx.symbolic_trace(model).graph.nodes]
    ft.accelerate(model, verbose=False)
    traced = torch.fx.symbolic_trace(model)
    assert [(node.op, node.target) for node in traced.graph.nodes] == before
    assert isinstance(traced.get_submodule("0"), ft.Dropout)
