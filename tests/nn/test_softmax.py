"""`F.softmax_dropout`: the array function recorded. Its values and bits: tests/test_softmax.py."""

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F


@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize(("p", "training"), [(0.3, True), (0.0, True), (0.3, False)])
def test_gradients_against_finite_differences(np_rng, check_gradients, dim, p, training):
    check_gradients(
        lambda x: F.softmax_dropout(x * x, p, dim, training, generator=fd.Generator(1)),
        np_rng.standard_normal((3, 4, 5)),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n", [1, 17, 100, 9001])
def test_it_is_the_unfused_tape(np_rng, dtype, n):
    array, dy = np_rng.standard_normal((2, 3, n)).astype(dtype)
    fused, plain = Tensor(array, requires_grad=True), Tensor(array.astype(np.float64), requires_grad=True)
    y = F.softmax_dropout(fused, 0.3, generator=fd.Generator(5))
    want = F.dropout(F.softmax(plain, -1), 0.3, generator=fd.Generator(5))
    y.backward(dy)
    want.backward(dy.astype(np.float64))
    assert y.dtype == fused.grad.dtype == dtype
    unit = np.finfo(dtype).eps
    np.testing.assert_array_equal(y.array[want.array == 0], 0)
    np.testing.assert_allclose(y.array, want.array, rtol=8 * unit, atol=1e-7 if dtype == np.float16 else 0)
    scale = np.abs(plain.grad.array).max() + unit
    np.testing.assert_allclose(fused.grad.array, plain.grad.array, rtol=8 * unit, atol=8 * unit * scale)


def test_against_pytorch(np_rng, same_as_torch):
    torch = pytest.importorskip("torch")
    x = np_rng.standard_normal((4, 6, 33)).astype(np.float32)
    mask = np.asarray(fd.Generator(5).mask(x.shape, 0.4))
    same_as_torch(
        lambda a: F.softmax_dropout(a, 0.4, generator=fd.Generator(5)),
        lambda a: torch.softmax(a, -1) * torch.from_numpy(mask) / 0.6,
        x,
    )


def test_masked_rows_have_zero_gradients():
    x = Tensor(np.array([[-np.inf, -np.inf], [-np.inf, 1.0]]), requires_grad=True)
    y = F.softmax_dropout(x, 0.0)
    assert np.array_equal(y.array, [[0, 0], [0, 1]])
    y.backward(np.ones((2, 2)))
    assert not x.grad.array.any()


def test_modes():
    rng, x = fd.Generator(9), nn.ones(4, 8)
    assert np.array_equal(F.softmax_dropout(x, 0.5, training=False, generator=rng).array, np.full((4, 8), 0.125))
    assert np.array_equal(F.softmax_dropout(x, 0.0, generator=rng).array, np.full((4, 8), 0.125)) and rng.call == 0
    assert set(np.unique(F.softmax_dropout(x, 0.5, generator=rng).array)) == {0.0, 0.25} and rng.call == 1
    fd.manual_seed(3)
    first = F.softmax_dropout(x, 0.5).array
    fd.manual_seed(3)
    assert np.array_equal(first, F.softmax_dropout(x, 0.5).array)


def test_the_input_must_stay_until_backward():
    x = Tensor(np.zeros((2, 3)), requires_grad=True) * 1
    y = F.softmax_dropout(x, 0.5)
    with pytest.raises(RuntimeError, match="softmax_dropout needs the values"):
        x.mul_(2)
    y.mul_(2)  # it is not kept
    y.backward(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "dropout probability", {"p": 1.5}),
        (ValueError, "between -2 and 1", {"dim": 2}),
        (TypeError, "dim has to be an integer", {"dim": None}),
        (TypeError, r"fastdrop\.Generator", {"generator": 3}),
    ],
)
def test_bad_arguments(error, words, arguments):
    with pytest.raises(error, match=words):
        F.softmax_dropout(nn.ones(2, 3), **arguments)
    with pytest.raises(TypeError, match="floating"):
        F.softmax_dropout(np.ones((2, 3), int))
