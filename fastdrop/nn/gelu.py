"""GELU: the function and the layer. The arithmetic is that of `fastdrop.activation_dropout`."""

from __future__ import annotations

from typing import Any

from fastdrop._checks import shown
from fastdrop._core import fused
from fastdrop.functional import KEEP_ALL
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.creation import floating
from fastdrop.nn.module import Module
from fastdrop.nn.tensor import Tensor

__all__ = ["GELU", "gelu"]

_NAMES = {"none": "gelu", "tanh": "gelu_tanh"}


def gelu(input: Any, approximate: str = "none") -> Tensor:
    r"""Return :math:`x \Phi(x)`, where :math:`\Phi` is the normal distribution's cumulative function.

    .. math:: \Phi(x) = \tfrac12 \left(1 + \mathrm{erf}(x / \sqrt 2)\right), \qquad
        \Phi(x) \approx \tfrac12 \left(1 + \tanh\left(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\right)\right)

    the first with ``approximate="none"``, the second with ``"tanh"``.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype. float16 is computed in float32.
    approximate : {"none", "tanh"}

    Returns
    -------
    Tensor
        Of the input's shape and dtype.

    Raises
    ------
    ValueError
        If `approximate` is another word.
    TypeError
        If `input` has no floating dtype.

    Notes
    -----
    With "none" the relative error stays below 5 machine epsilons of float32 or float64 on the whole line, small results
    far on the left included (where the result itself is a normal number). The limit at minus infinity is 0, where
    PyTorch gives NaN.

    References
    ----------
    Hendrycks, Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0], dtype=np.float32))
    tensor([-0.15865526,  0.        ,  0.8413447 ])
    """
    name = _name(approximate)
    x = floating(input, "gelu")

    def function(dy: Array) -> tuple[Array]:
        return (fused(KEEP_ALL, "act_grad", dy, x.array, activation=name),)

    return record("gelu", fused(KEEP_ALL, "act", x.array, activation=name), (x,), function, saved=(x,))


def _name(approximate: Any) -> str:
    """The activation's name in the kernels."""
    if not isinstance(approximate, str) or approximate not in _NAMES:
        raise ValueError(f"approximate must be 'none' or 'tanh', got {shown(approximate)}")
    return _NAMES[approximate]


class GELU(Module):
    """``x Phi(x)`` with the normal distribution's Phi; see `functional.gelu`.

    Parameters
    ----------
    approximate : {"none", "tanh"}

    Examples
    --------
    >>> GELU()
    GELU(approximate='none')
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        _name(approximate)
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        return gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"
