"""Chains of what can be done to a view, against NumPy's on the reference's booleans, and applied to arrays.

FASTDROP_EXAMPLES asks for more than the few chains of a normal run: hypothesis' count for each test.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastdrop as fd
from fastdrop import reference

EXAMPLES = int(os.environ.get("FASTDROP_EXAMPLES", "60"))
MOST = 60_000  # elements

chains = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FASTDROP_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
laws = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from([0.0, 0.5, 0.25, 0.1, 1 / 3, 0.999, 1.0])
)
shapes = (
    st.lists(st.sampled_from([1, 2, 3, 4, 7, 8, 16, 63, 64, 65, 128, 130, 513]), max_size=5)
    .filter(lambda shape: np.prod(shape, dtype=int) <= MOST)
    .map(tuple)
)
#: Where a view begins: at the edges of words, blocks and the halves of a block's number, and near the sequence's end.
starts = st.one_of(
    st.integers(0, 300),
    st.builds(lambda edge, by: edge + by, st.sampled_from([2**32, 2**39, 2**40, 2**62]), st.integers(-300, 300)),
    st.integers(1, 300).map(lambda by: 2**63 - MOST - by),
)


def sliced(data, mask, want):
    index = data.draw(hnp.basic_indices(want.shape, allow_newaxis=True, max_dims=6))
    return mask[index], want[index]


def transposed(data, mask, want):
    order = data.draw(st.permutations(range(want.ndim)))
    return mask.transpose(*order), want.transpose(order)


def reshaped(data, mask, want):
    """To some factors of its size; where a view cannot, it says so and stays."""
    to, left = [], want.size
    while left > 1 and len(to) < 4:
        factor = data.draw(st.sampled_from([d for d in range(1, min(left, 600) + 1) if left % d == 0]))
        to.append(factor)
        left //= factor
    to = (*to, left) if want.size else (0, *to)
    bits = np.lib.stride_tricks.as_strided(np.zeros(1, np.bool_), want.shape, mask.strides)
    try:
        bits.reshape(to, copy=False)
    except ValueError:
        try:
            mask.reshape(to)
        except ValueError as error:
            assert "a view cannot" in str(error)
            return mask, want
        raise AssertionError(f"{mask!r} was reshaped to {to}, which no view of it is") from None
    return mask.reshape(to), want.reshape(to)


def broadcast(data, mask, want):
    to = [data.draw(st.sampled_from([1, 2, 5, 70])) if n == 1 else n for n in want.shape]
    to = data.draw(st.sampled_from([(), (1,), (3,)])) + tuple(to)
    if len(to) > 8 or np.prod(to, dtype=int) > MOST:
        return mask, want
    return mask.broadcast_to(to), np.broadcast_to(want, to)


def sharded(data, mask, want):
    """One of the parts that an axis is dealt out in, as evenly as NumPy does."""
    if want.ndim == 0:
        return mask, want
    axis = data.draw(st.integers(0, want.ndim - 1))
    size = data.draw(st.integers(1, 5))
    rank = data.draw(st.integers(0, size - 1))
    return mask.shard(axis, rank, size), np.array_split(want, size, axis)[rank]


STEPS = [sliced, transposed, broadcast, sharded]
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # the first that says whether a view can
    STEPS.append(reshaped)


@st.composite
def views(draw):
    """A mask after some steps, and the booleans that it has to name."""
    key, call, p = draw(laws)
    shape, start = draw(shapes), draw(starts)
    mask = fd.Mask(key, call, p, shape, start)
    want = reference.keep(key, call, p, start, shape, mask.strides)
    data = draw(st.data())
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=5)):
        mask, want = step(data, mask, want)
    return mask, want


def laid_out(data, shape, dtype):
    """An array of that shape whose memory is ordered, stepped and reversed in some way."""
    order = data.draw(st.permutations(range(len(shape))))
    steps = [data.draw(st.sampled_from([1, 1, 2, -1, -3])) for _ in shape]
    room = np.full([shape[k] * abs(steps[k]) for k in order], 7, dtype).transpose(np.argsort(order))
    array = room[(..., *(slice(None, None, s) for s in steps))]
    assert array.shape == shape
    return room, array


@chains
@given(view=views())
def test_bits(view):
    mask, want = view
    assert mask.shape == want.shape and mask.size == want.size
    assert np.array_equal(np.asarray(mask), want)
    assert np.array_equal(mask.packbits(), np.packbits(want, bitorder="little"))
    assert np.array_equal(reference.keep(mask.key, mask.call, mask.p, mask.start, mask.shape, mask.strides), want)


@chains
@given(view=views(), data=st.data(), isa=st.sampled_from(fd.available_isas()), count=st.sampled_from([1, 3]))
def test_applied(view, data, isa, count):
    mask, want = view
    if want.ndim > 8:
        return
    before = fd.isa(), fd.get_num_threads()
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.float16]))
    _, x = laid_out(data, want.shape, dtype)
    room, y = laid_out(data, want.shape, dtype)
    x[...] = np.arange(1, want.size + 1).reshape(want.shape) % 101 + 1
    try:
        fd.set_isa(isa)
        fd.set_num_threads(count)
        assert mask.apply(x, out=y, scale=2.0) is y
        again = mask.apply(x, scale=2.0)
    finally:
        fd.set_isa(before[0])
        fd.set_num_threads(before[1])
    expected = np.where(want, x * dtype(2), dtype(0))
    assert np.array_equal(y, expected) and np.array_equal(again, expected)
    y[...] = 7  # and nothing beside it was written
    assert (room == 7).all()


@chains
@given(view=views(), axis=st.integers(0, 7), size=st.integers(1, 9), data=st.data())
def test_shards_put_together_are_the_view(view, axis, size, data):
    mask, want = view
    if want.ndim == 0:
        return
    axis %= want.ndim
    ends = sorted(data.draw(st.lists(st.integers(0, want.shape[axis]), min_size=size - 1, max_size=size - 1)))
    uneven = np.diff([0, *ends, want.shape[axis]])
    for sizes in (size, uneven):
        parts = [np.asarray(mask.shard(axis, rank, sizes)) for rank in range(size)]
        assert np.array_equal(np.concatenate(parts, axis), want)
    together = np.empty_like(want)
    for rank in range(size):
        np.moveaxis(together, axis, 0)[rank::size] = np.moveaxis(
            np.asarray(mask.shard(axis - want.ndim, rank, size, interleaved=True)), axis, 0
        )
    assert np.array_equal(together, want)
