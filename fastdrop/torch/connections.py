"""DropConnect: a linear map each of whose weights is dropped, as a function and a layer.

Where examples share decisions the weights are dropped by `drop`, and the product is PyTorch's. Where each has its own
the products are the operators ``fastdrop::connect``, ``connect_x`` and ``connect_w``, with x (B, I), w (O, I) and dy
(B, O), which make the mask (B, O, I) tile by tile; each is linear in either argument, with the others as derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdrop import connections as arrays
from fastdrop._checks import check_p
from fastdrop._core import Generator, Mask
from fastdrop.random import check_generator
from fastdrop.torch.drop import drop, next_seed, ours
from fastdrop.torch.stream import seed_of

__all__ = ["DropConnectLinear", "dropconnect"]

_library = torch.library.Library("fastdrop", "FRAGMENT")


def _mask(seed: Tensor, p: float, batch: int, outputs: int, inputs: int) -> Mask:
    return Mask(*seed_of(seed), p, (batch, outputs, inputs))


def _array(x: Tensor) -> Any:
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()  # NumPy has no bfloat16
    return wide.detach().numpy()


def _connect(x: Tensor, w: Tensor, seed: Tensor, p: float) -> Tensor:
    mask = _mask(seed, p, len(x), *w.shape)
    return torch.from_numpy(arrays.product(mask, _array(x), _array(w))).to(x.dtype)


def _connect_x(dy: Tensor, w: Tensor, seed: Tensor, p: float) -> Tensor:
    mask = _mask(seed, p, len(dy), *w.shape)
    return torch.from_numpy(arrays.input_gradient(mask, _array(dy), _array(w))).to(dy.dtype)


def _connect_w(dy: Tensor, x: Tensor, seed: Tensor, p: float) -> Tensor:
    mask = _mask(seed, p, len(x), dy.shape[1], x.shape[1])
    return torch.from_numpy(arrays.weight_gradient(mask, _array(dy), _array(x))).to(dy.dtype)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.p = inputs
    ctx.save_for_backward(*tensors)


def _connect_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, w, seed = ctx.saved_tensors
    need_x, need_w, *_ = ctx.needs_input_grad
    dx = torch.ops.fastdrop.connect_x(dy, w, seed, ctx.p) if need_x else None
    return dx, torch.ops.fastdrop.connect_w(dy, x, seed, ctx.p) if need_w else None, None, None


def _connect_x_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    dy, w, seed = ctx.saved_tensors
    need_dy, need_w, *_ = ctx.needs_input_grad
    ddy = torch.ops.fastdrop.connect(g, w, seed, ctx.p) if need_dy else None
    return ddy, torch.ops.fastdrop.connect_w(dy, g, seed, ctx.p) if need_w else None, None, None


def _connect_w_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    dy, x, seed = ctx.saved_tensors
    need_dy, need_x, *_ = ctx.needs_input_grad
    ddy = torch.ops.fastdrop.connect(x, g, seed, ctx.p) if need_dy else None
    return ddy, torch.ops.fastdrop.connect_x(dy, g, seed, ctx.p) if need_x else None, None, None


def _define(
    name: str,
    first: str,
    second: str,
    kernel: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    backward: Callable[..., Any],
) -> None:
    _library.define(f"{name}(Tensor {first}, Tensor {second}, Tensor seed, float p) -> Tensor")
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"fastdrop::{name}", fake, lib=_library)
    torch.library.register_autograd(f"fastdrop::{name}", backward, setup_context=_setup_context, lib=_library)


def _rows(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[0])


def _columns(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def _both(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[1], b.shape[1])


_define("connect", "x", "w", _connect, _rows, _connect_backward)
_define("connect_x", "dy", "w", _connect_x, _columns, _connect_x_backward)
_define("connect_w", "dy", "x", _connect_w, _both, _connect_w_backward)


def dropconnect(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *,
    per_example: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    r"""`torch.nn.functional.linear` that drops each weight with probability `p`, for each example by itself.

    .. math:: y_{bo} = c_o + \frac{1}{1 - p} \sum_i m_{boi} w_{oi} x_{bi}, \qquad m_{boi} \sim \mathrm{Bernoulli}(1-p)

    Parameters
    ----------
    input : Tensor
        (..., in_features): float32, float64, float16 or bfloat16, on the CPU.
    weight : Tensor
        (out_features, in_features), of the input's dtype.
    bias : Tensor, optional
        (out_features,); it is not dropped.
    p : float
        The probability to drop a weight, 0 to 1.
    training : bool
        Out of training this is `linear`.
    per_example : bool
        Whether each example has decisions of its own, or the batch shares them.
    generator : fastdrop.Generator, optional
        As of `dropout`.

    Returns
    -------
    Tensor
        (..., out_features).

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, shapes or dtypes do not fit, or tensors are not on the CPU in training.

    Notes
    -----
    Saved for backward are the input and the weight, as for `linear`, and no mask; nothing of the size
    (batch, out, in) is ever made. Half types are computed in float32 and rounded once.

    References
    ----------
    Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of neural networks using DropConnect", ICML 2013.

    Examples
    --------
    >>> import fastdrop, torch
    >>> dropconnect(torch.ones(2, 8), torch.ones(3, 8), p=0.5, generator=fastdrop.Generator(0))
    tensor([[6., 8., 8.],
            [6., 4., 6.]])
    """
    p = check_p(p)
    check_generator(generator)
    if not isinstance(per_example, bool):
        raise TypeError(f"per_example has to be True or False, but got {per_example!r}")
    if not training or p == 0.0:
        return F.linear(input, weight, bias)
    for name, tensor in (("input", input), ("weight", weight)):
        if not ours(tensor):
            raise ValueError(
                f"{name} has to be a floating tensor on the CPU, but got {tensor.dtype} on {tensor.device}"
            )
    if weight.dtype != input.dtype:
        raise TypeError(f"weight has to have the dtype of input, {input.dtype}, but got {weight.dtype}")
    if weight.dim() != 2 or not input.dim() or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            "input and weight have to have shapes (..., in) and (out, in), "
            f"but got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:1]):
        raise ValueError(f"bias has to have shape {tuple(weight.shape[:1])}, but got {tuple(bias.shape)}")
    if not per_example:
        scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
        return F.linear(input, drop(weight, p, None, None, scale, 0.0, 0.0, False, generator), bias)
    outer = input.shape[:-1]
    rows = input.reshape(math.prod(outer), input.shape[-1])
    y = torch.ops.fastdrop.connect(rows, weight, next_seed(generator), p).reshape(*outer, weight.shape[0])
    return y if bias is None else y + bias


class DropConnectLinear(nn.Linear):
    """`torch.nn.Linear` that drops each weight with probability `p`, for each example by itself; see `dropconnect`.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of input and output.
    p : float
        The probability to drop a weight, 0 to 1.
    per_example : bool
        Whether each example has decisions of its own, or the batch shares them.
    bias : bool
        Whether to add a bias, which is not dropped.
    device, dtype
        As of `torch.nn.Linear`.
    generator : fastdrop.Generator, optional
        As of `Dropout`.

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, or `generator` no `fastdrop.Generator`.

    Notes
    -----
    Evaluation is the mean network, `torch.nn.Linear` itself. `fastdrop.nn.DropConnectLinear` has the paper's
    moment-matched inference.

    Examples
    --------
    >>> import torch
    >>> layer = DropConnectLinear(8, 3, p=0.5)
    >>> layer
    DropConnectLinear(in_features=8, out_features=3, bias=True, p=0.5, per_example=True)
    >>> layer(torch.ones(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float = 0.5,
        per_example: bool = True,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        check_p(p)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.p = p
        self.per_example = per_example
        self.generator = check_generator(generator)

    def forward(self, input: Tensor) -> Tensor:
        return dropconnect(
            input, self.weight, self.bias, self.p, self.training, per_example=self.per_example, generator=self.generator
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}, per_example={self.per_example}"
