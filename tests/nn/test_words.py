"""Dropout of words on tensors. Which bits it takes: tests/test_words.py."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F


def test_word_dropout_is_the_function_on_arrays():
    tokens = np.random.default_rng(0).integers(1, 50, (4, 30))
    want = fd.word_dropout(tokens, 0.3, unknown=7, rng=fd.Generator(5))
    for y in (F.word_dropout(tokens, 0.3, unknown=7, generator=fd.Generator(5)),
              nn.WordDropout(0.3, 7, generator=fd.Generator(5))(Tensor(tokens))):  # fmt: skip
        assert isinstance(y, Tensor) and not y.requires_grad
        np.testing.assert_array_equal(y.array, want)
    x = Tensor(tokens.copy())
    assert nn.WordDropout(0.3, 7, inplace=True, generator=fd.Generator(5))(x) is x and np.array_equal(x.array, want)


def test_modes():
    rng = fd.Generator(1)
    layer, x = nn.WordDropout(0.5, generator=rng), Tensor(np.ones((5, 20), np.int64))
    assert layer.eval()(x) is x and nn.WordDropout(0.0, generator=rng)(x) is x and rng.call == 0
    first, second = layer.train()(x), layer(x)
    assert rng.call == 2 and not np.array_equal(first.array, second.array)
    assert not nn.WordDropout(1.0)(x).array.any() and x.array.all()


def test_tokens_that_backward_needs_are_not_overwritten():
    weight = nn.ones(5, 2, requires_grad=True)
    x = Tensor(np.array([1, 2, 3]))
    y = F.embedding(x, weight)
    rng = fd.Generator(0)
    with pytest.raises(RuntimeError, match="backward of embedding"):
        F.word_dropout(x, 0.5, inplace=True, generator=rng)
    assert rng.call == 0
    y.sum().backward()
    assert weight.grad.tolist() == [[0, 0], [1, 1], [1, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_embedding_dropout_is_the_function_on_arrays(np_rng, dtype, p):
    array, dy = np_rng.standard_normal((2, 40, 3)).astype(dtype)
    x = Tensor(array, requires_grad=True)
    y = F.embedding_dropout(x, p, generator=fd.Generator(5))
    y.backward(dy)
    np.testing.assert_array_equal(y.array, fd.embedding_dropout(array, p, rng=fd.Generator(5)))
    np.testing.assert_array_equal(x.grad.array, fd.embedding_dropout(dy, p, rng=fd.Generator(5)))
    assert F.embedding_dropout(x, p, False) is x


def test_gradients(np_rng, check_gradients):
    check_gradients(
        lambda x: F.embedding_dropout(x * x, 0.4, generator=fd.Generator(1)), np_rng.standard_normal((8, 2))
    )


def test_repr_pickle_and_copy():
    layer = nn.WordDropout(0.25, 3, generator=fd.Generator(2))
    assert repr(layer) == "WordDropout(p=0.25, inplace=False, unknown=3)"
    tokens = np.ones((4, 9), np.int64)
    want = nn.WordDropout(0.25, 3, generator=fd.Generator(2))(tokens).array
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(again) == repr(layer) and np.array_equal(again(tokens).array, want)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.WordDropout(1.5), ValueError, "dropout probability"),
        (lambda: nn.WordDropout("some"), TypeError, "dropout probability"),
        (lambda: nn.WordDropout(0.5, "?"), TypeError, "unknown has to be an integer"),
        (lambda: nn.WordDropout(generator=np.random.default_rng(0)), TypeError, r"fastdrop\.Generator"),
        (lambda: nn.WordDropout()(np.ones(3)), TypeError, "tokens have to be integers"),
        (lambda: nn.WordDropout(unknown=-1)(np.ones(3, np.uint8)), ValueError, "unknown has to be between 0 and 255"),
        (lambda: F.embedding_dropout(np.ones(3)), ValueError, r"\(V, D\)"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
