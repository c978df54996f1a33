"""Which part of a whole a tensor is, from the argument `shard`: what the operator takes beside the whole's mask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from fastdrop._checks import LIMIT
from fastdrop.shards import Place, Shard, check_shards, place, whole_shape

__all__ = ["Parts", "Places", "check_parts", "find_part", "nothing", "places_of"]


class Places(dict[int, Place]):
    """Where a tensor lies in its whole, by axis: what a DTensor knows of itself, in the place of `shard`."""


Parts = Shard | Sequence[Shard] | Places | None
Part = tuple[int, ...]


def check_parts(shard: Parts) -> None:
    """Refuse what is no part, whatever tensor it is of."""
    if not isinstance(shard, Places):
        check_shards(shard)


def places_of(shape: Sequence[int], shard: Parts) -> dict[int, Place]:
    """Where a tensor of that shape lies along each axis that it is a part along.

    Examples
    --------
    >>> places_of((4, 3), Shard(-1, 1, 2))
    {1: Place(first=3, step=1, total=6)}
    """
    return shard if isinstance(shard, Places) else place(shape, check_shards(shard))


def _flat(rank: int, places: Iterable[tuple[int, Place]]) -> Part:
    return tuple(n for axis, (first, step, _) in places for n in (axis - rank, first, step))


def find_part(shape: Sequence[int], shard: Parts) -> tuple[tuple[int, ...], Part | None]:
    """The shape of the whole, and which part of it a tensor of `shape` is; None if it is all of it.

    Examples
    --------
    >>> find_part((4, 3), Shard(0, 1, 2))
    ((8, 3), (-2, 4, 1))
    >>> find_part((4, 3), None)
    ((4, 3), None)
    """
    if shard is None:
        return tuple(shape), None
    places = places_of(shape, shard)
    whole = whole_shape(shape, places)
    if not torch.compiler.is_compiling() and math.prod(whole) >= LIMIT:
        raise ValueError(f"shard has to be of a whole of fewer than 2**63 elements, but got {shard}, of shape {whole}")
    return whole, _flat(len(shape), places.items()) or None


def nothing(shape: Sequence[int], shard: Parts) -> bool:
    """Whether the whole that a tensor without elements belongs to has none either: then nobody draws."""
    return shard is None or 0 in find_part(shape, shard)[0]
