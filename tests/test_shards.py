"""Parts of views: what a process takes of a mask that it shares with others."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.shards import check_shards, place, taken, whole_shape

MASK = fd.Mask(7, 3, 0.4, (11, 6, 5))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 11, 12, 30])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_parts_are_those_of_array_split(axis, size):
    parts = np.array_split(np.asarray(MASK), size, axis)
    for rank in range(size):
        assert np.array_equal(np.asarray(MASK.shard(axis, rank, size)), parts[rank])


@pytest.mark.parametrize("sizes", [(11,), (5, 6), (0, 11, 0), [1] * 11, np.array([4, 4, 3]), range(1, 5)])
def test_extents_of_all_parts(sizes):
    if sum(sizes) != 11:
        sizes = [*sizes, 11 - sum(sizes)]
    ends = np.cumsum([0, *sizes])
    for rank in range(len(sizes)):
        assert MASK.shard(0, rank, sizes) == MASK[ends[rank] : ends[rank + 1]]


@pytest.mark.parametrize("size", [1, 2, 5, 13])
def test_interleaved(size):
    for rank in range(size):
        assert MASK.shard(0, rank, size, interleaved=True) == MASK[rank::size]


def test_more_parts_than_axes_may_be():
    mask = fd.Mask(0, 0, 0.5, (1000, 3))
    assert mask.shard(0, 999, [1] * 1000) == mask[999:]


def test_noise_has_parts_too():
    noise = fd.Noise(1, 2, (7, 4))
    assert np.array_equal(np.asarray(noise.shard(0, 2, 3)), np.array_split(np.asarray(noise), 3)[2])


def test_the_last_part_of_a_huge_view():
    mask = fd.Mask(0, 0, 0.5, 2**62, start=2**62)
    part = mask.shard(0, 2**61 - 1, 2**61)
    assert part.shape == (2,) and part.start == 2**63 - 2
    assert np.asarray(part).shape == (2,)


@pytest.mark.parametrize(
    ("axis", "rank", "size", "error", "message"),
    [
        (3, 0, 2, ValueError, r"axis has to be between -3 and 2, but got 3"),
        (0.0, 0, 2, TypeError, r"axis has to be an integer, but got 0\.0"),
        (0, 2, 2, ValueError, r"rank has to be between 0 and 1, but got 2"),
        (0, -1, 2, ValueError, r"rank has to be between 0 and 1, but got -1"),
        (0, "0", 2, TypeError, r"rank has to be an integer, but got '0'"),
        (0, 0, 0, ValueError, r"size has to be between 1 and"),
        (0, 0, "2", TypeError, r"size has to be how many parts there are, or the extents of all, but got '2'"),
        (0, 0, [], ValueError, r"size has to be how many parts there are, or the extents of all, but got none"),
        (0, 0, [5, 5], ValueError, r"size has to name parts of 11 elements in all, as axis 0 has, but \(5, 5\) are 10"),
        (0, 0, [12, -1], ValueError, r"size\[1\] has to be between 0 and"),
        (0, 0, None, TypeError, r"size has to be how many parts"),
    ],
)
def test_what_is_no_part(axis, rank, size, error, message):
    with pytest.raises(error, match=message):
        MASK.shard(axis, rank, size)


def test_interleaved_parts_have_one_extent():
    with pytest.raises(ValueError, match=r"where they are interleaved, but got \(6, 5\)"):
        MASK.shard(0, 0, [6, 5], interleaved=True)
    with pytest.raises(TypeError, match="interleaved has to be True or False, but got 1"):
        MASK.shard(0, 0, 2, interleaved=1)


def test_no_axes_no_parts():
    with pytest.raises(ValueError, match="a mask without axes has no parts"):
        fd.Mask(0, 0, 0.5, ()).shard(0, 0, 1)


def test_a_shard_is_a_value():
    shard = fd.Shard(-1, 1, [2, 3])
    assert shard == fd.Shard(-1, 1, (2, 3)) and hash(shard) == hash(fd.Shard(-1, 1, (2, 3)))
    assert shard != fd.Shard(-1, 0, [2, 3]) and shard != (-1, 1, (2, 3))
    assert eval(repr(shard), {"Shard": fd.Shard}) == shard
    dealt = fd.Shard(0, 1, 4, interleaved=True)
    assert eval(repr(dealt), {"Shard": fd.Shard}) == dealt
    for again in (pickle.loads(pickle.dumps(dealt)), copy.deepcopy(dealt)):
        assert again == dealt
    with pytest.raises(AttributeError):
        shard.rank = 0


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_from_the_part_alone(size, interleaved):
    """A layer knows its part's extents, and finds the whole's."""
    whole = fd.Mask(1, 2, 0.5, (6 * size, 4, 5))
    for rank in range(size):
        shards = check_shards(fd.Shard(-3, rank, size, interleaved=interleaved))
        places = place((6, 4, 5), shards)
        assert whole_shape((6, 4, 5), places) == whole.shape
        expected = whole.shard(0, rank, size, interleaved=interleaved)
        assert taken(whole, (6, 4, 5), places) == expected


def test_several_axes():
    whole = fd.Mask(1, 2, 0.5, (8, 3, 7))
    for data in range(2):
        for model in range(3):
            shape = (4, 3, (3, 2, 2)[model])
            places = place(shape, check_shards([fd.Shard(0, data, 2), fd.Shard(-1, model, (3, 2, 2))]))
            assert whole_shape(shape, places) == whole.shape
            assert taken(whole, shape, places) == whole.shard(0, data, 2).shard(2, model, 3)


def test_what_shards_cannot_be():
    for wrong in (0, "0", [fd.Shard(0, 0, 2), None], {0: 1}):
        with pytest.raises(TypeError, match=r"shard has to be a fastdrop\.Shard, a sequence of them or None"):
            check_shards(wrong)
    with pytest.raises(ValueError, match=r"Shard\(axis=2, rank=0, size=2\) names an axis that a tensor of 2 axes"):
        place((4, 4), [fd.Shard(2, 0, 2)])
    with pytest.raises(ValueError, match=r"once, but Shard\(axis=-2, rank=0, size=2\) is the second of axis 0"):
        place((4, 4), [fd.Shard(0, 0, 2), fd.Shard(-2, 0, 2)])
    with pytest.raises(ValueError, match=r"is 3 elements long, but the tensor has 4 along its axis"):
        place((4, 4), [fd.Shard(0, 0, (3, 5))])
    with pytest.raises(ValueError, match="rank has to be between 0 and 1"):
        fd.Shard(0, 2, 2)
    with pytest.raises(TypeError, match="axis has to be an integer"):
        fd.Shard("batch", 0, 2)
