"""Arrays that end, or begin, where the readable world does: one byte too many is a segmentation fault."""

from __future__ import annotations

import ctypes
import mmap
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import _core

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory is protected through mprotect")

SIZES = (*range(0, 300, 7), *range(120, 136), 511, 512, 513, 2047, 2048, 2049, 16255, 16384, 16385)
BYTES = 1 << 20
FLOAT = np.dtype(np.float32)
Place = Callable[..., np.ndarray]


class Room:
    """Memory between two pages that nobody may touch."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self.map = mmap.mmap(-1, BYTES + 2 * page)
        whole = np.frombuffer(self.map, np.uint8)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start in (whole.ctypes.data, whole.ctypes.data + page + BYTES):
            assert protect(start, page, 0) == 0, ctypes.get_errno()
        self.bytes = whole[page : page + BYTES]

    def array(self, shape: tuple[int, ...], dtype: np.dtype, at_end: bool) -> np.ndarray:
        """An array whose memory meets the guard: of memory order C, in the way in which `shape` is given."""
        size = int(np.prod(shape)) * dtype.itemsize
        memory = self.bytes[BYTES - size :] if at_end else self.bytes[:size]
        return memory.view(dtype).reshape(shape)


ROOMS: list[Room] = []


@pytest.fixture(params=["end", "begin"])
def place(request: pytest.FixtureRequest) -> Place:
    """Gives arrays that end at a guard page, or begin at one, each in memory of its own; they hold numbers."""
    while len(ROOMS) < 5:
        ROOMS.append(Room())
    rng = np.random.default_rng(0)

    def make(room: int, shape: tuple[int, ...], dtype: np.dtype = FLOAT, step: int = 1) -> np.ndarray:
        """With a step, elements have gaps, and the last, or first, of them meets the guard."""
        a = ROOMS[room].array((*shape[:-1], shape[-1] * step), dtype, request.param == "end")
        a = a[..., step - 1 :: step] if request.param == "end" else a[..., ::step]
        a[...] = rng.standard_normal(a.shape)
        return a

    return make


def same(got: np.ndarray, want: np.ndarray) -> bool:
    return np.array_equal(np.ascontiguousarray(got).view(np.uint8), np.ascontiguousarray(want).view(np.uint8))


def test_the_guard_is_there():
    load = f"import ctypes, runpy; room = runpy.run_path({__file__!r})['Room'](); at = room.bytes.ctypes.data"
    for place, code in (("at", 0), ("at - 1", -signal.SIGSEGV), (f"at + {BYTES}", -signal.SIGSEGV)):
        run = subprocess.run([sys.executable, "-c", f"{load}; ctypes.string_at({place}, 1)"], timeout=120)
        assert run.returncode == code, place


def elementwise(mask: fd.Mask, noise: fd.Noise, z: np.ndarray) -> tuple[Callable[..., np.ndarray], ...]:
    """Every operation on elements, as a function of an input and an output."""
    return (
        lambda a, out: mask.apply(a, out=out),
        lambda a, out: mask[::-1].apply(a[::-1], out=None if out is None else out[::-1])[::-1],
        lambda a, out: noise.apply(a, out=out, sigma=0.5),
        lambda a, out: _core.fused(mask, "add", a, z, out, scale=1.5),
        lambda a, out: _core.fused(mask, "act", a, z, out, activation="gelu", scale=1.5),
        lambda a, out: _core.fused(mask, "act_grad", a, z, out, activation="silu", scale=1.5),
        lambda a, out: _core.fused(mask, "affine", a, None, out, scale=1.5, shift=0.5, dropped=2.0),
        lambda a, out: _core.fused(mask, "where", a, z, out),
    )


@pytest.mark.parametrize("step", [1, 3])
def test_every_size(isa, dtype, place, step):
    """Elementwise kernels at every length that lanes, blocks and chunks make special, and turned round."""
    for n in SIZES:
        if n * step * dtype.itemsize > BYTES:
            continue
        x, z, y = (place(room, (n,), dtype, step) for room in range(3))
        mask, noise = fd.Mask(3, n, 0.3, n, start=n % 129), fd.Noise(3, n, n, start=n % 129)
        fresh = x.copy()
        for call in elementwise(mask, noise, z):
            want = call(fresh, None)
            assert same(call(x, y), want), n
            assert same(call(x, x), want), n  # in place
            x[...] = fresh


@pytest.mark.parametrize("shape", [(3, 5, 67), (2, 130, 64), (130, 70), (9, 513), (40, 7, 1, 3)])
def test_layouts(isa, dtype, place, shape):
    """Transposed, reversed and repeated views on either side, under masks that stand still or are turned."""
    axes = tuple(range(len(shape)))
    orders = (axes, axes[::-1], (axes[-1], *axes[:-1]))
    masks = (
        fd.Mask(1, 2, 0.4, shape),
        fd.Mask(1, 2, 0.4, shape[::-1]).T,
        fd.Mask(1, 2, 0.4, (*shape[:1], *[1] * (len(shape) - 1))).broadcast_to(shape),
        fd.Mask(1, 2, 0.4, shape[-1:]).broadcast_to(shape),
        fd.Mask(1, 2, 0.4, shape)[::-1],
    )
    for order in orders:
        back = np.argsort(order)
        moved = tuple(shape[a] for a in order)
        x, z = (place(room, moved, dtype).transpose(back) for room in (0, 1))
        bias = place(3, shape[-1:], dtype)
        for mask in masks:
            for out in (place(2, moved, dtype).transpose(back), place(2, shape, dtype)):
                assert same(mask.apply(x, out=out), mask.apply(x.copy()))
                want = _core.fused(mask, "add", x.copy(), bias.copy(), scale=1.5)
                assert same(_core.fused(mask, "add", x, bias, out, scale=1.5), want)
                want = _core.fused(mask, "where", x.copy(), z.copy())
                assert same(_core.fused(mask, "where", x, z, out), want)
        noise = fd.Noise(1, 2, shape)
        out = place(2, moved, dtype).transpose(back)
        assert same(
            noise.apply(x, out=out, sigma=0.3, kind="additive"), noise.apply(x.copy(), sigma=0.3, kind="additive")
        )


def test_blocks(isa, dtype, place):
    for shape, room in (((2, 3, 17, 19), (2, 3, 13, 19)), ((5, 300), (5, 290)), ((1, 1, 200, 190), (1, 1, 194, 184))):
        x, y = place(0, shape, dtype), place(1, shape, dtype)
        seeds = fd.Mask(5, 6, 0.02, shape)[tuple(slice(n) for n in room)]
        assert same(_core.block_apply(seeds, x, y, scale=1.5), _core.block_apply(seeds, x.copy(), scale=1.5))


def test_many(isa, dtype, place):
    for n in SIZES:
        if 3 * n * dtype.itemsize > BYTES:
            continue
        x, y = place(0, (n,), dtype), place(1, (3, n), dtype)
        masks = [fd.Mask(5, call, 0.4, n, start=77) for call in range(3)]
        assert same(fd.apply_masks(masks, x, y), fd.apply_masks(masks, x.copy()))


def test_softmax(isa, dtype, place):
    for n in (1, 2, 15, 16, 17, 33, 100, 127, 129, 513, 4097, 8193):
        shape = (3, n)
        x, dy, y, dx = (place(room, shape, dtype) for room in range(4))
        mask = fd.Mask(5, n, 0.3, shape)
        want, saved = fd.softmax_dropout_forward(x.copy(), 0.3, mask=mask)
        got, ours = fd.softmax_dropout_forward(x, 0.3, mask=mask, out=y)
        assert same(got, want)
        assert same(fd.softmax_dropout_backward(dy, ours, out=dx), fd.softmax_dropout_backward(dy.copy(), saved))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_dropconnect(isa, place, dtype):
    for batch, outs, ins in ((1, 1, 1), (3, 5, 8), (2, 7, 33), (9, 5, 65), (5, 4, 129), (2, 3, 800), (1, 2, 8065)):
        mask = fd.Mask(5, ins, 0.5, (batch, outs, ins), start=ins % 5)
        x, w, dy = (place(k, s, dtype) for k, s in enumerate([(batch, ins), (outs, ins), (batch, outs)]))
        y = place(3, (batch, outs), dtype)
        assert same(
            _core.dropconnect_forward(mask, x, w, 2.0, y), _core.dropconnect_forward(mask, x.copy(), w.copy(), 2.0)
        )
        assert same(_core.dropconnect_dx(mask, dy, w, 2.0), _core.dropconnect_dx(mask, dy.copy(), w.copy(), 2.0))
        assert same(_core.dropconnect_dw(mask, dy, x, 2.0), _core.dropconnect_dw(mask, dy.copy(), x.copy(), 2.0))


def test_words(place):
    for n in (0, 1, 63, 64, 65, 1000):
        for kind in (np.int8, np.int16, np.int32, np.int64):
            x, y = (place(room, (n,), np.dtype(kind)) for room in (0, 1))
            mask = fd.Mask(5, 1, 0.3, n)
            assert same(fd.word_dropout(x, 0.3, mask=mask, out=y), fd.word_dropout(x.copy(), 0.3, mask=mask))
    x, y = place(0, (50, 7)), place(1, (50, 7))
    mask = fd.Mask(5, 1, 0.3, (50, 1))
    assert same(fd.embedding_dropout(x, 0.3, mask=mask, out=y), fd.embedding_dropout(x.copy(), 0.3, mask=mask))
