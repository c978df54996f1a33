"""Multi-head attention as a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, check_p, check_shape
from fastdrop._core import Generator
from fastdrop.nn import functional as F
from fastdrop.nn.attention import attention_weights, causal_bias, multi_head_attention
from fastdrop.nn.batch import along
from fastdrop.nn.creation import numpy_generator
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.layers import Linear
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.tensor import Tensor, as_tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator, refunding

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention in `num_heads` subspaces side by side: projections, attention with dropout, projection.

    Parameters
    ----------
    embed_dim : int
        Features of queries and results; a multiple of `num_heads`.
    num_heads : int
    dropout : float
        Probability to drop an attention weight, in training.
    bias : bool
        Whether the projections have biases.
    kdim, vdim : int, optional
        Features of keys and values; `embed_dim` if not given.
    batch_first : bool
        Whether inputs are (N, L, E); else (L, N, E). Without a batch (L, E) either way.
    dtype : dtype
        Of the parameters; the inputs must have the same.
    generator : fastdrop.Generator, optional
        Where initial weights and masks come from; by default `fastdrop.default_generator()`.

    Attributes
    ----------
    in_proj_weight : Parameter or None
        (3 embed_dim, embed_dim): the projections of queries, keys and values, one above the other; uniform in
        +-sqrt(6 / (4 embed_dim)) at first. With another `kdim` or `vdim`: `q_proj_weight`, `k_proj_weight` and
        `v_proj_weight` instead.
    in_proj_bias : Parameter or None
        (3 embed_dim,), at first 0.
    out_proj : Linear
        Its bias is 0 at first.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017.

    Examples
    --------
    >>> layer = MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
    >>> x = np.ones((3, 5, 8), np.float32)
    >>> y, weights = layer(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = check_int("embed_dim", embed_dim, 1, LIMIT)
        self.num_heads = check_int("num_heads", num_heads, 1, LIMIT)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
        self.kdim = self.embed_dim if kdim is None else check_int("kdim", kdim, 1, LIMIT)
        self.vdim = self.embed_dim if vdim is None else check_int("vdim", vdim, 1, LIMIT)
        check_p(dropout)
        check_flags(bias=bias, batch_first=batch_first)
        check_generator(generator)
        self.dropout = dropout
        self.batch_first = batch_first
        self.generator = generator
        with refunding(chosen_generator(generator)):  # where there is no memory
            self._init_weights(bias, floating_dtype(dtype), generator)

    def _init_weights(self, bias: bool, dtype: np.dtype[Any], generator: Generator | None) -> None:
        check_shape((3 * self.embed_dim, max(self.embed_dim, self.kdim, self.vdim)), "weight's shape")
        e, rng = self.embed_dim, numpy_generator(generator)

        def uniform(rows: int, columns: int) -> Parameter:
            bound = math.sqrt(6 / (rows + columns))
            return Parameter(rng.uniform(-bound, bound, (rows, columns)).astype(dtype))

        packed = self.kdim == self.vdim == e
        self.register_parameter("in_proj_weight", uniform(3 * e, e) if packed else None)
        for name, size in (("q_proj_weight", e), ("k_proj_weight", self.kdim), ("v_proj_weight", self.vdim)):
            self.register_parameter(name, None if packed else uniform(e, size))
        self.register_parameter("in_proj_bias", Parameter(np.zeros(3 * e, dtype)) if bias else None)
        self.out_proj = Linear(e, e, bias, dtype=dtype, generator=generator)
        if self.out_proj.bias is not None:
            self.out_proj.bias.array[...] = 0

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the result, and the attention weights or None.

        Parameters
        ----------
        query, key, value : Tensor or ndarray
            (L, N, embed_dim), (S, N, kdim) and (S, N, vdim); (N, ., .) with `batch_first`; (., .) without a batch.
        key_padding_mask : Tensor or ndarray, optional
            (N, S), or (S,) without a batch. Of bool: True where a key is to be ignored. Floating: added to the scores.
        need_weights : bool
            Whether to return the weights. Without them less is kept for backward.
        attn_mask : Tensor or ndarray, optional
            (L, S) or (N num_heads, L, S). Of bool: True where a query may *not* attend to a key, as everywhere in this
            class of PyTorch's and unlike in `scaled_dot_product_attention`. Floating: added to the scores.
        average_attn_weights : bool
            Whether the weights returned are the mean over the heads.
        is_causal : bool
            Query i attends to the keys 0 to i only. Needs no `attn_mask`, and adds to one that is given.

        Returns
        -------
        output : Tensor
            In the query's shape.
        weights : Tensor or None
            (N, L, S), or (N, num_heads, L, S) if not averaged, without N where there is no batch. In training they are
            those that were used, after dropout. A query that may attend to no key has zeros.
        """
        # Self-attention on an array is to take the same one product as on a tensor, and so round alike.
        made = {id(t): named_tensor(t, n) for t, n in ((query, "query"), (key, "key"), (value, "value"))}
        q, k, v = (made[id(t)] for t in (query, key, value))
        p = check_p(self.dropout)
        self._check(q, k, v)
        batched = q.ndim == 3
        if not batched:
            axis = 0 if self.batch_first else 1
            alike = q is k is v
            q = q.unsqueeze(axis)
            k, v = (q, q) if alike else (k.unsqueeze(axis), v.unsqueeze(axis))
        parts = self._project(q, k, v)
        if not self.batch_first:
            parts = [t.transpose(0, 1) for t in parts]
        n, l, s = *parts[0].shape[:2], parts[-1].shape[1]
        bias = self._bias(attn_mask, key_padding_mask, is_causal, (n, l, s), q.array.dtype)
        with along(0):  # whatever the layout outside
            y, weights = self._attend(parts, bias, p, need_weights)
        y = self.out_proj(y if self.batch_first else y.transpose(0, 1))
        y = y if batched else y.reshape(l, self.embed_dim)
        if weights is None:
            return y, None
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return y, weights if batched else weights.squeeze(0)

    def _attend(
        self, parts: list[Tensor], bias: Tensor | None, p: float, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(N, L, E), and the weights if they are asked for."""
        n, l, s = *parts[0].shape[:2], parts[-1].shape[1]
        if need_weights:
            pq, pk, pv = parts if len(parts) == 3 else self._thirds(parts[0], -1)
            weights = attention_weights(pq, pk, self.num_heads, bias, p, self.training, self.generator)
            values = pv.reshape(n, s, self.num_heads, self.embed_dim // self.num_heads).permute(0, 2, 1, 3)
            return (weights @ values).permute(0, 2, 1, 3).reshape(n, l, self.embed_dim), weights
        return multi_head_attention(parts, self.num_heads, bias, p, self.training, self.generator), None

    def _project(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        """Return the projections: one tensor where one product makes them all, else three."""
        if self.in_proj_weight is not None and q is k is v:
            return [F.linear(q, self.in_proj_weight, self.in_proj_bias)]
        if self.in_proj_weight is not None:
            weights: list[Any] = self._thirds(self.in_proj_weight, 0)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases: list[Any] = [None] * 3 if self.in_proj_bias is None else self._thirds(self.in_proj_bias, 0)
        return [F.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True)]

    def _thirds(self, x: Tensor, dim: int) -> list[Tensor]:
        cuts = [slice(i * self.embed_dim, (i + 1) * self.embed_dim) for i in range(3)]
        return [x[cut] if dim == 0 else x[..., cut] for cut in cuts]

    def _check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        shapes = f"query {q.shape}, key {k.shape} and value {v.shape}"
        if q.ndim not in (2, 3) or k.ndim != q.ndim or v.ndim != q.ndim:
            raise RuntimeError(f"MultiheadAttention: expected 3 axes each, or 2 without a batch, got {shapes}")
        for name, x, size in (("query", q, self.embed_dim), ("key", k, self.kdim), ("value", v, self.vdim)):
            if x.shape[-1] != size:
                raise RuntimeError(f"MultiheadAttention: was expecting {size} features of {name}, got shape {x.shape}")
        batch = 0 if self.batch_first else 1
        if k.shape[:-1] != v.shape[:-1] or (q.ndim == 3 and k.shape[batch] != q.shape[batch]):
            raise RuntimeError(
                "MultiheadAttention: key and value must have one length, and all three one batch size "
                f"(batch_first={self.batch_first}), got {shapes}"
            )

    def _bias(
        self, attn_mask: Any, key_padding_mask: Any, is_causal: bool, sizes: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> Tensor | None:
        """Return what is added to the (N, heads, L, S) scores, in a shape that broadcasts to theirs."""
        n, l, s = sizes
        total = as_tensor(causal_bias(l, s, dtype)) if is_causal else None
        for name, given, shapes, out in (
            ("attn_mask", attn_mask, ((l, s), (n * self.num_heads, l, s)), (-1, self.num_heads, l, s)),
            ("key_padding_mask", key_padding_mask, ((n, s), (s,)), (-1, 1, 1, s)),
        ):
            if given is None:
                continue
            mask = named_tensor(given, name)
            if mask.shape not in shapes or (mask.shape == (s,) and n != 1):
                raise RuntimeError(
                    f"MultiheadAttention: {name} must have shape {shapes[0]} or {shapes[1]}, got {mask.shape}"
                )
            if mask.array.dtype == bool:
                mask = as_tensor(np.where(mask.array, dtype.type(-np.inf), dtype.type(0)))
            elif mask.array.dtype != dtype:
                raise RuntimeError(
                    f"MultiheadAttention: {name} must be of bool (True: ignored) or of the query's dtype {dtype} "
                    f"(added to the scores), got {mask.array.dtype}"
                )
            if mask.shape != (l, s) or name == "key_padding_mask":
                mask = mask.reshape(*out)
            total = mask if total is None else total + mask
        return total
