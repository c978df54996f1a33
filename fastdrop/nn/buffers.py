"""Memory for large results, taken again once nothing refers to it.

A training step makes the same arrays each time. Given back to the system in between, their pages have to be mapped and
zeroed again, which takes longer than to fill them. Here the memory of an array that no one refers to any more waits for
the next one of about its size.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from fastdrop.nn.autograd import Array

#: Below it the C library keeps memory by itself.
_SMALL = 1 << 18
#: Bytes that may wait for their next use; the longest unused are let go first.
_IDLE = 1 << 26

# What owns the memory, the longest unused first. The arrays that `empty` gives are views, and NumPy lets every view of
# a view refer to the owner itself: a block is idle when the pool's is the only reference.
_pool: list[Array] = []
_lock = threading.Lock()


def _references(blocks: list[Array]) -> list[int]:
    return [sys.getrefcount(block) for block in blocks]


# Measured, since what a call itself refers to differs among versions of Python.
_UNUSED = _references([np.empty(1)])[0]
# Without a lock around references, their counts are no proof. Builds of Python that can do without one (with a "t"
# among their flags) hold it at times, while they import a module that asks for it.
_COUNTS = (
    sys.implementation.name == "cpython"
    and "t" not in getattr(sys, "abiflags", "")
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an uninitialised C-contiguous array, as `numpy.empty` does."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL or not _COUNTS:
        return np.empty(shape, dtype)
    # Whoever finds the pool in use (another thread, a finalizer, the child of a fork) does without it.
    if not _lock.acquire(blocking=False):
        return np.empty(shape, dtype)
    try:
        return _take(size)[:size].view(dtype).reshape(shape)
    finally:
        _lock.release()


def empty_like(array: Array, dtype: npt.DTypeLike | None = None) -> Array:
    """Return `empty` in an array's shape and order in memory, and in its dtype (native) if no other is given."""
    dtype = array.dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
    if array.size * dtype.itemsize < _SMALL:
        small: Array = np.empty_like(array, dtype)
        return small
    order, back = memory_order(array)
    large: Array = empty(array.transpose(order).shape, dtype).transpose(back)
    return large


def memory_order(array: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes from the longest stride to the shortest, and the order that undoes it."""
    axes = tuple(range(array.ndim))
    if array.flags.c_contiguous:
        return axes, axes
    order = tuple(sorted(axes, key=lambda axis: -abs(array.strides[axis])))
    return order, tuple(sorted(axes, key=order.__getitem__))


def _take(size: int) -> Array:
    fitting = [
        (block.size, position)
        for position, (block, references) in enumerate(zip(_pool, _references(_pool), strict=True))
        if references == _UNUSED and size <= block.size <= size + size // 4
    ]
    block: Array = _pool.pop(min(fitting)[1]) if fitting else np.empty(size, np.uint8)
    _pool.append(block)
    if not fitting:
        _let_go()
    return block


def _let_go() -> None:
    idle: list[Any] = [i for i, references in enumerate(_references(_pool)) if references == _UNUSED]
    excess = sum(_pool[i].size for i in idle) - _IDLE
    gone = set()
    for i in idle:
        if excess <= 0:
            break
        excess -= _pool[i].size
        gone.add(i)
    _pool[:] = [block for i, block in enumerate(_pool) if i not in gone]
