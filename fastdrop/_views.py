"""View algebra: what indexing, reshaping and broadcasting do to (start, shape, strides). Nothing here knows about bits.

Strides count elements of the sequence; `what` is what messages call the view. The functions take and give plain tuples,
so that they can be read, and tested against NumPy's own views, without a mask.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._checks import LIMIT, MAX_NDIM, check_flags, check_int, shown

Shape = tuple[int, ...]
View = tuple[int, Shape, Shape]  # start, shape, strides


def contiguous_strides(shape: Shape) -> Shape:
    """C-order strides.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def check_extent(start: int, shape: Shape, strides: Shape, what: str = "mask") -> None:
    """Every bit a view touches has an index from 0 to 2**63 - 1."""
    if 0 in shape:
        return
    ends = [(n - 1) * s for n, s in zip(shape, strides)]
    low = start + sum(e for e in ends if e < 0)
    high = start + sum(e for e in ends if e > 0)
    if low < 0 or high >= LIMIT:
        raise ValueError(
            f"the {what} would use bits {low} to {high} of the sequence, outside 0 to 2**63 - 1 "
            f"(start={start}, shape={shape}, strides={strides})"
        )


def index_view(view: View, key: Any, what: str = "mask") -> View:
    """Basic indexing: integers, slices, ``...`` and ``None``, as NumPy's.

    >>> index_view((0, (4, 5), (5, 1)), (slice(None, None, -2), None, 3))
    (18, (2, 1), (-10, 0))
    """
    start, shape, strides = view
    items = key if isinstance(key, tuple) else (key,)
    taken = 0
    ellipses = 0
    for item in items:
        if item is Ellipsis:
            ellipses += 1
        elif item is not None:
            taken += 1
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if taken > len(shape):
        raise IndexError(f"too many indices: the {what} has {len(shape)} axes, but {taken} were indexed")
    if not ellipses:
        items = (*items, Ellipsis)

    new_shape: list[int] = []
    new_strides: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            new_shape.append(1)
            new_strides.append(0)
        elif item is Ellipsis:
            rest = len(shape) - taken
            new_shape += shape[axis : axis + rest]
            new_strides += strides[axis : axis + rest]
            axis += rest
        elif isinstance(item, slice):
            first, stop, step = item.indices(shape[axis])
            n = len(range(first, stop, step))
            if n > 1:  # a step that is never taken may be of any size
                step *= strides[axis]
            elif n == 1:
                step = strides[axis]
            else:
                first = step = 0
            start += first * strides[axis]
            new_shape.append(n)
            new_strides.append(step)
            axis += 1
        else:
            try:
                if isinstance(item, bool):
                    raise TypeError
                i = operator.index(item)
            except TypeError:
                raise IndexError(
                    f"a {what} takes integers, slices, '...' and None as indices, but got {shown(item)}: "
                    f"it is a view, so index np.asarray({what}) for anything else"
                ) from None
            n = shape[axis]
            if not -n <= i < n:
                raise IndexError(f"index {shown(i)} is out of bounds for axis {axis} with size {n}")
            start += (i % n) * strides[axis]
            axis += 1
    if len(new_shape) > MAX_NDIM:
        raise IndexError(f"a {what} may have at most {MAX_NDIM} axes, but the index asks for {len(new_shape)}")
    if 0 in new_shape:  # names no bit: nor may its start or strides leave the sequence
        return view[0], tuple(new_shape), (0,) * len(new_shape)
    return start, tuple(new_shape), tuple(new_strides)


def check_shard(rank: Any, size: Any, interleaved: Any = False) -> tuple[int, int | Shape]:
    """`rank` and `size`, which is the number of parts, or the extents of all of them.

    >>> check_shard(2, 2)
    Traceback (most recent call last):
    ValueError: rank has to be between 0 and 1, but got 2
    """
    check_flags(interleaved=interleaved)
    try:
        count = size = check_int("size", size, 1, LIMIT - 1)
    except TypeError:
        if isinstance(size, (str, bytes)) or not isinstance(size, (Sequence, np.ndarray)):
            raise TypeError(
                f"size has to be how many parts there are, or the extents of all, but got {shown(size)}"
            ) from None
        size = tuple([check_int(f"size[{i}]", n, 0, LIMIT - 1) for i, n in enumerate(size)])
        count = len(size)
        if not count:
            raise ValueError("size has to be how many parts there are, or the extents of all, but got none") from None
        if interleaved:
            raise ValueError(
                f"size has to be how many parts there are where they are interleaved, but got {size}"
            ) from None
    return check_int("rank", rank, 0, count - 1), size


def even_part(n: int, rank: int, size: int) -> slice:
    """Part `rank` of n elements in `size` parts as even as can be; the first have what is left over.

    >>> [even_part(7, rank, 3) for rank in range(3)]  # as numpy.array_split
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    least, more = divmod(n, size)
    first = rank * least + min(rank, more)
    return slice(first, first + least + (rank < more))


def shard_view(view: View, axis: int, rank: int, size: int | Shape, interleaved: bool, what: str = "mask") -> View:
    """Part `rank` of the `size` that an axis is dealt out in.

    >>> shard_view((0, (7, 5), (5, 1)), 0, 1, 3, False)
    (15, (2, 5), (5, 1))
    >>> shard_view((0, (7, 5), (5, 1)), 0, 1, 3, True)
    (5, (2, 5), (15, 1))
    """
    shape = view[1]
    if not shape:
        raise ValueError(f"a {what} without axes has no parts")
    axis = check_int("axis", axis, -len(shape), len(shape) - 1) % len(shape)
    if isinstance(size, tuple):
        if sum(size) != shape[axis]:
            raise ValueError(
                f"size has to name parts of {shape[axis]} elements in all, as axis {axis} has, but {shown(size)} are "
                f"{sum(size)}"
            )
        first = sum(size[:rank])
        part = slice(first, first + size[rank])
    elif interleaved:
        part = slice(rank, None, size)
    else:
        part = even_part(shape[axis], rank, size)
    return index_view(view, (*(slice(None),) * axis, part), what)


def turned(shape: Shape, strides: Shape) -> bool:
    """Whether a view leaps along its last axis and runs along another, as a transposed one does."""
    steps = [abs(s) for s, n in zip(strides, shape) if n > 1]
    return bool(steps) and steps[-1] >= 64 and 0 < min(steps) < steps[-1]


def memory_order(shape: Shape, strides: Shape) -> tuple[Shape, Shape]:
    """The extents from the longest step to the shortest, and which of them each axis has.

    >>> memory_order((2, 3, 4), (4, 32, 8))
    ((3, 4, 2), (2, 0, 1))
    """
    order = sorted(range(len(strides)), key=lambda i: -abs(strides[i]))
    return tuple(shape[i] for i in order), tuple(order.index(i) for i in range(len(strides)))


def nested(strides: Shape, shape: Shape, itemsize: int) -> bool:
    """Whether each step passes over all that lies along finer ones, so that no two elements share memory."""
    reach = itemsize
    for step, n in sorted((abs(s), n) for s, n in zip(strides, shape) if n > 1):
        if step < reach:
            return False
        reach += step * (n - 1)
    return True


def transpose_view(view: View, axes: tuple[int, ...] | None, what: str = "mask") -> View:
    """Permute the axes; None reverses them."""
    start, shape, strides = view
    ndim = len(shape)
    if axes is None:
        order = tuple(reversed(range(ndim)))
    else:
        if any(not -ndim <= a < ndim for a in axes) or sorted(a % ndim for a in axes) != list(range(ndim)):
            raise ValueError(f"axes have to be a permutation of the {what}'s {ndim} axes, but got {axes}")
        order = tuple(a % ndim for a in axes)
    return start, tuple(shape[a] for a in order), tuple(strides[a] for a in order)


def broadcast_view(view: View, to: Shape, what: str = "mask") -> View:
    """Repeat along new leading axes and along axes of extent 1, by a stride of 0."""
    start, shape, strides = view
    lead = len(to) - len(shape)
    if lead < 0 or any(n != m and n != 1 for n, m in zip(shape, to[max(lead, 0) :])):
        raise ValueError(f"cannot broadcast a {what} of shape {shape} to shape {to}")
    new = tuple(s if n == m else 0 for n, m, s in zip(shape, to[lead:], strides))
    return start, to, (0,) * lead + new


def resolve_shape(shape: tuple[int, ...], size: int, what: str = "mask") -> Shape:
    """Replace a -1 by what makes the number of elements right."""
    unknown = [i for i, n in enumerate(shape) if n == -1]
    if len(unknown) > 1:
        raise ValueError(f"shape can only have one unknown axis (-1), but got {shape}")
    known = 1
    for n in shape:
        if n < -1:
            raise ValueError(f"shape has to be made of non-negative integers and at most one -1, but got {shape}")
        known *= n if n != -1 else 1
    if unknown and known and size % known == 0:
        i = unknown[0]
        shape = (*shape[:i], size // known, *shape[i + 1 :])
        known = size
    if -1 in shape or known != size:
        raise ValueError(f"cannot reshape a {what} of {size} elements into shape {shape}")
    return shape


def reshape_view(view: View, to: Shape, what: str = "mask") -> View:
    """The same elements in C order under another shape of the same size, if strides can say it.

    Runs of axes on both sides that hold equally many elements are matched from the left; inside such a group the old
    axes must step as one.

    >>> reshape_view((0, (2, 3, 4), (12, 4, 1)), (6, 4))
    (0, (6, 4), (4, 1))
    """
    start, shape, strides = view
    if 0 in to:
        return start, to, contiguous_strides(to)
    old = [(n, s) for n, s in zip(shape, strides) if n != 1]
    new_strides = [0] * len(to)
    i = j = 0
    while i < len(old):
        i_end, j_end = i + 1, j + 1
        n_old, n_new = old[i][0], to[j]
        while n_old != n_new:
            if n_old < n_new:
                n_old *= old[i_end][0]
                i_end += 1
            else:
                n_new *= to[j_end]
                j_end += 1
        for k in range(i, i_end - 1):
            if old[k][1] != old[k + 1][1] * old[k + 1][0]:
                raise ValueError(
                    f"a view cannot reshape a {what} of shape {shape} and strides {strides} into {to}: "
                    f"its elements do not lie one behind the other; reshape np.asarray({what}) instead"
                )
        step = old[i_end - 1][1]
        for k in range(j_end - 1, j - 1, -1):
            new_strides[k] = step
            step *= to[k]
        i, j = i_end, j_end
    return start, to, tuple(new_strides)
