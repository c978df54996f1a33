"""The modules: what torch.nn's have, streams of their own, copies, and what `test_dropout` of PyTorch looks at."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import numpy as np
import pytest

import fastdrop as fd

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

nn = torch.nn
PAIRS = [
    ("Dropout", (8, 16, 4)),
    ("Dropout1d", (64, 8, 5)),
    ("Dropout2d", (64, 8, 4, 5)),
    ("Dropout3d", (64, 8, 2, 3, 4)),
    ("AlphaDropout", (64, 32)),
    ("FeatureAlphaDropout", (64, 8, 4, 5)),
]
OURS = [
    (ft.DropPath, (0.2,), (64, 5)),
    (ft.LockedDropout, (0.2,), (7, 64, 8)),
    (ft.DropBlock2d, (0.2, 2), (8, 4, 8, 8)),
    *((getattr(ft, name), (0.2,), shape) for name, shape in PAIRS),
]


@pytest.mark.parametrize("name, shape", PAIRS)
@pytest.mark.parametrize("arguments", [(), (0.3,), (0.3, True), (0, False), (1,)])
def test_as_in_torch_nn(name, shape, arguments):
    ours, theirs = getattr(ft, name)(*arguments), getattr(nn, name)(*arguments)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours, type(theirs))
    assert ours.state_dict() == theirs.state_dict() == {}
    assert (ours.p, ours.inplace) == (theirs.p, theirs.inplace)
    x = torch.ones(shape)
    assert ours.eval()(x) is x


@pytest.mark.parametrize("name", [name for name, _ in PAIRS])
@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_p_is_checked(name, p):
    with pytest.raises(ValueError) as theirs:
        getattr(nn, name)(p)
    with pytest.raises(ValueError) as ours:
        getattr(ft, name)(p)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("name, shape", PAIRS)
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_mean_and_variance(name, shape, p):
    """Values' mean is kept, and where one channel is dropped its neighbours are not. Seeded: no false positives."""
    torch.manual_seed(0)
    big = (8 * shape[0], *shape[1:])
    alpha = "Alpha" in name
    x = torch.randn(big) if alpha else torch.ones(big)
    y = getattr(ft, name)(p)(x)
    decisions = x.numel() if name in ("Dropout", "AlphaDropout") else big[0] * big[1]
    assert abs(float(y.mean() - x.mean())) < 6 * (1.0 if alpha else (p / (1 - p)) ** 0.5) / decisions**0.5
    if alpha:
        assert abs(float(y.var() - 1)) < 0.3
    if "d" in name[-1]:
        flat = y.flatten(2)
        assert bool((flat == flat[..., :1]).all())


@pytest.mark.parametrize("cls, arguments, shape", OURS)
def test_a_stream_of_its_own(cls, arguments, shape):
    module = cls(*arguments, generator=fd.Generator(1))
    x = torch.randn(shape)
    state = torch.get_rng_state()
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state) and module.generator.call == 2
    module.generator = fd.Generator(1)
    assert torch.equal(module(x), first)


@pytest.mark.parametrize("cls, arguments, shape", OURS)
def test_copies(cls, arguments, shape):
    x = torch.randn(shape)
    module = cls(*arguments, generator=fd.Generator(1))
    module(x)
    saved = io.BytesIO()
    torch.save(module, saved)
    saved.seek(0)
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(saved, weights_only=False)]
    assert all(other.generator is not module.generator for other in copies)
    expected = module(x)
    for other in copies:
        assert repr(other) == repr(module)
        assert (other.generator.key, other.generator.call) == (fd.Generator(1).key, 1)
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("cls, arguments, shape", OURS)
def test_seeding(cls, arguments, shape):
    module, x = cls(*arguments), torch.randn(shape)
    torch.manual_seed(5)
    first, second = module(x), module(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.random.fork_rng():
        torch.manual_seed(99)
        module(x)
    assert torch.equal(module(x), first)
    torch.set_rng_state(state)
    assert torch.equal(module(x), first)


def test_a_class_that_is_set():
    """How a model's modules can be swapped without losing hooks or names."""
    module = nn.Dropout(0.5)
    module.__class__ = ft.Dropout
    torch.manual_seed(0)
    y = module(torch.ones(64))
    torch.manual_seed(0)
    assert torch.equal(y, ft.functional.dropout(torch.ones(64), 0.5))


def test_reprs_of_our_own():
    assert repr(ft.DropPath(0.1)) == "DropPath(p=0.1, inplace=False, mode='row')"
    assert repr(ft.DropBlock2d(0.1, (3, 5))) == "DropBlock2d(p=0.1, inplace=False, block_size=(3, 5))"
    with pytest.raises(ValueError, match="mode has to be 'row' or 'batch'"):
        ft.DropPath(0.1, "column")
    with pytest.raises(TypeError, match="generator has to be"):
        ft.Dropout(0.1, generator=torch.Generator())


def test_dropconnect_linear():
    layer = ft.DropConnectLinear(8, 3, 0.5, generator=fd.Generator(2))
    layer.load_state_dict(nn.Linear(8, 3).state_dict())
    x = torch.randn(4, 5, 8)
    y = ft.functional.dropconnect(x, layer.weight, layer.bias, 0.5, generator=fd.Generator(2))
    assert torch.equal(layer(x), y)
    assert torch.equal(layer.eval()(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert "p=0.5, per_example=True" in repr(layer)


def test_weight_drop():
    inner = nn.LSTM(4, 8, num_layers=2)
    layer = ft.WeightDrop(inner, 0.5, ("weight_hh_l0", "weight_hh_l1"), generator=fd.Generator(3))
    x = torch.randn(10, 2, 4)
    output, _ = layer(x)
    rng, reference = fd.Generator(3), copy.deepcopy(inner)
    with torch.no_grad():
        for name in layer.names:
            weight = getattr(reference, name)
            weight.copy_(torch.from_numpy(rng.mask((32, 8), 0.5).apply(weight.numpy())))
    torch.testing.assert_close(output, reference(x)[0])
    output.sum().backward()
    keep = np.asarray(fd.Generator(3).mask((32, 8), 0.5))
    grad = inner.weight_hh_l0.grad.numpy()
    assert (grad[~keep] == 0).all() and (grad[keep] != 0).any()
    assert list(layer.state_dict()) == [f"module.{name}" for name in inner.state_dict()]
    torch.testing.assert_close(layer.eval()(x)[0], inner(x)[0])
    assert copy.deepcopy(layer).generator.call == 2


def test_weight_drop_refuses():
    linear = nn.Linear(2, 3)
    for arguments, kind, message in [
        ((1,), TypeError, r"module has to be a torch\.nn\.Module, but got a int"),
        ((linear, 0.5, "weight"), TypeError, "names has to be a sequence"),
        ((linear, 0.5, ("weights",)), ValueError, "names has to hold parameters of Linear"),
        ((linear, 0.5, ("weight", "weight")), ValueError, "each parameter once"),
        ((linear, 1.5, ("weight",)), ValueError, "dropout probability"),
    ]:
        with pytest.raises(kind, match=message):
            ft.WeightDrop(*arguments)


@pytest.mark.parametrize("name, shape", [pair for pair in PAIRS if pair[0] in ("Dropout1d", "Dropout3d")])
@pytest.mark.parametrize("inplace", [False, True])
def test_one_example_is_a_batch_of_one(name, shape, inplace):
    module, x = getattr(ft, name)(0.5, inplace), torch.rand(shape[1:])
    torch.manual_seed(0)
    batch = module(x.clone()[None])[0]
    torch.manual_seed(0)
    assert torch.equal(module(x.clone()), batch)


@pytest.mark.parametrize("cls", [ft.Dropout, ft.Dropout2d, ft.Dropout3d])
@pytest.mark.parametrize("inplace", [False, True])
def test_memory_formats(cls, inplace):
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for order in (torch.contiguous_format, formats[5 if cls is ft.Dropout3d else 4]):
        shape = (4, 3, 5, 6, 2)[: 5 if cls is ft.Dropout3d else 4]
        x = torch.rand(shape).contiguous(memory_format=order).requires_grad_()
        y = cls(0.2, inplace)(x + 0)
        y.sum().backward()
        assert y.is_contiguous(memory_format=order) and x.grad.is_contiguous(memory_format=order)


@pytest.mark.parametrize("inner", [slice(None), slice(1, None)])
def test_permuted_strides(inner):
    for order in itertools.permutations(range(4)):
        back = [order.index(k) for k in range(4)]
        x = torch.ones(2, 3, 4, 5).permute(order).contiguous().permute(back)[inner]
        y = ft.Dropout(1e-10)(x)
        assert y.permute(order).is_contiguous() and torch.equal(y, x)
        assert not torch.equal(ft.Dropout(0.5)(x), x)
