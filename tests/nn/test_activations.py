"""Activations, against PyTorch, finite differences and float64."""

import copy
import pickle

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import Tensor, no_grad
from fastdrop.nn import functional as F

# a layer's name and arguments
LAYERS = [
    ("Tanh",), ("Sigmoid",), ("ELU",), ("ELU", 0.3), ("SELU",), ("LeakyReLU",), ("LeakyReLU", 0.2), ("SiLU",),
    ("Softmax", 1), ("Softmax", -2), ("LogSoftmax", 0),
]  # fmt: skip
layers = pytest.mark.parametrize("arguments", LAYERS, ids=lambda a: "-".join(map(str, a)))
IN_PLACE = [("ELU", 0.3), ("SELU",), ("LeakyReLU", 0.2), ("SiLU",)]


def torch_layer(name, *arguments):
    return getattr(pytest.importorskip("torch").nn, name)(*arguments)


@layers
@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 4), (2, 0)])
def test_layers_do_what_pytorchs_do(same_as_torch, np_rng, arguments, shape):
    name, *options = arguments
    if 0 in shape and "oftmax" in name:
        pytest.skip("the maximum of nothing")
    ours, theirs = getattr(nn, name)(*options), torch_layer(*arguments)
    for dtype in (np.float32, np.float64):
        same_as_torch(ours, theirs, (3 * np_rng.standard_normal(shape)).astype(dtype))
    assert repr(ours) == repr(theirs)
    assert repr(pickle.loads(pickle.dumps(ours))) == repr(copy.deepcopy(ours)) == repr(ours)


@layers
def test_gradients(check_gradients, np_rng, arguments):
    name, *options = arguments
    check_gradients(getattr(nn, name)(*options), np_rng.standard_normal((3, 4)))


@pytest.mark.parametrize("arguments", [a for a in LAYERS if "oftmax" not in a[0]])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_far_values(same_as_torch, arguments, dtype):
    # Neither a warning (which is an error here) nor a lost digit where exp overflows or the result is tiny.
    x = np.array([-1e4, -300.0, -80.0, -17.0, -1e-3, -0.0, 0.0, 1e-3, 17.0, 80.0, 300.0, 1e4, np.inf, -np.inf, np.nan])
    if arguments[0] == "SiLU":
        x = x[:-3]  # -inf * 0 is NaN, with NumPy's warning.
    y = getattr(nn, arguments[0])(*arguments[1:])(x.astype(dtype))
    z = torch_layer(*arguments)(pytest.importorskip("torch").tensor(x)).numpy()
    tiny = float(np.finfo(dtype).smallest_normal)
    assert y.dtype == dtype
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y.array.astype(float), z.astype(dtype).astype(float), rtol=8 * np.finfo(dtype).eps,
                                   atol=2 * tiny)  # fmt: skip


@pytest.mark.parametrize("arguments", IN_PLACE)
def test_in_place(np_rng, arguments):
    name, *options = arguments
    array = np_rng.standard_normal((3, 4)).astype(np.float32)
    x = Tensor(array, requires_grad=True)
    y = getattr(nn, name)(*options)(x)
    y.sum().backward()
    again = Tensor(array.copy(), requires_grad=True)
    middle = again * 1
    layer = getattr(nn, name)(*options, inplace=True)
    assert repr(layer) == repr(torch_layer(name, *options, True)) and "inplace=True" in repr(layer)
    z = layer(middle)
    assert z is middle
    z.sum().backward()
    np.testing.assert_array_equal(z.array, y.array)
    np.testing.assert_array_equal(again.grad.array, x.grad.array)
    with pytest.raises(RuntimeError, match="leaf"):
        layer(again)
    with no_grad():
        assert layer(again) is again
    saved = Tensor(array, requires_grad=True).exp()
    with pytest.raises(RuntimeError, match="backward of exp"):
        layer(saved)


def test_float16_is_rounded_once(np_rng):
    x = np_rng.standard_normal(1000).astype(np.float16)
    for function in (F.elu, F.selu, F.silu, F.leaky_relu):
        np.testing.assert_array_equal(function(x).array, function(x.astype(np.float32)).array.astype(np.float16))


def test_selu_keeps_mean_and_variance(np_rng):
    """Of a million standard normal numbers, to six standard errors (0.006): wrong once in 10^8 seeds."""
    y = F.selu(np_rng.standard_normal(1_000_000)).array
    assert abs(y.mean()) < 6e-3 and abs(y.var() - 1) < 1.2e-2


@pytest.mark.parametrize("name", ["elu", "selu", "silu", "leaky_relu"])
def test_any_memory_order(np_rng, name):
    x = np_rng.standard_normal((4, 6))
    for layout in (np.asfortranarray(x), x.T.copy().T, np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(getattr(F, name)(layout).array, getattr(F, name)(x).array)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.elu(np.arange(3)), "elu: input must have a floating dtype, got int64"),
        (lambda: F.silu(np.array([True])), "silu: input must have a floating dtype, got bool"),
        (lambda: nn.ELU("steep"), "alpha has to be a real number"),
        (lambda: nn.LeakyReLU(True), "negative_slope has to be a real number"),
        (lambda: nn.Softmax(), "dim"),
    ],
)
def test_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_wants_one_dimension_and_floats(function):
    x = np.ones((2, 3), np.float32)
    for dim, error, words in [
        (None, TypeError, "dim has to be an integer, but got None"),
        ((0, 1), TypeError, "dim has to be an integer"),
        (2, IndexError, r"dim=2 is out of range, expected it in \[-2, 1\]"),
    ]:
        with pytest.raises(error, match=words):
            function(x, dim)
    with pytest.raises(TypeError, match="input must have a floating dtype, got int64"):
        function(np.arange(3), 0)


def test_slopes_of_any_size_and_the_ends_of_the_line():
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 3.0, np.inf, np.nan])
    for slope in (-0.5, 0.1, 1.0, 2.0):
        np.testing.assert_array_equal(F.leaky_relu(x, slope).array, np.where(x > 0, x, slope * x))
    with np.errstate(all="raise"):
        y, z = F.elu(x, 0.5).array, F.selu(x).array
    np.testing.assert_array_equal(y, [-0.5, 0.5 * np.expm1(-2.0), 0.0, 0.0, 3.0, np.inf, np.nan])
    assert np.isnan(z[-1]) and z[-2] == np.inf and z[0] < -1.75
