"""Zoneout: the function on tensors, and the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fastdrop
from fastdrop._core import fused
from fastdrop.functional import check_p
from fastdrop.fused import second_input
from fastdrop.nn.autograd import record
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.dropouts import checked_input, draw
from fastdrop.nn.tensor import named_tensor

if TYPE_CHECKING:
    from fastdrop import Generator
    from fastdrop.nn.autograd import Array
    from fastdrop.nn.tensor import Tensor

__all__ = ["Zoneout", "zoneout"]


def zoneout(
    input: Any, previous: Any, p: float = 0.1, training: bool = True, *, generator: Generator | None = None
) -> Tensor:
    """Keep the previous value of each element with probability `p`; see `fastdrop.zoneout`.

    Parameters
    ----------
    input, previous : Tensor or ndarray
        The new state and the one before, of one floating dtype; `previous` broadcasts to `input`.
    p : float
        The probability to keep the previous value, 0 <= p <= 1.
    training : bool
        Outside training the expectation is returned.
    generator : fastdrop.Generator, optional
        Where the mask comes from; by default `fastdrop.default_generator()`.

    Examples
    --------
    >>> zoneout(np.ones(2, np.float32), np.full(2, 7, np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([7., 1.])
    """
    p = check_p(p)
    x, h = checked_input("zoneout", input, training, generator=generator), named_tensor(previous, "previous")
    second_input(x.array, h.array, "previous", None)
    if p == 0:
        return x
    if not training:
        y = fastdrop.zoneout(x.array, h.array, p, False)
        return record("zoneout", y, (x, h), lambda dy: (dy * dy.dtype.type(1.0 - p), dy * dy.dtype.type(p)))
    mask = draw(x, p, None, generator, False, "zoneout")

    def function(dy: Array) -> tuple[Array, Array]:
        nothing = np.broadcast_to(dy.dtype.type(0), dy.shape)
        return mask.apply(dy, scale=1.0), fused(mask, "where", nothing, dy, np.empty_like(dy))

    return record("zoneout", fused(mask, "where", x.array, h.array), (x, h), function)


class Zoneout(DropoutBase):
    """Keeps the previous state of each unit with probability `p`, called with (new, previous); see `fastdrop.zoneout`.

    Parameters
    ----------
    p : float
        The probability to keep the previous value, 0 <= p <= 1.
    generator
        As of `Dropout`.

    Examples
    --------
    >>> Zoneout(0.1)
    Zoneout(p=0.1)
    """

    def __init__(self, p: float = 0.1, *, generator: Generator | None = None) -> None:
        super().__init__(p, False, generator)

    def forward(self, input: Any, previous: Any) -> Tensor:  # type: ignore[override]
        return zoneout(input, previous, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"
