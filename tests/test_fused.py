"""Dropout in one pass with its neighbours: functions and layers, against the same steps one by one."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, reference
from fastdrop._core import fused
from fastdrop.nn import functional as F

ACTIVATIONS = ["identity", "relu", "gelu", "gelu_tanh", "silu"]
ROUNDING = {"float64": 4e-15, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
# shapes of x and of the second input, None for none
SHAPES = [((1,), (1,)), ((129,), (129,)), ((40, 70), (70,)), ((40, 70), (40, 1)), ((3, 5, 300), (300,)),
          ((7, 2000), (2000,)), ((2, 0), (1,)), ((), ()), ((33, 3), None), ((4, 8, 5, 5), (8, 1, 1))]  # fmt: skip
shapes = pytest.mark.parametrize(("shape", "second"), SHAPES)


def normal(shape, dtype, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def decisions(shape, p):
    """Those of the first call of a generator with seed 3."""
    return reference.keep_at(fd.Generator(3).key, 0, p, np.arange(np.prod(shape, dtype=int)).reshape(shape))


def close(y, want, dtype):
    assert y.dtype == dtype and y.shape == want.shape
    largest = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(y.astype(float), want, atol=ROUNDING[np.dtype(dtype).name] * largest)


@shapes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_dropout_is_its_steps(isa, dtype, activation, shape, second):
    x = normal(shape, dtype)
    bias = None if second is None else normal(second, dtype, 1)
    for p in (0.3, 0.0, 1.0):
        y = fd.activation_dropout(x, p, activation=activation, bias=bias, rng=fd.Generator(3))
        kept = decisions(shape, p)
        close(y, reference.activation_dropout(x, 0.0 if bias is None else bias, p, kept, activation), dtype)
        assert not y[~kept].any() and not np.signbit(y[~kept]).any()


@shapes
def test_dropout_add_is_its_steps(isa, dtype, shape, second):
    x, residual = normal(shape, dtype), normal(second or (), dtype, 1)
    for p in (0.3, 0.0, 1.0):
        y = fd.dropout_add(x, residual, p, rng=fd.Generator(3))
        kept = decisions(shape, p)
        close(y, reference.dropout_add(x, residual, p, kept), dtype)
        if np.dtype(dtype).itemsize > 2:
            assert np.array_equal(y, fd.dropout(x, p, rng=fd.Generator(3)) + residual)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_same_bits_on_every_isa_and_number_of_threads(threads, dtype):
    x, bias = normal((700, 600), dtype), normal(600, dtype, 1)
    found, before = [], fd.isa()
    for name in fd.available_isas():
        for count in (1, 2):
            fd.set_isa(name), fd.set_num_threads(count)
            each = [fd.activation_dropout(x, 0.3, activation=a, bias=bias, rng=fd.Generator(1)) for a in ACTIVATIONS]
            found.append(np.stack([*each, fd.dropout_add(x, x, 0.3, rng=fd.Generator(1))]).view(f"u{x.itemsize}"))
    fd.set_isa(before)
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize("order", ["transposed", "sliced", "reversed", "swapped"])
def test_layouts(order):
    x, second = normal((60, 50), "float32"), normal((60, 50), "float32", 1)
    lay = {
        "transposed": lambda a: np.asfortranarray(a),
        "sliced": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    }[order]
    want = fd.dropout_add(x, second, 0.4, rng=fd.Generator(1))
    assert np.array_equal(fd.dropout_add(lay(x), lay(second), 0.4, rng=fd.Generator(1)), want)
    assert np.array_equal(fd.dropout_add(x, lay(second), 0.4, rng=fd.Generator(1)), want)
    want = fd.activation_dropout(x, 0.4, activation="silu", bias=second[0], rng=fd.Generator(1))
    assert np.array_equal(
        fd.activation_dropout(lay(x), 0.4, activation="silu", bias=second[0], rng=fd.Generator(1)), want
    )
    out = np.full((120, 100), np.nan, np.float32)[::2, ::2]
    assert fd.activation_dropout(x, 0.4, activation="silu", bias=second[0], rng=fd.Generator(1), out=out) is out
    assert np.array_equal(out, want)


def test_outputs():
    x, residual = normal((50, 60), "float32"), normal((50, 60), "float32", 1)
    want = fd.dropout_add(x, residual, 0.4, rng=fd.Generator(1))
    for out in (x.copy(), residual.copy()):
        both = (out, residual) if np.array_equal(out, x) else (x, out)
        assert fd.dropout_add(*both, 0.4, rng=fd.Generator(1), out=out) is out and np.array_equal(out, want)
    rng = fd.Generator(0)
    room = np.zeros(3100, np.float32)
    shifted, base = room[1:3001].reshape(50, 60), room[:3000].reshape(50, 60)
    with pytest.raises(ValueError, match="overlaps residual"):
        fd.dropout_add(x, shifted, 0.4, rng=rng, out=base)
    with pytest.raises(ValueError, match="overlaps bias"):
        fd.activation_dropout(base, 0.4, bias=base[0], rng=rng, out=base)
    with pytest.raises(TypeError, match="residual has to have the dtype of x, float32, but got float64"):
        fd.dropout_add(x, residual.astype(float), 0.4, rng=rng)
    with pytest.raises(ValueError, match=r"bias has to broadcast to the shape of x, \(50, 60\), but got \(50,\)"):
        fd.activation_dropout(x, 0.4, bias=np.ones(50, np.float32), rng=rng)
    with pytest.raises(ValueError, match="activation has to be one of identity, relu"):
        fd.activation_dropout(x, 0.4, activation="swish", rng=rng)
    with pytest.raises(ValueError, match="dropout probability"):
        fd.dropout_add(x, residual, 1.5, rng=rng)
    with pytest.raises(TypeError, match="float32"):
        fd.dropout_add(np.ones(3, int), np.ones(3, int), rng=rng)
    assert rng.call == 0


def test_code_of_the_callers_may_change_x_before_it_is_looked_at():
    """An input whose conversion shrinks x: refused, where a kernel would have run past its end."""
    x = np.ones(200000, np.float32)

    class Shrinks:
        def __array__(self, dtype=None, copy=None):
            x.resize(4, refcheck=False)
            return np.ones(4, np.float32)

    with pytest.raises(ValueError, match=r"broadcast a mask of shape \(200000,\) to shape \(4,\)"):
        fused(fd.Mask(0, 0, 0.5, 200000), "add", x, Shrinks())


def test_eval_draws_nothing_and_does_the_rest():
    x, rng = normal((5, 6), "float32"), fd.Generator(0)
    assert np.array_equal(fd.dropout_add(x, x, 0.5, False, rng=rng), x + x)
    assert np.array_equal(fd.activation_dropout(x, 0.5, False, rng=rng), np.maximum(x, 0))
    assert nn.DropoutAdd(0.5, generator=rng).eval()(x, x).tolist() == (x + x).tolist()
    assert nn.ActivationDropout(0.5, generator=rng).eval()(x).tolist() == np.maximum(x, 0).tolist()
    assert rng.call == 0


def test_extremes():
    x = np.array([np.inf, -np.inf, np.nan, 1e38, -1e38, 0, 1e-40, 90, -90], np.float32)
    keep = fd.Mask(0, 0, 0.0, 9)
    for activation in ACTIVATIONS:
        y = fd.activation_dropout(x, 0.0, activation=activation, mask=keep)
        with np.errstate(all="ignore"):
            want = reference.activation(activation, x.astype(float)).astype(np.float32)
        finite = np.isfinite(want)
        np.testing.assert_allclose(y[finite], want[finite], rtol=1e-5, atol=1e-36)
        assert np.isnan(y[2]) and y[0] == np.inf


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("p", [0.4, 0.0, 1.0])
def test_gradients_of_activation_dropout(check_gradients, activation, p):
    r = np.random.default_rng(1)

    def layer(x, b=None):
        return F.activation_dropout(x * x, p, activation=activation, bias=b, generator=fd.Generator(2))

    check_gradients(layer, r.standard_normal((3, 4)), tolerance=2e-6)
    check_gradients(layer, r.standard_normal((3, 4)), r.standard_normal(4), tolerance=2e-6)


def test_gradients_of_dropout_add(check_gradients):
    r = np.random.default_rng(1)
    check_gradients(
        lambda x, y: F.dropout_add(x * x, y * y, 0.4, generator=fd.Generator(2)),
        r.standard_normal((3, 4)),
        r.standard_normal(4),
    )


@pytest.mark.parametrize(
    ("ours", "theirs"), [("relu", "relu"), ("gelu", "gelu"), ("gelu_tanh", "gelu"), ("silu", "silu")]
)
def test_against_pytorch(same_as_torch, ours, theirs):
    torch = pytest.importorskip("torch")
    x, b = normal((20, 30), "float32"), normal(30, "float32", 1)
    kept = torch.tensor(np.asarray(fd.Generator(4).mask(x.shape, 0.3)))
    more = {"approximate": "tanh"} if ours == "gelu_tanh" else {}
    same_as_torch(
        lambda x, b: F.activation_dropout(x, 0.3, activation=ours, bias=b, generator=fd.Generator(4)),
        lambda x, b: getattr(torch.nn.functional, theirs)(x + b, **more) * kept / 0.7,
        x,
        b,
        rtol=1e-5,
        atol=3e-6,
    )


def test_half_precision_and_what_backward_needs():
    x = nn.Tensor(normal((8, 9), "float16"), requires_grad=True)
    y = F.activation_dropout(x, 0.5, activation="gelu", generator=fd.Generator(1))
    y.backward(np.ones((8, 9), np.float16))
    assert y.dtype == x.grad.dtype == np.float16
    h = nn.Tensor(normal((8, 9), "float32"), requires_grad=True) * 1
    y = F.activation_dropout(h, 0.5, activation="silu")
    with pytest.raises(RuntimeError, match="needs the values"):
        h.mul_(2)
    z = F.activation_dropout(h, 0.5, activation="relu")
    with pytest.raises(RuntimeError, match="needs the values"):
        z.mul_(2)


def test_layers_say_what_they_are():
    assert repr(nn.ActivationDropout(0.1, "silu")) == "ActivationDropout(p=0.1, activation='silu')"
    assert repr(nn.DropoutAdd(0.1)) == "DropoutAdd(p=0.1)"
    with pytest.raises(ValueError, match="activation has to be one of"):
        nn.ActivationDropout(0.1, "tanh")
    x = normal((4, 5), "float32")
    want = fd.activation_dropout(x, 0.5, activation="silu", rng=fd.Generator(1))
    assert np.array_equal(nn.ActivationDropout(0.5, "silu", generator=fd.Generator(1))(x).array, want)
    want = fd.dropout_add(x, x, 0.5, rng=fd.Generator(1))
    assert np.array_equal(nn.DropoutAdd(0.5, generator=fd.Generator(1))(x, x).array, want)
