"""The part of a batch that this process has, where several share each: how layers find theirs of a mask.

`fit` enters `batch_part` around each step that it shares out. Layers then draw the mask of the whole batch, as one
process alone would, and take the slice of their examples.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from fastdrop.nn.autograd import Array
from fastdrop.shards import Shard, place, taken, whole_shape

if TYPE_CHECKING:
    from fastdrop import Mask, Noise

    AnyView = TypeVar("AnyView", Mask, Noise)

__all__ = ["batch_part", "over_batch", "part_of", "shared_batch", "whole"]

#: Adds an array up over all processes, in place.
Total = Callable[[Array], None]


class _Part(threading.local):
    shard: Shard | None = None
    total: Total | None = None


_part = _Part()


@contextmanager
def batch_part(shard: Shard, total: Total) -> Iterator[None]:
    """Say that the batches of this thread are parts, along the axis of examples.

    Parameters
    ----------
    shard : Shard
        Of axis 0; layers that have their examples along another axis know which.
    total : callable
        Adds an array up over all processes, in place; all of them call it in the same order.
    """
    before = _part.shard, _part.total
    _part.shard, _part.total = shard, total
    try:
        yield
    finally:
        _part.shard, _part.total = before


def shared_batch() -> bool:
    """Whether there are other processes with other examples of the batch."""
    return _part.shard is not None


def _shards(axis: int) -> tuple[Shard, ...]:
    shard = _part.shard
    return () if shard is None else (Shard(axis, shard.rank, shard.size, interleaved=shard.interleaved),)


def whole(shape: Sequence[int], axis: int = 0) -> tuple[int, ...]:
    """The shape that a tensor with its examples along `axis` has in all processes together."""
    return tuple(shape) if _part.shard is None else whole_shape(shape, place(shape, _shards(axis)))


def part_of(view: AnyView, shape: Sequence[int], axis: int = 0) -> AnyView:
    """The part of a view of shape ``whole(shape, axis)`` that belongs to the examples of this process."""
    return view if _part.shard is None else taken(view, shape, place(shape, _shards(axis)))


def over_batch(sums: Array) -> Array:
    """Add up over all processes what was summed over the examples of this one; in place."""
    if _part.total is not None:
        _part.total(sums)
    return sums
