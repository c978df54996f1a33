"""Dropout together with what stands beside it in a network, in one pass: activations and their bias, the residual."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, shown
from ._core import (
    ACTIVATIONS,
    Generator,
    Mask,
    check_apart,
    check_dtype,
    check_out,
    check_second,
    fused,
    inverted_scale,
)
from .functional import KEEP_ALL, decide

__all__ = ["activation_dropout", "check_activation", "dropout_add", "second_input"]

Array = NDArray[Any]


def check_activation(activation: str) -> str:
    """`activation` itself, if there is one of this name."""
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"activation has to be one of {', '.join(ACTIVATIONS)}, but got {shown(activation)}")
    return activation


def second_input(x: Array, second: ArrayLike, name: str, out: Array | None) -> Array:
    """The input `name` beside x: checked, in x's dtype, broadcast to its shape, `out` itself or apart from it."""
    check_dtype(x)
    checked = check_second(x, second, name)
    if out is not None:
        check_out(x, out)
        check_apart(np.asarray(out), checked, name)
    return checked


def activation_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    activation: str = "relu",
    bias: ArrayLike | None = None,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""``dropout(activation(x + bias))`` in one pass: x is read once, y written once, and nothing is kept between.

    .. math:: y_i = m_i f(x_i + b_i) / (1 - p)

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape and memory layout.
    p : float, default 0.5
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training, and for p = 0, nothing is dropped and no random number is drawn: the activation alone.
    activation : {"relu", "identity", "gelu", "gelu_tanh", "silu"}
        gelu is :math:`t \Phi(t)`, gelu_tanh its approximation by tanh, silu :math:`t / (1 + e^{-t})`.
    bias : array_like, optional
        Of x's dtype, of a shape that broadcasts to x's: usually one number per feature.
    rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        If `activation` is none of these, or `bias` has another dtype or does not broadcast; else as `fastdrop.dropout`.

    Notes
    -----
    The decisions are those of `fastdrop.dropout` under the same generator. Values are within rounding of the steps
    apart: float32 within about 2e-6 of the largest; half types are computed in float32 and rounded once. They are the
    same on every instruction set, float64's exponentials (the C library's) excepted.

    References
    ----------
    Hendrycks, Gimpel, "Gaussian error linear units (GELUs)", 2016; Elfwing, Uchibe, Doya, "Sigmoid-weighted linear
    units for neural network function approximation in reinforcement learning", 2018 (SiLU).

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.activation_dropout(np.array([-1, 2, 3, 4], np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([0., 4., 0., 0.], dtype=float32)
    """
    a = as_array(x, "x")
    check_activation(activation)
    second = None if bias is None else second_input(a, bias, "bias", out)
    decided = decide(a, p, training, rng=rng, mask=mask, out=out)
    decided = KEEP_ALL if decided is None else decided
    return fused(decided, "act", a, second, out, name="bias", activation=activation, scale=inverted_scale(decided.p))


def dropout_add(
    x: ArrayLike,
    residual: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""``dropout(x) + residual`` in one pass.

    .. math:: y_i = m_i x_i / (1 - p) + r_i

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape and memory layout.
    residual : array_like
        Of x's dtype; its shape broadcasts to x's.
    p : float, default 0.5
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training, and for p = 0, nothing is dropped and no random number is drawn: the sum alone.
    rng, mask, out
        As for `fastdrop.dropout`; `out` may be x or `residual`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        If `residual` has another dtype or does not broadcast; else as `fastdrop.dropout`.

    Notes
    -----
    The decisions are those of `fastdrop.dropout` under the same generator. Half types are computed in float32 and
    rounded once; else the result is that of the two steps, bit for bit.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.dropout_add(np.ones(4, np.float32), np.full(4, 10, np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([12., 12., 10., 10.], dtype=float32)
    """
    a = as_array(x, "x")
    second = second_input(a, residual, "residual", out)
    decided = decide(a, p, training, rng=rng, mask=mask, out=out)
    decided = KEEP_ALL if decided is None else decided
    return fused(decided, "add", a, second, out, name="residual", scale=inverted_scale(decided.p))
