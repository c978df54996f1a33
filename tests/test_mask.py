"""Masks as values, and the algebra of views: whatever NumPy's own views would do to the bits."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastdrop as fd
from fastdrop import reference

settings.register_profile("fastdrop", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("fastdrop")

shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
big_shapes = (
    st.lists(st.sampled_from([1, 2, 3, 5, 17, 64, 130, 257]), max_size=3)
    .filter(lambda shape: np.prod(shape, dtype=int) < 200_000)
    .map(tuple)
)


def base(shape, p=0.5, start=0):
    mask = fd.Mask(key=77, call=3, p=p, shape=shape, start=start)
    return mask, reference.keep(77, 3, p, start, shape, mask.strides)


def assert_same(mask, want):
    assert mask.shape == want.shape
    assert np.array_equal(np.asarray(mask), want)
    assert np.array_equal(mask.packbits(), np.packbits(want, bitorder="little"))
    assert np.array_equal(reference.keep(mask.key, mask.call, mask.p, mask.start, mask.shape, mask.strides), want)


@given(shape=shapes, data=st.data(), p=st.sampled_from([0.5, 0.3]))
def test_indexing_is_numpys(shape, data, p):
    mask, want = base(shape, p)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    assert_same(mask[index], want[index])


@given(shape=big_shapes, data=st.data())
def test_transpose_slice_broadcast(shape, data):
    """The paths of the C walk: long and short rows, repeated rows, constant rows, tiles."""
    mask, want = base(shape, start=19)
    order = data.draw(st.permutations(range(len(shape))))
    assert_same(mask.transpose(*order), want.transpose(*order))
    index = tuple(slice(None, None, data.draw(st.sampled_from([1, 1, -1, 2, -3]))) for _ in shape)
    mask, want = mask.transpose(order)[index], want.transpose(order)[index]
    to = (
        data.draw(st.sampled_from([1, 3])),
        *(data.draw(st.sampled_from([1, 7])) if n == 1 else n for n in mask.shape),
    )
    assert_same(mask.broadcast_to(to), np.broadcast_to(want, to))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy 2.0 cannot reshape without a copy")
@given(shape=shapes, data=st.data())
def test_reshape_where_a_view_can(shape, data):
    mask, want = base(shape)
    index = data.draw(hnp.basic_indices(shape))
    mask, want = mask[index], np.asarray(want)[index]
    factors = st.sampled_from(
        [want.shape, want.shape[::-1], (want.size,), (1, want.size, 1), (-1, 1), (2, -1), (-1, 3)]
    )
    to = data.draw(factors)
    try:
        expected = want.reshape(to)
    except ValueError:
        with pytest.raises(ValueError, match="shape"):
            mask.reshape(to)
        return
    # NumPy copies where a view cannot; told not to, it says so, of bits with the mask's strides.
    like_the_mask = np.lib.stride_tricks.as_strided(np.zeros(1, np.bool_), want.shape, mask.strides)
    try:
        like_the_mask.reshape(to, copy=False)
    except ValueError:
        with pytest.raises(ValueError, match="a view cannot"):
            mask.reshape(to)
    else:
        assert_same(mask.reshape(to), expected)


def test_wide_views():
    """Larger than any tile or chunk, in every plan of the walk."""
    mask, want = base((3, 700, 1100), p=0.3, start=2**40 + 5)
    for of in (
        lambda a: a,
        lambda a: a.transpose(0, 2, 1),
        lambda a: a.transpose(2, 0, 1),
        lambda a: a.T,
        lambda a: a[:, ::-1, ::-1],
        lambda a: a[:, ::3, 5:1000:2].T,
        lambda a: a[:, :, :3],
        lambda a: a[1, :, 77],
        lambda a: a[:, 5, :].T,
    ):
        assert_same(of(mask), of(want))


def test_broadcast_views():
    mask, want = base((6, 10), p=0.3)
    spatial = mask[:, :, None, None].broadcast_to((6, 10, 21, 33))
    assert spatial.strides == (10, 1, 0, 0)
    assert_same(spatial, np.broadcast_to(want[:, :, None, None], spatial.shape))
    last = mask[:, None, None, :].broadcast_to((6, 21, 33, 10))
    assert_same(last, np.broadcast_to(want[:, None, None, :], last.shape))
    long, want = base((3, 20000), p=0.3)
    assert_same(long[:, None].broadcast_to((3, 5, 20000)), np.broadcast_to(want[:, None], (3, 5, 20000)))


def test_shards_see_the_bits_of_the_whole():
    mask, want = base((64, 30))
    parts = [mask[k * 16 : (k + 1) * 16] for k in range(4)]
    assert np.array_equal(np.concatenate([np.asarray(m) for m in parts]), want)


def test_attributes():
    mask = fd.Mask(key=2**64 - 1, call=9, p=0.25, shape=(4, 5), start=7)
    assert (mask.key, mask.call, mask.p, mask.shape, mask.start) == (2**64 - 1, 9, 0.25, (4, 5), 7)
    assert (mask.ndim, mask.size, mask.strides, len(mask)) == (2, 20, (5, 1), 4)
    assert mask.T.shape == (5, 4)
    for name in ("key", "call", "p", "shape", "start", "strides", "ndim", "size"):
        with pytest.raises(AttributeError):
            setattr(mask, name, 1)
    with pytest.raises(TypeError, match="immutable"):
        mask.__init__(0, 0, 0.5, 3)


def test_scalar_mask():
    mask = fd.Mask(0, 0, 0.5, (8,))
    bits = np.asarray(mask)
    assert [bool(mask[i]) for i in range(8)] == bits.tolist()
    assert mask[3].shape == () and np.asarray(mask[3]).shape == ()
    assert [bool(m) for m in mask] == bits.tolist()
    with pytest.raises(ValueError, match="truth value"):
        bool(mask)
    with pytest.raises(TypeError):
        len(mask[0])


def test_array_protocol():
    mask, want = base((3, 4))
    assert np.asarray(mask).dtype == np.bool_
    assert np.array_equal(np.asarray(mask, np.float32), want.astype(np.float32))
    assert np.array_equal(np.array(mask), want)
    with pytest.raises(ValueError, match="copy"):
        np.array(mask, copy=False)


def test_equality_is_by_value():
    mask = fd.Mask(1, 2, 0.5, (4, 6))
    assert mask == fd.Mask(1, 2, 0.5, (4, 6)) and hash(mask) == hash(fd.Mask(1, 2, 0.5, (4, 6)))
    assert mask == mask.T.T == mask[:, :] == mask.reshape(24).reshape(4, 6)
    assert mask != mask.T and mask != mask[1:] and mask != "mask"
    for other in (fd.Mask(0, 2, 0.5, (4, 6)), fd.Mask(1, 0, 0.5, (4, 6)), fd.Mask(1, 2, 0.4, (4, 6))):
        assert mask != other
    assert mask[:1] == mask[:1].reshape(1, 6)  # the stride of an axis of one element names no bit
    assert mask[:0] == fd.Mask(1, 2, 0.5, (0, 6), start=9)
    assert len({mask, mask[:, :], mask.T}) == 2


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_copy(protocol):
    for mask in (fd.Mask(2**64 - 1, 5, 1 / 3, (4, 6)), fd.Mask(1, 5, 0.5, (4, 6))[::-2, None, 3]):
        again = pickle.loads(pickle.dumps(mask, protocol))
        assert again == mask and again.strides == mask.strides
        assert copy.deepcopy(mask) == mask == copy.copy(mask)


def test_repr_makes_the_mask_again():
    for mask in (fd.Mask(1, 2, 0.5, (4, 6)), fd.Mask(1, 2, 1 / 3, (4, 6), 9)[::-1, ::2].T, fd.Mask(1, 2, 0.0, ())):
        assert eval(repr(mask), {"Mask": fd.Mask}) == mask
    assert repr(fd.Mask(1, 2, 0.5, (4, 6))) == "Mask(key=1, call=2, p=0.5, shape=(4, 6))"
    assert repr(fd.Mask(1, 2, 0.5, 4)[None]) == "Mask(key=1, call=2, p=0.5, shape=(1, 4))"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fd.Mask(-1, 0, 0.5, 3), ValueError, "key"),
        (lambda: fd.Mask(2**64, 0, 0.5, 3), ValueError, "key"),
        (lambda: fd.Mask(0, 1.5, 0.5, 3), TypeError, "call.*1.5"),
        (lambda: fd.Mask(0, 0, 2, 3), ValueError, "between 0 and 1, but got 2"),
        (lambda: fd.Mask(0, 0, 0.5, (3, -1)), ValueError, r"shape\[1\].*-1"),
        (lambda: fd.Mask(0, 0, 0.5, -3), ValueError, "shape.*-3"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 2.0)), TypeError, r"shape\[1\].*2.0"),
        (lambda: fd.Mask(0, 0, 0.5, "3"), TypeError, "shape.*'3'"),
        (lambda: fd.Mask(0, 0, 0.5, None), TypeError, "shape"),
        (lambda: fd.Mask(0, 0, 0.5, (1,) * 65), ValueError, "at most 64"),
        (lambda: fd.Mask(0, 0, 0.5, (2**40, 2**40)), ValueError, r"2\*\*63"),
        (lambda: fd.Mask(0, 0, 0.5, (2**40, 2**40, 0)), ValueError, r"2\*\*63"),
        (lambda: fd.Mask(0, 0, 0.5, 3, start=-1), ValueError, "start.*-1"),
        (lambda: fd.Mask(0, 0, 0.5, 3, start=2**63 - 2), ValueError, "outside 0"),
        (lambda: fd.Mask(0, 0, 0.5, 3, strides=(-1,)), ValueError, "outside 0"),
        (lambda: fd.Mask(0, 0, 0.5, 3, strides=(1, 1)), ValueError, "one entry per axis"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[3], IndexError, "index 3 is out of bounds for axis 0 with size 3"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[0, 0], IndexError, "too many indices"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[..., ...], IndexError, "single ellipsis"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[[0, 1]], IndexError, "np.asarray"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[np.array([True, False, True])], IndexError, "np.asarray"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[(None,) * 64], IndexError, "at most 64"),
        (lambda: fd.Mask(0, 0, 0.5, itertools.count()), ValueError, "at most 64"),
        (lambda: fd.Mask(0, 0, 10**400, 3), ValueError, "dropout probability"),
        (lambda: iter(fd.Mask(0, 0, 0.5, ())), TypeError, "without axes"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[True], IndexError, "True"),
        (lambda: fd.Mask(0, 0, 0.5, 3)[::0], ValueError, "zero"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).transpose(0, 0), ValueError, "permutation"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).transpose(0), ValueError, "permutation"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).reshape(5, -1), ValueError, "cannot reshape"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).reshape(-1, -1), ValueError, "one unknown"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).T.reshape(12), ValueError, "a view cannot"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).broadcast_to((4, 4)), ValueError, r"\(3, 4\) to shape \(4, 4\)"),
        (lambda: fd.Mask(0, 0, 0.5, (3, 4)).broadcast_to(4), ValueError, "broadcast"),
        (lambda: fd.Mask(0, 0, 0.5, (1,)).broadcast_to((2**40, 2**40)), ValueError, r"2\*\*63"),
    ],
)
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_slices_with_huge_steps_and_empty_masks():
    mask, want = base((4, 5))
    for index in (np.s_[:: 2**70], np.s_[:: -(2**62)], np.s_[:, 3:3], np.s_[9:, :: 2**62]):
        assert_same(mask[index], want[index])
        assert pickle.loads(pickle.dumps(mask[index])) == mask[index]
    empty = fd.Mask(0, 0, 0.5, (0, 5), start=2**63 - 1)[:, 3]
    assert pickle.loads(pickle.dumps(empty)) == empty and empty.shape == (0,)
    assert fd.Mask(0, 0, 0.5, (0, 5), strides=(1, -1))[:, 3].shape == (0,)


def test_sequences_of_all_kinds():
    mask = fd.Mask(0, 0, 0.5, np.array([2, 3]))
    assert mask.shape == mask.reshape(np.array([2, 3])).shape == mask.T.transpose(np.array([1, 0])).shape
    assert fd.Mask(0, 0, 0.5, np.array(5)).shape == (5,) == fd.Mask(0, 0, 0.5, 5, strides=1).shape
    assert True in fd.Mask(0, 0, 0.0, 4) and True not in fd.Mask(0, 0, 1.0, 4)


def test_an_index_cannot_make_a_mask_twice():
    class Index:
        def __index__(self):
            mask.__init__(1, 1, 0.5, 7)
            return 3

    mask = fd.Mask.__new__(fd.Mask)
    with pytest.raises(TypeError):
        mask.__init__(0, 0, 0.5, Index())
    assert mask == fd.Mask(1, 1, 0.5, 7)


def test_huge_strides():
    for shape, strides in (((3, 3), (1, 2**61 + 2**60)), ((2, 2, 2), (0, 2**62, 2**62 - 1))):
        mask = fd.Mask(4, 4, 0.3, shape, strides=strides)
        want = reference.keep(4, 4, 0.3, 0, shape, strides)
        assert_same(mask, want)
        assert np.array_equal(mask.apply(np.ones(shape)) != 0, want)


def test_an_uninitialised_mask_is_harmless():
    mask = fd.Mask.__new__(fd.Mask)
    assert mask.shape == () and mask.p == 0 and bool(mask)
    assert mask.apply(np.ones(3)).tolist() == [1.0, 1.0, 1.0]
