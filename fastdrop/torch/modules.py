"""The dropout modules. Those that torch.nn has are its subclasses: repr, state_dict, ``isinstance`` stay as they are.

``generator`` and ``shard`` are class attributes too, so that a torch.nn module whose ``__class__`` is set to one of
these works, and one that was saved before there were parts.
"""

from __future__ import annotations

from torch import Tensor, nn

from fastdrop._checks import check_flags, check_p
from fastdrop._core import Generator
from fastdrop.block import BlockSize, check_block_size
from fastdrop.broadcast import path_shape
from fastdrop.random import check_generator
from fastdrop.torch import functional as F
from fastdrop.torch.parts import Parts, check_parts, said

__all__ = [
    "AlphaDropout", "DropBlock2d", "DropPath", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout",
    "LockedDropout",
]  # fmt: skip


class Drawing(nn.modules.dropout._DropoutNd):
    """What all modules have: p, inplace, the generator that masks come from, and which part of the whole inputs are."""

    generator: Generator | None = None
    shard: Parts = None

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None, shard: Parts = None
    ) -> None:
        check_p(p)
        check_flags(inplace=inplace)
        check_parts(shard)
        super().__init__(p, inplace)
        self.generator = check_generator(generator)
        self.shard = shard

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}{said(self.shard)}"


class Dropout(Drawing, nn.Dropout):
    """`torch.nn.Dropout` by fastdrop's kernels; see `functional.dropout`.

    Parameters
    ----------
    p : float
        The probability to drop an element, 0 to 1.
    inplace : bool
        Overwrite the input.
    generator : fastdrop.Generator, optional
        Where masks come from; PyTorch's default generator if not given. A copy of the module (``copy.deepcopy``) has a
        copy of it, which gives the same masks: give each its own, with ``Generator.spawn``.
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole the inputs are; see `functional.dropout`. It is an attribute, and may be set anew.

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, `generator` no `fastdrop.Generator`, or `shard` no `fastdrop.Shard`.

    Examples
    --------
    >>> import fastdrop, torch
    >>> layer = Dropout(p=0.3)
    >>> layer, isinstance(layer, torch.nn.Dropout)
    (Dropout(p=0.3, inplace=False), True)
    >>> layer.eval()(torch.ones(3))
    tensor([1., 1., 1.])
    >>> Dropout(0.3, shard=fastdrop.Shard(0, rank=1, size=4))  # on the second of four workers, which share a batch
    Dropout(p=0.3, inplace=False, shard=Shard(axis=0, rank=1, size=4))
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace, generator=self.generator, shard=self.shard)


class Dropout1d(Drawing, nn.Dropout1d):
    """`torch.nn.Dropout1d`: drops whole channels of (N, C, L) or (C, L). Parameters are `Dropout`'s.

    Examples
    --------
    >>> Dropout1d(0.2)
    Dropout1d(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, self.training, self.inplace, generator=self.generator, shard=self.shard)


class Dropout2d(Drawing, nn.Dropout2d):
    """`torch.nn.Dropout2d`: drops whole feature maps of (N, C, H, W). Parameters are `Dropout`'s.

    Examples
    --------
    >>> Dropout2d(0.2)
    Dropout2d(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace, generator=self.generator, shard=self.shard)


class Dropout3d(Drawing, nn.Dropout3d):
    """`torch.nn.Dropout3d`: drops whole feature maps of (N, C, D, H, W). Parameters are `Dropout`'s.

    Examples
    --------
    >>> Dropout3d(0.2)
    Dropout3d(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout3d(input, self.p, self.training, self.inplace, generator=self.generator, shard=self.shard)


class AlphaDropout(Drawing, nn.AlphaDropout):
    """`torch.nn.AlphaDropout`: keeps mean 0 and variance 1 behind SELU; see `functional.alpha_dropout`.

    Parameters are `Dropout`'s; `inplace` has no effect, as in PyTorch.

    Examples
    --------
    >>> AlphaDropout(0.2)
    AlphaDropout(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.alpha_dropout(input, self.p, self.training, generator=self.generator, shard=self.shard)


class FeatureAlphaDropout(Drawing, nn.FeatureAlphaDropout):
    """`torch.nn.FeatureAlphaDropout`: `AlphaDropout` of whole channels; see `functional.feature_alpha_dropout`.

    Parameters are `Dropout`'s; `inplace` has no effect, as in PyTorch.

    Examples
    --------
    >>> FeatureAlphaDropout(0.2)
    FeatureAlphaDropout(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.feature_alpha_dropout(input, self.p, self.training, generator=self.generator, shard=self.shard)


class DropPath(Drawing):
    """Drops a residual branch, for each example or for all: stochastic depth; see `functional.drop_path`.

    Parameters
    ----------
    p : float
        The probability to drop the branch, 0 to 1.
    mode : {"row", "batch"}
        One decision per example, or one for all.
    inplace, generator, shard
        As of `Dropout`.

    Examples
    --------
    >>> DropPath(0.1)
    DropPath(p=0.1, inplace=False, mode='row')
    """

    def __init__(
        self,
        p: float = 0.5,
        mode: str = "row",
        inplace: bool = False,
        *,
        generator: Generator | None = None,
        shard: Parts = None,
    ) -> None:
        path_shape((1,), mode)
        super().__init__(p, inplace, generator=generator, shard=shard)
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        return F.drop_path(
            input, self.p, self.training, self.inplace, mode=self.mode, generator=self.generator, shard=self.shard
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"


class LockedDropout(Drawing):
    """Drops the same features at every step of a sequence; see `functional.locked_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop a feature, 0 to 1.
    batch_first : bool
        Whether inputs are (N, T, C); else (T, N, C), whose examples are along axis 1 for `shard`, too.
    inplace, generator, shard
        As of `Dropout`.

    Examples
    --------
    >>> LockedDropout(0.3)
    LockedDropout(p=0.3, inplace=False, batch_first=False)
    """

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        batch_first: bool = False,
        generator: Generator | None = None,
        shard: Parts = None,
    ) -> None:
        super().__init__(p, inplace, generator=generator, shard=shard)
        check_flags(batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, input: Tensor) -> Tensor:
        return F.locked_dropout(
            input,
            self.p,
            self.training,
            self.inplace,
            batch_first=self.batch_first,
            generator=self.generator,
            shard=self.shard,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, batch_first={self.batch_first}"


class DropBlock2d(Drawing):
    """Drops blocks of the feature maps of (N, C, H, W) or (C, H, W); see `functional.drop_block2d`.

    Parameters
    ----------
    p : float
        The share of elements to drop, 0 to 1.
    block_size : int or (int, int)
        Extent of a block.
    inplace, generator, shard
        As of `Dropout`.

    Examples
    --------
    >>> DropBlock2d(0.1, 5)
    DropBlock2d(p=0.1, inplace=False, block_size=5)
    """

    def __init__(
        self,
        p: float = 0.1,
        block_size: BlockSize = 7,
        inplace: bool = False,
        *,
        generator: Generator | None = None,
        shard: Parts = None,
    ) -> None:
        check_block_size(block_size, 2)
        super().__init__(p, inplace, generator=generator, shard=shard)
        self.block_size = block_size

    def forward(self, input: Tensor) -> Tensor:
        return F.drop_block2d(
            input, self.p, self.block_size, self.training, self.inplace, generator=self.generator, shard=self.shard
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, block_size={self.block_size}"
