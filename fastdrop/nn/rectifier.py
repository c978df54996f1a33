"""ReLU on plain arrays of any layout: the arithmetic under `functional.relu`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastdrop import _core
from fastdrop.nn import buffers
from fastdrop.nn.autograd import Array
from fastdrop.nn.kernels import compiled_dtype, plain


def relu(x: Array, inplace: bool, need_dx: bool) -> tuple[Array, Callable[[Array], Array] | None]:
    """Return max(x, 0), and what turns its gradient into that of x, if needed.

    Elements are visited as they lie in memory, whatever the order of the axes. Backward keeps a byte for each.
    """
    order, back = buffers.memory_order(x)
    source = plain(x.transpose(order), compiled_dtype(x.dtype))
    y = source if inplace else buffers.empty_like(source)
    taken = buffers.empty_like(source, np.uint8) if need_dx else None
    _core.relu(source, y, taken)
    result = y.transpose(back).astype(x.dtype, copy=False)
    if inplace and not np.may_share_memory(source, x):  # source was a copy
        np.copyto(x, result)

    if taken is None:
        return (x if inplace else result), None

    def gradient(dy: Array) -> Array:
        g = plain(dy.transpose(order), compiled_dtype(dy.dtype))
        dx = buffers.empty_like(g)
        _core.relu_grad(g, taken, dx)
        gradient: Array = dx.transpose(back).astype(dy.dtype, copy=False)
        return gradient

    return (x if inplace else result), gradient
