"""The compiled passes of layers and optimizers: against plain NumPy, on every instruction set and number of threads."""

import itertools

import numpy as np
import pytest

import fastdrop
from fastdrop import _core

SIZES = [0, 1, 15, 16, 17, 127, 1023, 1024, 1025, 300_001]
REALS = [np.float32, np.float64]


@pytest.fixture(params=[1, 3])
def threads(request):
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(request.param)
    yield request.param
    fastdrop.set_num_threads(before)


def values(n, dtype, seed=0):
    x = np.random.default_rng(seed).standard_normal(n).astype(dtype)
    x[: min(n, 5)] = [np.nan, np.inf, -np.inf, -0.0, 0.0][: min(n, 5)]
    return x


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", SIZES)
def test_relu(isa, threads, n, dtype):
    x, dy = values(n, dtype), values(n, dtype, 1)
    y, taken, dx = np.full_like(x, 7), np.full(n, 9, np.uint8), np.full_like(x, 7)
    _core.relu(x, y, taken)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(taken, np.where(x > 0, 255, 0))
    _core.relu_grad(dy, taken, dx)
    np.testing.assert_array_equal(dx, np.where(x > 0, dy, 0))
    _core.relu(x, x)
    np.testing.assert_array_equal(x, y)


def adam_by_hand(g, p, m, v, most, beta1, beta2, eps, decay, rate, root):
    g = g + decay * p
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    most = None if most is None else np.maximum(most, v)
    return p - rate * m / (np.sqrt(v if most is None else most) / root + eps), m, v, most


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("decay", "tops"), list(itertools.product([0.0, 0.1], [False, True])))
def test_adam(isa, threads, dtype, decay, tops):
    rng, n = np.random.default_rng(0), 100_003
    g, p, m = (rng.standard_normal(n).astype(dtype) for _ in range(3))
    v, most = (rng.random(n).astype(dtype) for _ in range(2))
    options = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "decay": decay, "rate": 0.01, "root": 0.3}
    wide = [a.astype(np.float64) for a in (g, p, m, v)]
    expected = adam_by_hand(*wide, most.astype(np.float64) if tops else None, **options)
    _core.adam(g, p, m, v, most if tops else None, **options)
    for got, want in zip((p, m, v, most), expected, strict=True):
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [None, {}, {"nesterov": True}, {"dampening": 0.3}])
def test_sgd(isa, threads, dtype, decay, momentum):
    rng, n = np.random.default_rng(0), 100_003
    g, p, v = (rng.standard_normal(n).astype(dtype) for _ in range(3))
    d = g.astype(np.float64) + decay * p
    speed = d if momentum is None else 0.9 * v.astype(np.float64) + (1 - momentum.get("dampening", 0)) * d
    expected = p - 0.1 * (d + 0.9 * speed if momentum and momentum.get("nesterov") else speed)
    if momentum is None:
        _core.sgd(g, p, rate=0.1, decay=decay)
    else:
        _core.sgd(g, p, v, rate=0.1, decay=decay, momentum=0.9, **momentum)
        np.testing.assert_allclose(v, speed, atol=2e-6)
    np.testing.assert_allclose(p, expected, rtol=0, atol=2e-6 if dtype == np.float32 else 1e-14)


GEOMETRIES = {
    "2": ((2, 2), (2, 2), (0, 0), (1, 1)),
    "overlap": ((3, 2), (2, 1), (0, 0), (1, 1)),
    "gaps": ((2, 1), (3, 2), (0, 0), (1, 1)),
    "padded": ((3, 3), (2, 2), (1, 1), (1, 1)),
    "dilated": ((2, 2), (1, 1), (0, 0), (2, 3)),
}


def window_counts(size, geometry):
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, *geometry, strict=True))


def places(geometry, i, j, size):
    """(number, row, column) of the pixels in window (i, j), in row order."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = geometry
    for a, b in np.ndindex(kh, kw):
        row, column = i * sh - ph + a * dh, j * sw - pw + b * dw
        if 0 <= row < size[0] and 0 <= column < size[1]:
            yield a * kw + b, row, column


def pooled_by_hand(x, geometry):
    """PyTorch's rule, as its source says it: a value wins if it is larger, or a NaN."""
    n, h, w, c = x.shape
    counts = window_counts((h, w), geometry)
    y, winner = np.empty((n, *counts, c), x.dtype), np.empty((n, *counts, c), np.uint16)
    for k, i, j, channel in np.ndindex(y.shape):
        best, at = -np.inf, None
        for number, row, column in places(geometry, i, j, (h, w)):
            value = x[k, row, column, channel]
            if at is None or value > best or np.isnan(value):
                best, at = value, number
        y[k, i, j, channel], winner[k, i, j, channel] = best, at
    return y, winner


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("channels", [1, 3, 33])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_max_pool(isa, threads, name, channels, dtype):
    geometry, shape = GEOMETRIES[name], (3, 7, 6, channels)
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([-np.inf, -1, 0, 1, np.nan], dtype), shape, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    expected, places_won = pooled_by_hand(x, geometry)
    y, winner = np.full_like(expected, 7), np.full_like(places_won, 7)
    _core.max_pool(x, y, winner, geometry)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(winner, places_won)
    y.fill(7)
    _core.max_pool(x, y, None, geometry)
    np.testing.assert_array_equal(y, expected)
    dy = rng.integers(-5, 5, y.shape).astype(dtype)
    sums = np.zeros_like(x)
    for k, i, j, channel in np.ndindex(y.shape):
        for number, row, column in places(geometry, i, j, shape[1:3]):
            if number == winner[k, i, j, channel]:
                sums[k, row, column, channel] += dy[k, i, j, channel]
    dx = np.full_like(x, 7)
    _core.max_pool_grad(dy, winner, dx, geometry)
    np.testing.assert_array_equal(dx, sums)


def convolved_by_hand(x, w, b, geometry):
    """In float64: results, and a function from their gradients to those of images, weights and bias."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = geometry
    n, h, width, _ = x.shape
    oh, ow = window_counts((h, width), geometry)
    padded = np.pad(x.astype(np.float64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    y = np.zeros((n, oh, ow, len(w))) + b

    def seen(a, i, j):
        top, left = i * dh, j * dw
        return a[:, top : top + (oh - 1) * sh + 1 : sh, left : left + (ow - 1) * sw + 1 : sw]

    for i, j in np.ndindex(kh, kw):
        y += np.einsum("nhwc,oc->nhwo", seen(padded, i, j), w[:, :, i, j])

    def gradients(dy):
        dx, dw_ = np.zeros_like(padded), np.zeros(w.shape)
        for i, j in np.ndindex(kh, kw):
            dw_[:, :, i, j] = np.einsum("nhwc,nhwo->oc", seen(padded, i, j), dy)
            seen(dx, i, j)[...] += np.einsum("nhwo,oc->nhwc", dy, w[:, :, i, j])
        return dx[:, ph : ph + h, pw : pw + width], dw_, dy.sum(axis=(0, 1, 2))

    return y, gradients


CONVOLUTIONS = [
    # images, outputs, kernel, stride, padding, dilation
    ((2, 6, 5, 3), 4, (3, 2), (1, 1), (0, 0), (1, 1)),
    ((33, 5, 5, 1), 32, (3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 7, 9, 32), 64, (3, 3), (1, 1), (0, 0), (1, 1)),
    ((2, 8, 7, 5), 17, (3, 3), (2, 3), (2, 1), (1, 1)),
    ((2, 9, 9, 4), 65, (2, 3), (1, 1), (1, 3), (3, 2)),
    ((1, 1, 1, 7), 130, (1, 1), (1, 1), (0, 0), (1, 1)),
    ((2, 2, 3, 2), 16, (1, 1), (1, 1), (2, 2), (1, 1)),
    ((0, 4, 4, 2), 3, (3, 3), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(isa, case):
    shape, outputs, *geometry = case
    geometry = tuple(geometry)
    rng = np.random.default_rng(0)
    x, b = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(outputs).astype(np.float32)
    w = rng.standard_normal((outputs, shape[3], *geometry[0])).astype(np.float32)
    expected, gradients = convolved_by_hand(x, w, b, geometry)
    if not _core.conv_takes(shape, expected.shape, geometry):
        assert isa == "portable"
        with pytest.raises(ValueError, match="no direct convolution"):
            _core.conv(x, w, b, np.empty(expected.shape, np.float32), geometry)
        return
    dy = rng.standard_normal(expected.shape).astype(np.float32)
    found = []
    before = fastdrop.get_num_threads()
    try:
        for count in (1, 2, 3):
            fastdrop.set_num_threads(count)
            y, plain = (np.full(expected.shape, np.nan, np.float32) for _ in range(2))
            dweight, dbias = np.full_like(w, np.nan), np.full_like(b, np.nan)
            _core.conv(x, w, b, y, geometry)
            _core.conv(x, w, None, plain, geometry)
            _core.conv_weights(x, dy, dweight, dbias, geometry)
            found.append([y, plain, dweight, dbias])
    finally:
        fastdrop.set_num_threads(before)
    for other in found[1:]:
        for a, c in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, c)
    dx, dw, db = gradients(dy.astype(np.float64))
    for got, want in zip(found[0], (expected, expected - b, dw, db), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1, np.abs(want).max(initial=0)))
    span = [d * (k - 1) for k, d in zip(geometry[0], geometry[3], strict=True)]
    padding = tuple(s - p for s, p in zip(span, geometry[2], strict=True))
    if geometry[1] == (1, 1) and min(padding) >= 0:
        back = np.full(shape, np.nan, np.float32)
        _core.conv(dy, w, None, back, (geometry[0], (1, 1), padding, geometry[3]), turned=True)
        np.testing.assert_allclose(back, dx, rtol=1e-5, atol=1e-5 * max(1, np.abs(dx).max(initial=0)))


def test_convolution_writes_nothing_but_its_result(isa):
    if isa == "portable":
        pytest.skip("portable kernels have no direct convolution")
    geometry = ((3, 3), (1, 1), (1, 1), (1, 1))
    for outputs in (1, 7, 16, 31, 64, 67):
        around = np.full(2 * 5 * 5 * outputs + 200, 7, np.float32)
        y = around[100:-100].reshape(2, 5, 5, outputs)
        _core.conv(np.ones((2, 5, 5, 3), np.float32), np.ones((outputs, 3, 3, 3), np.float32), None, y, geometry)
        assert (around[:100] == 7).all() and (around[-100:] == 7).all() and (y[:, 1:-1, 1:-1] == 27).all()


F32, F64 = np.ones(6, np.float32), np.ones(6)
PLAIN = ((1, 1), (1, 1), (0, 0), (1, 1))
IMAGES = np.ones((1, 4, 4, 2), np.float32)


def test_padding_that_runs_over_64_bits_is_not_taken() -> None:
    pad = 2**30 - 1  # (2 + 2 pad)^2 * 4 floats: 2^64
    assert not _core.conv_takes((1, 2, 2, 4), (1, 1, 1, 4), ((1, 1), (1, 1), (pad, pad), (1, 1)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _core.relu(np.ones(3, np.float16), F32), TypeError, "x has to be an array of float32 or float64"),
        (lambda: _core.relu(F32, F64), TypeError, "y has to have the dtype float32, but got float64"),
        (lambda: _core.relu(F32, np.ones(5, np.float32)), ValueError, r"y has to have the shape \(6,\)"),
        (lambda: _core.relu(F32[::2], np.ones(3, np.float32)), ValueError, "x has to be C-contiguous"),
        (lambda: _core.relu(F32, np.broadcast_to(F32[:1], 6)), ValueError, "y has to be C-contiguous"),
        (lambda: _core.relu(F32[:5], F32[1:]), ValueError, "overlaps"),
        (lambda: _core.relu(F32, np.ones(6, np.float32), np.ones(6, np.int8)), TypeError, "taken .* uint8"),
        (lambda: _core.sgd(F32, F32, rate=1), ValueError, "overlaps"),
        (lambda: _core.max_pool(IMAGES, IMAGES[:, :2], None, PLAIN), ValueError, "overlaps"),
        (
            lambda: _core.max_pool(IMAGES, np.ones((1, 5, 4, 2), np.float32), None, PLAIN),
            ValueError,
            "holds no pixel",
        ),
        (
            lambda: _core.max_pool(IMAGES, IMAGES.copy(), None, ((1, 1), (0, 1), (0, 0), (1, 1))),
            ValueError,
            r"stride has to be at least 1, but got \(0, 1\)",
        ),
        (
            lambda: _core.max_pool(IMAGES, IMAGES.copy(), None, ((300, 300), (1, 1), (0, 0), (1, 1))),
            ValueError,
            "at most 65535 places",
        ),
        (lambda: _core.conv_takes((1, 4, 4, 2), (1, 5, 4, 2), PLAIN), ValueError, "5 windows do not fit"),
        (lambda: _core.conv_takes((1, 4, 4, 2), (2, 4, 4, 2), PLAIN), ValueError, "N in common"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_read_only_results_are_refused():
    y = np.ones(6, np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="y is read-only"):
        _core.relu(F32, y)
