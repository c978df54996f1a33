"""Layers with PyTorch's names, arguments, weight shapes and initial distributions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, check_real, check_shape, is_int, shown
from fastdrop.nn import functional as F
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.losses import Loss
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import chosen_generator, refunding

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastdrop import Generator

__all__ = ["Conv2d", "Flatten", "Identity", "Linear", "MaxPool2d", "ReLU"]


def check_count(name: str, value: Any) -> int:
    if not is_int(value) or not 1 <= value < 2**63:
        raise ValueError(f"{name} must be a positive int, got {shown(value)}")
    return int(value)


class _Weighted(Module):
    """A layer with a weight and perhaps a bias, both uniform in +-1/sqrt(fan in) at first."""

    weight: Parameter
    bias: Parameter | None

    def _init_weights(
        self, shape: tuple[int, ...], bias: bool, dtype: npt.DTypeLike, generator: Generator | None
    ) -> None:
        check_flags(bias=bias)
        wanted = floating_dtype(dtype)
        check_shape(shape, "weight's shape")
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        with refunding(chosen_generator(generator)) as taken:  # where there is no memory
            rng = taken.numpy()

            def uniform(size: tuple[int, ...]) -> Parameter:
                values = rng.random(size, dtype=np.float64 if wanted == np.float64 else np.float32)
                return Parameter(((values * 2 - 1) * bound).astype(wanted, copy=False))

            self.weight = uniform(shape)
            if bias:
                self.bias = uniform(shape[:1])
            else:
                self.register_parameter("bias", None)


class Linear(_Weighted):
    """``y = x @ weight.T + bias``

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last dimension of input and output.
    bias : bool
        Whether to add a bias.
    dtype : dtype
        Of the parameters; the input must have the same.
    generator : fastdrop.Generator, optional
        Where the initial weights come from; by default `fastdrop.default_generator()`.

    Attributes
    ----------
    weight : Parameter
        Shape (out_features, in_features), at first uniform in +-1/sqrt(in_features).
    bias : Parameter or None
        Shape (out_features,), of the same distribution.

    Examples
    --------
    >>> Linear(3, 2)(np.ones((5, 3), dtype=np.float32)).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_count("in_features", in_features)
        self.out_features = check_count("out_features", out_features)
        self._init_weights((self.out_features, self.in_features), bias, dtype, generator)

    def forward(self, input: Any) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Conv2d(_Weighted):
    """2-d cross-correlation over (N, C, H, W) images; see `functional.conv2d` for shapes and errors.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (int, int)
    padding : int, (int, int), "valid" or "same"
    groups : int
        Must divide both channel counts.
    bias : bool
    dtype, generator
        As in `Linear`.

    Attributes
    ----------
    weight : Parameter
        Shape (out_channels, in_channels / groups, kh, kw), at first uniform in +-1/sqrt(fan in).
    bias : Parameter or None
        Shape (out_channels,), of the same distribution.

    Examples
    --------
    >>> Conv2d(1, 8, 3, padding=1)(np.ones((2, 1, 28, 28), dtype=np.float32)).shape
    (2, 8, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.groups = check_count("groups", groups)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise ValueError(f"{name} must be divisible by groups, got {getattr(self, name)} and {groups}")
        self.kernel_size = F.pair("kernel_size", kernel_size, 1)
        geometry = F.conv_geometry(self.kernel_size, stride, padding, dilation)
        self.stride, self.dilation = geometry.stride, geometry.dilation
        self.padding = padding if isinstance(padding, str) else geometry.padding
        self._init_weights((self.out_channels, self.in_channels // groups, *self.kernel_size), bias, dtype, generator)

    def forward(self, input: Any) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class MaxPool2d(Module):
    """The maximum of each window of (N, C, H, W) images; see `functional.max_pool2d`.

    Examples
    --------
    >>> MaxPool2d(2)(np.ones((2, 8, 28, 28), dtype=np.float32)).shape
    (2, 8, 14, 14)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("kernel_size", kernel_size, 1),
            ("stride", kernel_size if stride is None else stride, 1),
            ("padding", padding, 0),
            ("dilation", dilation, 1),
        ):
            F.pair(name, value, least)
            setattr(self, name, value)
        check_flags(ceil_mode=ceil_mode)
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Tensor:
        return F.max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class Flatten(Module):
    """Joins the dimensions from `start_dim` to `end_dim`; by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = check_int("start_dim", start_dim, -LIMIT, LIMIT)
        self.end_dim = check_int("end_dim", end_dim, -LIMIT, LIMIT)

    def forward(self, input: Any) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class ReLU(Module):
    """``max(x, 0)``; see `functional.relu`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        check_flags(inplace=inplace)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        return F.relu(input, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Identity(Module):
    """Returns its input; takes and ignores any arguments, so that it can stand in for another layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Tensor:
        return named_tensor(input, "input")


class MSELoss(Loss):
    """Mean squared error (see `functional.mse_loss`)."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class NLLLoss(Loss):
    """Negative log likelihood of log-probabilities (see `functional.nll_loss`)."""

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else named_tensor(weight, "weight"))
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(Loss):
    """Cross entropy of logits against class numbers or probabilities (see `functional.cross_entropy`)."""

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else named_tensor(weight, "weight"))
        self.ignore_index = ignore_index
        if not 0 <= check_real("label_smoothing", label_smoothing) <= 1:
            raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
