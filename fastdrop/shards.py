"""`Shard`: which part of a tensor a process has, for what draws masks from the part alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ._checks import MAX_NDIM, check_int, shown
from ._views import check_shard

if TYPE_CHECKING:
    from ._core import Mask, Noise

    AnyView = TypeVar("AnyView", Mask, Noise)

__all__ = ["Place", "Shard", "check_shards", "place", "taken", "whole_shape"]


class Place(NamedTuple):
    """Where a part lies along its axis: ``whole[first::step]``, as many elements as the part has, out of `total`."""

    first: int
    step: int
    total: int


@dataclass(frozen=True)
class Shard:
    """Part `rank` of the `size` that tensors are split into along an axis: a batch, features, heads or a sequence.

    A layer that knows it takes the part of the mask that belongs to its part of the tensor, so that a run on several
    processes drops what one process would.

    Parameters
    ----------
    axis : int
        The axis that is split; negative counts from the end.
    rank : int
        Which part, from 0.
    size : int or sequence of int
        How many parts of the same extent there are, or the extents of all parts, which are kept as a tuple. A number
        means equal parts, since a part knows no other's extent; `Mask.shard` splits as evenly as can be. Those of
        `torch.chunk` are ``Shard(0, rank, [len(part) for part in x.chunk(world)])``.
    interleaved : bool
        Whether elements are dealt out one by one, ``whole[rank::size]``, as by `torch.utils.data.DistributedSampler`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    See Also
    --------
    Mask.shard : the same of a mask, whose extents are known.

    Examples
    --------
    >>> Shard(0, rank=1, size=4)
    Shard(axis=0, rank=1, size=4)
    >>> Shard(-1, 1, [5, 3, 3]).place(3)
    Place(first=5, step=1, total=11)
    """

    axis: int
    rank: int
    size: int | Sequence[int]
    interleaved: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        rank, size = check_shard(self.rank, self.size, self.interleaved)
        checked = {"axis": check_int("axis", self.axis, -MAX_NDIM, MAX_NDIM - 1), "rank": rank, "size": size}
        vars(self).update(checked, interleaved=bool(self.interleaved))

    def place(self, extent: int) -> Place:
        """Where a part of that extent lies.

        Raises
        ------
        ValueError
            If `size` says that this part has another extent.
        """
        if isinstance(self.size, int):
            first, step = (self.rank, self.size) if self.interleaved else (self.rank * extent, 1)
            return Place(first, step, extent * self.size)
        if extent != self.size[self.rank]:
            raise ValueError(
                f"{self} is {self.size[self.rank]} elements long, but the tensor has {extent} along its axis"
            )
        return Place(sum(self.size[: self.rank]), 1, sum(self.size))

    def __repr__(self) -> str:
        more = ", interleaved=True" if self.interleaved else ""
        return f"Shard(axis={self.axis}, rank={self.rank}, size={shown(self.size)}{more})"


def check_shards(shard: Shard | Sequence[Shard] | None) -> tuple[Shard, ...]:
    """The argument `shard` as a tuple: None is no part but the whole, and several are of several axes.

    Examples
    --------
    >>> check_shards([Shard(0, 0, 2), Shard(-1, 1, 2)])
    (Shard(axis=0, rank=0, size=2), Shard(axis=-1, rank=1, size=2))
    """
    if shard is None:
        return ()
    shards = (shard,) if isinstance(shard, Shard) else tuple(shard) if isinstance(shard, (list, tuple)) else (shard,)
    if not all(isinstance(one, Shard) for one in shards):
        raise TypeError(f"shard has to be a fastdrop.Shard, a sequence of them or None, but got {shown(shard)}")
    return shards


def place(shape: Sequence[int], shards: Sequence[Shard]) -> dict[int, Place]:
    """For each axis that a tensor of that shape is a part along, where the part lies.

    Raises
    ------
    ValueError
        If a shard names an axis that the tensor does not have, or that another one names, or another extent.

    Examples
    --------
    >>> place((4, 3), [Shard(0, 1, 2)])
    {0: Place(first=4, step=1, total=8)}
    """
    places: dict[int, Place] = {}
    for shard in shards:
        if not -len(shape) <= shard.axis < len(shape):
            raise ValueError(f"{shard} names an axis that a tensor of {len(shape)} axes does not have")
        axis = shard.axis % len(shape)
        if axis in places:
            raise ValueError(f"shard has to name each axis once, but {shard} is the second of axis {axis}")
        places[axis] = shard.place(shape[axis])
    return places


def whole_shape(shape: Sequence[int], places: dict[int, Place]) -> tuple[int, ...]:
    """The shape of the whole that a part of that shape belongs to."""
    return tuple(places[i].total if i in places else n for i, n in enumerate(shape))


def taken(view: AnyView, shape: Sequence[int], places: dict[int, Place]) -> AnyView:
    """The part of a view of the whole that belongs to a part of that shape.

    Examples
    --------
    >>> import fastdrop as fd
    >>> places = place((4, 3), [Shard(0, 1, 2)])
    >>> mask = fd.Mask(key=0, call=0, p=0.5, shape=whole_shape((4, 3), places))
    >>> taken(mask, (4, 3), places) == mask[4:]
    True
    """
    if not places:
        return view
    index = [slice(None)] * len(shape)
    for axis, (first, step, _) in places.items():
        index[axis] = slice(first, first + step * shape[axis], step)
    return view[tuple(index)]
