"""DropConnect: a linear map each of whose weights is dropped, as a function and a layer.

Where examples share decisions the weights are dropped by `drop`, and the product is PyTorch's. Where each has its own
the products are the operators ``fastdrop::connect``, ``connect_x`` and ``connect_w``, with x (B, I), w (O, I) and dy
(B, O), which make the mask (B, O, I) tile by tile; each is linear in either argument, with the others as derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdrop import connections as arrays
from fastdrop._checks import check_flags, check_p, shown
from fastdrop._core import Generator, Mask
from fastdrop.random import check_generator
from fastdrop.shards import Place, taken
from fastdrop.torch.drop import drop, next_seed, ours, scale_of, transforming
from fastdrop.torch.originals import ORIGINALS
from fastdrop.torch.parts import Parts, check_parts, find_part, merged_rows, places_of, said
from fastdrop.torch.sharded import apply_local, by_parts, check_ours, connect_by_parts
from fastdrop.torch.stream import seed_of

__all__ = ["DropConnectLinear", "dropconnect"]

_library = torch.library.Library("fastdrop", "FRAGMENT")


def _mask(seed: Tensor, p: float, whole: Sequence[int], part: Sequence[int], *shape: int) -> Mask:
    """For (batch, outputs, inputs): all of a mask, or the part that `parts.find_part` finds."""
    if not part:
        return Mask(*seed_of(seed), p, shape)
    places = {3 + axis: Place(first, step, whole[axis]) for axis, first, step in zip(part[::3], part[1::3], part[2::3])}
    return taken(Mask(*seed_of(seed), p, whole), shape, places)


def _array(x: Tensor) -> Any:
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()  # NumPy has no bfloat16
    # `numpy()` would forbid for good that the storage is resized, as `fully_shard` does with weights after use.
    return np.from_dlpack(wide.detach())


def _connect(
    x: Tensor, w: Tensor, seed: Tensor, p: float, whole: Sequence[int] = (), part: Sequence[int] = ()
) -> Tensor:
    mask = _mask(seed, p, whole, part, len(x), *w.shape)
    return torch.from_numpy(arrays.product(mask, _array(x), _array(w))).to(x.dtype)


def _connect_x(
    dy: Tensor, w: Tensor, seed: Tensor, p: float, whole: Sequence[int] = (), part: Sequence[int] = ()
) -> Tensor:
    mask = _mask(seed, p, whole, part, len(dy), *w.shape)
    return torch.from_numpy(arrays.input_gradient(mask, _array(dy), _array(w))).to(dy.dtype)


def _connect_w(
    dy: Tensor, x: Tensor, seed: Tensor, p: float, whole: Sequence[int] = (), part: Sequence[int] = ()
) -> Tensor:
    mask = _mask(seed, p, whole, part, len(x), dy.shape[1], x.shape[1])
    return torch.from_numpy(arrays.weight_gradient(mask, _array(dy), _array(x))).to(dy.dtype)


def _rows(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[0])


def _columns(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def _both(a: Tensor, b: Tensor, *_: Any) -> Tensor:
    return a.new_empty(a.shape[1], b.shape[1])


# Each is the sum over m dy w x with one of the three left out, and takes the other two in this order. So the gradient
# of one for either argument is the one that leaves that out.
_ARGUMENTS = {"y": ("x", "w"), "x": ("y", "w"), "w": ("y", "x")}
_NAMES = {"y": "connect", "x": "connect_x", "w": "connect_w"}


def _apply(out: str, first: Tensor, second: Tensor, seed: Tensor, *law: Any) -> Tensor:
    y: Tensor = getattr(torch.ops.fastdrop, _NAMES[out])(first, second, seed, *law)
    return y


def _gradients(
    apply: Callable[..., Tensor], out: str, saved: Sequence[Tensor], law: Any, g: Tensor, wanted: Sequence[bool]
) -> Iterator[Tensor | None]:
    *tensors, seed = saved
    named = {out: g, **dict(zip(_ARGUMENTS[out], tensors))}
    for name, want in zip(_ARGUMENTS[out], wanted):
        yield apply(name, *(named[other] for other in _ARGUMENTS[name]), seed, *law) if want else None


def _define(out: str, kernel: Callable[..., Tensor], fake: Callable[..., Tensor]) -> None:
    name, (first, second) = _NAMES[out], _ARGUMENTS[out]
    _library.define(
        f"{name}(Tensor {first}, Tensor {second}, Tensor seed, float p, SymInt[] whole=[], SymInt[] part=[]) -> Tensor"
    )
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"fastdrop::{name}", fake, lib=_library)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.law = inputs[3:]

    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(_apply, out, ctx.saved_tensors, ctx.law, g, ctx.needs_input_grad), *(None,) * 4

    torch.library.register_autograd(f"fastdrop::{name}", backward, setup_context=setup_context, lib=_library)


_define("y", _connect, _rows)
_define("x", _connect_x, _columns)
_define("w", _connect_w, _both)


class _Transformed(torch.autograd.Function):
    """The operators under torch.func's transforms and forward-mode differentiation, which want a Function."""

    @staticmethod
    def forward(out: str, first: Tensor, second: Tensor, seed: Tensor, *law: Any) -> Tensor:
        return _apply(out, first, second, seed, *law)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.out, *tensors = inputs[:4]
        ctx.law = inputs[4:]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        found = _gradients(_Transformed.apply, ctx.out, ctx.saved_tensors, ctx.law, grads[0], wanted)
        return None, *found, *(None,) * 4

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> Tensor:
        first, second, seed = ctx.saved_tensors
        parts = []
        if tangents[0] is not None:
            parts.append(_Transformed.apply(ctx.out, tangents[0], second, seed, *ctx.law))
        if tangents[1] is not None:
            parts.append(_Transformed.apply(ctx.out, first, tangents[1], seed, *ctx.law))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], out: str, *args: Any) -> tuple[Tensor, int]:
        """Example by example: each may have a seed, and the mask is over all that one call is given."""
        tensors = args[:3]
        each = [
            [tensor] * info.batch_size if axis is None else tensor.unbind(axis)
            for tensor, axis in zip(tensors, in_dims[1:])
        ]
        return torch.stack([_Transformed.apply(out, *some, *args[3:]) for some in zip(*each)]), 0


def _elsewhere(rows: Tensor, weight: Tensor, p: float) -> Tensor:
    """What the kernels do not take: by PyTorch, which makes a mask of (batch, out, in)."""
    kept = weight.new_empty(len(rows), *weight.shape).bernoulli_(1.0 - p)
    return torch.einsum("bi,boi->bo", rows, kept * weight) * scale_of(p)


def _dropped(weight: Tensor, p: float, generator: Generator | None, shard: Parts) -> Tensor:
    """The weights with decisions that all examples share."""
    if ours(weight):
        noise, part = find_part(weight.shape, shard)
        return drop(weight, p, noise, scale=scale_of(p), generator=generator, part=part)
    if by_parts(weight):
        return apply_local(partial(_dropped, p=p), weight, generator, shard)
    return ORIGINALS["dropout"](weight, p)


def _rows_part(shape: tuple[int, ...], shard: Parts) -> tuple[Sequence[int], Sequence[int]]:
    """Which part of the mask of (rows, out, in), for a mask of that shape."""
    if shard is None:
        return (), ()
    rows = math.prod(shape[:-2])
    whole, part = find_part((rows, *shape[-2:]), merged_rows(shape, places_of(shape, shard)))
    return (whole, part) if part else ((), ())


def dropconnect(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *,
    per_example: bool = True,
    generator: Generator | None = None,
    shard: Parts = None,
) -> Tensor:
    r"""`torch.nn.functional.linear` that drops each weight with probability `p`, for each example by itself.

    .. math:: y_{bo} = c_o + \frac{1}{1 - p} \sum_i m_{boi} w_{oi} x_{bi}, \qquad m_{boi} \sim \mathrm{Bernoulli}(1-p)

    Parameters
    ----------
    input : Tensor
        (..., in_features). float32, float64, float16 and bfloat16 on the CPU are fastdrop's; the rest goes to PyTorch,
        with a mask of (batch, out, in).
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
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole the mask is, whose axes are (..., out, in), or (out, in) if examples share decisions: of
        the examples, of the outputs, or of the inputs, whose products are then added up over the parts. DTensors say it
        themselves.

    Returns
    -------
    Tensor
        (..., out_features).

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, shapes or dtypes do not fit, `generator` is no `fastdrop.Generator` or
        `shard` no `fastdrop.Shard`, or either is given for tensors that are PyTorch's.

    Notes
    -----
    Saved for backward are the input and the weight, as for `linear`, and no mask; on the CPU
    nothing of the size (batch, out, in) is ever made. Half types are computed in float32 and rounded once.

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
    check_flags(training=training)
    check_generator(generator)
    check_parts(shard)
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor) and (tensor is not None or name != "bias"):
            raise TypeError(f"{name} has to be a Tensor, but got {shown(tensor)}")
    if not isinstance(per_example, bool):
        raise TypeError(f"per_example has to be True or False, but got {shown(per_example)}")
    if not training or p == 0.0:
        return F.linear(input, weight, bias)
    for name, tensor in (("input", input), ("weight", weight)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} has to be a floating tensor, but got {tensor.dtype}")
    here, in_parts = ours(input) and ours(weight), by_parts(input) and by_parts(weight)
    check_ours("dropconnect", generator, shard, input, weight)
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
        return F.linear(input, _dropped(weight, p, generator, shard), bias)
    if in_parts:
        y = connect_by_parts(partial(dropconnect, p=p), input, weight, generator, shard)
        return y if bias is None else y + bias
    rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    if here:
        whole, part = _rows_part((*input.shape[:-1], *weight.shape), shard)
        op = _Transformed.apply if transforming() else _apply
        y = op("y", rows, weight, next_seed(generator), p, whole, part)
    else:
        y = _elsewhere(rows, weight, p)
    y = y.reshape(*input.shape[:-1], weight.shape[0])
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
    shard : fastdrop.Shard or sequence of Shard, optional
        As of `functional.dropconnect`; `in_features` and `out_features` are this part's.

    Raises
    ------
    ValueError, TypeError
        If p is outside 0 to 1 or no number, `generator` no `fastdrop.Generator`, or `shard` no `fastdrop.Shard`.

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

    shard: Parts = None

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
        shard: Parts = None,
    ) -> None:
        check_p(p)
        check_parts(shard)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.p = p
        check_flags(per_example=per_example)
        self.per_example = per_example
        self.generator = check_generator(generator)
        self.shard = shard

    def forward(self, input: Tensor) -> Tensor:
        return dropconnect(
            input,
            self.weight,
            self.bias,
            self.p,
            self.training,
            per_example=self.per_example,
            generator=self.generator,
            shard=self.shard,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}, per_example={self.per_example}{said(self.shard)}"
