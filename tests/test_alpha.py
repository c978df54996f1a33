"""Alpha dropout, of elements and of channels: function and layer."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, reference
from fastdrop.nn import Tensor

# function, layer, options, an input's shape, the decisions' shape
KINDS = [
    (fd.alpha_dropout, nn.AlphaDropout, {}, (6, 40, 7), (6, 40, 7)),
    (fd.alpha_dropout, nn.AlphaDropout, {"noise_shape": (None, 1)}, (300, 9), (300, 1)),
    (fd.feature_alpha_dropout, nn.FeatureAlphaDropout, {}, (6, 40), (6, 40)),
    (fd.feature_alpha_dropout, nn.FeatureAlphaDropout, {}, (6, 40, 7, 5), (6, 40, 1, 1)),
    (fd.feature_alpha_dropout, nn.FeatureAlphaDropout, {"channels_last": True}, (6, 7, 5, 40), (6, 1, 1, 40)),
]
kinds = pytest.mark.parametrize(("function", "layer", "options", "shape", "noise"), KINDS)
ROUNDING = {"float64": 1e-15, "float32": 5e-7, "float16": 1e-3, "bfloat16": 8e-3}


@kinds
@pytest.mark.parametrize("p", [0.05, 0.5, 1.0])
def test_it_is_the_reference(isa, dtype, function, layer, options, shape, noise, p):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    y = function(x, p, rng=fd.Generator(3), **options)
    kept = np.asarray(fd.Generator(3).mask(noise, p))
    assert np.array_equal(kept, reference.keep_at(fd.Generator(3).key, 0, p, np.arange(kept.size).reshape(noise)))
    want = reference.alpha_dropout(x, p, kept)
    assert y.dtype == dtype and y.shape == shape
    np.testing.assert_allclose(y.astype(float), want, atol=ROUNDING[dtype.name] * max(1, np.abs(want).max()))
    dropped = np.broadcast_to(~kept, shape)
    assert len(np.unique(y[dropped].astype(float))) == 1  # to the very bit
    out = x.copy()
    assert function(out, p, rng=fd.Generator(3), out=out, **options) is out and np.array_equal(out, y)


def test_the_same_bits_on_every_isa():
    x = np.random.default_rng(0).standard_normal(10001).astype(np.float32)
    found, before = [], fd.isa()
    for name in fd.available_isas():
        fd.set_isa(name)
        found.append(fd.alpha_dropout(x, 0.3, rng=fd.Generator(1)).view(np.uint32))
    fd.set_isa(before)
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("function", [fd.alpha_dropout, fd.feature_alpha_dropout])
def test_mean_and_variance_stay(p, function):
    """Of 2^20 numbers (in 2^19 maps of two): each within 5 standard errors, which fails once in 1.7 million."""
    x = np.random.default_rng(5).standard_normal((2**10, 2**9, 2))
    y = function(x, p, rng=fd.Generator(8)).ravel()
    n = y.size / 2 if function is fd.feature_alpha_dropout else y.size
    assert abs(y.mean()) < 5 * y.std() / np.sqrt(n)
    square = (y - y.mean()) ** 2
    assert abs(square.mean() - 1) < 5 * square.std() / np.sqrt(n)


@kinds
def test_nothing_to_do_gives_the_input_itself(function, layer, options, shape, noise):
    x, rng = np.ones(shape, np.float32), fd.Generator(0)
    assert function(x, 0.0, rng=rng, **options) is x and function(x, 0.5, False, rng=rng, **options) is x
    out = np.full_like(x, 7)
    assert function(x, 0.5, False, rng=rng, out=out, **options) is out and out.all() == x.all()
    assert rng.call == 0
    x[:] = np.inf
    assert not function(x, 1.0, **options).any()
    made = layer(0.5, generator=rng, **options).eval()
    t = nn.as_tensor(x)
    assert made(t) is t and layer(0.0, generator=rng, **options)(t) is t and rng.call == 0


@kinds
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_gradients(check_gradients, function, layer, options, shape, noise, p):
    rng = np.random.default_rng(2)
    small = tuple(min(n, 3) for n in shape)
    check_gradients(lambda x: layer(p, generator=fd.Generator(1), **options)(x * x), rng.standard_normal(small))
    x = Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    dy = rng.standard_normal(shape).astype(np.float32)
    made = layer(p, generator=fd.Generator(5), **options)
    y = made(x)
    y.backward(dy)
    assert np.array_equal(y.array, function(x.array, p, rng=fd.Generator(5), **options))
    kept = np.broadcast_to(np.asarray(fd.Generator(5).mask(noise, p)), shape)
    assert np.array_equal(x.grad.array != 0, kept & (dy != 0))
    inside = nn.as_tensor(x.array.copy())
    assert layer(p, inplace=True, generator=fd.Generator(5), **options)(inside) is inside
    assert np.array_equal(inside.array, y.array)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_pytorch_gives_the_same_two_values_to_zeros(p):
    torch = pytest.importorskip("torch")
    theirs = np.unique(torch.nn.functional.alpha_dropout(torch.zeros(1000), p, True).numpy())
    ours = np.unique(fd.alpha_dropout(np.zeros(1000, np.float32), p))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: fd.alpha_dropout(np.ones(3), 1.5, rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.alpha_dropout(np.ones(3, int), rng=rng), TypeError, "float32, float64"),
        (lambda rng: fd.alpha_dropout(np.ones(3), mask=rng.mask(3, 0.5), noise_shape=(1,)), ValueError, "noise_shape"),
        (lambda rng: fd.feature_alpha_dropout(np.ones(3), rng=rng), ValueError, r"at least 2 axes, \(N, C\)"),
        (lambda rng: fd.alpha_dropout(np.ones(3), rng=rng, out=np.ones(4)), ValueError, "shape of x"),
        (lambda rng: nn.AlphaDropout(-0.1), ValueError, "dropout probability"),
    ],
)
def test_bad_input(call, error, words):
    rng = fd.Generator(0)
    before = rng.call
    with pytest.raises(error, match=words):
        call(rng)
    assert rng.call - before <= 1
