"""Numba as a contender: one fused loop over a counter, which its compiler turns into vector code.

The draw of element i of call k is a 32-bit hash of i and k (Wellons' "lowbias32" constants), so that nothing is stored
for backward and every thread finds its own draws.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .cases import Arrays, Case
from .ready import Answer, Ready, nothing

__all__ = ["PREPARE"]


def _numba() -> Any:
    return importlib.import_module("numba")


@cache
def _kernels(parallel: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    """(flat, maps): y from x, for flat arrays, and with one decision per row of a 2-d one."""
    numba = _numba()
    u32 = np.uint32

    @numba.njit(inline="always")  # type: ignore[untyped-decorator]
    def draw(i: Any, seed: Any) -> Any:
        h = u32(u32(i) + seed)
        h = u32(u32(h ^ (h >> u32(16))) * u32(0x7FEB352D))
        h = u32(u32(h ^ (h >> u32(15))) * u32(0x846CA68B))
        return u32(h ^ (h >> u32(16)))

    @numba.njit(parallel=parallel)  # type: ignore[untyped-decorator]
    def flat(x: Any, y: Any, seed: Any, least: Any, scale: Any, zero: Any) -> None:
        for i in numba.prange(x.size):
            y[i] = x[i] * scale if draw(i, seed) >= least else zero

    @numba.njit(parallel=parallel)  # type: ignore[untyped-decorator]
    def maps(x: Any, y: Any, seed: Any, least: Any, scale: Any, zero: Any) -> None:
        for i in numba.prange(x.shape[0]):
            factor = scale if draw(i, seed) >= least else zero
            for j in range(x.shape[1]):
                y[i, j] = x[i, j] * factor

    return flat, maps


def _settings(case: Case) -> Callable[[], None]:
    numba = _numba()
    threads = min(case.threads, numba.config.NUMBA_NUM_THREADS)
    return lambda: numba.set_num_threads(threads)


def _seeds() -> Callable[[], Any]:
    """A new seed each time, far from the last: hashes of neighbouring counters must not be shared."""
    state = 0

    def following() -> Any:
        nonlocal state
        state = (state + 0x9E3779B9) % 2**32
        return np.uint32(state)

    return following


def _constants(case: Case, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    return np.uint32(min(round(case.p * 2**32), 2**32 - 1)), dtype.type(1 / (1 - case.p)), dtype.type(0)


def _flat(case: Case, arrays: Arrays) -> Ready:
    kernel, following, constants = _kernels(case.threads > 1)[0], _seeds(), _constants(case, arrays.dtype)
    inplace = case.family == "in-place"
    y = arrays.y
    x = y if inplace else arrays.x
    return Ready(
        lambda: kernel(x, y, following(), *constants),
        lambda _: Answer((y,)),
        _settings(case),
        refill=arrays.refill if inplace else nothing,
    )


def _both(case: Case, arrays: Arrays) -> Ready:
    kernel, following, constants = _kernels(case.threads > 1)[0], _seeds(), _constants(case, arrays.dtype)
    x, y, dy, dx = arrays.x, arrays.y, arrays.dy, arrays.dx

    def call() -> None:
        seed = following()
        kernel(x, y, seed, *constants)
        kernel(dy, dx, seed, *constants)

    return Ready(call, lambda _: Answer((y, dx)), _settings(case))


def _maps(case: Case, arrays: Arrays) -> Ready:
    kernel, following, constants = _kernels(case.threads > 1)[1], _seeds(), _constants(case, arrays.dtype)
    x, y = (array.reshape(case.maps[0] * case.maps[1], -1) for array in (arrays.x, arrays.y))
    return Ready(lambda: kernel(x, y, following(), *constants), lambda _: Answer((arrays.y,)), _settings(case))


PREPARE = {
    "forward": _flat,
    "forward+backward": _both,
    "in-place": _flat,
    "spatial-nchw": _maps,
    "small-calls": _flat,
}
