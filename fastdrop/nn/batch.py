"""The part of a batch that this process has, where several share each: how layers find theirs of a mask.

`fit` enters `batch_part` around each step that it shares out. Layers then draw the mask of the whole batch, as one
process alone would, and take the slice of their examples. Where nothing is shared, all of this gives back what it got.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from fastdrop.nn.autograd import Array
from fastdrop.shards import Place, Shard, place, taken, whole_shape

if TYPE_CHECKING:
    from fastdrop import Mask, Noise

    AnyView = TypeVar("AnyView", Mask, Noise)

__all__ = [
    "along",
    "batch_part",
    "drawn",
    "is_together",
    "part_of",
    "shared_batch",
    "together",
    "totals",
    "undivided",
    "whole",
]

_E = TypeVar("_E", bound=BaseException)

_TOGETHER = "_fastdrop_together"


def together(error: _E) -> _E:
    """Mark an error as one that all processes raise, each at this place."""
    setattr(error, _TOGETHER, True)
    return error


def is_together(error: BaseException) -> bool:
    """Whether all processes have raised an error, at the same place."""
    return hasattr(error, _TOGETHER)


#: Adds an array up over all processes, in place.
Total = Callable[[Array], None]


class _Part(threading.local):
    shard: Shard | None = None
    total: Total | None = None
    drawn: int = 0


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
    """A context in which layers have their examples along `axis`, where `fit` shares batches out.

    For a model that gives them something else than (N, ...), as ``nn.Dropout`` on (T, N, C). Layers that know do so
    themselves: recurrent ones, attention, `LockedDropout`.

    Examples
    --------
    >>> from fastdrop import nn
    >>> with along(1):
    ...     y = nn.functional.dropout(nn.randn(5, 3, 2), 0.5)
    """
    shard = _part.shard
    if shard is None or shard.axis == axis:
        return _NOTHING
    return batch_part(replace(shard, axis=axis), _part.total)


def undivided() -> AbstractContextManager[None]:
    """A context for what all processes have whole, where `fit` shares batches out: weights that a model drops.

    Examples
    --------
    >>> from fastdrop import nn
    >>> with undivided():
    ...     w = nn.functional.dropout(nn.randn(8, 4), 0.5)
    """
    return _NOTHING if _part.shard is None else batch_part(None)


def _places(shape: Sequence[int], shard: Shard) -> dict[int, Place]:
    try:
        return place(shape, [shard])
    except ValueError as error:
        raise ValueError(
            f"where a batch is shared out, what a layer drops has to have its examples along axis {shard.axis}, but it "
            f"was given {tuple(shape)}: {error}; fastdrop.nn.batch has contexts for another axis (along) and for what "
            "is no part of the batch (undivided)"
        ) from None


def whole(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that a tensor has in all processes together.

    Raises
    ------
    ValueError
        If its examples cannot lie where they should.
    """
    if _part.shard is None:
        return tuple(shape)
    found = whole_shape(shape, _places(shape, _part.shard))
    _part.drawn = zlib.crc32(repr(found).encode(), _part.drawn)
    return found


def drawn() -> int:
    """A checksum of what `whole` has given since this was asked: all processes have to have the same."""
    found, _part.drawn = _part.drawn, 0
    return found


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
