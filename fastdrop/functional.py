"""Dropout as functions on NumPy arrays: validation, then a mask, then apply.

This is where policy lives: when to drop, how a noise shape becomes a view, how to scale. The bits and the memory are
_core's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags, check_int, check_p, shown
from ._core import Generator, Mask, apply_fresh, check_dtype, check_out
from .random import check_generator, default_generator

__all__ = [
    "DROP_ALL", "KEEP_ALL", "check_mask", "check_p", "check_scaling", "decide", "dropout", "noise_shape_to_mask_shape",
    "untouched",
]  # fmt: skip

NoiseShape = Sequence[SupportsIndex | None]


def check_scaling(scaling: str) -> str:
    """`scaling` itself, if it is "inverted" or "standard"."""
    if not isinstance(scaling, str) or scaling not in ("inverted", "standard"):
        raise ValueError(f"scaling has to be 'inverted' or 'standard', but got {shown(scaling)}")
    return scaling


def noise_shape_to_mask_shape(noise_shape: NoiseShape | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the mask that is broadcast over an input of `shape`.

    Parameters
    ----------
    noise_shape : sequence of int or None, or None
        Aligned with the last axes of `shape`. Each entry is 1 (the axis shares one decision), the input's extent, or
        None (the same as the input's extent). None altogether means one decision per element.
    shape : tuple of int

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError, ValueError
        If an entry is neither, or there are more than the input has axes.

    Examples
    --------
    >>> noise_shape_to_mask_shape((None, 1, 64), (32, 10, 64))
    (32, 1, 64)
    """
    if noise_shape is None:
        return shape
    array = isinstance(noise_shape, np.ndarray) and noise_shape.ndim == 1
    if isinstance(noise_shape, (str, bytes)) or not (array or isinstance(noise_shape, Sequence)):
        raise TypeError(f"noise_shape has to be a sequence of integers and None, but got {shown(noise_shape)}")
    if len(noise_shape) > len(shape):
        raise ValueError(
            f"noise_shape may have at most {len(shape)} entries for an input of shape {shape}, "
            f"but got {shown(noise_shape)}"
        )
    fitting = shape[len(shape) - len(noise_shape) :]
    out = tuple(n if k is None else check_int("noise_shape", k, 0, 2**63 - 1) for k, n in zip(noise_shape, fitting))
    if any(k not in (1, n) for k, n in zip(out, fitting)):
        raise ValueError(
            f"noise_shape has to hold 1, None or the extent for each axis of {shape}, but got {shown(noise_shape)}"
        )
    return out


#: Keep and drop every element of anything, and draw no number.
KEEP_ALL, DROP_ALL = Mask(0, 0, 0.0, ()), Mask(0, 0, 1.0, ())


def _scaled(x: NDArray[Any], factor: float, out: NDArray[Any] | None) -> NDArray[Any]:
    """x times a factor, by a mask that keeps everything (for a factor of 0, nothing): it draws no number."""
    return (KEEP_ALL if factor else DROP_ALL).apply(x, out, scale=factor)


def untouched(x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """x itself, as an array; or, where it was asked for, a copy of it in `out`."""
    if out is not None:
        return KEEP_ALL.apply(x, out, scale=1.0)
    return x if isinstance(x, np.ndarray) else as_array(x, "x")


def check_mask(mask: Any, p: float, name: str = "mask") -> None:
    """Refuse an argument `name` that is no mask, or one of another p."""
    if not isinstance(mask, Mask):
        raise TypeError(f"{name} has to be a fastdrop.Mask, but got a {type(mask).__name__}")
    if mask.p != p:
        raise ValueError(f"{name} has p={mask.p}, which has to be the p that is given, but got p={p}")


def decide(
    x: NDArray[Any],
    p: float,
    training: bool,
    *,
    noise_shape: NoiseShape | None = None,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: NDArray[Any] | None = None,
    floats: bool = True,
) -> Mask | None:
    """The mask under which a kind of dropout works on x, or None where nothing is to be dropped.

    What all kinds have in common: the arguments, which are those of `dropout`, are checked before the generator is
    asked for a call, and it is not asked where nothing is dropped. A kind that does not scale takes other dtypes than
    `floats`, and checks them itself.
    """
    p = check_p(p)
    check_flags(training=training)
    if floats:
        check_dtype(x)
    shape = noise_shape_to_mask_shape(noise_shape, x.shape)
    check_generator(rng, "rng")
    if mask is not None:
        check_mask(mask, p)
        if rng is not None or noise_shape is not None:
            other = "rng" if rng is not None else "noise_shape"
            raise ValueError(f"mask brings its own decisions: give no {other} with it")
        mask = mask.broadcast_to(x.shape)
    if out is not None:
        check_out(x, out)
    if not training or p == 0.0:
        return None
    if mask is None:
        mask = (default_generator() if rng is None else rng).mask(shape, p).broadcast_to(x.shape)
    return mask


def dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    noise_shape: NoiseShape | None = None,
    scaling: str = "inverted",
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Zero each element with probability `p`, and scale the others so that the mean stays.

    With keep decisions :math:`m_i \sim \mathrm{Bernoulli}(1-p)`,

    .. math:: y_i = m_i x_i / (1 - p) \quad\text{(inverted)}, \qquad y_i = m_i x_i \quad\text{(standard)}

    in training; out of training :math:`y = x` (inverted) or :math:`y = (1 - p) x` (standard).

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, 0-d and empty too, any memory layout. Subclasses of ndarray are taken as plain arrays.
    p : float, default 0.5
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training nothing is dropped and no random number is drawn.
    noise_shape : sequence of int or None, optional
        Shape of the decisions, broadcast over x: each entry 1, None or x's extent, aligned with the last axes. One
        decision per element if not given.
    scaling : {"inverted", "standard"}
        Whether to scale in training, or (the original form) at inference.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    mask : Mask, optional
        Apply this mask, broadcast to x's shape, instead of drawing one: the backward pass, or another array to be
        dropped alike. Its p has to be `p`, and `noise_shape` and `rng` not given.
    out : ndarray, optional
        Where to write; ``out=x`` works in place.

    Returns
    -------
    ndarray
        Of x's shape and dtype. x itself where nothing is to be done (p = 0, or out of training with inverted
        scaling), unless `out` is given: that is always filled.

    Raises
    ------
    TypeError
        If x is of another dtype (integers, bool, complex, objects), or p no number.
    ValueError
        If p is outside 0 to 1 or NaN, `noise_shape` does not fit, or `out` has another shape, is read-only or overlaps
        x without being it.

    Notes
    -----
    p = 1 gives +0 everywhere; a dropped Inf or NaN is +0 too. Which elements drop depends on the generator's key and
    call and on the logical (C-order) index alone: not on the memory layout, dtype, instruction set or number of
    threads. This is guaranteed within a major version.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15 (2014).

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> x = np.ones((2, 4), np.float32)
    >>> fd.dropout(x, p=0.5, rng=fd.Generator(seed=0))
    array([[2., 2., 0., 0.],
           [2., 0., 0., 0.]], dtype=float32)
    >>> fd.dropout(x, p=0.5, noise_shape=(None, 1), rng=fd.Generator(seed=1))
    array([[0., 0., 0., 0.],
           [2., 2., 2., 2.]], dtype=float32)
    >>> fd.dropout(x, p=0.5, training=False) is x
    True
    """
    plain = training is True and type(scaling) is str and scaling == "inverted"
    if plain and noise_shape is None and mask is None and out is None:
        y = apply_fresh(default_generator() if rng is None else rng, x, p)
        if y is not None:  # the usual case, without the time that checks take
            return y
    a = as_array(x, "x")
    p = check_p(p)
    standard = check_scaling(scaling) == "standard"
    decided = decide(a, p, training, noise_shape=noise_shape, rng=rng, mask=mask, out=out)
    if decided is None:
        factor = 1.0 - p if standard else 1.0
        return untouched(x, out) if factor == 1.0 else _scaled(a, factor, out)
    return decided.apply(a, out, scale=1.0 if standard else None)
