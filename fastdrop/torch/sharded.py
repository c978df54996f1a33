"""DTensors: the local tensor is a part of the whole that PyTorch knows, and takes the slice of the mask that it is.

What a rank has along an axis follows from the placements, mesh dimension by mesh dimension: a replica is the whole, a
chunk is a range. Nothing is sent, but where a rank has no slice (a strided shard of several pieces), or a sum that is
still to be made and an operation that is not linear: that is redistributed first, as PyTorch does it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastdrop._core import Generator
from fastdrop._views import contiguous_strides
from fastdrop.shards import Place
from fastdrop.torch.drop import check_leaf, next_seed, ours
from fastdrop.torch.ops import CODES
from fastdrop.torch.parts import Parts, Places, places_of

__all__ = ["apply_local", "attention_by_parts", "by_parts", "check_ours", "connect_by_parts", "is_dtensor"]

_MODULE = "torch.distributed.tensor"  # never imported for this: it takes long, and who has a DTensor has it


def is_dtensor(x: Any) -> bool:
    """Whether x is one of torch.distributed's tensors in parts."""
    kind = type(x)
    return kind.__name__ == "DTensor" and kind is getattr(sys.modules.get(_MODULE), "DTensor", None)


def by_parts(x: Any) -> bool:
    """Whether x is a DTensor whose local tensor is the kernels'."""
    return is_dtensor(x) and ours(x._local_tensor)


def check_ours(name: str, generator: Generator | None, shard: Parts, *tensors: Tensor) -> None:
    """Refuse a generator or a part for tensors that are PyTorch's."""
    if (generator is None and shard is None) or all(map(ours, tensors)) or all(map(by_parts, tensors)):
        return
    which = "shard" if generator is None else "generator"
    others = [x for x in tensors if not (ours(x) or by_parts(x))]
    found = _kind(others[0]) if others else "DTensors and other tensors"
    raise ValueError(f"{name}(): {which} is for floating tensors on the CPU, but got {found}")


def _kind(x: Tensor) -> str:
    """Why x is PyTorch's."""
    if not x.is_cpu or x.dtype not in CODES:
        return f"{x.dtype} on {x.device}"
    if x.is_nested:
        return "a nested tensor"
    if x.layout is not torch.strided:
        return f"a tensor of layout {x.layout}"
    if torch._C._get_tracing_state() is not None:
        return "a tensor that torch.jit traces"
    return f"a {type(x).__name__}"


def _chunk(indices: Sequence[int], count: int, rank: int) -> Sequence[int]:
    """What `torch.chunk` gives to a rank: equal chunks, the last of them shorter or none."""
    extent = math.ceil(len(indices) / count)
    return indices[extent * rank : extent * (rank + 1)]


def _indices(x: Any) -> dict[int, Sequence[int]]:
    """For each axis that x is sharded along, which indices this rank has, in order."""
    found: dict[int, Sequence[int]] = {}
    mesh = x.device_mesh
    for dim, placement in enumerate(x.placements):
        axis = getattr(placement, "dim", None)
        if axis is None:
            continue
        count, rank = mesh.size(dim), mesh.get_local_rank(dim)
        indices = found.get(axis, range(x.shape[axis]))
        pieces = getattr(placement, "split_factor", 1)  # of a strided shard: each is dealt out by itself
        if pieces == 1:
            found[axis] = _chunk(indices, count, rank)
        else:
            found[axis] = [i for k in range(pieces) for i in _chunk(_chunk(indices, pieces, k), count, rank)]
    return found


def _place(indices: Sequence[int], total: int) -> Place | None:
    """Indices as a place; None where they do not lie at equal steps."""
    if not isinstance(indices, range):
        step = indices[1] - indices[0] if len(indices) > 1 else 1
        steps = range(indices[0], indices[0] + step * len(indices), step) if indices else range(0)
        if list(steps) != indices:
            return None
        indices = steps
    return Place(indices.start, indices.step, total)


def _places(x: Any) -> dict[int, Place | None]:
    return {axis: _place(indices, x.shape[axis]) for axis, indices in _indices(x).items()}


def _reduced(x: Any, linear: bool) -> Any:
    """x, with replicas in the place of what has no slice of a mask."""
    module = sys.modules[_MODULE]
    replica = module.Replicate()
    places = _places(x)

    def kept(placement: Any) -> bool:
        if placement.is_partial():
            # An embedding's has a mask of its own, which is gone once the sum is made.
            return linear and type(placement) is module.Partial and placement.reduce_op in ("sum", "avg")
        return places.get(getattr(placement, "dim", -1), True) is not None

    placements = [placement if kept(placement) else replica for placement in x.placements]
    return x if placements == list(x.placements) else x.redistribute(placements=placements)


def _within(outer: dict[int, Place], inner: dict[int, Any], shape: Sequence[int]) -> Places:
    """Where a part of a tensor of that shape lies, which is itself a part of a larger whole."""
    places = Places(outer)
    for axis, place in inner.items():
        first, step, total = outer.get(axis, Place(0, 1, shape[axis]))
        places[axis] = Place(first + step * place.first, step * place.step, total)
    return places


def _wrapped(y: Tensor, like: Any, placements: Sequence[Any], shape: Sequence[int], stride: Any = None) -> Tensor:
    """A local tensor as a DTensor on the mesh of another; in C order if not told otherwise."""
    stride = tuple(contiguous_strides(tuple(shape)) if stride is None else stride)
    z: Tensor = type(like).from_local(
        y, like.device_mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
    )
    return z


def _absent(x: Any, generator: Generator | None, draws: bool = True) -> bool:
    """Whether this rank is not in the mesh of x, and has nothing of it. It draws as the others do."""
    if x.device_mesh.get_coordinate() is not None:
        return False
    if draws:
        next_seed(generator)
    return True


def apply_local(
    function: Callable[..., Tensor],
    x: Any,
    generator: Generator | None,
    shard: Parts,
    inplace: bool = False,
    linear: bool = True,
) -> Tensor:
    """A dropout of a DTensor: ``function(local, generator=..., shard=...)`` of its local tensor.

    Parameters
    ----------
    function : callable
        Works out of place.
    x : DTensor
    generator : Generator or None
    shard : Shard, sequence of Shard or None
        Which part the DTensor itself is of a larger whole, such as a batch that its mesh knows nothing of.
    inplace : bool
        Write the result to `x`.
    linear : bool
        Whether the sum of results is the result of the sum, so that a sum may still be made later.
    """
    if inplace:
        check_leaf(x)
    if _absent(x, generator):
        return x
    given, x = x, _reduced(x, linear)
    places = _within(places_of(x.shape, shard), _places(x), x.shape)
    local = function(x.to_local(), generator=generator, shard=places)
    y = _wrapped(local, x, x.placements, x.shape, x.stride())
    return given.copy_(y) if inplace else y


def _attention_placements(query: Any, key: Any, value: Any) -> tuple[list[Any], ...]:
    """How query, then key and value lie so that each rank has all that its weights need, and how the latter's
    gradients lie: batches and heads are split in all three, or queries alone."""
    module = sys.modules[_MODULE]
    mesh, queries = query.device_mesh, query.ndim - 2
    lists: tuple[list[Any], ...] = [], [], []
    for q, k, v in zip(query.placements, key.placements, value.placements):
        replica = module.Replicate()
        found = replica, replica, replica
        axis = q.dim if type(q) is module.Shard else None
        if axis == queries and k.is_replicate() and v.is_replicate():
            found = q, k, module.Partial()
        elif axis is not None and axis < queries and q == k == v and query.ndim == key.ndim == value.ndim:
            extents = {x.shape[axis] for x in (query, key, value)}
            if len(extents) == 1 or all(n % mesh.size() == 0 for n in extents):
                found = q, k, k
        for placements, placement in zip(lists, found):
            placements.append(placement)
    return lists


def _mask_by_parts(mask: Any, of_query: Sequence[Any], rank: int) -> Tensor:
    """What a rank needs of the mask of attention, which is repeated along axes that it has one of, or none."""
    module = sys.modules[_MODULE]
    placements, of_gradient = [], []
    for placement in of_query:
        axis = placement.dim - rank + mask.ndim if placement.is_shard() else -1
        own = axis >= 0 and mask.shape[axis] != 1
        placements.append(module.Shard(axis) if own else module.Replicate())
        of_gradient.append(module.Partial() if placement.is_shard() and not own else placements[-1])
    y: Tensor = mask.redistribute(placements=placements).to_local(grad_placements=of_gradient)
    return y


def attention_by_parts(
    function: Callable[..., Tensor],
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    generator: Generator | None,
    shard: Parts,
    draws: bool,
) -> Tensor:
    """Attention of DTensors: ``function(query, key, value, mask, generator=..., shard=...)`` of their local tensors."""
    if mask is not None and not is_dtensor(mask):
        raise TypeError(
            "scaled_dot_product_attention: attn_mask has to be a DTensor where query, key and value are, "
            f"but got a {type(mask).__name__}"
        )
    of_query, of_key, of_gradient = _attention_placements(query, key, value)
    query, key, value = (
        x.redistribute(placements=placements) for x, placements in zip((query, key, value), (of_query, of_key, of_key))
    )
    weights, shape = (*query.shape[:-1], key.shape[-2]), (*query.shape[:-1], value.shape[-1])
    if _absent(query, generator, draws):
        return _wrapped(query._local_tensor, query, of_query, shape)
    if mask is not None:
        mask = _mask_by_parts(mask, of_query, query.ndim)
    others = [x.to_local(grad_placements=of_gradient) for x in (key, value)]
    places = _within(places_of(weights, shard), _places(query), weights)
    y = function(query.to_local(), *others, mask, generator=generator, shard=places)
    return _wrapped(y, query, of_query, shape)


def connect_by_parts(
    function: Callable[..., Tensor], x: Any, weight: Any, generator: Generator | None, shard: Parts
) -> Tensor:
    """DropConnect of DTensors: ``function(x, weight, generator=..., shard=...)`` of their local tensors.

    Examples are split, or outputs, or inputs, whose products are then a sum still to be made.
    """
    module, last = sys.modules[_MODULE], x.ndim - 1
    shard_of, replica, total = module.Shard, module.Replicate(), module.Partial()
    lists: tuple[list[Any], ...] = [], [], [], [], []
    of_examples = None  # the one axis that they are split along: what `merged_rows` can say
    for p, q in zip(x.placements, weight.placements):
        axis = p.dim if type(p) is shard_of else None
        follow = axis is not None and of_examples in (None, axis) and math.prod(x.shape[:axis]) == 1
        if follow and axis < last and q.is_replicate():
            of_examples = axis
            found = p, q, p, total, p
        elif p.is_replicate() and q == shard_of(0):
            found = p, q, total, q, shard_of(last)
        elif axis == last and q == shard_of(1):
            found = p, q, p, q, total
        else:
            found = replica, replica, replica, replica, replica
        for placements, placement in zip(lists, found):
            placements.append(placement)
    of_x, of_weight, of_dx, of_dweight, of_y = lists
    x, weight = x.redistribute(placements=of_x), weight.redistribute(placements=of_weight)
    mask = (*x.shape[:-1], *weight.shape)
    if _absent(x, generator):
        return _wrapped(x._local_tensor, x, of_y, mask[:-1])
    inner = {axis + (axis == last): place for axis, place in _places(x).items()}  # the outputs' axis is in between
    inner.update((axis + last, place) for axis, place in _places(weight).items())
    places = _within(places_of(mask, shard), inner, mask)
    local, weights = x.to_local(grad_placements=of_dx), weight.to_local(grad_placements=of_dweight)
    y = function(local, weights, generator=generator, shard=places)
    return _wrapped(y, x, of_y, mask[:-1])
