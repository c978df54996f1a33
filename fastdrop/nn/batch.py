"""The part of a batch that this process has, where several share each: how layers find theirs of a mask.

`fit` enters `batch_part` around each step that it shares out. Layers then draw the mask of the whole batch, as one
process alone would, and take the slice of their examples. Where nothing is shared, all of this gives back what it got.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from fastdrop.nn.autograd import Array
from fastdrop.shards import Place, Shard, place, taken, whole_shape

if TYPE_CHECKING:
    from fastdrop import Mask, Noise

    AnyView = TypeVar("AnyView", Mask, Noise)

__all__ = ["along", "batch_part", "part_of", "shared_batch", "totals", "undivided", "whole"]

#: Adds an array up over all processes, in place.
Total = Callable[[Array], None]


class _Part(threading.local):
    shard: Shard | None = None
    total: Total | None = None


_part = _Part()


@contextmanager
def batch_part(shard: Shard | None, total: Total | None = None) -> Iterator[None]:
    """Say that the batches of this thread are parts, along the axis of examples.

    Parameters
    ----------
    shard : Shard or None
        Of the axis that has the examples where a layer does not know better; None for what is nobody's part.
    total : callable, optional
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


_NOTHING = nullcontext()


def along(axis: int) -> AbstractContextManager[None]:
    """A context in which layers have their examples along `axis`."""
    shard = _part.shard
    if shard is None or shard.axis == axis:
        return _NOTHING
    return batch_part(Shard(axis, shard.rank, shard.size, interleaved=shard.interleaved), _part.total)


def undivided() -> AbstractContextManager[None]:
    """A context for what all processes have whole, as weights are."""
    return _NOTHING if _part.shard is None else batch_part(None)


def _places(shape: Sequence[int], shard: Shard) -> dict[int, Place]:
    try:
        return place(shape, [shard])
    except ValueError as error:
        raise ValueError(
            f"where a batch is shared out, what a layer drops has to have its examples along axis {shard.axis}, but it "
            f"was given {tuple(shape)}: {error}"
        ) from None


def whole(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that a tensor has in all processes together.

    Raises
    ------
    ValueError
        If its examples cannot lie where they should.
    """
    return tuple(shape) if _part.shard is None else whole_shape(shape, _places(shape, _part.shard))


def part_of(view: AnyView, shape: Sequence[int]) -> AnyView:
    """The part of a view of the whole, ``whole(shape)``, that belongs to the examples of this process."""
    return view if _part.shard is None else taken(view, shape, _places(shape, _part.shard))


def totals() -> Callable[[Array], Array]:
    """What adds up, over all processes and in place, what was summed over the examples of this one."""
    total = _part.total
    if total is None:
        return lambda sums: sums

    def add_up(sums: Array) -> Array:
        total(sums)
        return sums

    return add_up
