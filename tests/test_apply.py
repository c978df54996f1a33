"""The fused apply: values, layouts, tails, in place, and what it must not touch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdrop as fd
from fastdrop import reference

SIZES = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 9001)
# The scale's rounding and the product's, relative and (float16's subnormals) absolute.
ROUNDING = {
    "float32": (2**-23, 0),
    "float64": (2**-52, 0),
    "float16": (2**-11 + 2**-22, 2**-25),
    "bfloat16": (2**-8 + 2**-22, 0),
}


def bits_of(a):
    return a.view(f"u{a.dtype.itemsize}")


def values(dtype, n, seed=0):
    x = np.random.default_rng(seed).standard_normal(n)
    return x.astype(dtype)


def check(y, x, kept, scale):
    """The reference's bits, which are within rounding of float64 where kept, and +0 elsewhere."""
    want = reference.apply(kept, x, scale)
    assert y.dtype == x.dtype and y.shape == x.shape
    assert np.array_equal(bits_of(np.ascontiguousarray(y)), bits_of(want))
    assert not bits_of(want)[~kept].any()
    exact = x.astype(np.float64) * scale * kept
    relative, absolute = ROUNDING[y.dtype.name]
    assert np.all(np.abs(y.astype(np.float64) - exact) <= np.abs(exact) * relative + absolute)


@pytest.mark.parametrize("p", (0.5, 0.1))
def test_values_at_every_size(isa, dtype, p):
    for n in SIZES:
        mask = fd.Mask(5, 6, p, n, start=37)
        x = values(dtype, n)
        y = mask.apply(x)
        check(y, x, np.asarray(mask), 1 / (1 - p))


@pytest.mark.parametrize("shift", (0, 1, 2, 4, 61))
def test_writes_its_output_and_nothing_else(isa, dtype, shift):
    """Poisoned surroundings, any alignment of input and output."""
    item = dtype.itemsize
    for n in (1, 5, 64, 100, 1025):
        mask = fd.Mask(5, 6, 0.3, n)
        x = values(dtype, n)
        source = np.full(n * item + 64, 0xAB, np.uint8)
        source[shift : shift + n * item] = bits_of(x).view(np.uint8)
        room = np.full(n * item + 192, 0xCD, np.uint8)
        out = room[64 + shift : 64 + shift + n * item].view(dtype)
        mask.apply(source[shift : shift + n * item].view(dtype), out=out)
        assert np.array_equal(bits_of(out.copy()), bits_of(mask.apply(x)))
        assert (room[: 64 + shift] == 0xCD).all() and (room[64 + shift + n * item :] == 0xCD).all()


def test_isas_agree_on_every_half():
    """All 65,536 patterns of both half types: every instruction set rounds, overflows and quiets alike."""
    every = np.arange(2**16, dtype=np.uint16)
    before = fd.isa()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    try:
        for dtype, scale in itertools.product((np.float16, ml_dtypes.bfloat16), (1.0, 1 / 0.9, 2.0, 1e-3, 3e38, -1.7)):
            results = []
            for isa in fd.available_isas():
                fd.set_isa(isa)
                results.append(fd.Mask(0, 0, 0.0, every.size).apply(every.view(dtype), scale=scale).view(np.uint16))
            for other in results[1:]:
                assert np.array_equal(results[0], other)
            want = reference.apply(np.ones(every.size, bool), every.view(dtype), scale)
            number = ~np.isnan(want.astype(np.float32))
            assert np.array_equal(results[0][number], want.view(np.uint16)[number])
            assert np.isnan(results[0].view(dtype).astype(np.float32))[~number].all()
    finally:
        fd.set_isa(before)


def test_dropped_is_zero_whatever_it_was(isa, dtype):
    n = 1000
    mask = fd.Mask(1, 1, 0.5, n)
    kept = np.asarray(mask)
    for value in (np.inf, -np.inf, np.nan, -1.0, -0.0):
        y = mask.apply(np.full(n, value, np.float64).astype(dtype))
        assert not bits_of(y)[~kept].any()
        with np.errstate(invalid="ignore"):
            assert np.array_equal(y[kept].astype(float), np.full(kept.sum(), 2 * value), equal_nan=True)


def test_p_one_and_zero(isa, dtype):
    x = np.array([1.0, -np.inf, np.nan, -0.0] * 50, np.float64).astype(dtype)
    assert not bits_of(fd.Mask(0, 0, 1.0, x.shape).apply(x)).any()
    assert np.array_equal(bits_of(fd.Mask(0, 0, 0.0, 8).apply(x[:8])), bits_of(x[:8]))


def layouts(shape, dtype):
    """The same numbers in every memory layout a user might bring."""
    x = values(dtype, int(np.prod(shape, dtype=int))).reshape(shape)
    yield "C", x
    yield "F", np.asfortranarray(x)
    wide = np.zeros(tuple(2 * n for n in shape), dtype)
    sliced = wide[tuple(slice(None, None, 2) for _ in shape)]
    sliced[...] = x
    yield "sliced", sliced
    yield "reversed", np.ascontiguousarray(x[::-1])[::-1]
    if x.ndim > 2:
        yield "transposed", np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
        yield "channels last", np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    readonly = x.copy()
    readonly.setflags(write=False)
    yield "read-only", readonly
    yield "byte-swapped", x.astype(dtype.newbyteorder("S")) if dtype.name != "bfloat16" else x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(dtype).reshape(shape)
    unaligned[...] = x
    yield "unaligned", unaligned


@pytest.mark.parametrize("shape", ((6, 5), (40, 3, 50), (300, 700), (2, 3, 4, 5)))
def test_the_layout_never_matters(isa, dtype, shape):
    mask = fd.Mask(8, 2, 0.3, shape)
    want = None
    for name, x in layouts(shape, dtype):
        y = mask.apply(x)
        want = mask.apply(np.ascontiguousarray(x, dtype)) if want is None else want
        assert y.dtype == dtype and y.dtype.isnative, name
        assert np.array_equal(bits_of(np.ascontiguousarray(y)), bits_of(want)), name
        out = np.full(shape, np.nan, np.float64).astype(dtype, order="F")
        assert mask.apply(x, out=out) is out
        assert np.array_equal(bits_of(np.ascontiguousarray(out)), bits_of(want)), name


def test_memory_order_is_kept():
    x = np.zeros((4, 5, 6), np.float32)
    for order in itertools.permutations(range(3)):
        y = fd.Mask(0, 0, 0.5, x.transpose(order).shape).apply(x.transpose(order))
        assert y.strides == x.transpose(order).strides
    assert fd.Mask(0, 0, 0.5, (4, 5, 2)).apply(x[:, :, ::3]).flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "noise"),
    [
        ((4, 6, 9, 11), (4, 6, 1, 1)),
        ((4, 9, 11, 6), (4, 1, 1, 6)),
        ((5, 7, 600), (5, 1, 600)),
        ((5, 7, 9000), (1, 1, 9000)),
        ((3, 4, 20000), (3, 1, 1)),
        ((7, 30), (7, 1)),
        ((7, 30), (1, 30)),
        ((64, 200, 300), (1, 200, 1)),
        ((2, 3, 2, 2, 2), (2, 3, 1, 1, 1)),
    ],
)
def test_broadcast_masks(isa, dtype, threads, shape, noise):
    """Spatial both layouts, locked, drop path: long and short rows, C and F order, one thread and several."""
    mask = fd.Mask(3, 4, 0.4, noise)
    kept = np.broadcast_to(np.asarray(mask), shape)
    x = values(dtype, int(np.prod(shape))).reshape(shape)
    for count in (1, 3):
        fd.set_num_threads(count)
        check(mask.apply(x), x, kept, 1 / (1 - 0.4))
        f = np.asfortranarray(x)
        check(mask.apply(f), f, kept, 1 / (1 - 0.4))


@settings(deadline=None)
@given(data=st.data(), ndim=st.integers(1, 4))
def test_random_strided_jobs(data, ndim):
    """Any mask view on any strided x into any strided out."""
    dims = st.sampled_from([1, 2, 3, 5, 30, 70, 150])
    shape = tuple(data.draw(dims) for _ in range(ndim))
    if np.prod(shape, dtype=int) > 300_000:
        shape = tuple(min(n, 5) for n in shape)

    def array():
        order = data.draw(st.permutations(range(ndim)))
        steps = [data.draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
        room = np.zeros(tuple(shape[k] * abs(steps[k]) for k in order), np.float32).transpose(np.argsort(order))
        return room[tuple(slice(None, None, s) for s in steps)]

    x, out = array(), array()
    x[...] = values(np.float32, x.size).reshape(shape)
    order = data.draw(st.permutations(range(ndim)))
    noise = tuple(data.draw(st.sampled_from([n, n, 1])) for n in shape)
    mask = fd.Mask(9, 9, 0.35, tuple(noise[k] for k in order)).transpose(np.argsort(order).tolist())
    kept = np.broadcast_to(reference.keep(9, 9, 0.35, 0, mask.shape, mask.strides), shape)
    want = np.where(kept, x * np.float32(1 / 0.65), np.float32(0))
    assert np.array_equal(mask.apply(x, out=out), want)
    assert np.array_equal(mask.apply(x), want)
    assert np.array_equal(mask.apply(x, out=x), want)


def test_outputs_beyond_the_caches(isa, threads):
    """Large outputs may be written past the caches: the same bits as in pieces, at every alignment, and no others."""
    n = 2**24 + 77
    mask = fd.Mask(5, 5, 0.3, n, start=3)
    x = np.resize(values(np.float32, 1 << 16), n)
    room = np.full(n + 64, 7, np.float32)
    for count, shift in ((1, 0), (3, 5)):
        fd.set_num_threads(count)
        out = room[shift : shift + n]
        mask.apply(x, out=out)
        for at in range(0, n, 1 << 20):
            piece = slice(at, min(at + (1 << 20), n))
            assert np.array_equal(bits_of(out[piece]), bits_of(mask[piece].apply(x[piece])))
        assert (room[:shift] == 7).all() and (room[shift + n :] == 7).all()
        room[:] = 7


def test_in_place_and_zero_d():
    mask = fd.Mask(1, 2, 0.5, (100,))
    x = values(np.float32, 100)
    want = mask.apply(x)
    assert mask.apply(x, out=x) is x and np.array_equal(x, want)
    y = mask[7].apply(np.float64(3.0))
    assert y.shape == () and y == (6.0 if mask[7] else 0.0)
    assert mask[:0].apply(np.empty(0, np.float32)).shape == (0,)
    assert fd.Mask(1, 2, 0.5, (3, 0, 4)).apply(np.empty((3, 0, 4))).shape == (3, 0, 4)


def test_scale_is_rounded_once():
    """1/(1-p) in double, then to the dtype; half types keep it in float32, so that their mean stays."""
    x = np.ones(64, np.float32)
    y = fd.Mask(0, 0, 0.1, 64).apply(x)
    assert set(y.tolist()) == {0.0, float(np.float32(1 / 0.9))}
    assert fd.Mask(0, 0, 0.1, 64).apply(x, scale=0.25).max() == 0.25
    h = np.full(64, 3.0, np.float16)
    assert fd.Mask(0, 0, 0.1, 64).apply(h).max() == np.float16(3 * np.float32(1 / 0.9))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def readonly():
    a = array(4)
    a.setflags(write=False)
    return a


ROOM = array(12)


@pytest.mark.parametrize(
    ("x", "out", "error", "words"),
    [
        (array(4, dtype=np.int64), None, TypeError, "float32, float64, float16 and bfloat16.*int64"),
        (array(4, dtype=np.bool_), None, TypeError, "bool"),
        (array(4, dtype=np.complex64), None, TypeError, "complex64"),
        (array(4, dtype=object), None, TypeError, "object"),
        (array(4, dtype=np.longdouble), None, TypeError, "longdouble|float128"),
        ("abcd", None, TypeError, "<U4"),
        (array(5), None, ValueError, r"broadcast a mask of shape \(4,\) to shape \(5,\)"),
        (array(), None, ValueError, r"to shape \(\)"),
        (array(4), array(5), ValueError, r"shape of x, \(4,\), but got \(5,\)"),
        (array(4), array(4, dtype=np.float64), TypeError, "out.*float32.*float64"),
        (array(4), array(4).astype(">f4"), TypeError, "byte-swapped"),
        (array(4), readonly(), ValueError, "read-only"),
        (array(4), [0.0] * 4, TypeError, "out has to be a NumPy array, but got a list"),
        (ROOM[:4], ROOM[2:6], ValueError, "overlaps"),
        (ROOM[3::-1], ROOM[:4], ValueError, "overlaps"),
        (array(4), np.lib.stride_tricks.as_strided(ROOM, (4,), (0,)), ValueError, "share memory"),
    ],
)
def test_bad_arguments_touch_nothing(x, out, error, words):
    before = out.copy() if isinstance(out, np.ndarray) else None
    with pytest.raises(error, match=words):
        fd.Mask(0, 0, 0.5, 4).apply(x, out=out)
    if before is not None:
        assert np.array_equal(out, before)


def test_bad_scale():
    for scale in ("2", None.__class__, True, 1j):
        with pytest.raises(TypeError, match="scale has to be a real number"):
            fd.Mask(0, 0, 0.5, 4).apply(array(4), scale=scale)
    with pytest.raises(ValueError, match="scale has to be a real number"):
        fd.Mask(0, 0, 0.5, 4).apply(array(4), scale=10**400)


def test_code_of_the_callers_runs_before_any_shape_is_looked_at():
    """A number or a subclass that changes or belies its array's shape never leads outside of memory."""

    class Shrinks(float):
        def __float__(self):
            x.resize(1, refcheck=False)
            return 2.0

    x = np.ones(10**6, np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        fd.Mask(0, 0, 0.5, 10**6).apply(x, scale=Shrinks(2))

    class Lies(np.ndarray):
        shape = property(lambda self: (10**6,))
        strides = property(lambda self: (4,))
        flags = property(lambda self: None)

        def __array_function__(self, *args):
            raise AssertionError("asked")

    few, rng = np.ones(4, np.float32), fd.Generator(0)
    assert np.array_equal(fd.Mask(0, 0, 0.0, 1).apply(few.view(Lies)), few)
    with pytest.raises(ValueError, match="shape"):
        fd.dropout(np.ones(10**6, np.float32), out=few.view(Lies), rng=rng)
    assert rng.call == 0
    out = few.view(Lies)
    assert fd.Mask(0, 0, 1.0, 4).apply(few, out=out) is out and not few.any()


def test_out_that_is_x_under_another_name():
    x = values(np.float32, 12).reshape(3, 4)
    mask = fd.Mask(0, 0, 0.5, (3, 4))
    want = mask.apply(x)
    assert np.array_equal(mask.apply(x, out=x[:, :]), want)
    one = np.ones((2, 4), np.float32)[:1]
    other_stride = np.lib.stride_tricks.as_strided(one, (1, 4), (999, 4))  # along an axis of one element
    assert np.array_equal(fd.Mask(0, 0, 0.0, (1, 4)).apply(one, out=other_stride), one)
    with pytest.raises(ValueError, match="overlaps"):
        fd.Mask(0, 0, 0.5, (4, 4)).apply(ROOM2[:4].T, out=ROOM2[:4])


ROOM2 = np.ones((4, 4))
