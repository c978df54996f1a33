"""Gaussian dropout and noise under the tape. Which normals they take: tests/test_gaussian.py."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor, ones, tensor
from fastdrop.nn import functional as F

# layer, the same as functions on tensors and on arrays, the name of its number, a value
KINDS = [
    (nn.GaussianDropout, F.gaussian_dropout, fd.gaussian_dropout, "p", 0.3),
    (nn.GaussianNoise, F.gaussian_noise, fd.gaussian_noise, "std", 0.7),
]
kinds = pytest.mark.parametrize(("layer", "function", "plain", "name", "value"), KINDS, ids=[k[3] for k in KINDS])


@kinds
def test_values_and_gradients(np_rng, layer, function, plain, name, value):
    for dtype in (np.float16, np.float32, np.float64):
        array, dy = np_rng.standard_normal((2, 7, 33)).astype(dtype)
        for take in (layer(value, generator=fd.Generator(5)), None):
            x = Tensor(array.copy(), requires_grad=True)
            y = take(x) if take else function(x, value, generator=fd.Generator(5))
            cells = [cell.cell_contents for cell in y.node.function.__closure__]
            assert not any(isinstance(c, np.ndarray) for c in cells) and y.node.saved == ()
            y.backward(dy)
            np.testing.assert_array_equal(y.array, plain(array, value, rng=fd.Generator(5)))
            want = plain(dy, value, rng=fd.Generator(5)) if name == "p" else dy
            np.testing.assert_array_equal(x.grad.array, want)
            assert y.dtype == x.grad.dtype == dtype


@kinds
def test_gradients_against_finite_differences(np_rng, check_gradients, layer, function, plain, name, value):
    check_gradients(lambda x: function(x * x, value, generator=fd.Generator(1)), np_rng.standard_normal((3, 4)))


@kinds
def test_modes_and_in_place(layer, function, plain, name, value):
    rng = fd.Generator(9)
    made, x = layer(value, generator=rng), ones(50)
    assert made.eval()(x) is x and layer(0.0, generator=rng)(x) is x and rng.call == 0
    first, second = made.train()(x), made(x)
    assert rng.call == 2 and not np.array_equal(first.array, second.array)
    inside = layer(value, inplace=True, generator=fd.Generator(9))
    assert inside(x) is x and np.array_equal(x.array, first.array)
    leaf = ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        layer(value, inplace=True, generator=rng)(leaf)
    assert rng.call == 2


@kinds
def test_in_place_gradient(np_rng, layer, function, plain, name, value):
    array = np_rng.standard_normal(40)
    grads = []
    for inplace in (False, True):
        x = Tensor(array.copy(), requires_grad=True)
        (function(x * 2.0, value, True, inplace, generator=fd.Generator(4)) * 3.0).sum().backward()
        grads.append(x.grad.array)
    np.testing.assert_array_equal(*grads)


@kinds
def test_repr_pickle_and_copy(layer, function, plain, name, value):
    made = layer(value, generator=fd.Generator(2))
    assert repr(made) == f"{layer.__name__}({name}={value}, inplace=False)"
    want = layer(value, generator=fd.Generator(2))(ones(9)).array
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert repr(again) == repr(made) and np.array_equal(again(ones(9)).array, want)


@kinds
def test_bad_arguments(layer, function, plain, name, value):
    for bad, error in ((-0.1, ValueError), (float("nan"), ValueError), ("half", TypeError), (True, TypeError)):
        with pytest.raises(error):
            layer(bad)
        made = layer()
        setattr(made, name, bad)
        for mode in (made.train(), made.eval()):
            with pytest.raises(error):
                mode(ones(2))
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        layer(generator=np.random.default_rng(0))
    with pytest.raises(TypeError, match="floating"):
        layer()(np.ones(3, np.int64))


def test_p_one_is_zero_with_zero_gradients():
    x = tensor([np.inf, np.nan, -1.0], requires_grad=True)
    y = nn.GaussianDropout(1.0)(x)
    y.backward(np.array([1, np.inf, np.nan]))
    assert y.tolist() == [0, 0, 0] and x.grad.tolist() == [0, 0, 0]
