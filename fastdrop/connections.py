"""DropConnect, on arrays: a linear map each of whose weights is dropped, for each example or for the whole batch.

The mask is a view of shape (B, O, I). Where its stride over the batch is 0 the weights are masked once, into a buffer
of their own size, and BLAS does the rest; elsewhere the kernels make its bits again, tile by tile.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags
from ._core import Generator, Mask, dropconnect_dw, dropconnect_dx, dropconnect_forward, inverted_scale
from .functional import check_mask, check_p, decide
from .random import check_generator

__all__ = ["dropconnect", "dropconnect_backward"]

Array = NDArray[Any]


def _wide(a: Array) -> Array:
    """As the kernels and BLAS take it: C order, this machine's bytes, half types as float32."""
    return np.ascontiguousarray(a, np.float32 if a.dtype.itemsize == 2 else a.dtype.newbyteorder("="))


def _is_empty(mask: Mask) -> bool:
    """Whether nothing is added up: also where an infinity times a dropped weight would make NaN of it."""
    return mask.p == 1.0 or mask.size == 0


def product(mask: Mask | None, x: Array, w: Array) -> Array:
    """``y[b, o] = sum_i M[b, o, i] w[o, i] x[b, i] / (1 - p)`` of (B, I) and (O, I), in float32 for half types.

    A mask of None keeps everything.
    """
    x, w = _wide(x), _wide(w)
    if mask is None:
        return np.asarray(x @ w.T)
    if _is_empty(mask):
        return np.zeros(mask.shape[:2], x.dtype)
    if mask.strides[0] == 0:
        return np.asarray(x @ mask[0].apply(w).T)
    return dropconnect_forward(mask, x, w, inverted_scale(mask.p))


def input_gradient(mask: Mask | None, dy: Array, w: Array) -> Array:
    """What `product` sends back to x: (B, I) of dy (B, O) and w (O, I)."""
    dy, w = _wide(dy), _wide(w)
    if mask is None:
        return np.asarray(dy @ w)
    if _is_empty(mask):
        return np.zeros(mask.shape[::2], dy.dtype)
    if mask.strides[0] == 0:
        return np.asarray(dy @ mask[0].apply(w))
    return dropconnect_dx(mask, dy, w, inverted_scale(mask.p))


def weight_gradient(mask: Mask | None, dy: Array, x: Array) -> Array:
    """What `product` sends back to w: (O, I) of dy (B, O) and x (B, I)."""
    dy, x = _wide(dy), _wide(x)
    if mask is None:
        return np.asarray(dy.T @ x)
    if _is_empty(mask):
        return np.zeros(mask.shape[1:], dy.dtype)
    if mask.strides[0] == 0:
        return mask[0].apply(dy.T @ x)
    return dropconnect_dw(mask, dy, x, inverted_scale(mask.p))


def bias_gradient(mask: Mask | None, dy: Array) -> Array:
    """What `add_bias` sends back to the bias: (O,) of dy (B, O), in float32 for half types, whose sums stand still."""
    wide = _wide(dy)
    return np.asarray((wide if mask is None else mask.apply(wide)).sum(axis=0))


def add_bias(y: Array, bias: Array | None, mask: Mask | None) -> Array:
    """y (B, O) plus the bias (O,), which a mask may drop; works in y."""
    if bias is not None:
        wide = _wide(bias)
        y += wide if mask is None else mask.apply(np.broadcast_to(wide, y.shape))
    return y


def as_rows(a: Array) -> Array:
    """(..., I) as (B, I); where nothing is left to infer B from, too."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _check_operands(
    x: Array, w: Array, others: dict[str, tuple[Array, tuple[int, ...]]], names: tuple[str, str] = ("x", "w")
) -> None:
    (of_x, of_w), native = names, x.dtype.newbyteorder("=")
    for name, a in ((of_w, w), *((name, a) for name, (a, _) in others.items())):
        if a.dtype.newbyteorder("=") != native:
            raise TypeError(f"{name} has to have the dtype of {of_x}, {x.dtype}, but got {a.dtype}")
    if w.ndim != 2:
        raise ValueError(f"{of_w} has to have 2 axes, (out, in), but got shape {w.shape}")
    if x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"{of_x} has to have shape (..., {w.shape[1]}) for {of_w} of shape {w.shape}, but got {x.shape}"
        )
    for name, (a, shape) in others.items():
        if a.shape != shape:
            raise ValueError(f"{name} has to have shape {shape}, but got {a.shape}")


def _standing_for(x: Array, shape: tuple[int, ...]) -> Array:
    """An array of the mask's shape that takes no memory: for the checks that all kinds share."""
    return np.broadcast_to(np.zeros((), x.dtype), shape)


def connections(
    x: Array,
    w: Array,
    bias: Array | None,
    p: float,
    training: bool,
    *,
    per_example: bool,
    drop_bias: bool,
    rng: Generator | None,
    mask: Mask | None = None,
    bias_mask: Mask | None = None,
    names: tuple[str, str] = ("x", "w"),
) -> tuple[Mask | None, Mask | None]:
    """The masks of the weights, (B, O, I), and of the bias, (B, O), None where nothing is dropped; after all checks.

    `names` are those that the caller's x and w have for errors.
    """
    _check_operands(x, w, {} if bias is None else {"bias": (bias, w.shape[:1])}, names)
    p = check_p(p)
    check_flags(per_example=per_example, drop_bias=drop_bias)
    outputs = (math.prod(x.shape[:-1]), len(w))
    if bias_mask is not None:
        check_mask(bias_mask, p, "bias_mask")
        if bias is None or drop_bias:
            raise ValueError("bias_mask drops a bias in place of drop_bias: give it with a bias, and no drop_bias")
        bias_mask = bias_mask.broadcast_to(outputs)
    if drop_bias and mask is not None:
        raise ValueError("drop_bias draws decisions, but mask brings its own: give bias_mask for those of the bias")
    shape = None if per_example or mask is not None else w.shape
    decided = decide(_standing_for(x, (*outputs, w.shape[1])), p, training, noise_shape=shape, rng=rng, mask=mask)
    if decided is not None and bias is not None and drop_bias:
        shape = None if per_example else w.shape[:1]
        bias_mask = decide(_standing_for(x, outputs), p, training, noise_shape=shape, rng=rng)
    return decided, None if decided is None else bias_mask


def dropconnect(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    p: float = 0.5,
    training: bool = True,
    per_example: bool = True,
    drop_bias: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    bias_mask: Mask | None = None,
) -> Array:
    r"""A linear map that drops each weight with probability `p`, for each example by itself.

    .. math::
        y_{bo} = c_o + \frac{1}{1 - p} \sum_i m_{boi} w_{oi} x_{bi}, \qquad m_{boi} \sim \mathrm{Bernoulli}(1 - p)

    in training, with the bias :math:`c`; out of training ``y = x @ w.T + bias``. The mean is the same in both.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (..., I). The leading axes together are the batch, of B examples; (I,) is one example.
    w : array_like of x's dtype
        (O, I).
    bias : array_like of x's dtype, optional
        (O,).
    p : float, default 0.5
        Probability to drop a weight, 0 to 1.
    training : bool, default True
        Out of training nothing is dropped and no random number is drawn.
    per_example : bool, default True
        Whether each example has decisions of its own, (B, O, I) of them, or all share (O, I).
    drop_bias : bool, default False
        Whether the bias is dropped and scaled too, as in the paper: by a mask of its own, from the generator's call
        after that of the weights, of shape (B, O), or (O,) where examples share.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    mask : Mask, optional
        Use these decisions, broadcast to (B, O, I), instead of drawing. Its p has to be `p`, and `rng` not given; it
        says by its shape whether examples share.
    bias_mask : Mask, optional
        Drop the bias by these decisions, broadcast to (B, O), in place of `drop_bias`.

    Returns
    -------
    ndarray
        (..., O), of x's dtype.

    Raises
    ------
    TypeError
        If x is of another dtype, w or bias of another than x's, p no number, or a mask or generator something else.
    ValueError
        If shapes do not fit, p is outside 0 to 1 or NaN, or a mask does not broadcast or comes with `rng` or
        `drop_bias`.

    Notes
    -----
    The mask is never stored: no buffer grows with B O I, and the kernels take 42 KiB per thread. Where examples share
    (the mask's stride over the batch is 0) w is masked once, into a buffer of its own size, and the rest is a dense
    product; dropped weights are zeros there, so that an infinity in x gives NaN as it does in NumPy. Half types are
    computed in float32 and rounded once.

    p = 1 gives the bias alone (zeros, if it is dropped). Which weights drop depends on the generator's key and call and
    on the index (b, o, i) alone: this is guaranteed within a major version. Values are within rounding of the formula:
    the kernels' order of a sum depends on the instruction set, never on the number of threads.

    References
    ----------
    Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of neural networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> x, w = np.ones((2, 8), np.float32), np.ones((3, 8), np.float32)
    >>> fd.dropconnect(x, w, p=0.5, rng=fd.Generator(seed=0))
    array([[6., 8., 8.],
           [6., 4., 6.]], dtype=float32)
    >>> mask = fd.Generator(seed=0).mask((2, 3, 8), p=0.5)
    >>> np.asarray(mask).sum(axis=2) * 2
    array([[6, 8, 8],
           [6, 4, 6]])
    >>> dx, dw = fd.dropconnect_backward(np.ones((2, 3), np.float32), x, w, mask)
    """
    a, weights = as_array(x, "x"), as_array(w, "w")
    b = None if bias is None else as_array(bias, "bias")
    check_generator(rng, "rng")
    weight_mask, bias_mask = connections(
        a, weights, b, p, training, per_example=per_example, drop_bias=drop_bias, rng=rng, mask=mask,
        bias_mask=bias_mask,
    )  # fmt: skip
    y = add_bias(product(weight_mask, as_rows(a), weights), b, bias_mask)
    return y.astype(a.dtype.newbyteorder("="), copy=False).reshape(*a.shape[:-1], len(weights))


def dropconnect_backward(dy: ArrayLike, x: ArrayLike, w: ArrayLike, mask: Mask) -> tuple[Array, Array]:
    r"""The gradients of `dropconnect` under a mask, which has to be the forward pass's.

    .. math::
        dx_{bi} = \frac{1}{1 - p} \sum_o m_{boi} w_{oi}\, dy_{bo}, \qquad
        dw_{oi} = \frac{1}{1 - p} \sum_b m_{boi}\, dy_{bo}\, x_{bi}

    Parameters
    ----------
    dy : array_like of x's dtype
        (..., O): the gradient of the output.
    x, w : array_like
        What `dropconnect` was given, (..., I) and (O, I).
    mask : Mask
        The decisions, broadcast to (B, O, I); p is the mask's.

    Returns
    -------
    dx, dw : ndarray
        Of the shapes of x and w, and of x's dtype. The bias's gradient is the sum over the batch of ``dy``, or of
        ``bias_mask.apply(dy)`` where it was dropped.

    Raises
    ------
    TypeError, ValueError
        As `dropconnect`, and if dy does not fit.

    Notes
    -----
    No buffer grows with B O I, whatever the number of threads; half types are computed in float32 and rounded once.

    References
    ----------
    Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of neural networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> mask = fd.Mask(key=0, call=0, p=0.5, shape=(1, 2, 2))
    >>> np.asarray(mask).astype(int)
    array([[[0, 1],
            [0, 1]]])
    >>> x, w, dy = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([[1.0, 1.0]])
    >>> fd.dropconnect_backward(dy, x, w, mask)
    (array([[ 0., 20.]]), array([[0., 4.],
           [0., 4.]]))
    """
    g, a, weights = as_array(dy, "dy"), as_array(x, "x"), as_array(w, "w")
    if not isinstance(mask, Mask):
        raise TypeError(f"mask has to be a fastdrop.Mask, but got a {type(mask).__name__}")
    _check_operands(a, weights, {"dy": (g, (*a.shape[:-1], *weights.shape[:1]))})
    decided = decide(_standing_for(a, (math.prod(a.shape[:-1]), *weights.shape)), mask.p, True, mask=mask)
    native, g = a.dtype.newbyteorder("="), as_rows(g)
    dx = input_gradient(decided, g, weights).astype(native, copy=False).reshape(a.shape)
    return dx, weight_gradient(decided, g, as_rows(a)).astype(native, copy=False)
