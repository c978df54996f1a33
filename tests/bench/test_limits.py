"""The copies that are the limit: every byte, and not one more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastdrop.bench import _limits

COPIES = (_limits.memcpy, _limits.stream, _limits.stream4)
SIZES = (0, 1, 15, 63, 64, 65, 127, 128, 255, 256, 257, 4095, 4096, 4097, 16383, 16384, 16385, 70001)
GUARD = 96

Copy = Callable[..., None]


@pytest.fixture(params=["sse2", "avx2", "avx512", "memcpy alone"])
def stores(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _limits.stores()
    if request.param == "memcpy alone":
        if before != "none":
            pytest.skip("this machine has streaming stores")
    elif not _limits.use_stores(request.param):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    _limits.use_stores(before)


def noise(n: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(n).integers(0, 256, n, np.uint8)


def guarded(n: int, offset: int) -> tuple[Any, Any]:
    """n bytes at an offset from a cache line, and the whole buffer, poisoned."""
    raw = np.full(n + 2 * GUARD + 128, 0xA5, np.uint8)
    begin = GUARD + -(raw.ctypes.data + GUARD) % 64 + offset
    return raw[begin : begin + n], raw


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_byte_and_no_other(stores: str, copy: Copy, threads: int) -> None:
    for n in SIZES:
        for to, source in ((0, 0), (0, 1), (1, 0), (17, 17), (63, 5), (32, 33)):
            x, _ = guarded(n, source)
            x[:] = noise(n)
            y, whole = guarded(n, to)
            copy(y, x, threads)
            assert np.array_equal(y, x), (n, to, source)
            y[:] = 0xA5
            assert (whole == 0xA5).all(), (n, to, source)


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("threads", [2, 3, 300])
def test_parts(copy: Copy, threads: int) -> None:
    """Sizes that are split, whole parts or not."""
    for n in (131071, 131072, 131073, 1000003, 2**20):
        x, _ = guarded(n, 3)
        x[:] = noise(n)
        y, whole = guarded(n, 1)
        copy(y, x, threads)
        assert np.array_equal(y, x), n
        y[:] = 0xA5
        assert (whole == 0xA5).all(), n


def test_callers_at_the_same_time() -> None:
    x = noise(2**20)
    outputs = [np.zeros_like(x) for _ in range(4)]

    def work(y: Any) -> None:
        for _ in range(20):
            _limits.stream4(y, x, 2)

    workers = [threading.Thread(target=work, args=(y,)) for y in outputs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(y, x) for y in outputs)


def test_any_dtype_and_shape(dtype: np.dtype) -> None:
    x = np.arange(60).astype(dtype).reshape(3, 4, 5)
    y = np.zeros((60,), dtype)
    _limits.stream(y, x)
    assert np.array_equal(y, x.reshape(-1))


@pytest.mark.parametrize("copy", COPIES)
def test_what_is_refused(copy: Copy) -> None:
    x = np.zeros(64, np.uint8)
    frozen = np.zeros(64, np.uint8)
    frozen.flags.writeable = False
    for bad, complaint in (
        (np.zeros(63, np.uint8), "as many bytes as x, 64, but got 63"),
        (x, "overlaps"),
        (np.zeros(128, np.uint8)[::2], "C-contiguous"),
        (frozen, "writeable"),
    ):
        with pytest.raises(ValueError, match=complaint):
            copy(bad, x)
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        copy(np.zeros(64, np.uint8), x, 0)
    with pytest.raises(TypeError):
        copy(None, x)


def test_overlap_by_one_byte() -> None:
    both = np.zeros(200, np.uint8)
    _limits.memcpy(both[100:], both[:100])
    with pytest.raises(ValueError, match="overlaps"):
        _limits.memcpy(both[99:199], both[:100])


def test_names() -> None:
    assert _limits.stores() in ("none", "sse2", "avx2", "avx512")
    assert not _limits.use_stores("mmx")
    assert len(_limits.COMPILER.split()) >= 2
