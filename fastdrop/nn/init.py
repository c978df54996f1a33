"""Initial weights: PyTorch's `nn.init`, in place, drawn from fastdrop's generators.

Every function overwrites a tensor, also a parameter, and returns it; nothing is recorded. Random ones take one call of
`generator` (by default `fastdrop.default_generator()`): equal seeds, equal weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastdrop._checks import check_real, shown
from fastdrop.nn.autograd import Array, no_grad
from fastdrop.nn.creation import numpy_generator
from fastdrop.nn.tensor import Tensor

if TYPE_CHECKING:
    from fastdrop import Generator

__all__ = [
    "calculate_gain", "constant_", "kaiming_normal_", "kaiming_uniform_", "lecun_normal_", "normal_", "ones_",
    "orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip

_GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0),
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which weights before this nonlinearity should be larger than before none.

    ================= ==========================
    linear, conv{n}d  1
    sigmoid           1
    tanh              5/3
    relu              sqrt(2)
    leaky_relu        sqrt(2 / (1 + param**2))
    selu              3/4
    ================= ==========================

    Parameters
    ----------
    nonlinearity : str
        One of these.
    param : float, optional
        The negative slope of a leaky ReLU, 0.01 by default.

    Raises
    ------
    ValueError
        If `nonlinearity` is another word; TypeError if `param` is no number.

    Examples
    --------
    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    if isinstance(nonlinearity, str) and nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else check_real("param", param)) ** 2))
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {shown(nonlinearity)}, use leaky_relu, {', '.join(_GAINS)}")
    return _GAINS[nonlinearity]


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return _fill(_checked(tensor), np.asarray(check_real("val", val)))


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with numbers uniform in [a, b).

    Raises
    ------
    ValueError
        If b < a, or a bound is not finite.

    Examples
    --------
    >>> from fastdrop import nn
    >>> bool((uniform_(nn.zeros(100), 2, 3).array >= 2).all())
    True
    """
    _checked(tensor)
    low, high = _finite("a", a), _finite("b", b)
    if high < low:
        raise ValueError(f"uniform_: a must not be above b, got a={a} and b={b}")
    values = numpy_generator(generator).random(tensor.shape, dtype=_dtype(tensor))
    return _fill(tensor, low + (high - low) * values)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers.

    Raises
    ------
    ValueError
        If `std` is negative, or a number is not finite.
    """
    _checked(tensor)
    centre, spread = _finite("mean", mean), _positive("std", std)
    values = numpy_generator(generator).standard_normal(tensor.shape, dtype=_dtype(tensor))
    return _fill(tensor, centre + spread * values)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal numbers of `mean` and `std`, those outside of [a, b] drawn again.

    Exact however far in a tail the interval is: numbers uniform in it are accepted in proportion to their density.

    Parameters
    ----------
    tensor : Tensor
        To be filled.
    mean, std : float
        Of the normal distribution before the cut.
    a, b : float
        The bounds, in the units of the numbers (not in standard deviations); may be infinite.
    generator : fastdrop.Generator, optional
        Where the numbers come from.

    Raises
    ------
    ValueError
        If ``a < b`` does not hold, `std` is not positive, or a number is NaN.

    Examples
    --------
    >>> from fastdrop import nn
    >>> w = trunc_normal_(nn.zeros(1000), std=0.02, a=-0.04, b=0.04)
    >>> bool(abs(w.array).max() <= np.float32(0.04))
    True
    """
    _checked(tensor)
    centre, spread = _finite("mean", mean), _positive("std", std)
    low, high = check_real("a", a), check_real("b", b)
    if not low < high or not spread:
        raise ValueError(f"trunc_normal_: takes a < b and std > 0, got a={a}, b={b} and std={std}")
    values = centre + spread * _truncated((low - centre) / spread, (high - centre) / spread, tensor, generator)
    # Rounding to the tensor's dtype may have crossed a bound.
    return _fill(tensor, np.clip(values.astype(tensor.dtype), low, high))


def _truncated(low: float, high: float, like: Tensor, generator: Generator | None) -> Array:
    """Return standard normal numbers between two bounds."""
    nearest = min(max(0.0, low), high)
    # Beyond this reach the density is below exp(-40) of the largest in the interval.
    reach = math.sqrt(nearest**2 + 80)
    low, high = max(low, -reach), min(high, reach)
    rng = numpy_generator(generator)
    values = np.empty(like.numel())
    filled = 0
    while filled < values.size:
        z = low + (high - low) * rng.random(2 * (values.size - filled) + 16)
        z = z[rng.random(z.size) < np.exp((nearest**2 - z * z) / 2)][: values.size - filled]
        values[filled : filled + z.size] = z
        filled += z.size
    return values.reshape(like.shape)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with numbers uniform in +-``gain * sqrt(6 / (fan_in + fan_out))``.

    The fans of a weight of shape (out, in, *kernel) are in and out, times the size of the kernel.

    Raises
    ------
    ValueError
        If the tensor has fewer than 2 axes.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``; see `xavier_uniform_`."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fan_in, fan_out = _fans(tensor)
    return _positive("gain", gain) * math.sqrt(2.0 / max(fan_in + fan_out, 1))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers uniform in +-``gain * sqrt(3 / fan)``.

    Parameters
    ----------
    tensor : Tensor
        Of shape (out, in, *kernel).
    a : float
        The negative slope of the leaky ReLU that follows; with 0, a ReLU.
    mode : {"fan_in", "fan_out"}
        Keep the variance of the forward pass, or of the backward pass.
    nonlinearity : str
        What `calculate_gain` takes.
    generator : fastdrop.Generator, optional
        Where the numbers come from.

    Raises
    ------
    ValueError
        If the tensor has fewer than 2 axes, or a word is not known.

    References
    ----------
    He, Zhang, Ren, Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet classification",
    ICCV 2015.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal numbers of standard deviation ``gain / sqrt(fan)``; see `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(tensor)))
    if not isinstance(mode, str) or mode not in fans:
        raise ValueError(f"Mode {shown(mode)} not supported, please use one of fan_in, fan_out")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans[mode], 1))


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of standard deviation ``1 / sqrt(fan_in)``: what SELU networks start from.

    The same as ``kaiming_normal_(tensor, nonlinearity="linear")``.

    References
    ----------
    LeCun, Bottou, Orr, Müller, "Efficient backprop", 1998. Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing
    neural networks", NeurIPS 2017.

    Examples
    --------
    >>> from fastdrop import nn
    >>> layer = nn.Linear(64, 32)
    >>> lecun_normal_(layer.weight) is layer.weight
    True
    """
    return kaiming_normal_(tensor, nonlinearity="linear", generator=generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with a random matrix whose rows (or columns, where they are fewer) are orthogonal, times `gain`.

    Axes after the first count as one. The matrix is uniform (Haar) among all of its kind.

    Raises
    ------
    ValueError
        If the tensor has fewer than 2 axes.

    References
    ----------
    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014. Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 54
    (2007).

    Examples
    --------
    >>> from fastdrop import nn
    >>> w = orthogonal_(nn.zeros(2, 3, dtype=np.float64)).array
    >>> bool(np.allclose(w @ w.T, np.eye(2)))
    True
    """
    _fans(tensor)
    factor = check_real("gain", gain)
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    values = numpy_generator(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(values)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # QR's own choice of signs is not uniform.
    return _fill(tensor, factor * (q if rows >= columns else q.T).reshape(tensor.shape))


def _checked(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"expected a Tensor to fill, got a {type(tensor).__name__}")
    if tensor.array.dtype.kind != "f":
        raise TypeError(f"expected a tensor of floating dtype to fill, got {tensor.array.dtype}")
    if not tensor.array.flags.writeable:
        raise ValueError("tensor has to be one that can be written to, but its memory is read-only")
    return tensor


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Return how many inputs an output has, and how many outputs an input goes to."""
    shape = _checked(tensor).shape
    if len(shape) < 2:
        raise ValueError(f"Fan in and fan out need a tensor with at least 2 axes, (out, in, ...), got shape {shape}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _finite(name: str, value: float) -> float:
    number = check_real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} has to be finite, but got {value}")
    return number


def _positive(name: str, value: float) -> float:
    number = _finite(name, value)
    if number < 0:
        raise ValueError(f"{name} must not be negative, but got {value}")
    return number


def _dtype(tensor: Tensor) -> type[np.float32] | type[np.float64]:
    return np.float64 if tensor.array.dtype == np.float64 else np.float32


def _fill(tensor: Tensor, values: Array) -> Tensor:
    with no_grad():
        return tensor.copy_(values.astype(tensor.array.dtype))
