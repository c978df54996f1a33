"""Dropout in one pass with its neighbours: the functions on tensors, and the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._core import fused, inverted_scale
from fastdrop.functional import KEEP_ALL, check_p
from fastdrop.fused import check_activation, second_input
from fastdrop.nn.autograd import record
from fastdrop.nn.dropout import Dropout, DropoutBase
from fastdrop.nn.dropouts import checked_input, draw
from fastdrop.nn.tensor import named_tensor

if TYPE_CHECKING:
    from fastdrop import Generator
    from fastdrop.nn.autograd import Array
    from fastdrop.nn.tensor import Tensor

__all__ = ["ActivationDropout", "DropoutAdd", "activation_dropout", "dropout_add", "is_plain"]


def activation_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    *,
    activation: str = "relu",
    bias: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """``dropout(activation(input + bias))`` in one pass; see `fastdrop.activation_dropout`.

    For backward the result is kept where the activation is relu, and the input otherwise: nothing that was not there.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype.
    p, training, generator
        As of `dropout`; outside training the activation alone.
    activation : {"relu", "identity", "gelu", "gelu_tanh", "silu"}
    bias : Tensor or ndarray, optional
        In the input's dtype; broadcasts to it.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> activation_dropout(np.array([3.0, -1.0, 2.0]), 0.0)
    tensor([3., 0., 2.], dtype=float64)
    """
    p = check_p(p)
    check_activation(activation)
    x = checked_input("activation_dropout", input, training, generator=generator)
    b = None if bias is None else named_tensor(bias, "bias")
    if b is not None:
        second_input(x.array, b.array, "bias", None)
    mask = draw(x, p, None, generator, False, "activation_dropout") if training and p else KEEP_ALL
    scale = inverted_scale(mask.p)
    y = fused(mask, "act", x.array, None if b is None else b.array, name="bias", activation=activation, scale=scale)

    def gradient(dy: Array) -> Array:
        if activation == "identity":
            return mask.apply(dy, scale=scale)
        taken = y if activation == "relu" else x.array if b is None else x.array + b.array
        return fused(mask, "act_grad", dy, taken, activation=activation, scale=scale)

    def function(dy: Array) -> tuple[Array, ...]:
        dx = gradient(dy)
        return (dx,) if b is None else (dx, dx)

    inputs = (x,) if b is None else (x, b)
    reads_inputs = activation not in ("identity", "relu")
    saved = inputs if reads_inputs else ()
    return record("activation_dropout", y, inputs, function, saved=saved, saves_result=activation == "relu")


def dropout_add(
    input: Any, residual: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Tensor:
    """``dropout(input) + residual`` in one pass; see `fastdrop.dropout_add`.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> dropout_add(np.ones(2, np.float32), np.full(2, 7, np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([7., 9.])
    """
    p = check_p(p)
    x, r = checked_input("dropout_add", input, training, generator=generator), named_tensor(residual, "residual")
    second_input(x.array, r.array, "residual", None)
    mask = draw(x, p, None, generator, False, "dropout_add") if training and p else KEEP_ALL
    scale = inverted_scale(mask.p)

    def function(dy: Array) -> tuple[Array, Array]:
        return mask.apply(dy, scale=scale), dy

    return record("dropout_add", fused(mask, "add", x.array, r.array, scale=scale), (x, r), function)


def is_plain(module: Any) -> bool:
    """Whether a module is dropout as the fused forms do it: nn.Dropout itself, with no option set."""
    return type(module) is Dropout and (module.inplace, module.noise_shape, module.scaling) == (False, None, "inverted")


class ActivationDropout(DropoutBase):
    """An activation, then dropout, in one pass; see `fastdrop.activation_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop an element, 0 <= p <= 1.
    activation : {"relu", "identity", "gelu", "gelu_tanh", "silu"}
    generator
        As of `Dropout`.

    Examples
    --------
    >>> ActivationDropout(0.1, "gelu")
    ActivationDropout(p=0.1, activation='gelu')
    """

    activation: str

    def __init__(self, p: float = 0.5, activation: str = "relu", *, generator: Generator | None = None) -> None:
        super().__init__(p, False, generator, activation=check_activation(activation))

    def forward(self, input: Any) -> Tensor:
        return activation_dropout(input, self.p, self.training, activation=self.activation, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}, activation={self.activation!r}"


class DropoutAdd(DropoutBase):
    """Dropout and the residual connection in one pass, called with (x, residual); see `fastdrop.dropout_add`.

    Parameters
    ----------
    p : float
        The probability to drop an element of x, 0 <= p <= 1.
    generator
        As of `Dropout`.

    Examples
    --------
    >>> DropoutAdd(0.1)
    DropoutAdd(p=0.1)
    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__(p, False, generator)

    def forward(self, input: Any, residual: Any) -> Tensor:  # type: ignore[override]
        return dropout_add(input, residual, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"
