"""Activations beside ReLU, as functions on tensors and as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop._checks import check_flags, check_real
from fastdrop.nn.autograd import Array, check_inplace, record, record_inplace
from fastdrop.nn.creation import floating
from fastdrop.nn.module import Module
from fastdrop.nn.operations import sigmoid_values
from fastdrop.nn.tensor import Tensor, named_tensor

__all__ = [
    "ELU",
    "SELU",
    "LeakyReLU",
    "LogSoftmax",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "elu",
    "leaky_relu",
    "selu",
    "sigmoid",
    "silu",
    "tanh",
]  # fmt: skip

# The fixed point of Klambauer et al.: with these, mean 0 and variance 1 go through a layer unchanged.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _elementwise(
    name: str, input: Any, inplace: bool, value: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> Tensor:
    """Record ``value(input)``, whose derivative is ``slope(input)``; half types are computed in float32."""
    check_flags(inplace=inplace)
    x = floating(input, name)
    if inplace:
        check_inplace(x, name)
    a = x.array.copy(order="K") if inplace and x.will_record() else x.array

    def wide() -> Array:
        return a.astype(np.float32) if a.dtype.itemsize == 2 else a

    def function(dy: Array) -> tuple[Array]:
        return (dy * slope(wide()),)

    y = value(wide()).astype(a.dtype, copy=False)
    if not inplace:
        return record(name, y, (x,), function, saved=(x,))
    np.copyto(x.array, y)
    record_inplace(name, x, function)
    return x


def tanh(input: Any) -> Tensor:
    """Return the hyperbolic tangent, element by element."""
    return named_tensor(input, "input").tanh()


def sigmoid(input: Any) -> Tensor:
    """Return 1 / (1 + exp(-input)), element by element."""
    return named_tensor(input, "input").sigmoid()


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``input`` where it is positive and ``alpha * (exp(input) - 1)`` elsewhere.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype.
    alpha : float
        Minus what large negative numbers tend to.
    inplace : bool
        Overwrite `input` and return it.

    Raises
    ------
    TypeError
        If `input` has no floating dtype, or `alpha` is no number.
    RuntimeError
        With `inplace`, if backward needs the values that would be overwritten, or `input` is a leaf.

    References
    ----------
    Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units", ICLR 2016.

    Examples
    --------
    >>> elu(np.array([-np.inf, 0.0, 2.0]), alpha=0.5)
    tensor([-0.5,  0. ,  2. ], dtype=float64)
    """
    return _scaled_elu("elu", input, check_real("alpha", alpha), 1.0, inplace)


def selu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``scale * elu(input, alpha)`` with the constants that keep mean 0 and variance 1 from layer to layer.

    alpha = 1.6733 and scale = 1.0507. Weights should start as `init.lecun_normal_` makes them, and the dropout that
    keeps mean and variance too is alpha dropout. Parameters and errors are `elu`'s.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.

    Examples
    --------
    >>> selu(np.array([-np.inf, 0.0, 1.0], dtype=np.float32))
    tensor([-1.7580993,  0.       ,  1.050701 ])
    """
    return _scaled_elu("selu", input, _SELU_ALPHA, _SELU_SCALE, inplace)


def _scaled_elu(name: str, input: Any, alpha: float, scale: float, inplace: bool) -> Tensor:
    # Here as in `leaky_relu` one of the two terms is 0: `where` branches on every number, and takes many times as long.
    # The exponential sees no positive number, so it cannot overflow.
    def slope(x: Array) -> Array:
        above, below = _sides(x)
        below *= scale * alpha
        below *= np.exp(np.minimum(x, 0))
        above *= scale
        above += below
        return above

    return _elementwise(
        name,
        input,
        inplace,
        lambda x: scale * np.maximum(x, 0) + (scale * alpha) * np.expm1(np.minimum(x, 0)),
        slope,
    )


def _sides(x: Array) -> tuple[Array, Array]:
    """Return 1 where `x` is positive and 0 elsewhere, and the other way round."""
    above = np.greater(x, 0).astype(x.dtype)
    return above, np.asarray(1 - above)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return ``input`` where it is positive and ``negative_slope * input`` elsewhere; see `elu` for the rest.

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1)
    tensor([-0.1,  2. ], dtype=float64)
    """
    factor = check_real("negative_slope", negative_slope)

    def slope(x: Array) -> Array:
        above, below = _sides(x)
        below *= factor
        above += below
        return above

    return _elementwise(
        "leaky_relu",
        input,
        inplace,
        lambda x: np.maximum(x, 0) + factor * np.minimum(x, 0),
        slope,
    )


def silu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``input * sigmoid(input)``, also called swish; see `elu` for the rest.

    References
    ----------
    Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", Neural Networks 107 (2018).

    Examples
    --------
    >>> silu(np.array([-1000.0, 0.0, 1000.0]))
    tensor([  -0.,    0., 1000.], dtype=float64)
    """

    def slope(x: Array) -> Array:
        s = sigmoid_values(x)
        derivative: Array = s * (1 + x * (1 - s))
        return derivative

    return _elementwise("silu", input, inplace, lambda x: x * sigmoid_values(x), slope)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Any) -> Tensor:
        return tanh(input)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``"""

    def forward(self, input: Any) -> Tensor:
        return sigmoid(input)


class ELU(Module):
    """``x`` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere; see `functional.elu`.

    Examples
    --------
    >>> ELU(0.5)
    ELU(alpha=0.5)
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        check_real("alpha", alpha)
        self.alpha = alpha
        check_flags(inplace=inplace)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        return elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + _inplace(self, ", ")


class SELU(Module):
    """The self-normalising exponential linear unit; see `functional.selu`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        check_flags(inplace=inplace)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        return selu(input, self.inplace)

    def extra_repr(self) -> str:
        return _inplace(self)


class LeakyReLU(Module):
    """``x`` where it is positive, ``negative_slope * x`` elsewhere.

    Examples
    --------
    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0], dtype=np.float32))
    tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        check_real("negative_slope", negative_slope)
        self.negative_slope = negative_slope
        check_flags(inplace=inplace)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        return leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + _inplace(self, ", ")


class SiLU(Module):
    """``x * sigmoid(x)``; see `functional.silu`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        check_flags(inplace=inplace)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        return silu(input, self.inplace)

    def extra_repr(self) -> str:
        return _inplace(self)


def _inplace(layer: ELU | SELU | LeakyReLU | SiLU, before: str = "") -> str:
    return f"{before}inplace=True" if layer.inplace else ""


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along `dim`, safe from overflow.

    Parameters
    ----------
    dim : int
        PyTorch lets it be missing, with a warning and a guess; here it has to be given.

    Examples
    --------
    >>> Softmax(dim=-1)(np.zeros((1, 2), dtype=np.float32))
    tensor([[0.5, 0.5]])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return named_tensor(input, "input").softmax(self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """``log(softmax(x))`` along `dim`, safe from overflow and underflow."""

    def forward(self, input: Any) -> Tensor:
        return named_tensor(input, "input").log_softmax(self.dim)
