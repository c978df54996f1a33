"""GELU: the function, the layer, and the normal distribution that NumPy has no function for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop.nn.autograd import Array, record
from fastdrop.nn.module import Module
from fastdrop.nn.tensor import Tensor, as_tensor

__all__ = ["GELU", "gelu"]

# Beyond this, the normal distribution and its density are 0 (or 1) in float64 too, and squares do not overflow.
_FAR = 40.0
# Elements at a time: the scratch arrays of a block stay in the L1 and L2 caches over some thirty passes.
_BLOCK = 1 << 14

# The normal distribution's tail, for a >= 0, is Phi(-a) = exp(-a^2 / 2) P(w) / (a + 4) with w = (a - 4) / (a + 4). P is
# smooth on the whole half line. These are the interpolating polynomials of P in the Chebyshev nodes of w's interval,
# for a up to 14.5 (where float32 ends) and 40, found with 50 digits; lowest power first. Relative error of the
# polynomials themselves: 1.3e-8 and 3.8e-17.
_TAIL = {
    np.dtype(np.float32): (
        0.7552851385103706, -0.6078966060738091, 0.3871366797947066, -0.18652300589738766, 0.06040646974830364,
        -0.007527212911679855, -0.003523574056351906, 0.0015693136450922462, 0.00019480185114246543,
        -0.00012298315700526609,
    ),
    np.dtype(np.float64): (
        0.7552851304157515, -0.6078966419718917, 0.38713740074221936, -0.1865218579596934, 0.06039657489067665,
        -0.007540188965625017, -0.0034796923618040597, 0.0016308184424805887, 0.00013334424978358428,
        -0.00023109482414997105, -1.9078434059248706e-06, 3.51442149682578e-05, 7.149308325478401e-07,
        -5.919013186154044e-06, -6.249906995369785e-07, 1.0200713392568465e-06, 2.6354310560684456e-07,
        -1.546196819122192e-07, -7.634712843441086e-08, 1.4842390072751344e-08, 1.3976528155950821e-08,
        -1.015295717649618e-11, -9.990624160023276e-10,
    ),
}  # fmt: skip

# An integer type and the bits of a number that are kept so that its square is exact.
_HALF = {np.dtype(np.float32): (np.uint32, 0xFFFFF000), np.dtype(np.float64): (np.uint64, 0xFFFFFFFFF8000000)}


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
        Of the input's shape and dtype. Backward keeps the slope at each element, and neither the input nor the result.

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
    >>> gelu(np.array([-1.0, 0.0, 1.0], dtype=np.float32))
    tensor([-0.15865526,  0.        ,  0.8413447 ])
    """
    x = as_tensor(input)
    _check_approximate(approximate)
    if x.array.dtype.kind != "f":
        raise TypeError(f"gelu: input must have a floating dtype, got {x.array.dtype}; convert it with .float()")
    y = np.empty_like(x.array)
    slope = np.empty_like(x.array) if x.will_record() else None
    _fill(x.array, y, slope, _normal if approximate == "none" else _tanh)

    def function(dy: Array) -> tuple[Array]:
        assert slope is not None
        return (dy * slope,)

    return record("gelu", y, (x,), function)


def _check_approximate(approximate: Any) -> None:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")


def _fill(x: Array, y: Array, slope: Array | None, kind: Callable[[Array, Array, Array | None], None]) -> None:
    """Let `kind` write the results of `x` and their slopes, a block at a time and in float32 at least."""
    arrays = [x, y] if slope is None else [x, y, slope]
    use: Any = [["readonly"], ["writeonly"], ["writeonly"]]
    blocks = np.nditer(
        arrays,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=use[: len(arrays)],
        op_dtypes=[np.promote_types(x.dtype, np.float32)] * len(arrays),
        casting="same_kind",
        buffersize=_BLOCK,
    )
    with blocks:
        for operands in blocks:
            kind(operands[0], operands[1], operands[2] if slope is not None else None)


def _normal(x: Array, y: Array, slope: Array | None) -> None:
    dtype = x.dtype
    a = np.abs(x)
    np.minimum(a, dtype.type(_FAR), out=a)
    u = a + 4
    np.divide(1, u, out=u)
    w = u * -8
    w += 1
    tail = np.full_like(w, _TAIL[dtype][-1])
    for coefficient in _TAIL[dtype][-2::-1]:
        tail *= w
        tail += coefficient
    tail *= u
    # exp(-a^2 / 2) would multiply the rounding of a^2 by a^2: square a shortened a exactly, and mend with the rest.
    unsigned, bits = _HALF[dtype]
    short = np.bitwise_and(a.view(unsigned), unsigned(bits)).view(dtype)
    rest = np.subtract(short, a, out=u)
    rest *= np.add(short, a, out=w)
    rest *= 0.5
    short *= short
    short *= -0.5
    density = np.exp(short, out=short)
    density *= np.exp(rest, out=rest)
    tail *= density
    # x (1 - tail) on the right and x tail on the left, without a branch and without cancellation.
    np.clip(x, 0, np.inf, out=y)
    y -= np.multiply(a, tail, out=w)
    if slope is None:
        return
    density *= a
    density *= 1 / math.sqrt(2 * math.pi)
    tail -= density
    # On the left this is the slope, on the right what it lacks to 1.
    np.greater_equal(x, 0, out=slope)
    np.multiply(slope, -2, out=w)
    w += 1
    tail *= w
    slope += tail


def _tanh(x: Array, y: Array, slope: Array | None) -> None:
    scale = math.sqrt(2 / math.pi)
    near = np.clip(x, -_FAR, _FAR)
    square = near * near
    t = square * (scale * 0.044715)
    t += scale
    t *= near
    np.tanh(t, out=t)
    share = t + 1
    share *= 0.5
    np.multiply(np.clip(x, -_FAR, np.inf), share, out=y)
    if slope is None:
        return
    square *= scale * 3 * 0.044715
    square += scale
    square *= near
    square *= 0.5
    t *= t
    square *= np.subtract(1, t, out=t)
    np.add(share, square, out=slope)


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
        _check_approximate(approximate)
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        return gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"
