"""DropBlock on tensors: the functions, which `nn.functional` has too, and the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastdrop
from fastdrop._checks import check_flags, check_p
from fastdrop.block import check_block_size, drop_block_seeds
from fastdrop.nn.autograd import Array, check_inplace, record, record_inplace
from fastdrop.nn.batch import part_of, whole
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.tensor import Tensor, named_tensor

if TYPE_CHECKING:
    from fastdrop import Generator
    from fastdrop.block import BlockSize

__all__ = ["DropBlock1d", "DropBlock2d", "DropBlock3d", "drop_block1d", "drop_block2d", "drop_block3d"]


def _drop_block(
    spatial: int,
    input: Any,
    p: float,
    block_size: BlockSize,
    training: bool,
    inplace: bool,
    channels_last: bool,
    generator: Generator | None,
) -> Tensor:
    p = check_p(p)
    check_flags(training=training, inplace=inplace)
    name = f"drop_block{spatial}d"
    apply = getattr(fastdrop, name)
    x = named_tensor(input, "input")
    if x.array.dtype.kind != "f":
        raise TypeError(f"{name}: input must have a floating dtype, got {x.array.dtype}; convert it with .float()")
    # Out of training the same checks run, and x itself comes back.
    if not training or p == 0:
        apply(x.array, p, block_size, False, channels_last=channels_last, rng=generator)
        return x
    if inplace:
        check_inplace(x, name)
    own = x.array.shape
    seeds = drop_block_seeds(whole(own), spatial, p, block_size, channels_last=channels_last, rng=generator)
    seeds = part_of(seeds, own)

    def function(dy: Array) -> tuple[Array]:
        return (apply(dy, p, block_size, channels_last=channels_last, mask=seeds),)

    out = x.array if inplace else None
    y = apply(x.array, p, block_size, channels_last=channels_last, mask=seeds, out=out)
    if not inplace:
        return record(name, y, (x,), function)
    record_inplace(name, x, function)
    return x


def drop_block1d(
    input: Any,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop blocks of (N, C, L) or (C, L); see `fastdrop.drop_block1d`, and `drop_block2d` for the rest.

    Examples
    --------
    >>> import numpy as np
    >>> drop_block1d(np.ones((2, 8), np.float32), 0.5, 3, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0., 0., 0., 0., 0., 0.],
            [2., 2., 2., 0., 0., 0., 0., 2.]])
    """
    return _drop_block(1, input, p, block_size, training, inplace, channels_last, generator)


def drop_block2d(
    input: Any,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop blocks of the feature maps of (N, C, H, W) or (C, H, W), a share `p` of the elements on average.

    The others are scaled by 1 / (1 - p). The gradient is the same operation on `dy`, under the same seeds.

    Parameters
    ----------
    input : Tensor or ndarray
        Floating dtype.
    p : float
        The share of elements to drop, 0 <= p <= 1.
    block_size : int or (int, int)
        Extent of a block, clipped to the map's.
    training : bool
        Outside training the input itself is returned.
    inplace : bool
        Overwrite `input` and return it.
    channels_last : bool
        Whether `input` is (N, H, W, C) or (H, W, C).
    generator : fastdrop.Generator, optional
        Where the seeds come from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError, TypeError
        As `fastdrop.drop_block2d`.
    RuntimeError
        With `inplace`, if backward needs the values that would be overwritten, or `input` is a leaf.

    Examples
    --------
    >>> import numpy as np
    >>> drop_block2d(np.ones((1, 3, 4), np.float32), 0.3, 2, generator=fastdrop.Generator(2)).shape
    (1, 3, 4)
    """
    return _drop_block(2, input, p, block_size, training, inplace, channels_last, generator)


def drop_block3d(
    input: Any,
    p: float = 0.1,
    block_size: BlockSize = 7,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop blocks of (N, C, D, H, W) or (C, D, H, W); see `fastdrop.drop_block3d`, and `drop_block2d` for the rest.

    Examples
    --------
    >>> import numpy as np
    >>> drop_block3d(np.ones((1, 4, 4, 4), np.float32), 0.3, 2, generator=fastdrop.Generator(2)).shape
    (1, 4, 4, 4)
    """
    return _drop_block(3, input, p, block_size, training, inplace, channels_last, generator)


class DropBlock2d(DropoutBase):
    """Drops blocks of the feature maps of (N, C, H, W) or (C, H, W); see `fastdrop.drop_block2d`.

    Parameters
    ----------
    p : float
        The share of elements to drop, 0 <= p <= 1.
    block_size : int or tuple of int
        Extent of a block along each spatial axis.
    inplace, generator
        As of `nn.Dropout`.
    channels_last : bool
        Whether inputs are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> DropBlock2d(0.1, 5)
    DropBlock2d(p=0.1, inplace=False, block_size=5, channels_last=False)
    """

    _function = staticmethod(drop_block2d)
    _spatial = 2

    def __init__(
        self,
        p: float = 0.1,
        block_size: BlockSize = 7,
        inplace: bool = False,
        *,
        channels_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        check_block_size(block_size, self._spatial)
        super().__init__(p, inplace, generator, block_size=block_size, channels_last=channels_last)


class DropBlock1d(DropBlock2d):
    """Drops blocks of (N, C, L) or (C, L), or with `channels_last` of (N, L, C) or (L, C); see `fastdrop.drop_block1d`.

    Parameters are `DropBlock2d`'s.

    Examples
    --------
    >>> DropBlock1d(block_size=(3,))
    DropBlock1d(p=0.1, inplace=False, block_size=(3,), channels_last=False)
    """

    _function = staticmethod(drop_block1d)
    _spatial = 1


class DropBlock3d(DropBlock2d):
    """Drops blocks of (N, C, D, H, W), or with `channels_last` of (N, D, H, W, C); see `fastdrop.drop_block3d`.

    Parameters are `DropBlock2d`'s.

    Examples
    --------
    >>> DropBlock3d(0.2, 3)
    DropBlock3d(p=0.2, inplace=False, block_size=3, channels_last=False)
    """

    _function = staticmethod(drop_block3d)
    _spatial = 3
