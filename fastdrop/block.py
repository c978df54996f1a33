"""DropBlock: dropping contiguous blocks of feature maps, at exactly the rate that is asked for.

The decisions are a `Mask` of seeds: one per example, channel and place where a block may start. A dropped seed drops
its whole block. How often a seed has to drop, so that a share p of the elements does, is solved for here; everything
after that is one pass of _core over x.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags, check_ints, check_p, check_shape, shown
from ._core import Generator, Mask, block_apply, block_bools, check_dtype, check_out
from .functional import dropout
from .random import check_generator, default_generator

__all__ = ["drop_block1d", "drop_block2d", "drop_block3d", "drop_block_mask", "drop_block_seeds", "seed_probability"]

Array = NDArray[Any]
BlockSize = SupportsIndex | Sequence[SupportsIndex]
Shape = tuple[int, ...]


def check_block_size(block_size: BlockSize, spatial: int) -> Shape:
    """The extent of a block along each of the spatial axes; an int is the extent along all of them.

    Examples
    --------
    >>> check_block_size(7, 2), check_block_size((3, 5), 2)
    ((7, 7), (3, 5))
    """
    block = check_ints("block_size", block_size, 1)
    if isinstance(block_size, Iterable):
        if len(block) != spatial:
            raise ValueError(f"block_size has to be an integer or {spatial} of them, but got {shown(block_size)}")
        return block
    return block * spatial


def spatial_axes(shape: Shape, spatial: int, channels_last: bool = False) -> range:
    """Which axes of an input of `shape` are spatial, by its rank.

    Examples
    --------
    >>> spatial_axes((8, 3, 32, 32), 2), spatial_axes((32, 32, 3), 2, channels_last=True)
    (range(2, 4), range(0, 2))
    """
    check_flags(channels_last=channels_last)
    rank = len(shape)
    if rank not in (spatial + 1, spatial + 2):
        inner = ", ".join("DHW"[-spatial:] if spatial > 1 else "L")
        alone = f"({inner}, C)" if channels_last else f"(C, {inner})"
        ranks = f"{spatial + 1} or {spatial + 2} axes"
        raise ValueError(f"drop_block{spatial}d takes {ranks}, {alone} or with N before them, but got {shape}")
    end = rank - 1 if channels_last else rank
    return range(end - spatial, end)


def _covered(n: int, extent: int) -> tuple[Array, Array]:
    """How many blocks lie over an element of an axis of n >= extent, and how many elements that holds for."""
    most = min(extent, n - extent + 1)
    count = np.arange(1.0, most + 1)
    elements = np.full(most, 2.0)
    elements[-1] = n - 2 * (most - 1)
    return count, elements


@functools.lru_cache(maxsize=1024)
def _solve(extents: Shape, block: Shape, p: float) -> float:
    if p in (0.0, 1.0) or 0 in extents or all(b == 1 for b in block):
        return p
    count: Array = np.ones(1)
    weight: Array = np.ones(1)
    for n, b in zip(extents, block):
        c, e = _covered(n, min(b, n))
        count, weight = np.multiply.outer(count, c).ravel(), np.multiply.outer(weight, e / n).ravel()
    # In t = -log(1 - gamma) the share is a concave function, which Newton's method climbs from below and never passes.
    t, before = 0.0, -1.0
    while t > before:
        share, slope = float(-weight @ np.expm1(-count * t)), float(weight @ (count * np.exp(-count * t)))
        t, before = t + (p - share) / slope, t
    # A threshold is 32 bits. Rounded to it, gamma is the same number whatever the last bits of a machine's exp are.
    return round(-math.expm1(-t) * 2**32) / 2**32


def seed_probability(extents: Sequence[int], block_size: BlockSize, p: float) -> float:
    r"""The probability gamma of a seed at which a map loses the share `p` of its elements, on average.

    An element that :math:`c_i` blocks lie over stays with probability :math:`(1 - \gamma)^{c_i}`; fewer lie over those
    at the edges. gamma solves

    .. math:: \frac{1}{n} \sum_{i=1}^n \left(1 - (1 - \gamma)^{c_i}\right) = p

    exactly, up to the 32 bits of a mask's threshold.

    Parameters
    ----------
    extents : sequence of int
        Of the spatial axes.
    block_size : int or sequence of int
        Clipped to the extents.
    p : float
        The share to drop, 0 to 1.

    Returns
    -------
    float

    Notes
    -----
    The paper's :math:`\gamma = p / b^d \cdot n^d / (n - b + 1)^d`, which most implementations start from (timm's
    and torchvision's too), counts an element under two dropped blocks twice. So it drops less than p: of a 28x28 map
    with 7x7 blocks .094 at p = .1, and .372 at p = .5.

    Examples
    --------
    >>> seed_probability((7, 7), 7, 0.1), seed_probability((56, 56), 1, 0.1)
    (0.10000000009313226, 0.1)
    >>> round(seed_probability((56, 56), 7, 0.1), 6)
    0.002714
    """
    p = check_p(p)
    inside = check_shape(extents, "extents")
    return _solve(inside, check_block_size(block_size, len(inside)), p)


def _places(shape: Shape, axes: range, block: Shape) -> Shape:
    """How many places there are along each axis where a block may start."""
    extent = dict(zip(axes, block))
    return tuple(min(n, n - min(extent.get(k, 1), n) + 1) for k, n in enumerate(shape))


def _draw(shape: Shape, axes: range, block: Shape, gamma: float, rng: Generator | None) -> Mask:
    mask = (default_generator() if rng is None else rng).mask(shape, gamma)
    return mask[tuple(slice(0, n) for n in _places(shape, axes, block))]


def _check_rng(rng: Generator | None) -> None:
    check_generator(rng, "rng")


def drop_block_seeds(
    shape: SupportsIndex | Iterable[SupportsIndex],
    spatial: int,
    p: float = 0.1,
    block_size: BlockSize = 7,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
) -> Mask:
    """Draw the seeds for inputs of `shape`, to be given to `drop_block2d` and the others as ``mask=``.

    They are the mask of x's own shape without the last ``b - 1`` places along each spatial axis, so that no block
    leaves the map: ``rng.mask((N, C, H, W), gamma)[:, :, :H - b + 1, :W - b + 1]``.

    Parameters
    ----------
    shape : tuple of int
        Of the input.
    spatial : {1, 2, 3}
        How many spatial axes it has.
    p, block_size, channels_last, rng
        As of `drop_block2d`.

    Returns
    -------
    Mask
        Its p is gamma, the probability of a seed (`seed_probability`). A slice of it along N or C serves a slice of the
        input.

    Raises
    ------
    ValueError, TypeError
        As `drop_block2d`.

    Examples
    --------
    >>> import fastdrop as fd
    >>> fd.drop_block_seeds((8, 16, 14, 14), 2, p=0.1, block_size=3, rng=fd.Generator(0)).shape
    (8, 16, 12, 12)
    """
    if isinstance(spatial, bool) or not isinstance(spatial, (int, np.integer)) or spatial not in (1, 2, 3):
        raise ValueError(f"spatial has to be 1, 2 or 3, but got {shown(spatial)}")
    whole = check_shape(shape)
    axes = spatial_axes(whole, spatial, channels_last)
    block = check_block_size(block_size, spatial)
    gamma = seed_probability([whole[k] for k in axes], block, p)
    _check_rng(rng)
    return _draw(whole, axes, block, gamma, rng)


def drop_block_mask(seeds: Mask, shape: SupportsIndex | Iterable[SupportsIndex]) -> NDArray[np.bool_]:
    """The keep decisions that seeds mean for an input of `shape`, as booleans, when someone wants to look.

    Parameters
    ----------
    seeds : Mask
        As `drop_block_seeds` gives it: along each axis a block has as many elements as `shape` has there beyond the
        seeds', and one more.
    shape : tuple of int

    Returns
    -------
    ndarray of bool
        Of that shape: True where the element is kept.

    Raises
    ------
    ValueError
        If `seeds` has other axes, or more places than elements.
    MemoryError
        If the bits of a map do not fit into memory.

    Examples
    --------
    >>> import fastdrop as fd
    >>> seeds = fd.drop_block_seeds((1, 3, 10), 1, p=0.3, block_size=3, rng=fd.Generator(3))
    >>> drop_block_mask(seeds, (1, 3, 10)).astype(int)
    array([[[1, 0, 0, 0, 1, 1, 1, 1, 1, 1],
            [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]])
    """
    if not isinstance(seeds, Mask):
        raise TypeError(f"seeds has to be a fastdrop.Mask, but got a {type(seeds).__name__}")
    return block_bools(seeds, shape)


def _drop_block(
    spatial: int,
    x: ArrayLike,
    p: float,
    block_size: BlockSize,
    training: bool,
    channels_last: bool,
    rng: Generator | None,
    mask: Mask | None,
    out: Array | None,
) -> Array:
    a = as_array(x, "x")
    p = check_p(p)
    check_dtype(a)
    check_flags(training=training)
    axes = spatial_axes(a.shape, spatial, channels_last)
    block = check_block_size(block_size, spatial)
    _check_rng(rng)
    if mask is not None:
        if not isinstance(mask, Mask):
            raise TypeError(f"mask has to be a fastdrop.Mask, but got a {type(mask).__name__}")
        if rng is not None:
            raise ValueError("mask brings its own decisions: give no rng with it")
        gamma = _solve(tuple(a.shape[k] for k in axes), block, p)
        if mask.p != gamma:
            raise ValueError(
                f"mask has p={mask.p}, but the seeds of blocks {block} have p={gamma} in an input of shape {a.shape} "
                f"of which {p} is dropped: take them from drop_block_seeds"
            )
        mask = mask.broadcast_to(_places(a.shape, axes, block))
    if not training or p == 0.0:
        return dropout(x, p, False, out=out)
    if mask is None:
        if out is not None:
            check_out(a, out)  # block_apply does so too, but a refused call must not take a draw from the generator
        mask = _draw(a.shape, axes, block, _solve(tuple(a.shape[k] for k in axes), block, p), rng)
    return block_apply(mask, a, out, scale=1.0 / (1.0 - p) if p < 1.0 else 0.0)


def drop_block2d(
    x: ArrayLike,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Drop square blocks of each feature map, a share `p` of its elements on average, and scale the others.

    With seeds :math:`m_{ncij} \sim \mathrm{Bernoulli}(1 - \gamma)` at the places where a block of
    :math:`b_H \times b_W` may start without leaving the map,

    .. math:: y_{nchw} = \frac{x_{nchw}}{1 - p} \prod_{i = h - b_H + 1}^{h} \prod_{j = w - b_W + 1}^{w} m_{ncij}

    over the :math:`(i, j)` that exist.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        (N, C, H, W) or (C, H, W); with `channels_last` (N, H, W, C) or (H, W, C). Any layout in
        memory; C order is fastest.
    p : float, default 0.1
        The share of elements to drop, 0 to 1. The seeds' gamma follows from it, see `seed_probability`.
    block_size : int or (int, int), default 7
        Extent of a block, clipped to the map's. 1 makes it `fastdrop.dropout`, bit for bit.
    training : bool, default True
        Out of training x itself is returned.
    channels_last : bool, default False
        Whether the last axis is the channels'.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    mask : Mask, optional
        The seeds, as `drop_block_seeds` draws them: for the backward pass, or another array to be dropped alike. Its p
        has to be the gamma that belongs to `p`, and `rng` not given.
    out : ndarray, optional
        Where to write; ``out=x`` works in place.

    Returns
    -------
    ndarray
        Of x's shape and dtype. x itself where nothing is to be done (p = 0, or out of training), unless `out` is given.

    Raises
    ------
    TypeError
        If x is of another dtype, p no number, or block_size no integers.
    ValueError
        If x has another number of axes, p is outside 0 to 1, block_size below 1, `mask` does not fit, or `out` has
        another shape, is read-only or overlaps x without being it.
    MemoryError
        If there is none for the bits of a map: where blocks are nearly as large as it is, that takes four of them per
        element and thread, and one more. `out` is undefined then.

    Notes
    -----
    The dropped share is p on average over the elements of a map, for every map and block, odd or even; elements at the
    edges are under fewer blocks, and drop less often than those inside. Kept elements are multiplied by 1 / (1 - p).
    The paper multiplies by the number of all elements over that of the kept ones, which makes one example depend on
    the others of its batch, and a batch that is split over machines on how it is split.

    Three axes are one example, (C, H, W): seeds are per channel, so that reading them as (N, H, W) is the same.
    Which elements drop depends on the generator's key and call and on the logical (C-order) index alone; this is
    guaranteed within a major version.

    References
    ----------
    Ghiasi, Lin, Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.drop_block2d(np.ones((1, 5, 8), np.float32), p=0.2, block_size=3, rng=fd.Generator(5))
    array([[[1.25, 1.25, 1.25, 1.25, 0.  , 0.  , 0.  , 1.25],
            [1.25, 1.25, 1.25, 1.25, 0.  , 0.  , 0.  , 1.25],
            [1.25, 0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 1.25],
            [1.25, 0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 1.25],
            [1.25, 0.  , 0.  , 0.  , 1.25, 1.25, 1.25, 1.25]]], dtype=float32)
    """
    return _drop_block(2, x, p, block_size, training, channels_last, rng, mask, out)


def drop_block1d(
    x: ArrayLike,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`drop_block2d` along one axis: of (N, C, L) or (C, L); with `channels_last` of (N, L, C) or (L, C).

    Raises
    ------
    ValueError
        If x has neither 2 nor 3 axes; else as `drop_block2d`.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.drop_block1d(np.ones((2, 8), np.float32), p=0.5, block_size=3, rng=fd.Generator(1))
    array([[0., 0., 0., 0., 0., 0., 0., 0.],
           [2., 2., 2., 0., 0., 0., 0., 2.]], dtype=float32)
    """
    return _drop_block(1, x, p, block_size, training, channels_last, rng, mask, out)


def drop_block3d(
    x: ArrayLike,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    *,
    channels_last: bool = False,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    """`drop_block2d` along three axes: of (N, C, D, H, W) or (C, D, H, W); with `channels_last` of (..., D, H, W, C).

    Raises
    ------
    ValueError
        If x has neither 4 nor 5 axes; else as `drop_block2d`.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> y = fd.drop_block3d(np.ones((2, 8, 4, 6, 6), np.float32), p=0.5, block_size=(2, 3, 3), rng=fd.Generator(1))
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    """
    return _drop_block(3, x, p, block_size, training, channels_last, rng, mask, out)
