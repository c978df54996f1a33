"""Which part of a whole a tensor is, from the argument `shard`: what the operator takes beside the whole's mask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from fastdrop._checks import LIMIT
from fastdrop.shards import Place, Shard, check_shards, place, whole_shape

__all__ = ["Parts", "Places", "check_parts", "find_part", "merged_rows", "nothing", "places_of", "said"]


class Places(dict[int, Place]):
    """Where a tensor lies in its whole, by axis: what a DTensor knows of itself, in the place of `shard`."""


Parts = Shard | Sequence[Shard] | Places | None
Part = tuple[int, ...]


def check_parts(shard: Parts) -> None:
    """Refuse what is no part, whatever tensor it is of."""
    if not isinstance(shard, Places):
        check_shards(shard)


def said(shard: Parts) -> str:
    """What a module's repr says of its part, after the rest.

    Examples
    --------
    >>> said(Shard(0, 1, 2)), said(None)
    (', shard=Shard(axis=0, rank=1, size=2)', '')
    """
    return "" if shard is None else f", shard={shard}"


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
        raise ValueError(f"shard has to be of a whole of fewer than 2**63 elements, but got one of shape {whole}")
    return whole, _flat(len(shape), places.items()) or None


def nothing(shape: Sequence[int], shard: Parts) -> bool:
    """Whether the whole that a tensor without elements belongs to has none either: then nobody draws."""
    return shard is None or 0 in find_part(shape, shard)[0]


def merged_rows(shape: Sequence[int], places: dict[int, Place]) -> Places:
    """Where (rows, out, in) lies, whose rows are the leading axes of (..., out, in) in one.

    Examples
    --------
    >>> merged_rows((4, 5, 7, 7), {0: Place(4, 1, 8)})
    {0: Place(first=20, step=1, total=40)}
    """
    lead = len(shape) - 2
    merged = Places((axis - lead + 1, place) for axis, place in places.items() if axis >= lead)
    split = {axis: place for axis, place in places.items() if axis < lead}
    for axis, (first, step, total) in split.items():
        after = math.prod(shape[axis + 1 : lead])
        if len(split) > 1 or math.prod(shape[:axis]) != 1 or (step != 1 and after != 1):
            raise ValueError(
                f"shard has to be of examples that follow each other, but got {split} for an input of shape "
                f"(*{tuple(shape[:lead])}, {shape[-1]}): give it as (examples, {shape[-1]})"
            )
        merged[0] = Place(first * after, step, total * after)
    return merged
