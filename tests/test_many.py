"""Several masks in one read of the input: the same bits as one at a time."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference


def bits_of(a):
    return a.view(f"u{a.dtype.itemsize}")


def values(shape, dtype):
    return np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def stacked(masks, x):
    return np.stack([mask.apply(x) for mask in masks])


@pytest.mark.parametrize("count", (0, 1, 2, 37))
@pytest.mark.parametrize("p", (0.0, 0.3, 0.5, 1.0))
def test_as_one_after_the_other(isa, dtype, rng, count, p):
    for n in (0, 1, 127, 1025):
        masks = [rng.mask(n, p) for _ in range(count)]
        x = values(n, dtype)
        y = fd.apply_masks(masks, x)
        assert y.shape == (count, n) and y.dtype == dtype
        for mask, row in zip(masks, y):
            assert np.array_equal(bits_of(row), bits_of(mask.apply(x)))
            want = reference.apply(
                reference.keep(mask.key, mask.call, p, 0, (n,), (1,)), x, 1 / (1 - p) if p < 1 else 0
            )
            assert np.array_equal(bits_of(row), bits_of(want))


@pytest.mark.parametrize(
    ("shape", "noise"),
    [
        ((300_000,), (300_000,)),  # several pieces
        ((700, 500), (700, 500)),
        ((500, 700), (1, 700)),
        ((500, 700), (500, 1)),
        ((4, 6, 90, 110), (4, 6, 1, 1)),
        ((4, 90, 110, 6), (4, 1, 1, 6)),
        ((2, 300_000), (2, 1)),
        ((3, 2, 5, 7), (3, 2, 5, 7)),
        ((), ()),
    ],
)
def test_shapes_layouts_and_threads(isa, dtype, threads, shape, noise):
    """Pieces along any axis, shared decisions, C and Fortran order, slices, one thread and several."""
    rng = fd.Generator(7)
    masks = [rng.mask(noise, 0.4) for _ in range(3)]
    x = values(shape, dtype)
    want = stacked(masks, x)
    for count in (1, 3):
        fd.set_num_threads(count)
        assert np.array_equal(bits_of(fd.apply_masks(masks, x)), bits_of(want))
        f = np.array(x, order="F")
        y = fd.apply_masks(masks, f)
        assert np.array_equal(bits_of(np.ascontiguousarray(y)), bits_of(want))
        assert y[0].flags.f_contiguous == f.flags.f_contiguous
        out = np.full((3, *(2 * n for n in shape)), np.nan, dtype)[(slice(None), *(slice(None, None, 2),) * len(shape))]
        assert fd.apply_masks(masks, x, out=out) is out
        assert np.array_equal(bits_of(np.ascontiguousarray(out)), bits_of(want))


def test_views_of_masks_and_inputs(rng):
    """Sliced, reversed and turned masks, on inputs that are the same: only key and call differ between masks."""
    x = values((90, 40, 60), np.float32)
    for view in (
        lambda a: a[::-2, 3:, ::5],
        lambda a: a.transpose((2, 0, 1)),
        lambda a: a[:, ::-1].T,
        lambda a: a[5],
    ):
        masks = [view(rng.mask(x.shape, 0.3)) for _ in range(4)]
        assert np.array_equal(fd.apply_masks(masks, view(x)), stacked(masks, view(x)))
        swapped = view(x).astype(">f4")
        assert np.array_equal(fd.apply_masks(masks, swapped), stacked(masks, view(x)))
        assert fd.apply_masks(masks, swapped).dtype == np.float32


def test_outputs_beyond_the_caches(isa, threads, rng):
    """Stores past the caches are chosen by all outputs together: the same bits, at every alignment, and no others."""
    n = 2**21 + 77
    masks = [rng.mask(n, 0.3) for _ in range(8)]
    x = np.resize(values(1 << 16, np.float32), n)
    room = np.full(8 * n + 64, 7, np.float32)
    for count, shift in ((1, 0), (3, 5)):
        fd.set_num_threads(count)
        fd.apply_masks(masks, x, out=room[shift : shift + 8 * n].reshape(8, n))
        for mask, row in zip(masks, room[shift : shift + 8 * n].reshape(8, n)):
            assert np.array_equal(bits_of(row), bits_of(mask.apply(x)))
        assert (room[:shift] == 7).all() and (room[shift + 8 * n :] == 7).all()
        room[:] = 7


def test_scale_and_kinds_of_sequences(rng):
    masks = [rng.mask(100, 0.25) for _ in range(3)]
    x = values(100, np.float64)
    assert np.array_equal(fd.apply_masks(iter(masks), x, scale=2), np.stack([m.apply(x, scale=2) for m in masks]))
    assert fd.apply_masks((), x).shape == (0, 100)
    wide = [m.broadcast_to((4, 100)) for m in masks]
    assert np.array_equal(fd.apply_masks(masks, np.ones((4, 100))), fd.apply_masks(wide, np.ones((4, 100))))
    same = masks[:1] * 3
    assert np.array_equal(fd.apply_masks(same, x)[2], masks[0].apply(x))


MASK = fd.Mask(0, 0, 0.5, 4)
ONES = np.ones(4, np.float32)
READ_ONLY = np.ones((2, 4), np.float32)
READ_ONLY.setflags(write=False)
ROOM = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("masks", "x", "out", "error", "words"),
    [
        (MASK, ONES, None, TypeError, "masks has to be a sequence of fastdrop.Mask, but got a Mask"),
        (3, ONES, None, TypeError, "masks has to be a sequence.*int"),
        ([MASK, "m"], ONES, None, TypeError, r"masks\[1\] has to be a fastdrop.Mask, but got a str"),
        ([MASK, fd.Mask(0, 1, 0.25, 4)], ONES, None, ValueError, r"one p.*p=0.5 and masks\[1\] p=0.25"),
        ([MASK, fd.Mask(0, 1, 0.5, 4, start=1)], ONES, None, ValueError, r"one view.*masks\[1\] \(1, "),
        ([MASK, fd.Mask(0, 1, 0.5, (1, 4))], ONES, None, ValueError, "one view"),
        ([MASK], np.ones(5), None, ValueError, r"broadcast a mask of shape \(4,\) to shape \(5,\)"),
        ([MASK], np.arange(4), None, TypeError, "int64"),
        ([MASK] * 2, ONES, np.ones((3, 4), np.float32), ValueError, r"\(T, \*x.shape\), \(2, 4\), but got \(3, 4\)"),
        ([MASK] * 2, ONES, np.ones((2, 4)), TypeError, "float32.*float64"),
        ([MASK] * 2, ONES, READ_ONLY, ValueError, "read-only"),
        ([MASK] * 2, ONES, [], TypeError, "NumPy array, but got a list"),
        ([MASK] * 2, ROOM[0], ROOM[:2], ValueError, "overlaps x"),
        ([MASK] * 2, ONES, np.lib.stride_tricks.as_strided(ROOM, (2, 4), (0, 4)), ValueError, "share memory"),
    ],
)
def test_bad_arguments_touch_nothing(masks, x, out, error, words):
    before = out.copy() if isinstance(out, np.ndarray) else None
    with pytest.raises(error, match=words):
        fd.apply_masks(masks, x, out)
    if before is not None:
        assert np.array_equal(out, before)


def test_bad_scale():
    for scale in ("2", True):
        with pytest.raises(TypeError, match="scale has to be a real number"):
            fd.apply_masks([MASK], ONES, scale=scale)
