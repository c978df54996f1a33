"""`torch.nn.functional`'s dropouts, by fastdrop's kernels; and the kinds that PyTorch does not have.

Arguments, results, errors and warnings are PyTorch's. What fastdrop adds: a dropped element is +0 whatever it was (Inf
and NaN too), half types are scaled in float32 and rounded once, the mask depends on the logical index and not on the
memory order, and ``generator=`` takes a `fastdrop.Generator`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fastdrop._checks import check_flags, check_p
from fastdrop._core import Generator
from fastdrop.alpha import alpha_constants
from fastdrop.block import BlockSize, check_block_size, seed_probability, spatial_axes
from fastdrop.broadcast import locked_shape, path_shape
from fastdrop.random import check_generator
from fastdrop.torch.attention import scaled_dot_product_attention
from fastdrop.torch.connections import dropconnect
from fastdrop.torch.drop import drop, ours, scale_of
from fastdrop.torch.originals import ORIGINALS
from fastdrop.torch.parts import Parts, check_parts, find_part, nothing, places_of
from fastdrop.torch.sharded import apply_local, by_parts, check_ours

__all__ = [
    "alpha_dropout", "drop_block2d", "drop_path", "dropconnect", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "feature_alpha_dropout", "locked_dropout", "scaled_dot_product_attention",
]  # fmt: skip


def _check(
    input: Any,
    p: float,
    generator: Generator | None,
    name: str,
    training: bool = True,
    inplace: bool = False,
    shard: Parts = None,
) -> float:
    if training is not True or inplace is not False:
        check_flags(training=training, inplace=inplace)
    if not isinstance(input, Tensor) and (name not in ORIGINALS or generator is not None or shard is not None):
        raise TypeError(f"{name}(): input has to be a Tensor, but got a {type(input).__name__}")
    if generator is not None or shard is not None:
        check_generator(generator)
        check_parts(shard)
        p = check_p(p)
        if training and p > 0.0:
            check_ours(name, generator, shard, input)
    return p if type(p) is float and 0.0 <= p <= 1.0 else check_p(p)


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.dropout`: zero each element with probability `p`, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    input : Tensor
        Any shape and strides. float32, float64, float16 and bfloat16 on the CPU are fastdrop's; PyTorch has the rest.
    p : float
        Probability to drop, 0 to 1.
    training : bool
        Out of training `input` itself is returned, and no number is drawn.
    inplace : bool
        Overwrite `input` and return it.
    generator : fastdrop.Generator, optional
        Takes its next call; PyTorch's default generator if not given.
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of a whole `input` is, one Shard for each axis that is split: the mask is that part of the whole's. A
        DTensor says that itself; `shard` is then which part of a larger whole the DTensor is.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and, where it is dense, strides.

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, `generator` no `fastdrop.Generator` or `shard` no `fastdrop.Shard`, either
        is given for a tensor that is PyTorch's, or `input` is no such part.
    RuntimeError
        As PyTorch, where autograd forbids to work in place.

    Notes
    -----
    Under PyTorch's generator the mask is ``fastdrop.Mask(key, 0, p, input.shape)``, and the key one draw below
    2**62: equal seeds give equal masks within a major version, on every machine and number of threads. Compiled
    code draws alike, but the compiler may change the order of several draws. No tensor is saved for backward (a number
    where code is compiled).

    With `shard`, parts put together are bit for bit what one call on the whole would have given, and so are gradients,
    if all processes draw alike: seed all with the same number, or give all a generator of the same seed, and let all
    make the same calls. A process whose part is empty draws too.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Examples
    --------
    >>> import fastdrop, torch
    >>> dropout(torch.ones(2, 4), 0.5, generator=fastdrop.Generator(seed=0))
    tensor([[2., 2., 0., 0.],
            [2., 0., 0., 0.]])
    >>> x = torch.ones(3)
    >>> dropout(x, 0.5, training=False) is x
    True
    >>> second = fastdrop.Shard(0, rank=1, size=2)  # of two rows, in two parts
    >>> dropout(torch.ones(1, 4), 0.5, generator=fastdrop.Generator(seed=0), shard=second)
    tensor([[2., 0., 0., 0.]])
    """
    p = _check(input, p, generator, "dropout", training, inplace, shard)
    if not ours(input):
        return _elsewhere(dropout, input, p, training, inplace, generator, shard)
    if not training or p == 0.0 or (input.numel() == 0 and nothing(input.shape, shard)):
        return input
    if shard is None:  # a mask of the input's own shape, which is not looked at
        return drop(input, p, None, None, scale_of(p), 0.0, 0.0, inplace, generator)
    noise, part = find_part(input.shape, shard)
    return drop(input, p, noise, None, scale_of(p), 0.0, 0.0, inplace, generator, part)


def _elsewhere(
    function: Callable[..., Tensor],
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    shard: Parts,
) -> Tensor:
    """What the kernels do not take as it is: a DTensor goes by its local tensor, and all else is PyTorch's."""
    if not by_parts(input):
        return ORIGINALS[function.__name__](input, p, training, inplace)
    if not training or p == 0.0:
        return input
    linear = function not in (alpha_dropout, feature_alpha_dropout)
    return apply_local(partial(function, p=p, training=True), input, generator, shard, inplace, linear)


def _shared(
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    noise_shape: Callable[[tuple[int, ...], Any], Sequence[int]],
    option: Any,
    generator: Generator | None,
    shard: Parts,
    scaled: bool = True,
) -> Tensor:
    """`dropout` under the noise shape of a whole, where PyTorch has no function of its own."""
    noise = noise_shape(tuple(input.shape), option)
    if not training or p == 0.0 or (input.numel() == 0 and nothing(input.shape, shard)):
        return input
    scale = scale_of(p) if scaled else 1.0
    if ours(input):
        whole, part = find_part(input.shape, shard)
        return drop(input, p, noise_shape(whole, option), None, scale, 0.0, 0.0, inplace, generator, part)
    if by_parts(input):
        one = partial(_shared, p=p, training=True, inplace=False, noise_shape=noise_shape, option=option, scaled=scaled)
        return apply_local(one, input, generator, shard, inplace)
    factors = input.new_empty(noise).bernoulli_(1.0 - p).mul_(scale)
    return input.mul_(factors) if inplace else input * factors


def path(
    input: Tensor,
    p: float,
    training: bool,
    mode: str = "row",
    scaled: bool = True,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`drop_path`, which may leave what is kept as it is."""
    p = _check(input, p, generator, "drop_path", training, shard=shard)
    return _shared(input, p, training, False, path_shape, mode, generator, shard, scaled)


def feature(
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    batch: int,
    alpha: bool,
    generator: Generator | None,
    shard: Parts = None,
) -> Tensor:
    """One decision per channel; `batch` is how many axes stand before the channels'."""
    if not training or p == 0.0 or (input.numel() == 0 and nothing(input.shape, shard)):
        return input
    shape, part = find_part(input.shape, shard)
    if len(shape) < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    noise = (*shape[: batch + 1], *(1,) * (len(shape) - batch - 1))
    scale, shift, dropped = alpha_constants(p) if alpha else (scale_of(p), 0.0, 0.0)
    return drop(input, p, noise, None, scale, shift, dropped, inplace, generator, part)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.dropout1d`: drop whole channels of (N, C, L) or (C, L); see `dropout` for the rest.

    Raises
    ------
    RuntimeError
        If `input` has neither 2 nor 3 axes.

    Examples
    --------
    >>> import fastdrop, torch
    >>> dropout1d(torch.ones(2, 3), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    p = _check(input, p, generator, "dropout1d", training, inplace, shard)
    if not ours(input) or input.dim() not in (2, 3):
        return _elsewhere(dropout1d, input, p, training, inplace, generator, shard)
    return feature(input, p, training, inplace, input.dim() - 2, False, generator, shard)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.dropout2d`: drop whole feature maps of (N, C, H, W); see `dropout` for the rest.

    Three axes are read as (N, C, L), with PyTorch's warning, and other numbers of axes than 3 and 4 warn too.

    Raises
    ------
    RuntimeError
        If `input` has fewer than 2 axes.

    Examples
    --------
    >>> import fastdrop, torch
    >>> dropout2d(torch.ones(1, 2, 2, 2), 0.5, generator=fastdrop.Generator(1))[0, :, 0, 0]
    tensor([0., 2.])
    """
    p = _check(input, p, generator, "dropout2d", training, inplace, shard)
    if not ours(input):
        return _elsewhere(dropout2d, input, p, training, inplace, generator, shard)
    rank = input.dim()
    if rank not in (3, 4):
        warnings.warn(
            f"dropout2d: Received a {rank}-D input to dropout2d, which is deprecated and will be an error in PyTorch: "
            "use dropout instead, or give (N, C, H, W)",
            stacklevel=2,
        )
    if rank == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired "
            "- input is interpreted as shape (N, C, L): use dropout1d, or give (1, C, H, W) for one image",
            stacklevel=2,
        )
    return feature(input, p, training, inplace, 1, False, generator, shard)


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.dropout3d`: drop whole feature maps of (N, C, D, H, W) or (C, D, H, W); see `dropout`.

    Other numbers of axes warn, as in PyTorch, and are read as (N, C, ...).

    Raises
    ------
    RuntimeError
        If `input` has fewer than 2 axes.

    Examples
    --------
    >>> import fastdrop, torch
    >>> dropout3d(torch.ones(2, 1, 1, 2), 0.5, generator=fastdrop.Generator(1))[:, 0, 0]
    tensor([[0., 0.],
            [2., 2.]])
    """
    p = _check(input, p, generator, "dropout3d", training, inplace, shard)
    if not ours(input):
        return _elsewhere(dropout3d, input, p, training, inplace, generator, shard)
    rank = input.dim()
    if rank not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {rank}-D input to dropout3d, which is deprecated and will be an error in PyTorch: "
            "use dropout instead, or give (N, C, D, H, W) or (C, D, H, W)",
            stacklevel=2,
        )
    # PyTorch puts an axis before all that are not five.
    return feature(input, p, training, inplace, 1 if rank == 5 else 0, False, generator, shard)


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.alpha_dropout`: drop to SELU's saturation, and restore mean 0 and variance 1.

    The formula is `fastdrop.alpha_dropout`'s; `training` is False by default, as in PyTorch. See `dropout`.

    Examples
    --------
    >>> import fastdrop, torch
    >>> alpha_dropout(torch.zeros(4), 0.5, True, generator=fastdrop.Generator(seed=0))
    tensor([ 0.7792,  0.7792, -0.7792, -0.7792])
    """
    p = _check(input, p, generator, "alpha_dropout", training, inplace, shard)
    if not ours(input):
        return _elsewhere(alpha_dropout, input, p, training, inplace, generator, shard)
    if not training or p == 0.0 or (input.numel() == 0 and nothing(input.shape, shard)):
        return input
    noise, part = find_part(input.shape, shard)
    return drop(input, p, noise, None, *alpha_constants(p), inplace, generator, part)


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """`torch.nn.functional.feature_alpha_dropout`: `alpha_dropout` of whole channels of (N, C, ...).

    Raises
    ------
    RuntimeError
        If `input` has fewer than 2 axes.

    Examples
    --------
    >>> import fastdrop, torch
    >>> feature_alpha_dropout(torch.zeros(1, 3, 2), 0.5, True, generator=fastdrop.Generator(seed=0))[0, :, 0]
    tensor([ 0.7792,  0.7792, -0.7792])
    """
    p = _check(input, p, generator, "feature_alpha_dropout", training, inplace, shard)
    if not ours(input):
        return _elsewhere(feature_alpha_dropout, input, p, training, inplace, generator, shard)
    return feature(input, p, training, inplace, 1, True, generator, shard)


def drop_path(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    mode: str = "row",
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """Drop a residual branch for each example ("row") or for all ("batch"); see `fastdrop.drop_path`.

    On other devices than the CPU it is PyTorch's Bernoulli and a product. See `dropout` for the rest.

    Raises
    ------
    ValueError
        If `mode` is another word, or `input` has no axis.

    Examples
    --------
    >>> import fastdrop, torch
    >>> drop_path(torch.ones(2, 3), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    p = _check(input, p, generator, "drop_path", training, inplace, shard)
    return _shared(input, p, training, inplace, path_shape, mode, generator, shard)


def locked_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    batch_first: bool = False,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """Drop the same features at every step of (T, N, C), (N, T, C) or (T, C); see `fastdrop.locked_dropout`.

    On other devices than the CPU it is PyTorch's Bernoulli and a product. See `dropout` for the rest.

    Raises
    ------
    ValueError
        If `input` has neither 2 nor 3 axes.

    Examples
    --------
    >>> import fastdrop, torch
    >>> locked_dropout(torch.ones(2, 3), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 2., 0.],
            [0., 2., 0.]])
    """
    p = _check(input, p, generator, "locked_dropout", training, inplace, shard)
    return _shared(input, p, training, inplace, locked_shape, batch_first, generator, shard)


def drop_block2d(
    input: Tensor,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    """Drop blocks of the feature maps of (N, C, H, W) or (C, H, W), a share `p` of the elements on average.

    The others are scaled by 1 / (1 - p); formula and guarantees are `fastdrop.drop_block2d`'s. On other devices than
    the CPU it is PyTorch's Bernoulli, pooled. See `dropout` for the rest.

    Parameters
    ----------
    input, p, training, inplace, generator, shard
        As of `dropout`; p is the share of elements, and parts are of examples or channels, since blocks do not end
        where a part of a map does.
    block_size : int or (int, int)
        Extent of a block, clipped to the map's.

    Raises
    ------
    ValueError, TypeError
        If `block_size` is no integer or below 1, `input` has neither 3 nor 4 axes, or `shard` is of a map's axis.

    Examples
    --------
    >>> import fastdrop, torch
    >>> drop_block2d(torch.ones(1, 2, 8), 0.3, 2, generator=fastdrop.Generator(5)).shape
    torch.Size([1, 2, 8])
    """
    p = _check(input, p, generator, "drop_block2d", training, inplace, shard)
    shape = tuple(input.shape)
    axes = spatial_axes(shape, 2)
    block = check_block_size(block_size, 2)
    if not training or p == 0.0 or (input.numel() == 0 and nothing(input.shape, shard)):
        return input
    if ours(input):
        noise, part = find_part(shape, shard)
        if shard is not None and any(axis in axes for axis in places_of(shape, shard)):
            raise ValueError(
                f"drop_block2d(): shard has to be of the axes of examples or channels, but got {shard} for an input of "
                f"shape {shape}: a block would reach into another part"
            )
        return drop(input, p, noise, block, scale_of(p), 0.0, 0.0, inplace, generator, part)
    if by_parts(input):
        return apply_local(partial(drop_block2d, p=p, block_size=block), input, generator, shard, inplace)
    extents = [shape[k] for k in axes]
    gamma = seed_probability(extents, block, p)
    high, wide = (min(b, n) for b, n in zip(block, extents))
    seeds = input.new_empty(*shape[:-2], extents[0] - high + 1, extents[1] - wide + 1).bernoulli_(gamma)
    dropped = F.max_pool2d(F.pad(seeds, (wide - 1, wide - 1, high - 1, high - 1)), (high, wide), 1)
    factors = (1.0 - dropped) * scale_of(p)
    return input.mul_(factors) if inplace else input * factors
