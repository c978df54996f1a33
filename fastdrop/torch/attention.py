"""Attention with dropout on its weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdrop._checks import check_p
from fastdrop._core import Generator
from fastdrop.random import check_generator
from fastdrop.torch.drop import drop, ours

__all__ = ["scaled_dot_product_attention"]

# Rows that a mask leaves nothing of are zeros, not NaN, since PyTorch 2.5.
_softmax = getattr(torch, "_safe_softmax", torch.softmax)


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

    Returns
    -------
    Tensor
        (..., L, Ev).

    Raises
    ------
    ValueError, TypeError
        If `dropout_p` is outside 0 to 1 or no number, or `generator` no `fastdrop.Generator`.
    RuntimeError
        As PyTorch, where shapes do not fit.

    Notes
    -----
    The mask is over the weights (..., L, S) in C order. PyTorch has no fused kernel with dropout on the CPU
    either: both make the weights, and keep them for backward; PyTorch keeps its mask too.

    Examples
    --------
    >>> import fastdrop, torch
    >>> q = torch.ones(2, 3, 4)
    >>> scaled_dot_product_attention(q, q, q, dropout_p=0.5, generator=fastdrop.Generator(0)).shape
    torch.Size([2, 3, 4])
    """
    p = check_p(dropout_p)
    check_generator(generator)
    if p == 0.0 or not (ours(query) and ours(key) and ours(value)):
        if generator is not None and p > 0.0:
            raise ValueError(f"generator is for floating tensors on the CPU, but got {query.dtype} on {query.device}")
        # Given only where it is asked for: PyTorch 2.4 does not know it.
        grouped = {"enable_gqa": True} if enable_gqa else {}
        return F.scaled_dot_product_attention(query, key, value, attn_mask, p, is_causal, scale=scale, **grouped)
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    # The root on either side, so that half types do not leave their range in between.
    root = math.sqrt(1.0 / math.sqrt(query.size(-1)) if scale is None else scale)
    scores = (query * root) @ (key * root).transpose(-2, -1)
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("scaled_dot_product_attention: attn_mask should not be set when is_causal=True")
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        else:
            scores = scores + attn_mask
    weights = _softmax(scores, -1)
    weights = drop(weights, p, None, None, 1.0 / (1.0 - p) if p < 1.0 else 0.0, 0.0, 0.0, False, generator)
    return weights @ value
