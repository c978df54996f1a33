"""Softmax and dropout as one operation on tensors; `nn.functional` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastdrop
from fastdrop._checks import check_int
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.creation import floating

if TYPE_CHECKING:
    from fastdrop import Generator
    from fastdrop.nn.tensor import Tensor

__all__ = ["softmax_dropout"]


def softmax_dropout(
    input: Any, p: float = 0.1, dim: int = -1, training: bool = True, *, generator: Generator | None = None
) -> Tensor:
    """Softmax along `dim`, and dropout of the probabilities in training: the weights of attention.

    ``dropout(softmax(input, dim), p, training)`` in one pass, and one more backward; see `fastdrop.softmax_dropout`.
    For backward the input and two numbers for each row are kept, neither the probabilities nor a mask.

    Parameters
    ----------
    input : Tensor or ndarray
        At least one dimension, floating dtype. A row of minus infinities gives zeros, and zero gradients.
    p : float
        The probability to drop, 0 <= p <= 1.
    dim : int
        Along which probabilities add up to 1.
    training : bool
        Outside training it is softmax alone.
    generator : fastdrop.Generator, optional
        Where the mask comes from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError
        If `p` or `dim` is out of range.
    TypeError
        If `p` is no number, or `input` has no floating dtype.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> softmax_dropout(np.zeros((1, 4), np.float32), 0.5, generator=fastdrop.Generator(0))
    tensor([[0.5, 0.5, 0. , 0. ]])
    """
    x = floating(input, "softmax_dropout")
    if x.array.ndim:
        dim = check_int("dim", dim, -x.array.ndim, x.array.ndim - 1)
    y, saved = fastdrop.softmax_dropout_forward(x.array, p, training, axis=dim, rng=generator)

    def function(dy: Array) -> tuple[Array]:
        return (fastdrop.softmax_dropout_backward(dy, saved),)

    return record("softmax_dropout", y, (x,), function, saved=(x,))
