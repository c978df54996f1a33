"""Embeddings, against PyTorch and finite differences; their dropout against the dropped matrix."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("shape", [(), (6,), (3, 5), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_it_is_pytorchs(same_as_torch, torch, np_rng, shape, padding):
    tokens = np_rng.integers(0, 4, shape)
    for dtype in (np.float32, np.float64):
        same_as_torch(
            lambda w: F.embedding(tokens, w, padding),
            lambda w: torch.nn.functional.embedding(torch.tensor(tokens), w, padding),
            np_rng.standard_normal((4, 3)).astype(dtype),
        )


def test_layer_is_pytorchs(torch, np_rng):
    for options in ({}, {"padding_idx": 3}, {"padding_idx": -1}):
        ours, theirs = nn.Embedding(7, 3, **options), torch.nn.Embedding(7, 3, **options)
        assert repr(ours) == repr(theirs) and ours.padding_idx == theirs.padding_idx
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict({name: torch.tensor(value.array) for name, value in ours.state_dict().items()})
        tokens = np_rng.integers(0, 7, (4, 5))
        np.testing.assert_array_equal(ours(tokens).array, theirs(torch.tensor(tokens)).detach().numpy())


def test_gradients(check_gradients, np_rng):
    tokens = np_rng.integers(0, 5, (3, 4))
    check_gradients(lambda w: F.embedding(tokens, w), np_rng.standard_normal((5, 2)))
    check_gradients(
        lambda w: F.embedding(tokens, w, dropout=0.4, generator=fd.Generator(3)), np_rng.standard_normal((5, 2))
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("padding", [None, 0])
def test_dropout_is_that_of_the_matrix(np_rng, dtype, p, padding):
    array = np_rng.standard_normal((40, 6)).astype(dtype)
    array[5] = np.inf
    tokens = np_rng.integers(0, 40, (8, 30))
    dy = np_rng.standard_normal((8, 30, 6)).astype(dtype)
    direct, composed = Tensor(array, requires_grad=True), Tensor(array.copy(), requires_grad=True)
    y = F.embedding(tokens, direct, padding, dropout=p, generator=fd.Generator(5))
    z = F.embedding(tokens, F.embedding_dropout(composed, p, generator=fd.Generator(5)), padding)
    y.backward(dy)
    z.backward(dy)
    assert y.dtype == direct.grad.dtype == dtype
    np.testing.assert_array_equal(y.array, z.array)
    np.testing.assert_array_equal(direct.grad.array, composed.grad.array)
    assert not np.signbit(y.array[y.array == 0]).any()


def test_dropout_of_the_layer(np_rng):
    rng = fd.Generator(2)
    layer = nn.Embedding(30, 4, dropout=0.5, generator=rng)
    tokens = np_rng.integers(0, 30, (10, 20))
    drawn = rng.call
    plain = layer.eval()(tokens).array
    np.testing.assert_array_equal(plain, layer.weight.array[tokens])
    assert rng.call == drawn
    first, second = layer.train()(tokens).array, layer(tokens).array
    assert rng.call == drawn + 2 and not np.array_equal(first, second)
    dropped = {int(t) for t in tokens[~first.any(-1)]}
    assert 0 < len(dropped) < 30 and not dropped & {int(t) for t in tokens[first.any(-1)]}
    np.testing.assert_array_equal(first[first.any(-1)], 2 * plain[first.any(-1)])


def test_float16_gradients_are_added_in_float32():
    weight = Tensor(np.ones((2, 1), np.float16), requires_grad=True)
    F.embedding(np.ones(3000, int), weight).sum().backward()
    assert weight.grad.tolist() == [[0], [3000]]  # In float16, 2048 + 1 is 2048.


def test_any_memory_order(np_rng):
    tokens, weight = np_rng.integers(0, 6, (4, 8)), np_rng.standard_normal((6, 3))
    want = F.embedding(tokens, weight).array
    for other in (np.asfortranarray(tokens), np.repeat(tokens, 2, axis=1)[:, ::2], tokens.astype(np.uint8)):
        x = Tensor(np.asfortranarray(weight), requires_grad=True)
        y = F.embedding(other, x)
        np.testing.assert_array_equal(y.array, want)
        y.backward(np.broadcast_to(np.float64(1), y.shape))
        np.testing.assert_array_equal(x.grad.array[:, 0], np.bincount(tokens.ravel(), minlength=6))


def test_initial_weights():
    layer = nn.Embedding(500, 40, 3, generator=fd.Generator(1))
    w = np.delete(layer.weight.array, 3, axis=0)
    # Five standard errors of mean and variance of 19960 normals: wrong once in a million seeds.
    assert abs(w.mean()) < 5 / np.sqrt(w.size) and abs(w.var() - 1) < 5 * np.sqrt(2 / w.size)
    assert not layer.weight.array[3].any()
    np.testing.assert_array_equal(nn.Embedding(500, 40, 3, generator=fd.Generator(1)).weight.array, layer.weight.array)


def test_from_pretrained(np_rng):
    weight = np_rng.standard_normal((5, 3))
    layer = nn.Embedding.from_pretrained(weight, padding_idx=-2, dropout=0.2)
    assert layer.weight.array is weight and not layer.weight.requires_grad and layer.weight.array[3].all()
    assert repr(layer) == "Embedding(5, 3, padding_idx=3, dropout=0.2)"
    assert nn.Embedding.from_pretrained(weight, freeze=False).weight.requires_grad


def test_pickle_and_copy():
    layer = nn.Embedding(9, 4, dropout=0.5, generator=fd.Generator(2))
    tokens = np.arange(9)
    copies = [pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)]
    want = layer(tokens).array
    for again in copies:
        assert repr(again) == repr(layer) and np.array_equal(again(tokens).array, want)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w, g: F.embedding([0, 4], w, dropout=0.5, generator=g), IndexError, r"token 4 .* 4 rows \(0 to 3\)"),
        (lambda w, g: F.embedding([-1, 2], w, dropout=0.5, generator=g), IndexError, "token -1 is out of range"),
        (lambda w, g: F.embedding([1.0], w, dropout=0.5, generator=g), TypeError, "integers, got float32"),
        (lambda w, g: F.embedding([0], w[0], dropout=0.5, generator=g), RuntimeError, r"\(V, D\)"),
        (lambda w, g: F.embedding([0], w.astype(int)), RuntimeError, "int64"),
        (lambda w, g: F.embedding([0], w, 4, dropout=0.5, generator=g), ValueError, "padding_idx has to be between -4"),
        (lambda w, g: F.embedding([0], w, dropout=1.5, generator=g), ValueError, "dropout probability"),
        (lambda w, g: F.embedding([0], w, dropout=0.5, generator=3), TypeError, r"fastdrop\.Generator"),
        (lambda w, g: nn.Embedding(0, 3, generator=g), ValueError, "num_embeddings has to be between 1"),
        (lambda w, g: nn.Embedding(3, 2.5, generator=g), TypeError, "embedding_dim has to be an integer"),
        (lambda w, g: nn.Embedding(3, 2, 3, generator=g), ValueError, "padding_idx has to be between -3 and 2"),
        (lambda w, g: nn.Embedding(3, 2, dropout=-1, generator=g), ValueError, "dropout probability"),
        (lambda w, g: nn.Embedding(3, 2, generator="any"), TypeError, r"fastdrop\.Generator"),
        (lambda w, g: nn.Embedding.from_pretrained(w[0]), ValueError, r"\(V, D\), got \(3,\)"),
    ],
)
def test_errors(call, error, message):
    rng = fd.Generator(0)
    with pytest.raises(error, match=message):
        call(np.ones((4, 3), np.float32), rng)
    assert rng.call == 0
