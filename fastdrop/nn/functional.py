"""The operations behind the layers, as functions on tensors: `relu`, `linear`, `conv2d`, `dropout` and so on.

Every function takes tensors or ndarrays, computes with NumPy, and records how its gradient is found. Names, arguments
and defaults are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, is_int, shown
from fastdrop.nn import buffers, kernels
from fastdrop.nn import operations as ops
from fastdrop.nn.activations import elu, leaky_relu, selu, sigmoid, silu, tanh
from fastdrop.nn.alpha import alpha_dropout, feature_alpha_dropout
from fastdrop.nn.attention import scaled_dot_product_attention
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.block import drop_block1d, drop_block2d, drop_block3d
from fastdrop.nn.creation import floating
from fastdrop.nn.dropconnect import dropconnect
from fastdrop.nn.dropouts import drop_path, dropout, dropout1d, dropout2d, dropout3d, locked_dropout, token_dropout
from fastdrop.nn.elementwise_losses import (
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    smooth_l1_loss,
)
from fastdrop.nn.embedding import embedding
from fastdrop.nn.fused import activation_dropout, dropout_add
from fastdrop.nn.gaussian import gaussian_dropout, gaussian_noise
from fastdrop.nn.gelu import gelu
from fastdrop.nn.layer_norm import layer_norm
from fastdrop.nn.losses import cross_entropy, mse_loss, nll_loss
from fastdrop.nn.normalization import batch_norm
from fastdrop.nn.softmax import softmax_dropout
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.nn.words import embedding_dropout, word_dropout
from fastdrop.nn.zoneout import zoneout

__all__ = [
    "activation_dropout", "alpha_dropout", "batch_norm", "binary_cross_entropy_with_logits", "conv2d",
    "cross_entropy", "drop_block1d", "drop_block2d", "drop_block3d", "drop_path", "dropconnect", "dropout",
    "dropout1d", "dropout2d", "dropout3d", "dropout_add", "elu", "embedding", "embedding_dropout",
    "feature_alpha_dropout", "flatten", "gaussian_dropout", "gaussian_noise", "gelu", "huber_loss", "kl_div", "l1_loss",
    "layer_norm", "leaky_relu", "linear", "locked_dropout", "log_softmax", "max_pool2d", "mse_loss", "nll_loss", "relu",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "smooth_l1_loss", "softmax", "softmax_dropout",
    "tanh", "token_dropout", "word_dropout", "zoneout",
]  # fmt: skip


def relu(input: Any, inplace: bool = False) -> Tensor:
    """Return max(input, 0), element by element.

    Backward keeps one byte per element and neither the input nor the result, so both may be changed in place.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape.
    inplace : bool
        Overwrite `input` and return it.

    Raises
    ------
    RuntimeError
        With `inplace`, if backward needs the values that would be overwritten, or `input` is a leaf.

    Examples
    --------
    >>> relu(np.array([-1.0, 0.0, 2.0], dtype=np.float32))
    tensor([0., 0., 2.])
    """
    return ops.relu(named_tensor(input, "input"), inplace)


def softmax(input: Any, dim: int) -> Tensor:
    """Return exp(input) / sum(exp(input)) along `dim`, safe from overflow."""
    return named_tensor(input, "input").softmax(dim)


def log_softmax(input: Any, dim: int) -> Tensor:
    """Return log(softmax(input)) along `dim`, safe from overflow and underflow."""
    return named_tensor(input, "input").log_softmax(dim)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the dimensions from `start_dim` to `end_dim` into one (see `Tensor.flatten`)."""
    return named_tensor(input, "input").flatten(start_dim, end_dim)


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Return ``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor or ndarray
        Shape (..., in_features).
    weight : Tensor
        Shape (out_features, in_features).
    bias : Tensor, optional
        Shape (out_features,).

    Returns
    -------
    Tensor
        Shape (..., out_features).

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit.
    """
    x, w = named_tensor(input, "input"), named_tensor(weight, "weight")
    b = None if bias is None else named_tensor(bias, "bias")
    if x.array.ndim == 0 or w.array.ndim != 2 or x.array.shape[-1] != w.array.shape[1]:
        raise RuntimeError(
            f"linear: expected input of shape (..., {w.array.shape[-1] if w.array.ndim else 'in'}) for weight of shape "
            f"{w.array.shape}, got {x.array.shape}"
        )
    if b is not None and b.array.shape != (len(w.array),):
        raise RuntimeError(
            f"linear: bias must have shape ({len(w.array)},) for weight {w.array.shape}, got {b.array.shape}"
        )
    _same_dtype("linear", x, w, b)
    xa, wa = x.array, w.array
    rows = xa.reshape(-1, xa.shape[-1])
    y = np.matmul(rows, wa.T, out=buffers.empty((len(rows), len(wa)), xa.dtype))
    if b is not None:
        y += b.array
    need_x, need_w = x.requires_grad, w.requires_grad

    def function(dy: Array) -> tuple[Array | None, ...]:
        g = dy.reshape(-1, wa.shape[0])
        dx = np.matmul(g, wa, out=buffers.empty(rows.shape, xa.dtype)).reshape(xa.shape) if need_x else None
        dw = np.matmul(g.T, rows, out=buffers.empty_like(wa)) if need_w else None
        # A matrix product sums columns faster than `sum` does.
        return (dx, dw) if b is None else (dx, dw, np.ones(len(g), g.dtype) @ g)

    saved = ([w] if need_x else []) + ([x] if need_w else [])
    inputs = (x, w) if b is None else (x, w, b)
    return record("linear", y.reshape(*xa.shape[:-1], wa.shape[0]), inputs, function, saved=saved, fresh=True)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """Slide a window over images: 2-d cross-correlation.

    Parameters
    ----------
    input : Tensor or ndarray
        Shape (N, C, H, W), or (C, H, W) for one image.
    weight : Tensor
        Shape (O, C / groups, kh, kw).
    bias : Tensor, optional
        Shape (O,).
    stride, dilation : int or (int, int)
        At least 1.
    padding : int, (int, int), "valid" or "same"
        Zeros added on each side; "valid" is none, "same" keeps the image size (stride 1, odd window span only).
    groups : int
        Split input and output channels into this many independent groups.

    Returns
    -------
    Tensor
        Shape (N, O, OH, OW), OH = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit.
    ValueError
        If stride, padding, dilation or groups is out of range.
    """
    x, w = named_tensor(input, "input"), named_tensor(weight, "weight")
    b = None if bias is None else named_tensor(bias, "bias")
    if x.array.ndim == 3:
        return conv2d(x.unsqueeze(0), w, b, stride, padding, dilation, groups).squeeze(0)
    if x.array.ndim != 4 or w.array.ndim != 4:
        raise RuntimeError(
            f"conv2d: expected a 3D (unbatched) or 4D (batched) input and a 4D weight, "
            f"got input of shape {x.array.shape} and weight of shape {w.array.shape}"
        )
    kernel = (w.array.shape[2], w.array.shape[3])
    geometry = conv_geometry(kernel, stride, padding, dilation)
    if check_int("conv2d: groups", groups, -LIMIT, LIMIT) < 1 or w.array.shape[0] % groups:
        raise ValueError(f"conv2d: groups must divide the {w.array.shape[0]} output channels, got {groups}")
    expected = w.array.shape[1] * groups
    if x.array.shape[1] != expected:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(w.array.shape)}, expected input{list(x.array.shape)} to "
            f"have {expected} channels, but got {x.array.shape[1]} channels instead"
        )
    if min(geometry.output(*x.array.shape[2:])) < 1:
        (ph, pw), (h, width) = geometry.padding, x.array.shape[2:]
        raise RuntimeError(
            f"Calculated padded input size per channel: ({h + 2 * ph} x {width + 2 * pw}). Kernel size: "
            f"({geometry.span[0]} x {geometry.span[1]}). Kernel size can't be greater than actual input size"
        )
    _same_dtype("conv2d", x, w, b)
    xa, wa = x.array, w.array
    need_x, need_w = x.requires_grad, w.requires_grad

    def function(dy: Array) -> tuple[Array | None, ...]:
        dx, dw, db = kernels.conv2d_backward(dy, xa, wa, geometry, groups, need_x)
        return (dx, dw) if b is None else (dx, dw, db)

    y = kernels.conv2d(xa, wa, None if b is None else b.array, geometry, groups)
    inputs = (x, w) if b is None else (x, w, b)
    saved = ([w] if need_x else []) + ([x] if need_w else [])
    return record("conv2d", y, inputs, function, saved=saved, fresh=True)


def max_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the maximum of each window; the first of equal maxima takes the gradient.

    As in PyTorch a NaN is larger than anything, and the last one of a window takes the gradient.

    Parameters
    ----------
    input : Tensor or ndarray
        Shape (N, C, H, W) or (C, H, W), floating dtype.
    kernel_size, stride, padding, dilation : int or (int, int)
        The window, of at most 65,535 places; `stride` defaults to `kernel_size`. Padding counts as minus infinity.
    ceil_mode : bool
        Round the output size up, so that the last window may reach beyond the image.

    Returns
    -------
    Tensor
        Shape (N, C, OH, OW), OH = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    Raises
    ------
    RuntimeError
        If the shape does not fit.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    check_flags(ceil_mode=ceil_mode)
    x = floating(input, "max_pool2d")
    if x.array.ndim == 3:
        return max_pool2d(x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode).squeeze(0)
    if x.array.ndim != 4:
        raise RuntimeError(f"max_pool2d: expected a 3D or 4D input, got shape {x.array.shape}")
    kernel = pair("kernel_size", kernel_size, 1)
    geometry = kernels.Geometry(
        kernel,
        kernel if stride is None else pair("stride", stride, 1),
        pair("padding", padding, 0),
        pair("dilation", dilation, 1),
    )
    if any(2 * pad > size for pad, size in zip(geometry.padding, kernel, strict=True)):
        raise ValueError(f"max_pool2d: padding must be at most half of kernel_size {kernel}, got {geometry.padding}")
    output = geometry.output(*x.array.shape[2:])
    if ceil_mode:
        output = _ceil_output(geometry, x.array.shape)
    if min(output) < 1:
        raise RuntimeError(
            f"max_pool2d: a window of {geometry.span} does not fit an image of {x.array.shape[2:]} "
            f"with padding {geometry.padding}"
        )
    shape = x.array.shape
    y, winner = kernels.max_pool2d(x.array, geometry, output, x.will_record())

    def function(dy: Array) -> tuple[Array]:
        assert winner is not None
        return (kernels.max_pool2d_backward(dy, shape, geometry, winner),)

    return record("max_pool2d", y, (x,), function)


def _ceil_output(geometry: kernels.Geometry, shape: tuple[int, ...]) -> tuple[int, int]:
    sizes = []
    for size, pad, span, stride in zip(shape[2:], geometry.padding, geometry.span, geometry.stride, strict=True):
        count = -(-(size + 2 * pad - span) // stride) + 1
        # The last window has to start inside the image or its left padding.
        sizes.append(count - 1 if (count - 1) * stride >= size + pad else count)
    return sizes[0], sizes[1]


def pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """Return an int or a pair of ints as a pair, each at least `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) == 1:
        values = values * 2
    if len(values) != 2 or not all(is_int(v) for v in values):
        raise TypeError(f"{name} must be an int or a pair of ints, got {shown(value)}")
    if min(values) < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(value)}")
    if max(values) >= 2**30:
        raise ValueError(f"{name} must be below 2**30, got {shown(value)}")
    return int(values[0]), int(values[1])


def conv_geometry(kernel: tuple[int, int], stride: Any, padding: Any, dilation: Any) -> kernels.Geometry:
    """Return the checked geometry of a convolution; see `conv2d` for the arguments."""
    steps, spread = pair("stride", stride, 1), pair("dilation", dilation, 1)
    if not isinstance(padding, str):
        return kernels.Geometry(kernel, steps, pair("padding", padding, 0), spread)
    if padding == "valid":
        return kernels.Geometry(kernel, steps, (0, 0), spread)
    if padding != "same":
        raise ValueError(f"Invalid padding string {shown(padding)}, should be one of 'valid', 'same'")
    if steps != (1, 1):
        raise ValueError("padding='same' is not supported for strided convolutions")
    total = (spread[0] * (kernel[0] - 1), spread[1] * (kernel[1] - 1))
    if total[0] % 2 or total[1] % 2:
        raise NotImplementedError(
            f"padding='same' needs a window of odd span, got kernel {kernel} with dilation {spread}; "
            "pad the images yourself"
        )
    return kernels.Geometry(kernel, steps, (total[0] // 2, total[1] // 2), spread)


def _same_dtype(name: str, x: Tensor, w: Tensor, b: Tensor | None) -> None:
    dtypes = [t.array.dtype for t in (x, w, b) if t is not None]
    if any(dtype != dtypes[0] for dtype in dtypes) or dtypes[0].kind != "f":
        raise RuntimeError(
            f"{name}: input, weight and bias must have one floating dtype, got "
            f"{', '.join(map(str, dtypes))}; convert the input with .float() (or astype), or the model"
        )
