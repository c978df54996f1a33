"""Zoneout: function and layer."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, reference
from fastdrop.nn import functional as F


def states(shape, dtype):
    both = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    return np.array(both[0]), np.array(both[1])


@pytest.mark.parametrize("shape", [(1,), (257,), (30, 40), (5, 700), (0, 3), ()])
def test_it_is_the_reference(isa, dtype, shape):
    x, before = states(shape, dtype)
    for p in (0.5, 0.1, 1.0):
        rng = fd.Generator(3)
        y = fd.zoneout(x, before, p, rng=rng)
        kept = reference.keep_at(rng.key, 0, p, np.arange(x.size).reshape(shape))
        assert rng.call == 1 and y.dtype == dtype
        assert np.array_equal(y.astype(float), reference.zoneout(x, before, kept))
        for out in (x.copy(), before.copy()):
            pair = (out, before) if np.array_equal(out, x) else (x, out)
            assert fd.zoneout(*pair, p, rng=fd.Generator(3), out=out) is out and np.array_equal(out, y)


def test_rate_and_independence():
    """A million decisions: rate and correlation of neighbours, each within 5 standard deviations (1 in 1.7 million)."""
    n, p = 10**6, 0.15
    kept = fd.zoneout(np.ones(n, np.float32), np.zeros(n, np.float32), p, rng=fd.Generator(5)).astype(float)
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    centred = (kept - (1 - p)) / np.sqrt(p * (1 - p))
    assert abs((centred[1:] * centred[:-1]).mean()) < 5 / np.sqrt(n)


def test_outside_of_training_it_is_the_expectation(dtype):
    x, before = states((30, 40), dtype)
    rng = fd.Generator(0)
    y = fd.zoneout(x, before, 0.25, False, rng=rng)
    assert y.dtype == dtype
    want = 0.75 * x.astype(float) + 0.25 * before.astype(float)
    np.testing.assert_allclose(
        y.astype(float), want, rtol={2: 1e-2, 4: 1e-6, 8: 1e-15}[x.itemsize], atol=1e-2 / 2**x.itemsize
    )
    assert fd.zoneout(x, before, 0.0, rng=rng) is x and fd.zoneout(x, before, 0.0, False, rng=rng) is x
    assert np.array_equal(fd.zoneout(x, before, 1.0, rng=rng), before)
    out = np.empty_like(x)
    assert fd.zoneout(x, before, 0.25, False, rng=rng, out=out) is out and np.array_equal(out, y)
    assert rng.call == 1


def test_the_expectation_is_what_it_is_for_any_byte_order_and_selects_where_p_is_one(dtype):
    x, before = states((30, 40), dtype)
    if np.dtype(dtype).kind == "f":  # NumPy swaps no bytes of ml_dtypes' types
        swapped = x.astype(x.dtype.newbyteorder())
        assert np.array_equal(fd.zoneout(swapped, before, 0.1, False), fd.zoneout(x, before, 0.1, False))
    x[:2] = np.array([[np.inf], [np.nan]])
    y = fd.zoneout(x, before, 1.0, False)
    assert np.array_equal(y, before) and not np.shares_memory(y, before)


def test_gradients(check_gradients):
    r = np.random.default_rng(1)
    for training in (True, False):
        for p in (0.4, 1.0):
            check_gradients(
                lambda x, h, t=training, p=p: F.zoneout(x * x, h * 2, p, t, generator=fd.Generator(1)),
                r.standard_normal((3, 4)),
                r.standard_normal((3, 4)),
            )
    x, h = (nn.Tensor(a, requires_grad=True) for a in states((5, 6), np.float32))
    dy = np.full((5, 6), np.inf, np.float32)
    nn.Zoneout(0.5, generator=fd.Generator(2))(x, h).backward(dy)
    kept = np.asarray(fd.Generator(2).mask((5, 6), 0.5))
    assert np.array_equal(x.grad.array, np.where(kept, dy, 0)) and np.array_equal(h.grad.array, np.where(kept, 0, dy))


def test_layer():
    rng = fd.Generator(4)
    layer = nn.Zoneout(0.5, generator=rng)
    x, h = states((5, 6), np.float32)
    assert repr(layer) == "Zoneout(p=0.5)"
    assert np.array_equal(layer(x, h).array, fd.zoneout(x, h, 0.5, rng=fd.Generator(4)))
    assert np.array_equal(layer.eval()(x, h).array, fd.zoneout(x, h, 0.5, False)) and rng.call == 1
    same = nn.as_tensor(x)
    assert nn.Zoneout(0.0)(same, h) is same


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: fd.zoneout(np.ones(3), np.ones(4), rng=rng), ValueError, "previous has to broadcast"),
        (
            lambda rng: fd.zoneout(np.ones(3), np.ones(3, np.float32), rng=rng),
            TypeError,
            "previous has to have the dtype",
        ),
        (lambda rng: fd.zoneout(np.ones(3), np.ones(3), float("nan"), rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.zoneout(np.ones(3, int), np.ones(3, int), rng=rng), TypeError, "float32"),
        (lambda rng: F.zoneout(np.ones(3), np.ones(4), generator=rng), ValueError, "previous has to broadcast"),
        (lambda rng: F.zoneout(np.ones(3, int), np.ones(3), generator=rng), TypeError, "floating"),
    ],
)
def test_bad_input_takes_no_call(call, error, words):
    rng = fd.Generator(0)
    with pytest.raises(error, match=words):
        call(rng)
    assert rng.call == 0
