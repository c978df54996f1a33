"""DropConnect as a function on tensors; `fastdrop.dropconnect` has it on arrays, `connections` has the layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop.connections import add_bias, as_rows, bias_gradient, connections, input_gradient, product, weight_gradient
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.batch import part_of, shared_batch, whole
from fastdrop.nn.creation import floating
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import chosen_generator

if TYPE_CHECKING:
    from fastdrop import Generator, Mask

__all__ = ["dropconnect"]


def _own(mask: Mask | None, lead: tuple[int, ...]) -> Mask | None:
    """The part of a mask (B, ...) of the whole batch for examples along `lead`, whose product is their number."""
    if mask is None or not shared_batch():
        return mask
    of_each = mask.shape[1:]
    return part_of(mask.reshape(*whole(lead), *of_each), (*lead, *of_each)).reshape(math.prod(lead), *of_each)


def dropconnect(
    input: Any,
    weight: Any,
    bias: Any = None,
    p: float = 0.5,
    training: bool = True,
    *,
    per_example: bool = True,
    drop_bias: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`linear` that drops each weight with probability `p`, for each example by itself; see `fastdrop.dropconnect`.

    The masks are values: backward makes their bits again, and nothing of the size (batch, out, in) is kept.

    Parameters
    ----------
    input : Tensor or ndarray
        Shape (..., in_features).
    weight : Tensor
        Shape (out_features, in_features).
    bias : Tensor, optional
        Shape (out_features,).
    p : float
        The probability to drop a weight, 0 <= p <= 1.
    training : bool
        Outside training this is `linear`, but that float16 is computed in float32 and rounded once.
    per_example : bool
        Whether each example has decisions of its own, or the batch shares them.
    drop_bias : bool
        Whether the bias is dropped too, by a mask of its own.
    generator : fastdrop.Generator, optional
        Where the masks come from; by default `fastdrop.default_generator()`.

    Returns
    -------
    Tensor
        Shape (..., out_features).

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or `p` does not fit.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> x, w = np.ones((2, 8), np.float32), np.ones((3, 8), np.float32)
    >>> dropconnect(x, w, p=0.5, generator=fastdrop.Generator(0))
    tensor([[6., 8., 8.],
            [6., 4., 6.]])
    """
    x, w = floating(input, "dropconnect"), named_tensor(weight, "weight")
    b = None if bias is None else named_tensor(bias, "bias")
    xa, wa, ba = x.array, w.array, None if b is None else b.array
    # Of the whole batch, which takes no memory.
    examples = np.broadcast_to(np.zeros((), xa.dtype), whole(xa.shape)) if shared_batch() else xa
    drawn = connections(
        examples, wa, ba, p, training, per_example=per_example, drop_bias=drop_bias, rng=chosen_generator(generator),
        names=("input", "weight"),
    )  # fmt: skip
    mask, bias_mask = (_own(each, xa.shape[:-1]) for each in drawn)
    outputs = len(wa)
    rows = as_rows(xa)
    y = add_bias(product(mask, rows, wa), ba, bias_mask).astype(xa.dtype, copy=False)
    need_x, need_w = x.requires_grad, w.requires_grad

    def function(dy: Array) -> tuple[Array | None, ...]:
        g = dy.reshape(len(rows), outputs)
        dx = input_gradient(mask, g, wa).reshape(xa.shape) if need_x else None
        dw = weight_gradient(mask, g, rows) if need_w else None
        return (dx, dw) if b is None else (dx, dw, bias_gradient(bias_mask, g))

    saved = ([w] if need_x else []) + ([x] if need_w else [])
    inputs = (x, w) if b is None else (x, w, b)
    return record("dropconnect", y.reshape(*xa.shape[:-1], outputs), inputs, function, saved=saved)
