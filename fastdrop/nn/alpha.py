"""Alpha dropout: the functions on tensors, and the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._core import fused
from fastdrop.alpha import alpha_constants, alpha_shape
from fastdrop.functional import check_p
from fastdrop.nn.batch import whole
from fastdrop.nn.creation import floating
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.dropouts import checked_input, draw, masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdrop import Generator
    from fastdrop.nn.autograd import Array
    from fastdrop.nn.tensor import Tensor

__all__ = ["AlphaDropout", "FeatureAlphaDropout", "alpha_dropout", "feature_alpha_dropout"]


def alpha_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    noise_shape: Sequence[int | None] | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Drop to SELU's saturation value and restore mean and variance; see `fastdrop.alpha_dropout`.

    Parameters and errors are those of `dropout`.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> alpha_dropout(np.zeros(2, np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([-0.77919394,  0.77919394])
    """
    p = check_p(p)
    x = checked_input("alpha_dropout", input, training, inplace, generator)
    if not training or p == 0:
        return x
    mask = draw(x, p, noise_shape, generator, inplace, "alpha_dropout")
    scale, shift, dropped = alpha_constants(p)

    def forward(a: Array, out: Array | None) -> Array:
        return fused(mask, "affine", a, None, out, scale=scale, shift=shift, dropped=dropped)

    return masked("alpha_dropout", x, inplace, forward, lambda dy: mask.apply(dy, scale=scale))


def feature_alpha_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C) or (N, C, ...); see `fastdrop.feature_alpha_dropout`.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> feature_alpha_dropout(np.zeros((1, 2, 1), np.float32), 0.5, generator=fastdrop.Generator(1)).array.ravel()
    array([-0.77919394,  0.77919394], dtype=float32)
    """
    x = floating(input, "feature_alpha_dropout")
    shape = alpha_shape(whole(x.array.shape), channels_last)
    return alpha_dropout(x, p, training, inplace, noise_shape=shape, generator=generator)


class AlphaDropout(DropoutBase):
    """Dropout for SELU networks: keeps mean 0 and variance 1; see `fastdrop.alpha_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop an element, 0 <= p <= 1.
    inplace, noise_shape, generator
        As of `Dropout`.

    Examples
    --------
    >>> AlphaDropout(0.1)
    AlphaDropout(p=0.1, inplace=False, noise_shape=None)
    """

    _function = staticmethod(alpha_dropout)

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: Sequence[int | None] | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(p, inplace, generator, noise_shape=noise_shape)


class FeatureAlphaDropout(DropoutBase):
    """Alpha dropout of whole channels; see `fastdrop.feature_alpha_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop a channel, 0 <= p <= 1.
    inplace, generator
        As of `Dropout`.
    channels_last : bool
        Whether inputs are (N, ..., C).

    Examples
    --------
    >>> FeatureAlphaDropout(0.1)
    FeatureAlphaDropout(p=0.1, inplace=False, channels_last=False)
    """

    _function = staticmethod(feature_alpha_dropout)

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, channels_last: bool = False, generator: Generator | None = None
    ) -> None:
        super().__init__(p, inplace, generator, channels_last=channels_last)
