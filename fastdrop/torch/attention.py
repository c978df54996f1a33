"""Attention with dropout on its weights.

Eager code takes one autograd node for all of it, which keeps the weights and makes the dropped ones again; traces,
transforms and higher derivatives take the composition of PyTorch's operators around `drop`. Both give the same bits.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastdrop._checks import check_flags, check_p, check_real
from fastdrop._core import Generator
from fastdrop.random import check_generator
from fastdrop.torch.drop import drop, ours, scale_of, straight, under
from fastdrop.torch.ops import apply
from fastdrop.torch.originals import ORIGINALS
from fastdrop.torch.parts import Parts, check_parts, find_part, places_of
from fastdrop.torch.sharded import attention_by_parts, by_parts, check_ours
from fastdrop.torch.stream import draw

__all__ = ["scaled_dot_product_attention"]

# Rows that a mask leaves nothing of are zeros, not NaN, since PyTorch 2.5. The compiler knows it as an operator alone.
_masked_softmax = getattr(torch.ops.aten, "_safe_softmax", torch.softmax)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """softmax(scale * query @ key^T + mask), before anything is dropped."""
    # Scaled first, so that half types do not leave their range in between.
    scores = (query * scale) @ key.transpose(-2, -1)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return torch.softmax(scores, -1)
    # A float32 mask goes with half types.
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
    return _masked_softmax(scores, -1)


def _version(mask: Tensor | None) -> int | None:
    return None if mask is None or mask.is_inference() else mask._version


class _Attention(torch.autograd.Function):
    """All of it as one node. Batch axes are those of the query, and the mask has no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        law: tuple[Any, ...],
    ) -> Tensor:
        weights = _weights(query, key, mask, causal, scale)
        ctx.save_for_backward(query, key, value, weights)
        # The mask is not saved, as PyTorch does not: what follows from it is in the weights, and it may be overwritten.
        ctx.rest = mask, _version(mask), causal, scale, law
        return apply(weights, law, torch.empty_like(weights)) @ value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,), (mask, version, causal, scale, law) = grads, ctx.rest
        query, key, value, weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled() or not straight(dy):
            if _version(mask) != version:
                raise RuntimeError(
                    "scaled_dot_product_attention: attn_mask was modified by an inplace operation, but gradients of "
                    "gradients need it: give a clone"
                )
            with torch.enable_grad():
                # Views, since the three may be one tensor, or made of each other.
                given = query.view_as(query), key.view_as(key), value.view_as(value)
                y = under(_weights(*given[:2], mask, causal, scale), law) @ given[2]
            tensors = [t for t, want in zip(given, wanted) if want]
            found = iter(torch.autograd.grad(y, tensors, dy, create_graph=torch.is_grad_enabled()))
            return *(next(found) if want else None for want in wanted), *(None,) * 4
        buffer = torch.empty_like(weights)
        dvalue = apply(weights, law, buffer).transpose(-2, -1) @ dy if wanted[2] else None
        if not (wanted[0] or wanted[1]):
            return None, None, dvalue, *(None,) * 4
        dweights = torch.matmul(dy, value.transpose(-2, -1), out=buffer)
        dscores = torch._softmax_backward_data(apply(dweights, law, dweights), weights, -1, weights.dtype)
        dquery = (dscores @ key).mul_(scale) if wanted[0] else None
        dkey = (dscores.transpose(-2, -1) @ query).mul_(scale) if wanted[1] else None
        return dquery, dkey, dvalue, *(None,) * 4


def _check_tensors(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    """Refuse what PyTorch refuses, before a number is drawn."""
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value have to have at least 2 axes, "
            f"but got {query.dim()}, {key.dim()} and {value.dim()}"
        )
    if torch.is_autocast_enabled("cpu"):  # which casts them
        return
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value have to have the same dtype, "
            f"but got {query.dtype}, {key.dtype} and {value.dtype}"
        )
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise RuntimeError(
            f"scaled_dot_product_attention: attn_mask has to be bool, float32 or {query.dtype} as query is, "
            f"but got {mask.dtype}"
        )


def _one_node(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    batch = query.shape[:-2]
    return (
        straight(query) and straight(key) and straight(value) and key.shape[:-2] == batch == value.shape[:-2]
        and (mask is None or (straight(mask) and not mask.requires_grad))
        and query.numel() > 0 and key.numel() > 0 and not torch.is_autocast_enabled("cpu")
    )  # fmt: skip


def _shape(query: Tensor, key: Tensor, enable_gqa: bool = False) -> tuple[int, ...]:
    """The shape of the weights."""
    batch = query.shape[:-2] if enable_gqa else torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    return (*batch, query.shape[-2], key.shape[-2])


def _check_keys(shape: tuple[int, ...], shard: Parts) -> None:
    if len(shape) - 1 in places_of(shape, shard):
        raise ValueError(
            "scaled_dot_product_attention: shard has to be of the batch, of heads or of queries, but got "
            f"{shard} for weights of shape {shape}: the softmax of a query needs all keys"
        )


def _causal_part(query: Tensor, key: Tensor, enable_gqa: bool, shard: Parts) -> Tensor | None:
    """The mask of `is_causal`, where the queries are a part of the whole's; None where they are all of them."""
    shape = _shape(query, key, enable_gqa)
    queries = places_of(shape, shard).get(len(shape) - 2)
    if queries is None:
        return None
    rows = torch.arange(shape[-2], device=query.device) * queries.step + queries.first
    return rows[:, None] >= torch.arange(shape[-1], device=query.device)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    r"""`torch.nn.functional.scaled_dot_product_attention`, whose dropout on the CPU is fastdrop's.

    .. math:: \mathrm{dropout}(\mathrm{softmax}(s\, q k^T + \mathrm{mask}),\ p)\ v

    Parameters
    ----------
    query, key, value : Tensor
        (..., L, E), (..., S, E) and (..., S, Ev).
    attn_mask : Tensor, optional
        bool (True takes part) or floating (added), broadcast to (..., L, S).
    dropout_p : float
        Probability to drop a weight; it applies whatever mode a module is in, as in PyTorch. 0 is PyTorch's own
        function, and so are tensors that are not floating tensors on the CPU.
    is_causal : bool
        Whether position i sees no later ones; not with `attn_mask`.
    scale : float, optional
        1 / sqrt(E) if not given.
    enable_gqa : bool
        Whether key and value have fewer heads, each shared by several of the query's.
    generator : fastdrop.Generator, optional
        As of `dropout`.
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole the weights (..., L, S) are: of a batch, of heads, or of the queries, for which
        `is_causal` counts positions in the whole, and `attn_mask` is the part's. Keys cannot be split, since a softmax
        needs all of them. DTensors say it themselves.

    Returns
    -------
    Tensor
        (..., L, Ev).

    Raises
    ------
    ValueError, TypeError
        If `dropout_p` is outside 0 to 1 or no number, `generator` no `fastdrop.Generator` or `shard` no
        `fastdrop.Shard`, or of the keys.
    RuntimeError
        As PyTorch, where shapes do not fit.

    Notes
    -----
    The mask is over the weights (..., L, S) in C order. PyTorch has no fused kernel with dropout on the CPU: both
    make the weights and keep them for backward, where PyTorch keeps its mask and the dropped weights too.

    Examples
    --------
    >>> import fastdrop, torch
    >>> q = torch.ones(2, 3, 4)
    >>> scaled_dot_product_attention(q, q, q, dropout_p=0.5, generator=fastdrop.Generator(0)).shape
    torch.Size([2, 3, 4])
    """
    p = check_p(dropout_p)
    check_flags(is_causal=is_causal, enable_gqa=enable_gqa)
    if scale is not None:
        check_real("scale", scale)
    check_generator(generator)
    check_parts(shard)
    for name, x in (("query", query), ("key", key), ("value", value), ("attn_mask", attn_mask)):
        if not isinstance(x, Tensor) and (x is not None or name != "attn_mask"):
            raise TypeError(f"scaled_dot_product_attention(): {name} has to be a Tensor, but got a {type(x).__name__}")
    placed = p > 0.0 or (shard is not None and is_causal and attn_mask is None)
    if placed and by_parts(query) and by_parts(key) and by_parts(value):
        function = partial(
            scaled_dot_product_attention, dropout_p=p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return attention_by_parts(function, query, key, value, attn_mask, generator, shard, p > 0.0)
    if shard is not None and is_causal and attn_mask is None:
        _check_tensors(query, key, value, None)
        attn_mask = _causal_part(query, key, enable_gqa, shard)
        is_causal = attn_mask is None
    if p == 0.0 or not (ours(query) and ours(key) and ours(value)):
        if p > 0.0:
            check_ours("scaled_dot_product_attention", generator, shard, query, key, value)
        # Given only where it is asked for: PyTorch 2.4 does not know it.
        grouped = {"enable_gqa": True} if enable_gqa else {}
        return ORIGINALS["scaled_dot_product_attention"](
            query, key, value, attn_mask, p, is_causal, scale=scale, **grouped
        )
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: attn_mask should not be set when is_causal=True")
    _check_tensors(query, key, value, attn_mask)
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    scale = 1.0 / math.sqrt(query.size(-1) or 1) if scale is None else scale
    up = scale_of(p)
    noise, part = None, None
    if shard is not None:
        shape = _shape(query, key)
        _check_keys(shape, shard)
        noise, part = find_part(shape, shard)
    if _one_node(query, key, value, attn_mask):
        law = (*draw(generator), p, noise, None, up, 0.0, 0.0, part)
        y: Tensor = _Attention.apply(query, key, value, attn_mask, is_causal, scale, law)
        return y
    weights = _weights(query, key, attn_mask, is_causal, scale)
    return drop(weights, p, noise, scale=up, generator=generator, part=part) @ value
