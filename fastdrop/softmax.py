"""Softmax and dropout in one pass, as attention has them: forward, and the gradient.

`softmax_dropout` is the one-liner. Who needs the gradient calls `softmax_dropout_forward`, which also gives what
backward needs, and hands that to `softmax_dropout_backward`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._checks import LIMIT, as_array, check_int, check_p
from ._core import Generator, Mask, check_dtype
from .functional import KEEP_ALL, decide

__all__ = ["SoftmaxRows", "softmax_dropout", "softmax_dropout_backward", "softmax_dropout_forward"]

Array = NDArray[Any]


class SoftmaxRows(NamedTuple):
    """What the gradient of softmax and dropout is made from: the input, the mask, and two numbers for each row.

    Who keeps the probabilities anyway may hand them over instead, as ``SoftmaxRows(probabilities, None, mask, axis)``:
    backward is quicker then, and less exact for half types.

    Attributes
    ----------
    x : ndarray
        The input itself, not a copy: its values must stay until backward.
    rows : ndarray or None
        The maximum of each row and one over the sum of its exponentials, shape (..., 2), where ... is x's shape without
        `axis`; float64 for a float64 input, otherwise float32. None: `x` holds the probabilities.
    mask : Mask
        Of x's shape. It keeps everything where nothing was dropped.
    axis : int
        Along which rows lie, 0 <= axis < x.ndim.
    """

    x: Array
    rows: Array | None
    mask: Mask
    axis: int


def _plan(
    x: ArrayLike, p: float, training: bool, axis: SupportsIndex, rng: Generator | None, mask: Mask | None, out: Any
) -> tuple[Array, int, Mask]:
    """The input as an array, the axis and the mask; checked, before the generator gives a call."""
    a = as_array(x, "x")
    check_p(p)
    check_dtype(a)
    if not a.ndim:
        raise ValueError("softmax_dropout takes at least 1 axis, but got an array without one")
    at = check_int("axis", axis, -LIMIT, LIMIT)
    if not -a.ndim <= at < a.ndim:
        raise ValueError(f"axis has to be between {-a.ndim} and {a.ndim - 1} for an input of shape {a.shape}, got {at}")
    decided = decide(a, p, training, rng=rng, mask=mask, out=out)
    return a, at % a.ndim, KEEP_ALL.broadcast_to(a.shape) if decided is None else decided


def _rows_of(x: Array, axis: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of `SoftmaxRows.rows`."""
    dtype = np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
    return (*x.shape[:axis], *x.shape[axis + 1 :], 2), dtype


def softmax_dropout(
    x: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    axis: SupportsIndex = -1,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Softmax along an axis, and dropout of the probabilities, in one pass over memory.

    With keep decisions :math:`m_i \sim \mathrm{Bernoulli}(1-p)` and the maximum :math:`M` of a row,

    .. math:: P_i = \frac{e^{x_i - M}}{\sum_j e^{x_j - M}}, \qquad y_i = m_i P_i / (1 - p)

    in training; out of training :math:`y = P`. These are the weights of attention, where x are the scores, to which
    :math:`-\infty` was added where a query may not look.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        At least one axis, any memory layout; quickest where `axis` is the last one and contiguous.
    p : float, default 0.1
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training nothing is dropped and no random number is drawn.
    axis : int, default -1
        Along which probabilities add up to 1.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    mask : Mask, optional
        Apply this mask, broadcast to x's shape, instead of drawing one. Its p has to be `p`, and `rng` not given.
    out : ndarray, optional
        Where to write; ``out=x`` works in place.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError
        If x is of another dtype (integers, bool, complex, objects), p no number or `axis` no integer.
    ValueError
        If p is outside 0 to 1 or NaN, x has no such axis, or `out` has another shape, is read-only or overlaps x
        without being it.

    Notes
    -----
    A row of :math:`-\infty` alone gives zeros, and zero gradients: there is nothing to attend to. (PyTorch gives NaN.)
    A NaN or :math:`+\infty` makes its row NaN where it is kept. p = 1 gives +0 everywhere.

    Which elements drop is as for `fastdrop.dropout`, for the same generator: ``y = mask.apply(softmax(x))``. Half types
    are computed in float32 and rounded once. Values are within a few roundings, and the same bits on every instruction
    set, for every number of threads and every layout; a probability below 1e-37 of the row's largest may be 0. float64
    uses the C library's exponential, and is as reproducible as that is.

    A row is taken by one thread. Where neighbours along `axis` are far apart in the mask (another axis than the last,
    or a transposed mask) its bits are made one by one, which is slow.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS (2017), section 5.4; Dao, Fu, Ermon, Rudra, Re,
    "FlashAttention: fast and memory-efficient exact attention with IO-awareness", NeurIPS (2022), for the gradient.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> x = np.array([[0, 0, -np.inf, 0], [1, 1, 1, 1]], np.float32)
    >>> fd.softmax_dropout(x, 0.5, rng=fd.Generator(seed=0)).round(3)
    array([[0.667, 0.667, 0.   , 0.   ],
           [0.5  , 0.   , 0.   , 0.   ]], dtype=float32)
    >>> fd.softmax_dropout(x, 0.5, training=False)[1]
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    a, at, drawn = _plan(x, p, training, axis, rng, mask, out)
    return _core.softmax_dropout(drawn, a, at, out)


def softmax_dropout_forward(
    x: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    axis: SupportsIndex = -1,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> tuple[Array, SoftmaxRows]:
    """`softmax_dropout`, and what its gradient is made from.

    Parameters
    ----------
    x, p, training, axis, rng, mask
        As for `softmax_dropout`.
    out : ndarray, optional
        Where to write. It may not be x here: backward needs x.

    Returns
    -------
    y : ndarray
        Of x's shape and dtype.
    saved : SoftmaxRows
        For `softmax_dropout_backward`: x itself, and two numbers for each row. The probabilities are not kept: backward
        makes them again, from x and these, without another search for the maximum and the sum.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> y, saved = softmax_dropout_forward(np.zeros((2, 4), np.float32), 0.0)
    >>> y[0], saved.rows[0]
    (array([0.25, 0.25, 0.25, 0.25], dtype=float32), array([0.  , 0.25], dtype=float32))
    """
    if isinstance(out, np.ndarray) and isinstance(x, np.ndarray) and np.may_share_memory(x, out):
        raise ValueError("out may not share memory with x here: backward needs x")
    a, at, drawn = _plan(x, p, training, axis, rng, mask, out)
    rows = np.empty(*_rows_of(a, at))
    y = _core.softmax_dropout(drawn, a, at, out, rows)
    return y, SoftmaxRows(a, rows, drawn, at)


def _checked(saved: SoftmaxRows) -> SoftmaxRows:
    """`saved`, which anybody may have put together: _core takes its parts for fitting."""
    if not isinstance(saved.x, np.ndarray):
        raise TypeError(f"saved.x has to be a NumPy array, but got a {type(saved.x).__name__}")
    if not isinstance(saved.mask, Mask):
        raise TypeError(f"saved.mask has to be a fastdrop.Mask, but got a {type(saved.mask).__name__}")
    x = np.asarray(saved.x)
    check_dtype(x)
    axis = check_int("saved.axis", saved.axis, 0, x.ndim - 1)
    if saved.mask.shape != x.shape:
        raise ValueError(f"saved.mask has to have the shape of saved.x, {x.shape}, but got {saved.mask.shape}")
    if saved.rows is None:
        return SoftmaxRows(x, None, saved.mask, axis)
    if not isinstance(saved.rows, np.ndarray):
        raise TypeError(f"saved.rows has to be a NumPy array or None, but got a {type(saved.rows).__name__}")
    rows = np.asarray(saved.rows)
    shape, dtype = _rows_of(x, axis)
    if rows.shape != shape or rows.dtype != dtype:
        raise ValueError(f"saved.rows has to be {dtype} of shape {shape}, but got {rows.dtype} of shape {rows.shape}")
    return SoftmaxRows(x, np.ascontiguousarray(rows), saved.mask, axis)


def softmax_dropout_backward(dy: ArrayLike, saved: SoftmaxRows, out: Array | None = None) -> Array:
    r"""The gradient of softmax and dropout, in one pass over memory.

    .. math:: g_i = m_i\, dy_i / (1 - p), \qquad dx_i = P_i \left(g_i - \sum_j P_j g_j\right)

    Parameters
    ----------
    dy : array_like
        The gradient of y, of x's shape and dtype.
    saved : SoftmaxRows
        From `softmax_dropout_forward`.
    out : ndarray, optional
        Where to write; it may be dy, or ``saved.x``, whose values are lost then.

    Returns
    -------
    ndarray
        dx, of x's shape and dtype. A dropped Inf or NaN of dy counts as 0.

    Raises
    ------
    TypeError, ValueError
        If dy is of another dtype or shape than x, `out` is no place for dx, or parts of `saved` do not fit each other.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> y, saved = softmax_dropout_forward(np.zeros(4, np.float32), 0.0)
    >>> softmax_dropout_backward(np.array([1, 0, 0, 0], np.float32), saved)
    array([ 0.1875, -0.0625, -0.0625, -0.0625], dtype=float32)
    """
    if not isinstance(saved, SoftmaxRows):
        raise TypeError(f"saved has to be what softmax_dropout_forward gives, but got a {type(saved).__name__}")
    x, rows, mask, axis = _checked(saved)
    g = as_array(dy, "dy")
    if g.dtype.newbyteorder("=") != x.dtype.newbyteorder("="):
        raise TypeError(f"dy has to have the dtype of x, {x.dtype}, but got {g.dtype}")
    if g.shape != x.shape:
        raise ValueError(f"dy has to have the shape of x, {x.shape}, but got {g.shape}")
    return _core.softmax_dropout_grad(mask, x, rows, g, axis, out)
