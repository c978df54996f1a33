"""Numba as a contender: one fused loop that its compiler turns into vector code.

Draws are counter-based, so nothing is stored for backward and threads need no state: SplitMix64 of a counter that no
two calls share. (A 32-bit hash of index plus seed is no substitute: the masks of two calls would be shifted copies of
each other.) One such number serves four elements, a quarter of a block apart, 16 bits each: the quickest form found.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .cases import Arrays, Case
from .ready import Answer, Ready, nothing

__all__ = ["PREPARE"]

#: Draws of 16 bits.
RESOLUTION = 2.0**-16
QUARTER = 1024


class _Kernels(NamedTuple):
    flat: Callable[..., None]
    in_place: Callable[..., None]
    rows: Callable[..., None]
    columns: Callable[..., None]


def _numba() -> Any:
    return importlib.import_module("numba")


@cache
def _kernels(parallel: bool) -> _Kernels:
    """y from x, and y from itself: where x might be y, there would be no vector code."""
    numba = _numba()
    u64 = np.uint64
    golden, first, second = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9), u64(0x94D049BB133111EB)
    low, s16, s27, s30, s31, s32, s48 = (u64(k) for k in (0xFFFF, 16, 27, 30, 31, 32, 48))
    q1, q2, q3, q4 = (k * QUARTER for k in (1, 2, 3, 4))
    compiled = numba.njit(parallel=parallel)

    @numba.njit(inline="always")
    def draw(counter: Any) -> Any:
        z = counter * golden
        z = (z ^ (z >> s30)) * first
        z = (z ^ (z >> s27)) * second
        return z ^ (z >> s31)

    # Blocks are functions of their own: inside a parallel loop the compiler makes no vector code of them.
    @numba.njit
    def block(x: Any, y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        for i in range(QUARTER):
            z = draw(start + u64(i))
            y[i] = x[i] * scale if (z & low) >= least else zero
            y[i + q1] = x[i + q1] * scale if (z >> s16 & low) >= least else zero
            y[i + q2] = x[i + q2] * scale if (z >> s32 & low) >= least else zero
            y[i + q3] = x[i + q3] * scale if (z >> s48) >= least else zero

    @numba.njit
    def block_in_place(y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        for i in range(QUARTER):
            z = draw(start + u64(i))
            y[i] = y[i] * scale if (z & low) >= least else zero
            y[i + q1] = y[i + q1] * scale if (z >> s16 & low) >= least else zero
            y[i + q2] = y[i + q2] * scale if (z >> s32 & low) >= least else zero
            y[i + q3] = y[i + q3] * scale if (z >> s48) >= least else zero

    @compiled
    def flat(x: Any, y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        blocks = x.size // q4
        for b in numba.prange(blocks):
            some = slice(b * q4, b * q4 + q4)
            block(x[some], y[some], start + u64(b * QUARTER), least, scale, zero)
        for i in range(blocks * q4, x.size):
            y[i] = x[i] * scale if (draw(start + u64(i)) >> s48) >= least else zero

    @compiled
    def in_place(y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        blocks = y.size // q4
        for b in numba.prange(blocks):
            block_in_place(y[b * q4 : b * q4 + q4], start + u64(b * QUARTER), least, scale, zero)
        for i in range(blocks * q4, y.size):
            y[i] = y[i] * scale if (draw(start + u64(i)) >> s48) >= least else zero

    @compiled
    def rows(x: Any, y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        for i in numba.prange(x.shape[0]):
            factor = scale if (draw(start + u64(i)) >> s48) >= least else zero
            for j in range(x.shape[1]):
                y[i, j] = x[i, j] * factor

    @compiled
    def columns(x: Any, y: Any, start: Any, least: Any, scale: Any, zero: Any) -> None:
        channels = x.shape[2]
        for i in numba.prange(x.shape[0]):
            factors = np.empty(channels, x.dtype)
            for c in range(channels):
                factors[c] = scale if (draw(start + u64(i * channels + c)) >> s48) >= least else zero
            for j in range(x.shape[1]):
                for c in range(channels):
                    y[i, j, c] = x[i, j, c] * factors[c]

    return _Kernels(flat, in_place, rows, columns)


def _settings(case: Case) -> Callable[[], None]:
    numba = _numba()
    threads = min(case.threads, numba.config.NUMBA_NUM_THREADS)
    return lambda: numba.set_num_threads(threads)


def _starts(n: int) -> Callable[[], Any]:
    """The first counter of each call, past all of the last one's."""
    start = 0

    def following() -> Any:
        nonlocal start
        start += n
        return np.uint64(start)

    return following


def _constants(case: Case, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    return np.uint64(round(case.p * 2**16)), dtype.type(1 / (1 - case.p)), dtype.type(0)


def _one(case: Case, arrays: Arrays) -> Ready:
    kernels, following, constants = _kernels(case.threads > 1), _starts(case.n), _constants(case, arrays.dtype)
    operands: tuple[Any, ...] = (arrays.x, arrays.y)
    kernel, refill = kernels.flat, nothing
    if case.family == "in-place":
        kernel, operands, refill = kernels.in_place, (arrays.y,), arrays.refill
    elif case.family.startswith("spatial"):
        (n, c), first = case.maps, case.family == "spatial-nchw"
        kernel = kernels.rows if first else kernels.columns
        operands = tuple(array.reshape((n * c, -1) if first else (n, -1, c)) for array in operands)
    return Ready(
        lambda: kernel(*operands, following(), *constants), lambda _: Answer((arrays.y,)), _settings(case), refill,
        resolution=RESOLUTION,
    )  # fmt: skip


def _both(case: Case, arrays: Arrays) -> Ready:
    kernel, following = _kernels(case.threads > 1).flat, _starts(case.n)
    constants = _constants(case, arrays.dtype)
    x, y, dy, dx = arrays.x, arrays.y, arrays.dy, arrays.dx

    def call() -> None:
        start = following()
        kernel(x, y, start, *constants)
        kernel(dy, dx, start, *constants)

    return Ready(call, lambda _: Answer((y, dx)), _settings(case), resolution=RESOLUTION)


PREPARE = {
    "forward": _one,
    "forward+backward": _both,
    "in-place": _one,
    "spatial-nchw": _one,
    "spatial-nhwc": _one,
    "small-calls": _one,
}
