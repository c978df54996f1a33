"""Dropout whose elements share decisions: feature maps, paths, sequences.

Each kind is `dropout` under a noise shape, that is one mask viewed with stride 0 along what shares it. A kind is a
function from the input's shape to that noise shape, and an entry that says what it is for; `fastdrop.nn` uses the same
functions.
"""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags, shown
from ._core import Generator, Mask
from .functional import dropout

__all__ = [
    "drop_path", "dropout1d", "dropout2d", "dropout3d", "feature_shape", "locked_dropout", "locked_shape", "path_shape",
    "spatial_dropout", "spatial_shape", "token_dropout", "token_shape",
]  # fmt: skip

Shape = tuple[int, ...]
Array = NDArray[Any]


def spatial_shape(shape: Shape, channels_last: bool = False) -> Shape:
    """One decision per example and channel of (N, C, ...), or of (N, ..., C).

    Examples
    --------
    >>> spatial_shape((8, 3, 32, 32)), spatial_shape((8, 32, 32, 3), channels_last=True)
    ((8, 3, 1, 1), (8, 1, 1, 3))
    """
    check_flags(channels_last=channels_last)
    if len(shape) < 3:
        order = "(N, ..., C)" if channels_last else "(N, C, ...)"
        raise ValueError(f"spatial dropout takes at least 3 axes, {order}, but got {shape}")
    inner = (1,) * (len(shape) - 2)
    return (shape[0], *inner, shape[-1]) if channels_last else (*shape[:2], *inner)


def feature_shape(shape: Shape, spatial: int, channels_last: bool = False) -> Shape:
    """One decision per channel, and per example where there is a batch axis, over `spatial` axes: 1, 2 or 3.

    Examples
    --------
    >>> feature_shape((8, 3, 32, 32), 2), feature_shape((3, 32), 1)
    ((8, 3, 1, 1), (3, 1))
    """
    check_flags(channels_last=channels_last)
    rank = len(shape)
    if rank not in (spatial + 1, spatial + 2):
        inner = ", ".join("DHW"[-spatial:] if spatial > 1 else "L")
        alone = f"({inner}, C)" if channels_last else f"(C, {inner})"
        ranks = f"{spatial + 1} or {spatial + 2} axes"
        raise ValueError(f"dropout{spatial}d takes {ranks}, {alone} or with N before them, but got {shape}")
    if rank == 3 and spatial == 2:  # PyTorch's reading, and its warning
        order = "(N, L, C)" if channels_last else "(N, C, L)"
        warnings.warn(
            f"dropout2d reads 3 axes as {order}, as dropout1d does; give (1, ...) for one image without a batch",
            stacklevel=3,
        )
    elif rank == spatial + 1:
        return spatial_shape((1, *shape), channels_last)[1:]
    return spatial_shape(shape, channels_last)


def path_shape(shape: Shape, mode: str = "row") -> Shape:
    """One decision per example ("row"), or one for all ("batch").

    Examples
    --------
    >>> path_shape((8, 16, 64)), path_shape((8, 16, 64), "batch")
    ((8, 1, 1), (1, 1, 1))
    """
    if not isinstance(mode, str) or mode not in ("row", "batch"):
        raise ValueError(f"mode has to be 'row' or 'batch', but got {shown(mode)}")
    if not shape:
        raise ValueError("drop_path takes at least 1 axis, (N, ...), but got an array without one")
    return (shape[0] if mode == "row" else 1, *(1,) * (len(shape) - 1))


def locked_shape(shape: Shape, batch_first: bool = False) -> Shape:
    """One decision per example and feature, for all steps of (T, N, C), (N, T, C) or (T, C).

    Examples
    --------
    >>> locked_shape((50, 8, 64)), locked_shape((8, 50, 64), batch_first=True), locked_shape((50, 64))
    ((1, 8, 64), (8, 1, 64), (1, 64))
    """
    check_flags(batch_first=batch_first)
    if len(shape) == 2:
        return (1, shape[1])
    if len(shape) != 3:
        order = "(N, T, C)" if batch_first else "(T, N, C)"
        raise ValueError(f"locked_dropout takes 3 axes, {order}, or 2, (T, C), but got {shape}")
    return (shape[0], 1, shape[2]) if batch_first else (1, *shape[1:])


def token_shape(shape: Shape) -> Shape:
    """One decision per token, the vector along the last axis of (..., C).

    Examples
    --------
    >>> token_shape((8, 50, 64))
    (8, 50, 1)
    """
    if not shape:
        raise ValueError("token_dropout takes at least 1 axis, (..., C), but got an array without one")
    return (*shape[:-1], 1)


def _under(
    noise_shape: Shape, x: Array, p: float, training: bool, rng: Generator | None, mask: Mask | None, out: Array | None
) -> Array:
    if mask is not None:
        return dropout(x, p, training, rng=rng, mask=mask, out=out)
    return dropout(x, p, training, noise_shape=noise_shape, rng=rng, out=out)


def spatial_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Drop whole feature maps: one decision :math:`m_{nc}` per example and channel, for all places :math:`s`.

    .. math:: y_{ncs} = m_{nc} x_{ncs} / (1 - p), \qquad m_{nc} \sim \mathrm{Bernoulli}(1 - p)

    The mask is ``rng.mask((N, C), p)[:, :, None, None].broadcast_to(x.shape)``, applied.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (N, C, ...), or (N, ..., C) with `channels_last`; at least 3 axes.
    p : float, default 0.5
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training x itself is returned.
    channels_last : bool, default False
        Whether the last axis is the channels'.
    rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        If x has fewer axes; else as `fastdrop.dropout`.

    References
    ----------
    Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient object localization using convolutional networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.spatial_dropout(np.ones((1, 3, 2), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[[2., 2.],
            [2., 2.],
            [0., 0.]]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(spatial_shape(a.shape, channels_last), a, p, training, rng, mask, out)


def dropout1d(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`spatial_dropout` of (N, C, L) or (C, L); with `channels_last` of (N, L, C) or (L, C).

    ``y = m x / (1 - p)`` with one keep decision m per example and channel; parameters, result and paper are as there.

    Raises
    ------
    ValueError
        If x has neither 2 nor 3 axes.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.dropout1d(np.ones((2, 3), np.float32), p=0.5, rng=fd.Generator(seed=1))
    array([[0., 0., 0.],
           [2., 2., 2.]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(feature_shape(a.shape, 1, channels_last), a, p, training, rng, mask, out)


def dropout2d(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`spatial_dropout` of (N, C, H, W); with `channels_last` of (N, H, W, C).

    ``y = m x / (1 - p)`` with one keep decision m per example and channel; parameters, result and paper are as there.
    Three axes are read as (N, C, L), with a warning, as PyTorch does: it is not told whether the first is a batch.

    Raises
    ------
    ValueError
        If x has neither 3 nor 4 axes.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.dropout2d(np.ones((1, 2, 2, 2), np.float32), p=0.5, rng=fd.Generator(seed=1))
    array([[[[0., 0.],
             [0., 0.]],
    <BLANKLINE>
            [[2., 2.],
             [2., 2.]]]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(feature_shape(a.shape, 2, channels_last), a, p, training, rng, mask, out)


def dropout3d(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`spatial_dropout` of (N, C, D, H, W) or (C, D, H, W); with `channels_last` of (N, D, H, W, C) or (D, H, W, C).

    ``y = m x / (1 - p)`` with one keep decision m per example and channel; parameters, result and paper are as there.

    Raises
    ------
    ValueError
        If x has neither 4 nor 5 axes.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> y = fd.dropout3d(np.ones((4, 8, 2, 2, 2), np.float32), p=0.5, rng=fd.Generator(seed=1))
    >>> bool(np.all(y == y[:, :, :1, :1, :1]))
    True
    """
    a = as_array(x, "x")
    return _under(feature_shape(a.shape, 3, channels_last), a, p, training, rng, mask, out)


def drop_path(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    mode: str = "row",
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """Drop a residual branch, for each example by itself or for the whole batch: stochastic depth.

    ``y = m x / (1 - p)`` with one keep decision m per example ("row"), or one for all ("batch"); it is added to what
    goes past the branch.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (N, ...): what the branch gives.
    p : float, default 0.5
        Probability to drop the branch, 0 to 1.
    training : bool, default True
        Out of training x itself is returned.
    mode : {"row", "batch"}
        As torchvision's `stochastic_depth`.
    rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        If `mode` is another word, or x has no axis; else as `fastdrop.dropout`.

    References
    ----------
    Huang, Sun, Liu, Sedra, Weinberger, "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.drop_path(np.ones((3, 2), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[2., 2.],
           [2., 2.],
           [0., 0.]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(path_shape(a.shape, mode), a, p, training, rng, mask, out)


def locked_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    batch_first: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """Drop the same features at every step of a sequence: variational dropout.

    ``y[t, n, c] = m[n, c] x[t, n, c] / (1 - p)``: one decision per example and feature, for all steps.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (T, N, C), (N, T, C) with `batch_first`, or (T, C).
    p : float, default 0.5
        Probability to drop a feature, 0 to 1.
    training : bool, default True
        Out of training x itself is returned.
    batch_first : bool, default False
        As of PyTorch's recurrent layers.
    rng, mask, out
        As for `fastdrop.dropout`. A mask of shape (1, N, C) serves a sequence that is fed step by step.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        If x has neither 2 nor 3 axes; else as `fastdrop.dropout`.

    References
    ----------
    Gal, Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.locked_dropout(np.ones((3, 4), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[2., 2., 0., 0.],
           [2., 2., 0., 0.],
           [2., 2., 0., 0.]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(locked_shape(a.shape, batch_first), a, p, training, rng, mask, out)


def token_dropout(
    x: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Drop whole tokens of an embedded sequence: one decision :math:`m_t` for the vector at each place.

    .. math:: y_{tc} = m_t x_{tc} / (1 - p), \qquad m_t \sim \mathrm{Bernoulli}(1 - p)

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (..., C): words of a sentence, patches of an image.
    p : float, default 0.1
        Probability to drop, 0 to 1.
    training : bool, default True
        Out of training x itself is returned.
    rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        If x has no axis; else as `fastdrop.dropout`.

    References
    ----------
    Iyyer, Manjunatha, Boyd-Graber, Daumé III, "Deep unordered composition rivals syntactic methods for text
    classification", ACL 2015. The mean stays, as in the other kinds; the paper leaves dropped words out of an average.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.token_dropout(np.ones((3, 2), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[2., 2.],
           [2., 2.],
           [0., 0.]], dtype=float32)
    """
    a = as_array(x, "x")
    return _under(token_shape(a.shape), a, p, training, rng, mask, out)
