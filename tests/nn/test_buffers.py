"""Memory that is used again: only once nobody can see it any more."""

import threading

import numpy as np
import pytest

from fastdrop.nn import Tensor, buffers
from fastdrop.nn import functional as F

SHAPE = (512, 1024)  # large enough for the pool

used_again = pytest.mark.skipif(not buffers._COUNTS, reason="without a GIL, memory is not used again")


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    monkeypatch.setattr(buffers, "_pool", [])


def address(array):
    return array.__array_interface__["data"][0]


@used_again
def test_memory_is_used_again():
    first = buffers.empty(SHAPE, np.float32)
    assert first.shape == SHAPE and first.dtype == np.float32 and first.flags.c_contiguous and first.flags.writeable
    where = address(first)
    del first
    assert address(buffers.empty(SHAPE, np.float32)) == where
    assert address(buffers.empty((512, 512), np.float64)) == where  # of the same size in another dtype


@used_again
@pytest.mark.parametrize(
    "hold",
    [
        lambda a: a,
        lambda a: a[3:5, ::2],
        lambda a: a.T,
        lambda a: a.view(np.int32).reshape(-1)[7:8],
        memoryview,
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (4, 4)),
        Tensor,
        lambda a: Tensor(a).reshape(-1)[5:6],
    ],
)
def test_memory_that_anything_refers_to_is_not(hold):
    first = buffers.empty(SHAPE, np.float32)
    where = address(first)
    held = hold(first)
    del first
    other = [buffers.empty(SHAPE, np.float32) for _ in range(3)]
    assert len({where, *map(address, other)}) == 4
    del held, other
    assert where in [address(array) for array in [buffers.empty(SHAPE, np.float32) for _ in range(4)]]


def test_small_arrays_do_not_wait():
    assert buffers.empty((3,), np.float32).base is None and not buffers._pool
    assert buffers.empty((0, 1 << 20), np.float32).shape == (0, 1 << 20)


@used_again
def test_much_larger_memory_is_kept_for_larger_arrays():
    where = address(buffers.empty(SHAPE, np.float32))
    assert address(buffers.empty((256, 1024), np.float32)) != where


def test_idle_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(buffers, "_IDLE", 10 << 20)
    for size in range(1 << 20, 30 << 20, 1 << 20):
        buffers.empty((size,), np.uint8)
        assert sum(block.size for block in buffers._pool[:-1]) <= 10 << 20


def test_order_in_memory_is_kept():
    nhwc = np.zeros((8, 32, 64, 16), np.float32).transpose(0, 3, 1, 2)
    for array in (nhwc, np.zeros(SHAPE, order="F"), nhwc[:, :, ::2], np.zeros(SHAPE, ">f4"), np.zeros((2, 3)).T):
        like = buffers.empty_like(array)
        assert like.shape == array.shape and like.dtype == array.dtype.newbyteorder("=")
        assert like.strides == np.empty_like(array).strides
    assert buffers.empty_like(nhwc, np.uint8).dtype == np.uint8


def test_threads_do_not_share_memory():
    clashes = []

    def work(number):
        for _ in range(200):
            array = buffers.empty(SHAPE, np.int32)
            array[::64] = number
            if (array[::64] != number).any():
                clashes.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes


def test_gradients_that_someone_keeps_stay_as_they_are(np_rng):
    x = np_rng.standard_normal((128, 600)).astype(np.float32)
    w = Tensor(np_rng.standard_normal((500, 600)).astype(np.float32), requires_grad=True)
    kept = []
    for factor in (1, 2, 4):
        w.grad = None
        (F.linear(x, w) * factor).sum().backward()
        kept.append((w.grad.array, w.grad.array.copy()))
    for array, values in kept:
        np.testing.assert_array_equal(array, values)
    np.testing.assert_array_equal(kept[2][0], 4 * kept[0][0])


def test_a_gradient_that_goes_two_ways_is_added_up(np_rng):
    w = Tensor(np_rng.standard_normal((500, 500)).astype(np.float32), requires_grad=True)
    y = F.linear(w, w)
    y.backward(np.ones((500, 500), np.float32))
    expected = w.array.sum(axis=0) * 2
    np.testing.assert_allclose(w.grad.array, np.broadcast_to(expected, (500, 500)), rtol=1e-3, atol=1e-3)
