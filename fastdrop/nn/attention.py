"""Scaled dot-product attention with dropout on its weights, as one recorded operation.

Backward keeps the probabilities before dropout. The mask is a value, so the dropped weights are made from it again.
Between the matrix products there are only softmax and dropout, and their gradient: `fastdrop.softmax`'s kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import check_flags, check_p, check_real
from fastdrop.functional import KEEP_ALL
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.batch import part_of, whole
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator
from fastdrop.softmax import SoftmaxRows, softmax_dropout, softmax_dropout_backward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdrop import Generator, Mask

__all__ = ["attention_weights", "causal_bias", "multi_head_attention", "scaled_dot_product_attention"]


def _softmax_dropout(scores: Array, mask: Mask | None, keep: bool) -> tuple[Array, Array]:
    """Return the softmax along the last axis, and the same with `mask` applied; `scores` is overwritten.

    A row of minus infinities gives zeros: it has nothing to attend to. Without `keep` the softmax itself may be lost.
    """
    if mask is not None and not keep:
        return scores, softmax_dropout(scores, mask.p, mask=mask, out=scores)
    softmax_dropout(scores, 0.0, out=scores)
    return scores, scores if mask is None else mask.apply(scores)


def _softmax_dropout_backward(dweights: Array, probabilities: Array, mask: Mask | None) -> Array:
    """Return the gradient of the scores, given that of the weights, which is overwritten."""
    used = KEEP_ALL.broadcast_to(probabilities.shape) if mask is None else mask
    return softmax_dropout_backward(dweights, SoftmaxRows(probabilities, None, used, probabilities.ndim - 1), dweights)


@dataclass(frozen=True)
class _Plan:
    """What is decided before the forward pass: what is added to the scores, their scale, which weights drop."""

    bias: Array | None
    scale: float
    mask: Mask | None

    def forward(self, q: Array, k: Array, v: Array, keep: bool, out: Array) -> Array | None:
        """Write the result for (..., L, E), (..., S, E), (..., S, Ev) into `out`; return what backward needs."""
        scores = np.matmul(q * q.dtype.type(self.scale), k.swapaxes(-1, -2))
        if self.bias is not None:
            scores += self.bias
        probabilities, weights = _softmax_dropout(scores, self.mask, keep)
        np.matmul(weights, v, out=out)
        return probabilities if keep else None

    def backward(
        self, dy: Array, q: Array, k: Array, v: Array, probabilities: Array | None, out: Sequence[Array]
    ) -> Array:
        """Write the gradients of q, k and v into `out`; return that of the scores."""
        assert probabilities is not None
        dq, dk, dv = out
        weights = probabilities if self.mask is None else self.mask.apply(probabilities)
        np.matmul(weights.swapaxes(-1, -2), dy, out=dv)
        # The dropped weights are not needed any more: their memory takes the next array of that size.
        dweights = np.matmul(dy, v.swapaxes(-1, -2), out=None if self.mask is None else weights)
        dscores = _softmax_dropout_backward(dweights, probabilities, self.mask)
        np.matmul(dscores, k, out=dq)
        np.matmul(dscores.swapaxes(-1, -2), q, out=dk)
        for d in (dq, dk):
            d *= d.dtype.type(self.scale)
        return dscores


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    *,
    training: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    r"""Return weighted means of the values, weighted by how well queries and keys agree.

    .. math:: y = \mathrm{dropout}\left(\mathrm{softmax}(s\, q k^T + b)\right) v

    where b is 0 or minus infinity for a boolean `attn_mask`, or a float `attn_mask` itself.

    Parameters
    ----------
    query, key, value : Tensor or ndarray
        (..., L, E), (..., S, E) and (..., S, Ev), of one floating dtype; the axes before broadcast. float16 is computed
        in float32 and rounded once.
    attn_mask : Tensor or ndarray, optional
        Broadcast to (..., L, S). Of bool: True where a query may attend to a key. Of the query's dtype: added to the
        scores; it gets a gradient where it requires one.
    dropout_p : float
        Probability to drop a weight, 0 to 1; the mask is ``generator.mask((..., L, S), dropout_p)``.
    is_causal : bool
        Query i attends to the keys 0 to i only. Not together with `attn_mask`.
    scale : float, optional
        s above; 1 / sqrt(E) if not given.
    training : bool
        Out of training nothing is dropped and no random number is drawn. Unlike PyTorch's function, whose callers
        have to pass ``dropout_p=0`` in evaluation; a caller that does so need not give `training`.
    generator : fastdrop.Generator, optional
        Where the mask comes from; by default `fastdrop.default_generator()`.

    Returns
    -------
    Tensor
        (..., L, Ev). A query that may attend to no key gets zeros, and sends zero gradients.

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit, or `attn_mask` comes with `is_causal`.
    ValueError, TypeError
        If `dropout_p` or `scale` is no such number.

    Notes
    -----
    One recorded operation. It keeps (..., L, S) probabilities for backward, and no mask.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017.

    Examples
    --------
    >>> q, k, v = np.zeros((1, 2)), np.zeros((3, 2)), np.array([[1.0], [2.0], [6.0]])
    >>> scaled_dot_product_attention(q, k, v).tolist()
    [[3.0]]
    >>> scaled_dot_product_attention(q, k, v, attn_mask=np.array([True, True, False])).tolist()
    [[1.5]]
    """
    check_flags(is_causal=is_causal, training=training)
    check_generator(generator)
    tensors = [named_tensor(t, n) for t, n in ((query, "query"), (key, "key"), (value, "value"))]
    p = check_p(dropout_p)
    batch = _batch(*tensors)
    (l, e), s = tensors[0].array.shape[-2:], tensors[1].array.shape[-2]
    factor = 1 / math.sqrt(max(e, 1)) if scale is None else check_real("scale", scale)
    dtype = np.promote_types(tensors[0].array.dtype, np.float32)
    bias: Array | None = None
    if attn_mask is not None:
        if is_causal:
            raise RuntimeError("attn_mask should not be set when is_causal=True: add the causal mask to it yourself")
        added = named_tensor(attn_mask, "attn_mask")
        bias = _additive(added, (*batch, l, s), tensors[0].array.dtype).astype(dtype, copy=False)
        if added.array.dtype.kind == "f":
            tensors.append(added)
    elif is_causal:
        bias = causal_bias(l, s, dtype)
    q, k, v = (_stretched(t.array, batch).astype(dtype, copy=False) for t in tensors[:3])
    plan = _Plan(bias, factor, _mask((*batch, l, s), p, training, generator))
    # The query's order of axes in memory: where heads are a transposed view, the result's are the same one.
    y = np.empty_like(q, shape=(*batch, l, v.shape[-1]), subok=False)
    keep = any(t.will_record() for t in tensors)
    probabilities = plan.forward(q, k, v, keep, y)

    def function(dy: Array) -> tuple[Array | None, ...]:
        gradients = [np.empty_like(t) for t in (q, k, v)]
        dscores = plan.backward(dy.astype(dtype, copy=False), q, k, v, probabilities, gradients)
        return (*gradients, dscores)[: len(tensors)]

    y = y.astype(tensors[0].array.dtype, copy=False)
    return record("scaled_dot_product_attention", y, tensors, function, saved=tensors[:3])


def multi_head_attention(
    projected: Sequence[Tensor],
    heads: int,
    bias: Tensor | None,
    p: float,
    training: bool,
    generator: Generator | None,
) -> Tensor:
    """Attend with heads that lie side by side in the last axis: (N, L, E) out, one recorded operation.

    `projected` is one tensor (N, L, 3 E) of queries, keys and values, or three of (N, ., E). Heads are views of them,
    and of their gradients: nothing is copied to split or to join. `bias` is broadcast to (N, heads, L, S).
    """
    inputs = [*projected] if bias is None else [*projected, bias]
    own = projected[0].array.dtype
    dtype = np.promote_types(own, np.float32)
    arrays = [t.array.astype(dtype, copy=False) for t in projected]
    q, k, v = _split(arrays, heads)
    mask = _mask((*q.shape[:3], k.shape[2]), p, training, generator)
    plan = _Plan(None if bias is None else bias.array, 1 / math.sqrt(q.shape[-1]), mask)
    y = np.empty_like(arrays[0], shape=(len(q), q.shape[2], heads * q.shape[-1]))
    probabilities = plan.forward(q, k, v, any(t.will_record() for t in inputs), _heads(y, heads))

    def function(dy: Array) -> tuple[Array, ...]:
        gradients = [np.empty_like(a) for a in arrays]
        dy = _heads(dy.astype(dtype, copy=False), heads)
        dscores = plan.backward(dy, q, k, v, probabilities, _split(gradients, heads))
        return (*gradients, dscores)[: len(inputs)]

    return record("multi_head_attention", y.astype(own, copy=False), inputs, function, saved=projected)


def attention_weights(
    query: Tensor, key: Tensor, heads: int, bias: Tensor | None, p: float, training: bool, generator: Generator | None
) -> Tensor:
    """Return the (N, heads, L, S) weights that `multi_head_attention` uses, under the same mask, as a tensor."""
    dtype = np.promote_types(query.array.dtype, np.float32)
    arrays = [t.array.astype(dtype, copy=False) for t in (query, key)]
    q, k = (_heads(a, heads) for a in arrays)
    scale = dtype.type(1 / math.sqrt(q.shape[-1]))
    scores = np.matmul(q * scale, k.swapaxes(-1, -2))
    if bias is not None:
        scores += bias.array
    mask = _mask(scores.shape, p, training, generator)
    probabilities, weights = _softmax_dropout(scores, mask, True)

    def function(dy: Array) -> tuple[Array, ...]:
        dscores = _softmax_dropout_backward(dy.astype(dtype), probabilities, mask)
        gradients = [np.empty_like(a) for a in arrays]
        dq, dk = (_heads(g, heads) for g in gradients)
        np.matmul(dscores, k * scale, out=dq)
        np.matmul(dscores.swapaxes(-1, -2), q * scale, out=dk)
        return (*gradients, dscores)[: 2 if bias is None else 3]

    inputs = (query, key) if bias is None else (query, key, bias)
    weights = weights.astype(query.array.dtype, copy=False)
    # Without dropout the result is what backward reads.
    return record("attention_weights", weights, inputs, function, saved=(query, key), saves_result=mask is None)


def causal_bias(l: int, s: int, dtype: np.dtype[Any]) -> Array:
    """Return (l, s) zeros with minus infinity where the key comes after the query."""
    return np.triu(np.full((l, s), -np.inf, dtype), 1)


def _heads(x: Array, heads: int) -> Array:
    """Return (N, L, E) as a view (N, heads, L, E / heads)."""
    view: Array = x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)
    return view


def _split(arrays: Sequence[Array], heads: int) -> list[Array]:
    """Return queries, keys and values by heads, from one array that holds all of them or from three."""
    parts = arrays
    if len(arrays) == 1:
        e = arrays[0].shape[2] // 3
        parts = [arrays[0][:, :, i * e : (i + 1) * e] for i in range(3)]
    return [_heads(part, heads) for part in parts]


def _mask(shape: tuple[int, ...], p: float, training: bool, generator: Generator | None) -> Mask | None:
    if not training or p == 0:
        return None
    return part_of(chosen_generator(generator).mask(whole(shape), p), shape)


def _stretched(x: Array, batch: tuple[int, ...]) -> Array:
    shape = (*batch, *x.shape[-2:])
    return x if x.shape == shape else np.broadcast_to(x, shape)


def _batch(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...]:
    """Return the shape that the axes before the last two have together, after checking everything."""
    q, k, v = (t.array for t in (query, key, value))
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value need at least 2 axes, (..., L, E), (..., S, E) and "
            f"(..., S, Ev), got {q.shape}, {k.shape} and {v.shape}"
        )
    if any(a.dtype != q.dtype for a in (k, v)) or q.dtype.kind != "f":
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value must have one floating dtype, got "
            f"{q.dtype}, {k.dtype} and {v.dtype}; convert them with .float() or astype"
        )
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(
            "scaled_dot_product_attention: query and key must agree in their last axis, key and value in the one "
            f"before, got query {q.shape}, key {k.shape} and value {v.shape}"
        )
    try:
        return np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise RuntimeError(
            "scaled_dot_product_attention: the axes before the last two must broadcast, got "
            f"query {q.shape}, key {k.shape} and value {v.shape}"
        ) from None


def _additive(attn_mask: Tensor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return what is added to the scores of `shape`: True becomes 0, False minus infinity, numbers stay."""
    array = attn_mask.array
    if array.dtype not in (np.dtype(bool), dtype):
        raise RuntimeError(
            f"scaled_dot_product_attention: attn_mask must be of bool (True: may attend) or of the query's dtype "
            f"{dtype} (added to the scores), got {array.dtype}"
        )
    extra = array.ndim - len(shape)
    if extra > 0 or any(n not in (1, size) for n, size in zip(array.shape, shape[-extra:] if extra else shape)):
        raise RuntimeError(
            f"scaled_dot_product_attention: attn_mask must broadcast to (..., L, S) = {shape}, got {array.shape}"
        )
    return np.where(array, dtype.type(0), dtype.type(-np.inf)) if array.dtype == bool else array
