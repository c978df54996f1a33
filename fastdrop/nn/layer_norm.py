"""Layer normalisation: the function and the layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import check_flags, check_real, check_shape, shown
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.creation import floating
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.tensor import Tensor, named_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["LayerNorm", "layer_norm"]


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    r"""Bring the last axes of each example to mean 0 and variance 1, then scale and shift them.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\, w + b

    with mean and (biased) variance over the axes that `normalized_shape` names.

    Parameters
    ----------
    input : Tensor or ndarray
        (..., *normalized_shape), floating dtype.
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    weight, bias : Tensor or ndarray, optional
        Of shape `normalized_shape` and the input's dtype.
    eps : float
        Added to the variance; not negative.

    Returns
    -------
    Tensor
        Of the input's shape and dtype. float16 is computed in float32 and rounded once.

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit.
    ValueError, TypeError
        If `eps` is negative or no number, or `normalized_shape` no shape.

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0], [5.0, 9.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    x = floating(input, "layer_norm")
    w, b = (None if t is None else named_tensor(t, n) for t, n in ((weight, "weight"), (bias, "bias")))
    shape, eps = _checked_shape(normalized_shape), _checked_eps(eps)
    _check(x, shape, w, b)
    dtype = np.promote_types(x.array.dtype, np.float32)
    size = math.prod(shape)
    table = (math.prod(x.array.shape[: x.array.ndim - len(shape)]), size)
    rows = x.array.reshape(table).astype(dtype, copy=False)
    wa, ba = (None if t is None else t.array.reshape(-1).astype(dtype, copy=False) for t in (w, b))

    count = dtype.type(max(size, 1))
    mean = rows.mean(axis=1, keepdims=True) if size else np.zeros((table[0], 1), dtype)
    y = rows - mean
    inverse = 1 / np.sqrt(np.vecdot(y, y)[:, None] / count + dtype.type(eps))
    y *= inverse
    if wa is not None:
        y *= wa
    if ba is not None:
        y += ba

    def function(dy: Array) -> tuple[Array | None, ...]:
        g = dy.reshape(table).astype(dtype, copy=False)
        # Made again: keeping it would cost an array as large as x.
        normal = rows - mean
        normal *= inverse
        product = g * normal
        # Matrix products sum columns, and rows under weights, faster than `sum` does.
        ones = np.ones(table[0], dtype)
        gradients: list[Array | None] = [None]
        if w is not None:
            gradients.append((ones @ product).reshape(shape))
        if b is not None:
            gradients.append((ones @ g).reshape(shape))
        if x.requires_grad:
            weights = np.ones(size, dtype) if wa is None else wa
            shares = weights / count
            normal *= (product @ shares)[:, None]
            dx = np.multiply(g, weights, out=product)
            dx -= (g @ shares)[:, None]
            dx -= normal
            dx *= inverse
            gradients[0] = dx.reshape(x.array.shape)
        return tuple(gradients)

    inputs = [t for t in (x, w, b) if t is not None]
    y = y.reshape(x.array.shape).astype(x.array.dtype, copy=False)
    return record("layer_norm", y, inputs, function, saved=inputs[: 1 if w is None else 2])


def _checked_shape(normalized_shape: Any) -> tuple[int, ...]:
    shape = check_shape(normalized_shape, "normalized_shape")
    if not shape:
        raise ValueError(f"normalized_shape must name at least one axis, got {shown(normalized_shape)}")
    return shape


def _checked_eps(eps: Any) -> float:
    value = check_real("eps", eps)
    if not value >= 0:
        raise ValueError(f"eps must not be negative, got {shown(eps)}")
    return value


def _check(x: Tensor, shape: tuple[int, ...], w: Tensor | None, b: Tensor | None) -> None:
    if x.array.shape[-len(shape) :] != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {', '.join(map(str, shape))}], "
            f"but got input of size {list(x.array.shape)}"
        )
    for name, t in (("weight", w), ("bias", b)):
        if t is not None and (t.array.shape != shape or t.array.dtype != x.array.dtype):
            raise RuntimeError(
                f"layer_norm: {name} must have shape {shape} and the input's dtype {x.array.dtype}, "
                f"got {t.array.shape} and {t.array.dtype}"
            )


class LayerNorm(Module):
    """Brings the last axes to mean 0 and variance 1, then scales and shifts; see `functional.layer_norm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether to have a weight (at first 1), and a bias.
    bias : bool
        Whether to have a bias (at first 0) beside the weight.
    dtype : dtype
        Of the parameters; the input must have the same.

    Attributes
    ----------
    weight, bias : Parameter or None
        Of shape `normalized_shape`.

    Examples
    --------
    >>> layer = LayerNorm(4)
    >>> layer
    LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)
    >>> layer(np.ones((2, 4), np.float32)).tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = _checked_shape(normalized_shape)
        self.eps = _checked_eps(eps)
        check_flags(elementwise_affine=elementwise_affine, bias=bias)
        wanted = floating_dtype(dtype)
        self.elementwise_affine = elementwise_affine
        for name, value in (("weight", 1), ("bias", 0)):
            there = elementwise_affine and (bias or name == "weight")
            made = Parameter(np.full(self.normalized_shape, value, wanted)) if there else None
            self.register_parameter(name, made)

    def forward(self, input: Any) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
