"""fastdrop.dropout: what users of the other systems expect (the edge cases are one table)."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference


def same_bits(a, b):
    u = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and np.array_equal(a.view(u), b.view(u))


def test_it_is_the_reference(isa, dtype):
    x = np.random.default_rng(0).standard_normal((17, 33)).astype(dtype)
    for p in (0.5, 0.1, 1.0):
        for scaling in ("inverted", "standard"):
            rng = fd.Generator(5)
            y = fd.dropout(x, p, scaling=scaling, rng=rng)
            assert y.dtype == dtype and rng.call == 1
            assert same_bits(y, reference.dropout(x, p, rng.key, 0, scaling=scaling))
            y = fd.dropout(x, p, rng=rng, scaling=scaling, noise_shape=(1, None))
            assert same_bits(y, reference.dropout(x, p, rng.key, 1, noise_shape=(1, None), scaling=scaling))
            y = fd.dropout(x, p, training=False, scaling=scaling)
            assert same_bits(y, reference.dropout(x, p, 0, 0, training=False, scaling=scaling))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (33, 130), (4, 5, 6, 7), (1,) * 60 + (9,), (5000,)])
def test_the_short_way_is_the_long_way(dtype, shape):
    """Plain calls skip the Mask object; what they give, and what they take from the generator, is the same."""
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    swapped = x if dtype == "bfloat16" or x.dtype.name == "bfloat16" else x.astype(x.dtype.newbyteorder("S"))
    for a in (x, x.T, x[..., ::-1] if x.ndim else x, swapped, np.asfortranarray(x)):
        for p in (0.3, np.float64(0.3), 1.0, 1):
            rng, other = fd.Generator(2), fd.Generator(2)
            y, z = fd.dropout(a, p, rng=rng), other.mask(a.shape, p).apply(a)
            assert type(y) is np.ndarray and same_bits(y, z) and y.strides == z.strides
            assert rng.call == other.call == 1
    fd.manual_seed(4)
    assert same_bits(fd.dropout(x, 0.5), fd.Generator(4).mask(shape).apply(x))


def test_nothing_to_do_gives_the_input_itself(rng, dtype):
    x = np.ones(8, dtype)
    assert fd.dropout(x, 0.0, rng=rng) is x
    assert fd.dropout(x, 0.5, training=False, rng=rng) is x
    assert fd.dropout(x, 0.0, scaling="standard", rng=rng) is x
    assert fd.dropout(x.view(np.recarray), 0.0).base is x
    out = np.zeros(8, dtype)
    assert fd.dropout(x, 0.0, rng=rng, out=out) is out and np.array_equal(out, x)
    out[:] = 0
    assert fd.dropout(x, 0.5, training=False, out=out) is out and np.array_equal(out, x)
    assert rng.call == 0  # no random number drawn


def test_standard_scaling(rng, dtype):
    x = np.full(64, 4.0, dtype)
    y = fd.dropout(x, 0.25, scaling="standard", rng=rng)
    assert set(y.astype(float).tolist()) == {0.0, 4.0}
    y = fd.dropout(x, 0.25, training=False, scaling="standard")
    assert y.dtype == dtype and set(y.astype(float).tolist()) == {3.0}
    edge = np.array([-1.0, np.inf, np.nan, 2.0]).astype(dtype)
    assert same_bits(fd.dropout(edge, 1.0, training=False, scaling="standard"), np.zeros(4, dtype))


@pytest.mark.parametrize(
    ("noise_shape", "mask_shape"),
    [
        (None, (4, 5, 6)),
        ((4, 1, 6), (4, 1, 6)),
        ((None, 1, None), (4, 1, 6)),
        ((1, 6), (1, 6)),
        ((), ()),
        ((np.int64(4), np.int32(1), np.uint8(6)), (4, 1, 6)),
        ([None, None, 1], (4, 5, 1)),
        (np.array([4, 1, 1]), (4, 1, 1)),
    ],
)
def test_noise_shape(noise_shape, mask_shape):
    x = np.random.default_rng(0).standard_normal((4, 5, 6))
    y = fd.dropout(x, 0.4, noise_shape=noise_shape, rng=fd.Generator(3))
    mask = fd.Generator(3).mask(mask_shape, 0.4)
    assert np.array_equal(y, np.where(np.broadcast_to(np.asarray(mask), x.shape), x * (1 / 0.6), 0))


def test_a_mask_can_be_used_again(rng):
    x = np.ones((3, 4))
    mask = rng.mask((3, 4), 0.5)
    y = fd.dropout(x, 0.5, mask=mask)
    assert np.array_equal(y, mask.apply(x)) and np.array_equal(fd.dropout(x, 0.5, mask=mask), y)
    assert fd.dropout(x, 0.5, False, mask=mask) is x


def test_in_place_and_shapes(rng):
    x = np.ones(100, np.float32)
    assert fd.dropout(x, 0.5, rng=rng, out=x) is x and set(x.tolist()) == {0.0, 2.0}
    assert fd.dropout(np.float32(1.0), 0.5, rng=rng).shape == ()
    assert fd.dropout(np.empty((0, 3)), 0.5, rng=rng).shape == (0, 3)
    assert fd.dropout([1.0, 2.0], 0.5, rng=rng).dtype == np.float64


def test_layout_does_not_change_the_mask():
    x = np.random.default_rng(0).standard_normal((50, 60))
    want = fd.dropout(x, 0.3, rng=fd.Generator(1))
    for y in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1].copy()[::-1]):
        assert np.array_equal(fd.dropout(y, 0.3, rng=fd.Generator(1)), want)


X = np.ones((4, 5), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda out: fd.dropout(X, -0.1, out=out),
            ValueError,
            "dropout probability has to be between 0 and 1, but got -0.1",
        ),
        (
            lambda out: fd.dropout(X, 1.1, out=out),
            ValueError,
            "dropout probability has to be between 0 and 1, but got 1.1",
        ),
        (lambda out: fd.dropout(X, float("nan"), out=out), ValueError, "but got nan"),
        (lambda out: fd.dropout(X, np.inf, out=out), ValueError, "but got inf"),
        (lambda out: fd.dropout(X, "0.5", out=out), TypeError, "'0.5'"),
        (lambda out: fd.dropout(X, True, out=out), TypeError, "True"),
        (lambda out: fd.dropout(X, None, out=out), TypeError, "None"),
        (lambda out: fd.dropout(X, 0.5j, out=out), TypeError, "0.5j"),
        (lambda out: fd.dropout(X, np.array([0.5]), out=out), TypeError, "0.5"),
        (lambda out: fd.dropout(X, 2, training=False, out=out), ValueError, "but got 2"),
        (lambda out: fd.dropout(np.ones((4, 5), int), 0.5, out=out), TypeError, "float32, float64.*int64"),
        (lambda out: fd.dropout(np.ones((4, 5), bool), 0.0, out=out), TypeError, "bool"),
        (lambda out: fd.dropout(np.ones((4, 5), complex), 0.5, out=out), TypeError, "complex128"),
        (lambda out: fd.dropout(np.ones((4, 5), object), 0.5, out=out), TypeError, "object"),
        (lambda out: fd.dropout(X, noise_shape=(4, 2), out=out), ValueError, r"noise_shape.*\(4, 5\).*\(4, 2\)"),
        (lambda out: fd.dropout(X, noise_shape=(1, 4, 5), out=out), ValueError, "at most 2"),
        (lambda out: fd.dropout(X, noise_shape=(4, 1.0), out=out), TypeError, "noise_shape.*1.0"),
        (lambda out: fd.dropout(X, noise_shape="45", out=out), TypeError, "noise_shape"),
        (lambda out: fd.dropout(X, noise_shape=4, out=out), TypeError, "noise_shape"),
        (lambda out: fd.dropout(X, scaling="both", out=out), ValueError, "'inverted' or 'standard', but got 'both'"),
        (lambda out: fd.dropout(X, rng=np.random.default_rng(), out=out), TypeError, "fastdrop.Generator"),
        (lambda out: fd.dropout(X, mask=X > 0, out=out), TypeError, "fastdrop.Mask"),
        (lambda out: fd.dropout(X, 0.5, mask=fd.Mask(0, 0, 0.4, (4, 5)), out=out), ValueError, "p=0.4"),
        (lambda out: fd.dropout(X, 0.5, mask=fd.Mask(0, 0, 0.5, (4, 6)), out=out), ValueError, "broadcast"),
        (lambda out: fd.dropout(X, 0.5, False, mask=fd.Mask(0, 0, 0.5, (4, 6)), out=out), ValueError, "broadcast"),
        (lambda out: fd.dropout(X, mask=fd.Mask(0, 0, 0.5, 5), rng=fd.Generator(0), out=out), ValueError, "no rng"),
        (lambda out: fd.dropout(X, scaling=np.array([1, 2]), out=out), ValueError, "scaling"),
        (lambda out: fd.dropout(X, 10**400, out=out), ValueError, "dropout probability"),
        (lambda out: fd.dropout(X, 0.5, out=out[:2]), ValueError, "shape"),
        (lambda out: fd.dropout(X, 0.0, out=out[:2]), ValueError, "shape"),
        (lambda out: fd.dropout(X, 0.5, False, out=out.astype(float)), TypeError, "float64"),
        (lambda out: fd.dropout(X, 0.5, out=out.astype(">f4")), TypeError, "byte-swapped"),
        (lambda out: fd.dropout(out[:, :3], 0.5, out=out[:, 1:4]), ValueError, "overlaps"),
    ],
)
def test_bad_input_touches_nothing(call, error, words):
    out = np.full((4, 5), 7.0, np.float32)
    before = fd.default_generator().call
    with pytest.raises(error, match=words):
        call(out)
    assert (out == 7.0).all()
    assert fd.default_generator().call == before


def test_read_only_out():
    out = np.full((4, 5), 7.0, np.float32)
    out.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        fd.dropout(X, 0.5, out=out)


def test_the_naive_baseline_is_dropout():
    x = np.random.default_rng(0).standard_normal((1000, 100)).astype(np.float32)
    y, kept = reference.naive_dropout(x, 0.25, np.random.default_rng(1))
    assert np.array_equal(y != 0, kept) and np.allclose(y[kept], x[kept] / 0.75)
    assert abs(kept.mean() - 0.75) < 0.01
    assert np.array_equal(reference.naive_dropout_backward(x, kept, 0.25), y)
