"""The dropout layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._core import Generator
from fastdrop.functional import check_p, check_scaling
from fastdrop.nn import functional as F
from fastdrop.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastdrop.nn.tensor import Tensor

__all__ = ["Dropout"]


class Dropout(Module):
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

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: Sequence[int | None] | None = None,
        scaling: str = "inverted",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_p(p)
        check_scaling(scaling)
        if generator is not None and not isinstance(generator, Generator):
            raise TypeError(f"generator must be a fastdrop.Generator, got a {type(generator).__name__}")
        if isinstance(noise_shape, (str, bytes)):
            raise TypeError(f"noise_shape must be a sequence of ints and None, got {noise_shape!r}")
        self.p = p
        self.inplace = inplace
        self.noise_shape = noise_shape
        self.scaling = scaling
        self.generator = generator

    def forward(self, input: Any) -> Tensor:
        return F.dropout(
            input,
            self.p,
            self.training,
            self.inplace,
            noise_shape=self.noise_shape,
            scaling=self.scaling,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        text = f"p={self.p}, inplace={self.inplace}"
        if self.noise_shape is not None:
            text += f", noise_shape={tuple(self.noise_shape)}"
        if self.scaling != "inverted":
            text += f", scaling={self.scaling!r}"
        return text
