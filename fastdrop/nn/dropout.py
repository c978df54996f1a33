"""The dropout layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._checks import check_flags, shown
from fastdrop._core import Generator
from fastdrop.broadcast import path_shape
from fastdrop.functional import check_p, check_scaling
from fastdrop.nn import dropouts as F
from fastdrop.nn.module import Module
from fastdrop.random import check_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastdrop.nn.tensor import Tensor

__all__ = ["DropPath", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "LockedDropout", "TokenDropout"]


class DropoutBase(Module):
    """What every kind has in common: p, inplace, a generator, and options of its own, which are attributes too."""

    #: The kind as a function on tensors, which takes the options by their names.
    _function: Callable[..., Tensor]

    def __init__(self, p: float, inplace: bool, generator: Generator | None, **options: Any) -> None:
        super().__init__()
        check_p(p)
        check_flags(
            inplace=inplace, **{name: options[name] for name in ("channels_last", "batch_first") if name in options}
        )
        check_generator(generator)
        self.p = p
        self.inplace = inplace
        self.generator = generator
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, input: Any) -> Tensor:
        options = {name: getattr(self, name) for name in self._options}
        return self._function(
            input, self.p, training=self.training, inplace=self.inplace, generator=self.generator, **options
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in ("p", "inplace", *self._options))


class Dropout(DropoutBase):
    """In training, zeroes each element with probability `p` and scales the others by 1 / (1 - p).

    Every call takes a new mask. The layer keeps no array: a mask is a value, and backward makes the same bits again.
    In evaluation mode, and for ``p=0``, the input itself is returned. ``p=1`` gives zeros, with zero gradients.

    Parameters
    ----------
    p : float
        The probability to drop an element, 0 <= p <= 1.
    inplace : bool
        Overwrite the input. Refused at once (RuntimeError) where a backward needs the values that were there.
    noise_shape : sequence of int or None, optional
        Shape of the mask, broadcast over the input: each entry 1, the input's size, or None for the input's size.
    scaling : {"inverted", "standard"}
        "inverted" scales by 1 / (1 - p) in training; "standard" by 1 - p in evaluation instead.
    generator : fastdrop.Generator, optional
        Where masks come from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; `p` is checked again at each call, since it may be assigned.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Dropout(p=0.3)
    >>> layer
    Dropout(p=0.3, inplace=False)
    >>> layer.eval()(np.ones(3, dtype=np.float32))
    tensor([1., 1., 1.])
    """

    _function = staticmethod(F.dropout)
    noise_shape: Sequence[int | None] | None
    scaling: str

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: Sequence[int | None] | None = None,
        scaling: str = "inverted",
        generator: Generator | None = None,
    ) -> None:
        super().__init__(p, inplace, generator, noise_shape=noise_shape, scaling=scaling)
        check_scaling(scaling)
        if isinstance(noise_shape, (str, bytes)):
            raise TypeError(f"noise_shape must be a sequence of ints and None, got {shown(noise_shape)}")

    def extra_repr(self) -> str:
        text = f"p={self.p}, inplace={self.inplace}"
        if self.noise_shape is not None:
            text += f", noise_shape={tuple(self.noise_shape)}"
        if self.scaling != "inverted":
            text += f", scaling={self.scaling!r}"
        return text


class Dropout1d(DropoutBase):
    """Drops whole channels of (N, C, L) or (C, L); see `fastdrop.dropout1d`.

    Parameters
    ----------
    p : float
        The probability to drop a channel, 0 <= p <= 1.
    inplace, generator
        As of `Dropout`.
    channels_last : bool
        Whether inputs are (N, L, C) or (L, C).

    Examples
    --------
    >>> Dropout1d(0.2)
    Dropout1d(p=0.2, inplace=False, channels_last=False)
    """

    _function = staticmethod(F.dropout1d)

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        channels_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(p, inplace, generator, channels_last=channels_last)


class Dropout2d(Dropout1d):
    """Drops whole feature maps of (N, C, H, W), or (N, H, W, C) with `channels_last`; see `fastdrop.dropout2d`.

    Parameters are `Dropout1d`'s.

    Examples
    --------
    >>> Dropout2d(0.2, channels_last=True)
    Dropout2d(p=0.2, inplace=False, channels_last=True)
    """

    _function = staticmethod(F.dropout2d)


class Dropout3d(Dropout1d):
    """Drops whole feature maps of (N, C, D, H, W) or (C, D, H, W); see `fastdrop.dropout3d`.

    Parameters are `Dropout1d`'s.

    Examples
    --------
    >>> Dropout3d()
    Dropout3d(p=0.5, inplace=False, channels_last=False)
    """

    _function = staticmethod(F.dropout3d)


class DropPath(DropoutBase):
    """Drops a residual branch, for each example or for all: stochastic depth; see `fastdrop.drop_path`.

    Parameters
    ----------
    p : float
        The probability to drop the branch, 0 <= p <= 1.
    mode : {"row", "batch"}
        One decision per example, or one for all.
    inplace, generator
        As of `Dropout`.

    Examples
    --------
    >>> DropPath(0.1)
    DropPath(p=0.1, inplace=False, mode='row')
    """

    _function = staticmethod(F.drop_path)

    def __init__(
        self, p: float = 0.5, mode: str = "row", inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        path_shape((1,), mode)
        super().__init__(p, inplace, generator, mode=mode)


class LockedDropout(DropoutBase):
    """Drops the same features at every step of a sequence; see `fastdrop.locked_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop a feature, 0 <= p <= 1.
    batch_first : bool
        Whether inputs are (N, T, C); else (T, N, C).
    inplace, generator
        As of `Dropout`.

    Examples
    --------
    >>> LockedDropout(0.3)
    LockedDropout(p=0.3, inplace=False, batch_first=False)
    """

    _function = staticmethod(F.locked_dropout)

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        batch_first: bool = False,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(p, inplace, generator, batch_first=batch_first)


class TokenDropout(DropoutBase):
    """Drops whole tokens of an embedded sequence, (..., C); see `fastdrop.token_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop a token, 0 <= p <= 1.
    inplace, generator
        As of `Dropout`.

    Examples
    --------
    >>> TokenDropout(0.2)
    TokenDropout(p=0.2, inplace=False)
    """

    _function = staticmethod(F.token_dropout)

    def __init__(self, p: float = 0.1, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__(p, inplace, generator)
