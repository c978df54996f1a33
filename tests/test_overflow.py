"""Shapes, strides and starts near the ends of 64 bits: refused with a clear error before anything is made, or right."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference

TOP = 2**63 - 1
#: Shapes that NumPy has no room for, or Python ints that no int64 holds.
TOO_LARGE = ((2**63,), (2**62, 2), (2**32, 2**32), (2**40, 2**40, 0), (2**21,) * 3, (2,) * 63, (2**100,), 2**63)


@pytest.mark.parametrize("shape", TOO_LARGE, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda shape: fd.Mask(0, 0, 0.5, shape),
        lambda shape: fd.Noise(0, 0, shape),
        lambda shape: fd.Generator(0).mask(shape),
        lambda shape: fd.Generator(0).noise(shape),
        lambda shape: fd.Mask(0, 0, 0.5, ()).broadcast_to(shape),
        lambda shape: fd.Noise(0, 0, ()).broadcast_to(shape),
        lambda shape: fd.drop_block_mask(fd.Mask(0, 0, 0.5, (1,)), shape),
    ],
    ids=["Mask", "Noise", "rng.mask", "rng.noise", "Mask.broadcast_to", "Noise.broadcast_to", "drop_block_mask"],
)
def test_shapes_beyond_63_bits(make, shape):
    with pytest.raises(ValueError, match=r"2\*\*63|between 0 and 9223372036854775807"):
        make(shape)


def test_a_refused_shape_takes_no_call():
    rng = fd.Generator(0)
    for shape in TOO_LARGE:
        for make in (rng.mask, rng.noise):
            with pytest.raises(ValueError):
                make(shape)
    assert rng.call == 0


@pytest.mark.parametrize("shape", [(2**62, 3), (2**63,), (2**100, 1), (-(2**63), 1), (-1, 2**63)], ids=str)
def test_reshape_beyond_63_bits(shape):
    for view in (fd.Mask(0, 0, 0.5, (4, 6)), fd.Noise(0, 0, (4, 6))):
        with pytest.raises(ValueError):
            view.reshape(shape)


@pytest.mark.parametrize(
    ("shape", "start", "strides"),
    [
        ((3,), 0, (2**62,)),  # to 2^63
        ((2**62, 2**62), 0, (4, 0)),  # too many elements
        ((2, 2), 0, (TOP, 1)),
        ((2, 2), TOP, (0, 1)),
        ((2**62,), 0, (TOP,)),
        ((2**31, 2**31), 0, (2**33, 1)),
        ((2,), 0, (-1,)),
        ((5, 5), 10, (-3, 1)),
        ((2,), 2**62, (-TOP,)),
        ((1,), TOP + 1, (1,)),
        ((1,), -1, (1,)),
        ((1,), 2**100, (1,)),
        ((1,), 0, (TOP + 1,)),
        ((1,), 0, (-TOP - 1,)),
        ((0,), 0, (2**100,)),
    ],
)
def test_bits_outside_the_sequence(shape, start, strides):
    for make in (
        lambda: fd.Mask(0, 0, 0.5, shape, start, strides=strides),
        lambda: fd.Noise(0, 0, shape, start, strides=strides),
    ):
        with pytest.raises(ValueError, match=r"outside 0 to 2\*\*63|has to be between|2\*\*63 elements"):
            make()


@pytest.mark.parametrize(
    ("shape", "start", "strides"),
    [
        ((), TOP, ()),
        ((1, 1), TOP, (TOP, -TOP)),
        ((2,), 0, (TOP,)),
        ((2,), TOP, (-TOP,)),
        ((3, 3), 1, (2**61, 2**60)),
        ((3, 2), TOP, (-(2**61), 1 - 2**62)),
        ((2, 2, 2), 2**62, (-(2**62), 2**61, 2**61 - 1)),
        ((300,), TOP - 299, (1,)),
        ((300,), TOP, (-1,)),
        ((9, 600), TOP - 5399, (600, 1)),
        ((600, 9), TOP - 5399, (1, 600)),
        ((40, 130), TOP - 129, (0, 1)),
        ((130, 140), TOP - 129, (1, 0)),
        ((100,), TOP - 99 * 2**40, (2**40,)),
    ],
)
def test_views_up_to_the_last_bit(isa, shape, start, strides):
    """Every way out of a mask and of noise, and every way to cut it, at the end of the sequence and over all of it."""
    mask, noise = (
        fd.Mask(3, 2**64 - 1, 0.3, shape, start, strides=strides),
        fd.Noise(3, 7, shape, start, strides=strides),
    )
    want = reference.keep(3, 2**64 - 1, 0.3, start, shape, strides)
    normals = reference.normals(3, 7, start, shape, strides)
    x = np.linspace(1, 2, max(want.size, 1), dtype=np.float32)[: want.size].reshape(shape)
    assert np.array_equal(np.asarray(mask), want)
    assert np.array_equal(mask.packbits(), np.packbits(want, bitorder="little"))
    assert np.array_equal(mask.apply(x, scale=1.0), np.where(want, x, 0))
    assert np.array_equal(np.asarray(noise), normals)
    assert np.array_equal(noise.apply(np.zeros(shape, np.float32), sigma=1.0, kind="additive"), normals)
    assert np.array_equal(np.asarray(mask.T), want.T)
    if shape:
        turned = (slice(None, None, -1),) * len(shape)
        assert np.array_equal(np.asarray(mask[turned]), want[turned])
        assert np.array_equal(np.asarray(mask[-1]), want[-1])
        twice = mask[:, None].broadcast_to((shape[0], 2, *shape[1:]))
        assert np.array_equal(np.asarray(twice), np.stack([want, want], 1))


def test_indexing_into_what_no_memory_holds():
    """A mask of nearly 2^63 elements is a value as any other; what is cut from it has the reference's bits."""
    whole = fd.Mask(5, 6, 0.5, (2**31, 2**31))
    part = whole[2**31 - 2 :, -3:]
    assert np.array_equal(np.asarray(part), reference.keep(5, 6, 0.5, part.start, part.shape, part.strides))
    assert part.start == 2**62 - 2**31 - 3 and whole[:: 2**31 - 1, :: 2**31 - 1].shape == (2, 2)
    assert whole.reshape(2**62)[2**62 - 1] == whole[-1, -1]
    assert np.array_equal(np.asarray(whole[-1, :: -(2**30)]), np.asarray(whole[-1, 2**30 - 1 :: 2**30])[::-1])
    for index in (2**31, -(2**31) - 1, 2**63, -(2**63), 2**100):
        with pytest.raises(IndexError, match="out of bounds"):
            whole[index]
    flat = fd.Mask(5, 6, 0.5, TOP)
    assert len(flat[:9]) == 9 and flat[TOP - 1].start == TOP - 1
    with pytest.raises(ValueError, match="outside 0"):
        fd.Mask(5, 6, 0.5, TOP, start=2)


def test_x_of_a_huge_shape_that_has_few_bytes():
    """NumPy's views of stride 0 have shapes without limit: refused by what they would take, or by the mask's."""
    few = np.broadcast_to(np.float32(1), (0, 2**30, 2**20))
    assert fd.Mask(0, 0, 0.5, ()).apply(few).shape == few.shape == fd.dropout(few, 0.5).shape
    assert fd.apply_masks([fd.Mask(0, 0, 0.5, few.shape)] * 2, few).shape == (2, *few.shape)
    with pytest.raises(ValueError, match="broadcast"):
        fd.Mask(0, 0, 0.5, (2**40, 2**20)).apply(np.ones((3, 5), np.float32))
    for shape in ((2**40, 2**19, 8), (2**62, 1, 1)):
        with pytest.raises(ValueError, match=r"has to have the shape|mask"):
            fd.dropconnect(
                np.ones((2, 8), np.float32), np.ones((3, 8), np.float32), mask=fd.Mask(0, 0, 0.5, shape), p=0.5
            )


def test_drop_block_of_maps_as_large_as_integers_go():
    with pytest.raises(ValueError):
        fd.drop_block_seeds((1, 1, 2**40, 2**40), 0.1, 3)
    seeds = fd.Mask(0, 0, 0.1, (1, 1), start=TOP - 1)
    want = reference.keep(0, 0, 0.1, TOP - 1, (1, 1), (1, 1))
    assert np.array_equal(fd.drop_block_mask(seeds, (7, 9)), np.broadcast_to(want, (7, 9)))
    with pytest.raises(ValueError, match="seeds"):
        fd.drop_block_mask(fd.Mask(0, 0, 0.1, (2**40, 2**20)), (2**20, 2**40))
