"""Softmax and dropout in one pass: the mask bit for bit, values within rounding of float64, layouts, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference

LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 100, 1000, 1025, 5000, 70000]
P = 0.3


def same_bits(a, b):
    u = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.view(u), b.view(u))


def numbers(shape, dtype, seed=0, spread=4.0):
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(dtype)


def half_unit(dtype):
    """The largest relative error of one rounding, and the largest error of one near zero."""
    finfo = np.finfo if np.dtype(dtype).kind == "f" else pytest.importorskip("ml_dtypes").finfo
    info = finfo(dtype)
    return float(info.eps) / 2, float(info.smallest_subnormal)


def assert_close(got, want, x, axis=-1):
    """A few roundings, and that of x - max, which the exponential makes a relative error; for half types one more."""
    unit, least = half_unit(x.dtype)
    with np.errstate(invalid="ignore"):
        below = x.astype(np.float64) - x.astype(np.float64).max(axis=axis, keepdims=True)
    computed = 2.0**-53 if x.dtype.itemsize == 8 else 2.0**-24
    below = np.where(np.isfinite(below), np.abs(below), 0)
    bound = want * (computed * (8 + below) + (unit if x.dtype.itemsize == 2 else 0)) + max(least, 1e-37)
    assert (np.abs(got.astype(np.float64) - want) <= bound).all()


def assert_gradient_close(got, want, probabilities, g, dtype):
    """Both terms of the difference may be much larger than it is: roundings are those of the larger."""
    unit, least = half_unit(dtype)
    few = 64 * (2.0**-53 if np.dtype(dtype).itemsize == 8 else 2.0**-24)
    dot = np.abs(probabilities * g).sum(axis=-1, keepdims=True)
    bound = few * probabilities * (np.abs(g) + dot) + unit * np.abs(want) + max(least, 1e-37)
    assert (np.abs(got.astype(np.float64) - want) <= bound).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_it_is_the_reference(isa, dtype, n):
    x, dy = numbers((3, n), dtype), numbers((3, n), dtype, 1, 1.0)
    rng = fd.Generator(5)
    y, saved = fd.softmax_dropout_forward(x, P, rng=rng)
    assert rng.call == 1 and saved.x is x
    assert_close(y, reference.softmax_dropout(x, P, rng.key, 0), x)
    kept = np.asarray(fd.Generator(5).mask(x.shape, P))
    assert not y[~kept].any()
    assert same_bits(y, fd.softmax_dropout(x, P, rng=fd.Generator(5)))
    dx = fd.softmax_dropout_backward(dy, saved)
    want = reference.softmax_dropout_backward(dy, x, P, rng.key, 0)
    g = reference.dropout(dy.astype(np.float64), P, rng.key, 0)
    assert_gradient_close(dx, want, reference.softmax(x), g, dtype)


def test_the_mask_is_that_of_the_unfused_form(isa):
    x = numbers((37, 211), np.float32, spread=1.0)  # no probability is 0
    probabilities = fd.softmax_dropout(x, training=False)
    for p in (0.5, 0.1, 0.9):
        mask = fd.Generator(3).mask(x.shape, p)
        y = fd.softmax_dropout(x, p, mask=mask)
        assert np.array_equal(y != 0, np.asarray(mask))
        np.testing.assert_allclose(y, mask.apply(probabilities), rtol=3e-7)
        assert same_bits(y, fd.softmax_dropout(x, p, rng=fd.Generator(3)))


@pytest.mark.parametrize("n", [1, 16, 17, 100, 1025, 9000, 20000])
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(dtype, threads, n):
    x, dy = numbers((2 + 40000 // n, n), dtype), numbers((2 + 40000 // n, n), dtype, 1)
    want = None
    before = fd.isa()
    try:
        for isa in fd.available_isas():
            fd.set_isa(isa)
            for count in (1, 3):
                fd.set_num_threads(count)
                y, saved = fd.softmax_dropout_forward(x, P, rng=fd.Generator(5))
                got = [y, saved.rows, fd.softmax_dropout_backward(dy, saved)]
                want = want or got
                assert all(same_bits(a, b) for a, b in zip(got, want))
    finally:
        fd.set_isa(before)


def layouts(x):
    """Arrays equal to x that lie otherwise."""
    yield np.asfortranarray(x)
    yield x[:, ::-1].copy()[:, ::-1]
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    yield wide[..., ::2]
    yield np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    if x.dtype.kind == "f":
        yield x.astype(x.dtype.newbyteorder(">"))
    read_only = x.copy()
    read_only.flags.writeable = False
    yield read_only


@pytest.mark.parametrize("shape", [(4, 3, 33), (2, 2, 9001), (700, 1, 5)])
def test_layouts(dtype, shape):
    x, dy = numbers(shape, dtype), numbers(shape, dtype, 1)
    y, saved = fd.softmax_dropout_forward(x, P, rng=fd.Generator(2))
    dx = fd.softmax_dropout_backward(dy, saved)
    for other in layouts(x):
        z, also = fd.softmax_dropout_forward(other, P, rng=fd.Generator(2))
        assert same_bits(z, y)
        for slope in (dy, *layouts(dy)):
            assert same_bits(fd.softmax_dropout_backward(slope, also), dx)
    for out in (np.empty(shape[::-1], dtype).T, np.empty((*shape, 3), dtype)[..., 1]):
        assert fd.softmax_dropout(x, P, rng=fd.Generator(2), out=out) is out and same_bits(out.copy(), y)
        assert fd.softmax_dropout_backward(dy, saved, out) is out and same_bits(out.copy(), dx)


@pytest.mark.parametrize("n", [40, 9001])
def test_in_place(dtype, n):
    x, dy = numbers((5, n), dtype), numbers((5, n), dtype, 1)
    y, saved = fd.softmax_dropout_forward(x, P, rng=fd.Generator(2))
    dx = fd.softmax_dropout_backward(dy, saved)
    out = x.copy()
    assert fd.softmax_dropout(out, P, rng=fd.Generator(2), out=out) is out and same_bits(out, y)
    out = dy.copy()
    assert fd.softmax_dropout_backward(out, saved, out) is out and same_bits(out, dx)
    assert fd.softmax_dropout_backward(dy, saved, x) is x and same_bits(x, dx)


@pytest.mark.parametrize("n", [1, 33, 1000, 9001])
def test_backward_from_probabilities(isa, dtype, n):
    x, dy = numbers((5, n), dtype), numbers((5, n), dtype, 1)
    mask = fd.Generator(4).mask(x.shape, P)
    probabilities = fd.softmax_dropout(x, 0.0)
    saved = fd.softmax.SoftmaxRows(probabilities, None, mask, 1)
    wide, g = probabilities.astype(np.float64), np.where(np.asarray(mask), dy.astype(np.float64) / (1 - P), 0)
    want = wide * (g - (wide * g).sum(axis=-1, keepdims=True))
    dx = fd.softmax_dropout_backward(dy, saved)
    assert_gradient_close(dx, want, wide, g, dtype)
    for other in layouts(probabilities):
        assert same_bits(fd.softmax_dropout_backward(dy, saved._replace(x=other)), dx)
    assert fd.softmax_dropout_backward(dy, saved, probabilities) is probabilities and same_bits(probabilities, dx)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_other_axes(axis):
    x, dy = numbers((6, 40, 9), np.float32), numbers((6, 40, 9), np.float32, 1)
    rng = fd.Generator(8)
    y, saved = fd.softmax_dropout_forward(x, P, axis=axis, rng=rng)
    assert_close(y, reference.softmax_dropout(x, P, rng.key, 0, axis), x, axis)
    dx = fd.softmax_dropout_backward(dy, saved)
    np.testing.assert_allclose(dx, reference.softmax_dropout_backward(dy, x, P, rng.key, 0, axis), atol=1e-5)


def test_masks_are_any_views():
    rng = fd.Generator(1)
    x = numbers((8, 12, 50), np.float32, spread=1.0)
    masks = [
        rng.mask((50,), P),
        rng.mask((8, 1, 1), P),
        rng.mask((12, 50), P),
        rng.mask((8, 12, 100), P)[:, ::-1, ::2],
        rng.mask((50, 12, 8), P).T,
        rng.mask((9, 13, 51), P)[1:, 1:, 1:],
    ]
    dy = numbers(x.shape, np.float32, 1)
    for mask in masks:
        kept = np.asarray(mask.broadcast_to(x.shape))
        y, saved = fd.softmax_dropout_forward(x, P, mask=mask)
        assert np.array_equal(y != 0, kept)
        np.testing.assert_allclose(y, mask.broadcast_to(x.shape).apply(fd.softmax_dropout(x, 0.0)), rtol=3e-7)
        probabilities, g = reference.softmax(x), np.where(kept, dy.astype(np.float64) / (1 - P), 0)
        want = probabilities * (g - (probabilities * g).sum(axis=-1, keepdims=True))
        np.testing.assert_allclose(fd.softmax_dropout_backward(dy, saved), want, atol=1e-6)


def test_extremes(isa, dtype):
    big = 1e4
    rows = np.array(
        [
            [big, big, -big, 0],
            [-big, -big, -big, -big],
            [-np.inf, 1, 2, -np.inf],
            [-np.inf] * 4,
            [np.finfo(np.float16).max, -np.inf, np.finfo(np.float16).min, 0],
            [-100, 0, -90, -80],
        ]
    ).astype(dtype)
    y = fd.softmax_dropout(rows, 0.0)
    assert_close(y, reference.softmax(rows), rows)
    assert not y[3].any() and np.array_equal(y[1].astype(float), [0.25] * 4)
    _, saved = fd.softmax_dropout_forward(rows, 0.5, rng=fd.Generator(0))
    dx = fd.softmax_dropout_backward(numbers(rows.shape, dtype), saved)
    assert np.isfinite(dx.astype(float)).all() and not dx[3].any()


@pytest.mark.parametrize("n", [4, 100, 9001])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_spread_over_their_row_and_no_further(isa, dtype, n, bad):
    x = numbers((3, n), dtype)
    x[1, n // 2] = bad
    y = fd.softmax_dropout(x, P, rng=fd.Generator(0)).astype(float)
    kept = np.asarray(fd.Generator(0).mask(x.shape, P))
    assert np.isnan(y[1][kept[1]]).all() and not y[1][~kept[1]].any()
    assert np.isfinite(y[[0, 2]]).all()
    x[1] = -np.inf
    x[1, n // 2] = np.nan
    assert np.isnan(fd.softmax_dropout(x, 0.0)[1].astype(float)).all()
    assert not fd.softmax_dropout(x, 1.0).any()


def test_what_dy_drops_does_not_matter():
    x = numbers((20, 30), np.float32)
    _, saved = fd.softmax_dropout_forward(x, 0.5, rng=fd.Generator(0))
    kept = np.asarray(saved.mask)
    dy = np.where(kept, 1, np.nan).astype(np.float32)
    assert np.array_equal(
        fd.softmax_dropout_backward(dy, saved), fd.softmax_dropout_backward(kept.astype(np.float32), saved)
    )


def test_no_call_is_taken_where_nothing_drops():
    x, rng = numbers((4, 9), np.float32), fd.Generator(0)
    plain = fd.softmax_dropout(x, 0.0, rng=rng)
    assert same_bits(plain, fd.softmax_dropout(x, 0.5, False, rng=rng)) and rng.call == 0
    assert plain is not x and np.allclose(plain.sum(-1), 1)
    y, saved = fd.softmax_dropout_forward(x, 1.0, rng=rng)
    assert rng.call == 1 and not y.any() and not np.signbit(y).any()
    assert not fd.softmax_dropout_backward(x, saved).any()


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
def test_empty(shape):
    y, saved = fd.softmax_dropout_forward(np.ones(shape), 0.5)
    assert y.shape == shape and fd.softmax_dropout_backward(np.ones(shape), saved).shape == shape


def test_one_axis_and_lists():
    assert np.allclose(fd.softmax_dropout([0.0, 0.0], 0.0), 0.5)
    _, saved = fd.softmax_dropout_forward(np.zeros(4), 0.0)
    assert saved.rows.shape == (2,) and saved.rows.dtype == np.float64 and saved.axis == 0


def test_large_outputs(dtype):
    """Beyond the caches rows are stored another way: the values stay the same."""
    rows = 26 * 2**20 // (2051 * np.dtype(dtype).itemsize)
    x = numbers((13, 2051), dtype)
    big = np.broadcast_to(x[rows % 13 :][:1], (rows, 2051)).copy()
    y, saved = fd.softmax_dropout_forward(big, 0.0)
    few, few_saved = fd.softmax_dropout_forward(big[:5].copy(), 0.0)
    assert all(same_bits(row, few[0]) for row in y[:: rows // 7])
    dx, small = fd.softmax_dropout_backward(big, saved), fd.softmax_dropout_backward(big[:5].copy(), few_saved)
    assert all(same_bits(row, small[0]) for row in dx[:: rows // 7])


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "words", "x", "options"),
    [
        (ValueError, "dropout probability", X, {"p": 1.5}),
        (TypeError, "dropout probability", X, {"p": "half"}),
        (TypeError, "float32", np.ones((2, 3), int), {}),
        (ValueError, r"between -2 and 1 .*got 2", X, {"axis": 2}),
        (TypeError, "axis has to be an integer", X, {"axis": 1.0}),
        (ValueError, "at least 1 axis", np.float32(1), {}),
        (ValueError, "shape of x", X, {"out": np.ones((3, 2), np.float32)}),
        (TypeError, "float32", X, {"out": np.ones((2, 3))}),
        (ValueError, "read-only", X, {"out": np.broadcast_to(np.float32(1), (2, 3))}),
    ],
)
def test_bad_input_takes_no_call(error, words, x, options):
    rng = fd.Generator(0)
    for function in (fd.softmax_dropout, fd.softmax_dropout_forward):
        with pytest.raises(error, match=words):
            function(x, **{"p": 0.5, "rng": rng, **options})
    assert rng.call == 0


def test_bad_masks_and_generators():
    mask = fd.Generator(0).mask((2, 3), 0.5)
    with pytest.raises(ValueError, match=r"p=0\.5"):
        fd.softmax_dropout(X, 0.4, mask=mask)
    with pytest.raises(ValueError, match="no rng"):
        fd.softmax_dropout(X, 0.5, mask=mask, rng=fd.Generator(0))
    with pytest.raises(TypeError, match=r"fastdrop\.Mask"):
        fd.softmax_dropout(X, 0.5, mask=np.ones((2, 3), bool))
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        fd.softmax_dropout(X, 0.5, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="broadcast"):
        fd.softmax_dropout(X, 0.5, mask=fd.Generator(0).mask((3, 3), 0.5))


def test_bad_gradients():
    x = X.copy()
    with pytest.raises(ValueError, match="backward needs x"):
        fd.softmax_dropout_forward(x, 0.5, out=x)
    y, saved = fd.softmax_dropout_forward(x, 0.5)
    with pytest.raises(TypeError, match="dtype of x"):
        fd.softmax_dropout_backward(np.ones((2, 3)), saved)
    with pytest.raises(ValueError, match="shape of x"):
        fd.softmax_dropout_backward(np.ones(3, np.float32), saved)
    with pytest.raises(TypeError, match="softmax_dropout_forward"):
        fd.softmax_dropout_backward(y, (x, y))
    room = np.ones(7, np.float32)
    with pytest.raises(ValueError, match="overlaps dy"):
        fd.softmax_dropout_backward(room[1:].reshape(2, 3), saved, room[:-1].reshape(2, 3))


def saved_parts(**changed):
    x = np.full((2, 3), 0.5, np.float32)
    _, saved = fd.softmax_dropout_forward(x, 0.5, rng=fd.Generator(0))
    return saved._replace(**changed)


@pytest.mark.parametrize(
    ("error", "words", "changed"),
    [
        (TypeError, r"saved\.x has to be a NumPy array", {"x": [[0.5] * 3] * 2}),
        (TypeError, "float32", {"x": np.ones((2, 3), int)}),
        (TypeError, r"fastdrop\.Mask", {"mask": np.ones((2, 3), bool)}),
        (ValueError, r"shape of saved\.x, \(2, 3\), but got \(200, 3\)", {"mask": fd.Mask(0, 0, 0.5, (200, 3))}),
        (ValueError, r"shape of saved\.x", {"mask": fd.Mask(0, 0, 0.5, (3,))}),
        (ValueError, r"shape of saved\.x", {"mask": fd.Mask(0, 0, 0.5, (1, 2, 3))}),
        (ValueError, r"saved\.axis has to be between 0 and 1, but got 2", {"axis": 2}),
        (ValueError, r"saved\.axis has to be between 0 and 1", {"axis": -1}),
        (TypeError, r"saved\.axis has to be an integer", {"axis": "last"}),
        (TypeError, r"saved\.rows has to be a NumPy array or None", {"rows": [[0, 1]] * 2}),
        (ValueError, r"float32 of shape \(2, 2\)", {"rows": np.ones((1, 2), np.float32)}),
        (ValueError, r"float32 of shape \(2, 2\)", {"rows": np.ones((2, 2))}),
    ],
)
def test_saved_parts_that_do_not_fit(error, words, changed):
    out = np.full((2, 3), 7, np.float32)
    with pytest.raises(error, match=words):
        fd.softmax_dropout_backward(np.ones((2, 3), np.float32), saved_parts(**changed), out)
    assert (out == 7).all()


def test_out_may_not_be_the_saved_rows():
    x = np.ones((2, 2), np.float32)
    _, saved = fd.softmax_dropout_forward(x, 0.5, rng=fd.Generator(0))
    rows = saved.rows.copy()
    with pytest.raises(ValueError, match=r"overlaps saved\.rows"):
        fd.softmax_dropout_backward(x, saved, saved.rows)
    assert np.array_equal(saved.rows, rows)


def test_saved_rows_in_another_layout():
    dy, rows = np.ones((2, 3), np.float32), saved_parts().rows
    turned = fd.softmax_dropout_backward(dy, saved_parts(rows=np.asfortranarray(rows)))
    assert same_bits(turned, fd.softmax_dropout_backward(dy, saved_parts()))


class Liar(np.ndarray):
    """An output that says it is larger, writeable, and goes elsewhere when it is turned."""

    shape = property(lambda self: (200, 4))
    flags = property(lambda self: type("Flags", (), {"writeable": True}))

    def transpose(self, *axes):
        return np.zeros((1, 1), np.float32)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_a_subclass_says_of_itself_does_not_matter(axis):
    x = numbers((200, 4), np.float32)
    small, closed, fitting = np.full((2, 4), 7, np.float32), np.full((200, 4), 7, np.float32), np.empty_like(x)
    closed.flags.writeable = False
    y, saved = fd.softmax_dropout_forward(x, P, axis=axis, rng=fd.Generator(1))
    dx = fd.softmax_dropout_backward(x, saved)
    for run, want in (
        (lambda out: fd.softmax_dropout(x, P, axis=axis, rng=fd.Generator(1), out=out), y),
        (lambda out: fd.softmax_dropout_forward(x, P, axis=axis, rng=fd.Generator(1), out=out)[0], y),
        (lambda out: fd.softmax_dropout_backward(x, saved, out), dx),
    ):
        for out, words in ((small, "shape of x"), (closed, "read-only")):
            with pytest.raises(ValueError, match=words):
                run(out.view(Liar))
            assert (out == 7).all()
        view = fitting.view(Liar)
        assert run(view) is view and same_bits(fitting, want)
