"""Module: registration, walking, modes, weights, containers; reprs equal to PyTorch's."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from fastdrop import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.register_buffer("seen", nn.zeros(1))
        self.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x):
        x = self.fc(x) * self.scale
        for block in self.blocks:
            x = block(x)
        return x


def test_registration_and_walking():
    net = Net()
    names = ["scale", "fc.weight", "fc.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert [name for name, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in net.named_buffers()] == ["seen"]
    assert list(net.buffers()) == [net.seen]
    assert [name for name, _ in net.named_children()] == ["fc", "blocks"]
    assert [name for name, _ in net.named_modules()] == ["", "fc", "blocks", "blocks.0", "blocks.1"]
    assert len(list(net.modules())) == 5 and len(list(net.children())) == 2
    assert set(net.state_dict()) == {*names, "seen"}
    assert "scale" in dir(net) and "fc" in dir(net)
    assert net(np.ones((4, 2), np.float32)).shape == (4, 3)


def test_reassignment():
    net = Net()
    net.fc = None
    assert net.fc is None and "fc.weight" not in net.state_dict()
    net.fc = nn.Linear(1, 1)
    net.scale = None
    assert net.scale is None
    net.seen = nn.ones(2)
    assert net.state_dict()["seen"].shape == (2,)
    del net.fc
    assert not hasattr(net, "fc")
    net.fc = 3
    assert net.fc == 3
    net.fc = nn.ReLU()
    assert isinstance(net.fc, nn.ReLU) and "fc" not in net.__dict__


def test_a_shared_module_counts_once_but_is_saved_twice():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.parameters())) == 2
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_modes_apply_and_gradients():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "Linear", "Linear", "ModuleList", "Net"]
    net(np.ones((4, 2), np.float32)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.array.any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(np.ones((4, 2), np.float32)).requires_grad
    assert next(net.double().parameters()).dtype == np.float64
    assert next(net.float().parameters()).dtype == np.float32


class NoInit(nn.Module):
    def __init__(self, value):
        self.thing = value


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NoInit(nn.ReLU()), AttributeError, r"cannot assign module before Module.__init__\(\) call"),
        (lambda: NoInit(nn.Parameter([1.0])), AttributeError, "cannot assign parameters before"),
        (lambda: NoInit(1)(2), AttributeError, "before Module.__init__"),
        (lambda: Net().nothing, AttributeError, "'Net' object has no attribute 'nothing'"),
        (lambda: nn.Module()(1), NotImplementedError, 'missing the required "forward"'),
        (lambda: setattr(Net(), "scale", 3), TypeError, "cannot assign 'int' as parameter 'scale'"),
        (lambda: setattr(Net(), "fc", 3), TypeError, "cannot assign 'int' as child module 'fc'"),
        (lambda: setattr(Net(), "seen", 3), TypeError, "buffer 'seen'"),
        (lambda: Net().register_buffer("a.b", None), KeyError, "contain"),
        (lambda: Net().register_buffer("scale", None), KeyError, "already exists"),
        (lambda: Net().register_parameter("", None), KeyError, "empty"),
        (lambda: Net().add_module("x", 1), TypeError, "int is not a Module subclass"),
        (lambda: nn.Sequential(1), TypeError, "int is not a Module subclass"),
        (lambda: nn.Sequential(nn.ReLU())[1], IndexError, "index 1 is out of range"),
        (lambda: Net().train("yes"), ValueError, "boolean"),
        (lambda: Net().load_state_dict([1]), TypeError, "dict-like"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_load_state_dict_names_every_problem_and_changes_nothing():
    layer = nn.Linear(2, 3)
    before = layer.weight.tolist()
    with pytest.raises(RuntimeError) as caught:
        layer.load_state_dict({"weight": np.zeros((3, 3)), "x": np.zeros(1)})
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Linear:\n"
        '\tMissing key(s) in state_dict: "bias". \n'
        '\tUnexpected key(s) in state_dict: "x". \n'
        "\tsize mismatch for weight: copying a param with shape (3, 3) from checkpoint, "
        "the shape in current model is (3, 2)."
    )
    assert layer.weight.tolist() == before
    layer.load_state_dict({"weight": np.ones((3, 2)), "x": 1}, strict=False)
    assert layer.weight.tolist() == [[1, 1]] * 3 and layer.weight.dtype == np.float32


def test_weights_go_to_pytorch_and_back():
    torch = pytest.importorskip("torch")

    def build(n):
        return n.Sequential(
            n.Conv2d(2, 4, 3, groups=2), n.ReLU(), n.MaxPool2d(2), n.Flatten(), n.Linear(16, 5, bias=False)
        )

    ours, theirs = build(nn), build(torch.nn)
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(ours(x).detach().array, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    other = build(nn)
    theirs.load_state_dict({name: torch.tensor(t.numpy()) for name, t in other.state_dict().items()})
    np.testing.assert_allclose(other(x).detach().array, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_deep_copy_and_pickle():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 1))
    model(np.ones((4, 2), np.float32)).sum().backward()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(other) == repr(model)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert type(q) is nn.Parameter and q.requires_grad and not np.shares_memory(p.array, q.array)
            np.testing.assert_array_equal(p.array, q.array)
            np.testing.assert_array_equal(p.grad.array, q.grad.array)
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(model[0].weight * 2)


def test_sequential():
    model = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), act=nn.ReLU()))
    assert isinstance(model.first, nn.Linear) and model[-1] is model.act
    assert list(model[:1].state_dict()) == ["first.weight", "first.bias"]
    assert model.append(nn.Identity()) is model and len(model) == 3
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Identity"]
    model[1] = nn.Dropout()
    assert isinstance(model.act, nn.Dropout)
    plain = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Identity())
    del plain[1]
    assert [name for name, _ in plain.named_children()] == ["0", "1"]
    assert nn.Sequential()(3) == 3


def test_module_list():
    layers = nn.ModuleList([nn.ReLU()])
    layers.append(nn.Flatten())
    layers.extend([nn.Identity(), nn.Identity()])
    layers[0] = nn.Dropout()
    assert len(layers) == 4 and len(layers[1:]) == 3 and isinstance(layers[-4], nn.Dropout)
    with pytest.raises(NotImplementedError):
        layers(1)


def example(n):
    class Inner(n.Module):
        def __init__(self):
            super().__init__()
            self.a = n.ModuleList([n.Linear(1, 2), n.Linear(1, 2), n.Sequential()])
            self.b = n.Linear(1, 2, bias=False)

        def extra_repr(self):
            return "one\ntwo"

    return n.Sequential(
        Inner(),
        n.Conv2d(1, 2, 3),
        n.Conv2d(2, 2, (3, 5), stride=2, padding=1, groups=2, bias=False, dilation=2),
        n.Conv2d(1, 2, 3, padding="same"),
        n.MaxPool2d(2),
        n.MaxPool2d((2, 3), 1, 1),
        n.Flatten(),
        n.ReLU(),
        n.ReLU(inplace=True),
        n.Identity(),
        n.Dropout(0.3, True),
        n.CrossEntropyLoss(),
        n.MSELoss(),
        n.NLLLoss(),
        n.ModuleList(),
    )


def test_repr_is_pytorchs():
    torch = pytest.importorskip("torch")
    assert repr(example(nn)) == repr(example(torch.nn))


def test_a_parameter_counts_changes_with_the_tensor_it_was_made_of():
    values = nn.ones(3)
    parameter = nn.Parameter(values)
    y = parameter * parameter
    with pytest.raises(RuntimeError, match="cannot work in place"):
        values.add_(1)
    del y


@pytest.mark.parametrize("bad", [np.array([["x"]]), np.array([[1j]])])
def test_load_state_dict_changes_nothing_when_it_fails(bad):
    model = nn.Linear(1, 1)
    before = model.bias.item()
    with pytest.raises(TypeError, match="weight"):
        model.load_state_dict({"bias": np.array([9.0]), "weight": bad})
    assert model.bias.item() == before
