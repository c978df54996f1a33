"""Dropout for self-normalising networks: what is dropped takes SELU's lowest value, and mean and variance stay."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags
from ._core import Generator, Mask, fused
from .broadcast import spatial_shape
from .functional import NoiseShape, decide, untouched

__all__ = ["alpha_constants", "alpha_dropout", "alpha_shape", "feature_alpha_dropout"]

Array = NDArray[Any]

#: SELU's limit for large negative inputs, -scale * alpha (Klambauer et al., appendix A1).
SATURATION = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


def alpha_constants(p: float) -> tuple[float, float, float]:
    """(scale, shift, dropped): ``y = scale * x + shift`` where kept, `dropped` elsewhere.

    Examples
    --------
    >>> alpha_constants(0.0), alpha_constants(1.0)
    ((1.0, 0.0, -1.7580993408473766), (0.0, 0.0, 0.0))
    """
    if p == 1.0:
        return 0.0, 0.0, 0.0
    scale = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * SATURATION**2))
    shift = -scale * p * SATURATION
    return scale, shift if p else 0.0, scale * SATURATION + shift


def alpha_shape(shape: tuple[int, ...], channels_last: bool = False) -> tuple[int, ...]:
    """One decision per example and channel of (N, C), (N, C, ...) or (N, ..., C).

    Examples
    --------
    >>> alpha_shape((8, 3)), alpha_shape((8, 3, 32, 32))
    ((8, 3), (8, 3, 1, 1))
    """
    check_flags(channels_last=channels_last)
    if len(shape) < 2:
        raise ValueError(f"feature_alpha_dropout takes at least 2 axes, (N, C), but got {shape}")
    return shape if len(shape) == 2 else spatial_shape(shape, channels_last)


def alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    noise_shape: NoiseShape | None = None,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Drop to SELU's saturation value, then restore mean 0 and variance 1.

    With :math:`\alpha' = -\lambda\alpha \approx -1.7581`, the limit of SELU, and decisions :math:`m_i`,

    .. math:: y_i = a (m_i x_i + (1 - m_i) \alpha') + b, \quad a = ((1 - p)(1 + p \alpha'^2))^{-1/2},
        \quad b = -a p \alpha'

    so that an input of mean 0 and variance 1 keeps both. The gradient is :math:`a m_i` times that of y.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape and memory layout.
    p : float, default 0.5
        Probability to drop, 0 to 1. 1 gives zeros, as in PyTorch.
    training : bool, default True
        Out of training x itself is returned.
    noise_shape, rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As `fastdrop.dropout`.

    Notes
    -----
    The decisions are those of `fastdrop.dropout` under the same generator; they are guaranteed within a major version.
    The constants are made in float64 and rounded to x's dtype; half types take them as float32, compute so, and round
    once.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.alpha_dropout(np.zeros(4, np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([ 0.77919394,  0.77919394, -0.77919394, -0.77919394], dtype=float32)
    """
    a = as_array(x, "x")
    decided = decide(a, p, training, noise_shape=noise_shape, rng=rng, mask=mask, out=out)
    if decided is None:
        return untouched(x, out)
    scale, shift, dropped = alpha_constants(decided.p)
    return fused(decided, "affine", a, None, out, scale=scale, shift=shift, dropped=dropped)


def feature_alpha_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`alpha_dropout` of whole channels: one decision per example and channel of (N, C, ...), as `spatial_dropout`.

    Formula and paper are `alpha_dropout`'s, with one m for all places of a channel.

    Parameters
    ----------
    x : array_like
        (N, C), (N, C, ...), or (N, ..., C) with `channels_last`.
    p, training, rng, mask, out
        As for `alpha_dropout`.
    channels_last : bool, default False
        Whether the last axis is the channels'.

    Raises
    ------
    ValueError, TypeError
        If x has fewer than 2 axes; else as `alpha_dropout`.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.feature_alpha_dropout(np.zeros((1, 3, 2), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[[ 0.77919394,  0.77919394],
            [ 0.77919394,  0.77919394],
            [-0.77919394, -0.77919394]]], dtype=float32)
    """
    a = as_array(x, "x")
    shape = alpha_shape(a.shape, channels_last)
    if mask is not None:
        return alpha_dropout(a, p, training, rng=rng, mask=mask, out=out)
    return alpha_dropout(a, p, training, noise_shape=shape, rng=rng, out=out)
