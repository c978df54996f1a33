"""The array side of the DropConnect kernels: dtypes, layouts and refusals. What they compute is tested in tests/c."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import _core

B, O, I = 5, 6, 37
MASK = fd.Mask(3, 4, 0.5, (B, O, I))


def arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((B, I), (O, I), (B, O))]


def three(x, w, dy, mask=MASK):
    return (
        _core.dropconnect_forward(mask, x, w, 2.0),
        _core.dropconnect_dx(mask, dy, w, 2.0),
        _core.dropconnect_dw(mask, dy, x, 2.0),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values(dtype, isa):
    x, w, dy = arrays(dtype)
    kept = 2.0 * np.asarray(MASK)
    x8, w8, g8 = (a.astype(np.float64) for a in (x, w, dy))
    wanted = (
        np.einsum("boi,oi,bi->bo", kept, w8, x8),
        np.einsum("boi,oi,bo->bi", kept, w8, g8),
        np.einsum("boi,bo,bi->oi", kept, g8, x8),
    )
    for got, want in zip(three(x, w, dy), wanted, strict=True):
        assert got.dtype == dtype and got.flags.c_contiguous
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def unaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    view = raw.view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


@pytest.mark.parametrize(
    "lay",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: a.astype(a.dtype.newbyteorder()),
        unaligned,
        lambda a: a.tolist() if a.dtype == np.float64 else a,
    ],
    ids=["fortran", "sliced", "reversed", "byte-swapped", "unaligned", "list"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_of_the_inputs_do_not_show(lay, dtype):
    inputs = arrays(dtype)
    copies = [a.copy() for a in inputs]
    for got, want in zip(three(*map(lay, inputs)), three(*inputs), strict=True):
        assert np.array_equal(got, want) and got.dtype.isnative
    assert all(np.array_equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_out():
    x, w, _ = arrays()
    want = _core.dropconnect_forward(MASK, x, w, 2.0)
    for out in (np.empty((B, O), np.float32), np.empty((O, B), np.float32).T, np.empty((B, 2 * O), np.float32)[:, ::2]):
        assert _core.dropconnect_forward(MASK, x, w, 2.0, out) is out
        assert np.array_equal(out, want)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((B, I), np.float16)}, TypeError, "x has to be an array of float32 or float64, but got float16"),
        ({"x": np.zeros((B, I), int)}, TypeError, "x has to be an array of float32 or float64, but got int64"),
        ({"w": np.zeros((O, I))}, TypeError, "w has to have the dtype of x, float32, but got float64"),
        ({"x": np.zeros((B, I + 1), np.float32)}, ValueError, r"x has to have the shape \(5, 37\).*\(5, 38\)"),
        ({"w": np.zeros((I, O), np.float32)}, ValueError, r"w has to have the shape \(6, 37\).*\(37, 6\)"),
        ({"mask": MASK[0]}, ValueError, r"mask has to have the shape \(batch, out, in\), but got \(6, 37\)"),
        ({"out": [1.0]}, TypeError, "out has to be a NumPy array"),
        ({"out": np.zeros((B, O))}, TypeError, "out has to be a native float32 array, but got float64"),
        ({"out": np.zeros((O, B), np.float32)}, ValueError, r"out has to have the shape \(batch, out\), \(5, 6\)"),
        ({"out": np.broadcast_to(np.float32(0), (B, O))}, ValueError, "out is read-only"),
    ],
)
def test_refusals(change, error, message):
    x, w, _ = arrays()
    out = np.full((B, O), 7, np.float32)
    arguments = {"mask": MASK, "x": x, "w": w, "scale": 2.0, "out": out, **change}
    with pytest.raises(error, match=message):
        _core.dropconnect_forward(**arguments)
    assert (out == 7).all()


@pytest.mark.parametrize("name", ["x", "w"])
def test_an_output_that_is_an_input_is_refused(name):
    square = fd.Mask(1, 2, 0.5, (B, B, B))
    inputs = {"x": np.ones((B, B), np.float32), "w": np.ones((B, B), np.float32)}
    with pytest.raises(ValueError, match=f"out overlaps {name}: it has to be memory of its own"):
        _core.dropconnect_forward(square, **inputs, scale=2.0, out=inputs[name])
    assert (inputs[name] == 1).all()


def test_gradients_refuse_what_does_not_fit():
    x, w, dy = arrays()
    for call in (lambda g: _core.dropconnect_dx(MASK, g, w, 2.0), lambda g: _core.dropconnect_dw(MASK, g, x, 2.0)):
        with pytest.raises(TypeError, match="dy has to be an array of float32 or float64, but got bool"):
            call(dy > 0)
        with pytest.raises(TypeError, match="has to have the dtype of dy, float64, but got float32"):
            call(dy.astype(np.float64))
        with pytest.raises(ValueError, match=r"dy has to have the shape \(5, 6\)"):
            call(dy.T)
