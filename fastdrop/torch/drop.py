"""Which way a call takes: straight to the kernel, or through the operator where somebody traces or transforms.

Both give the same bits for the same seed. The straight way is what eager code takes; it has no dispatcher in it, and
its autograd node holds plain numbers, no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from fastdrop._core import Generator
from fastdrop.torch.ops import CODES, Transformed, apply, call_op, drop_op, handle, seed_op
from fastdrop.torch.stream import KEYS, draw, seed_tensor

__all__ = ["check_leaf", "check_overlap", "drop", "next_seed", "ours", "scale_of", "straight", "transforming", "under"]

_transformed = torch._C._are_functorch_transforms_active
_SEES_TRANSFORMS = hasattr(torch.library, "register_vmap")  # the compiler, since PyTorch 2.5
_keys = torch._C._dispatch_keys
_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_compiling = torch.compiler.is_compiling
_strided = torch.strided
_no_torch_function = torch._C._disabled_torch_function_impl
_no_torch_dispatch = Tensor.__torch_dispatch__
_tracers = (FakeTensor, FunctionalTensor)


def _keys_of_memory() -> Iterator[int]:
    for inference in (False, True):
        with torch.inference_mode(inference):
            yield _keys(torch.empty(0, device="cpu")).raw_repr()


#: What dispatches a tensor that is memory. Others have none at their address: zeros that were never made, negatives
#: that were never written, and what functorch and functionalization wrap, also once a transform is over.
_MEMORY = frozenset(_keys_of_memory())


def _plain_kind(kind: type[Tensor]) -> bool:
    """Whether a subclass leaves its answers to PyTorch, or hands operators on: a tracer's within its mode, and what
    torch.distributed has not yet received, which waits for it."""
    return kind.__torch_function__ is _no_torch_function and (
        kind.__torch_dispatch__ is _no_torch_dispatch
        or (issubclass(kind, _tracers) and _modes() > 0)
        or kind.__name__ == "AsyncCollectiveTensor"
    )


def scale_of(p: float) -> float:
    """What kept elements are multiplied by."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


def ours(x: Tensor) -> bool:
    """Whether the kernels take x.

    What they do not take is PyTorch's, as are subclasses with answers of their own, what stands for tensors, and all
    that ``torch.jit`` traces: it would take a drawn key for a constant.
    """
    kind = type(x)
    return (
        isinstance(x, Tensor) and x.is_cpu and x.dtype in CODES and x.layout is _strided and not x.is_nested
        and (_tracing() is None or _compiling())
        and (kind is Tensor or kind is Parameter or _plain_kind(kind))
    )  # fmt: skip


def straight(x: Tensor) -> bool:
    """Whether x, which is `ours`, is memory and nothing more, and nobody watches."""
    if _compiling():
        return False
    kind = type(x)
    return (kind is Tensor or kind is Parameter) and not (
        _transformed() or _modes() or forward_ad._current_level >= 0 or _keys(x).raw_repr() not in _MEMORY
    )


class _Drop(torch.autograd.Function):
    """The straight way under autograd: backward is the same on the gradient, and so is what follows it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, law: tuple[Any, ...], inplace: bool) -> Tensor:
        ctx.law = law
        if not inplace:
            return apply(x, law, torch.empty_like(x))
        ctx.mark_dirty(x)
        return apply(x, law, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        dy, law = grads[0], ctx.law
        if law[6:8] != (0.0, 0.0):
            law = (*law[:6], 0.0, 0.0, law[8])
        if dy.is_sparse:  # an embedding's
            return _gradient(dy.to_dense(), law).sparse_mask(dy.coalesce()), None, None
        return _gradient(dy, law), None, None


def _gradient(dy: Tensor, law: tuple[Any, ...]) -> Tensor:
    return under(dy, law) if straight(dy) else _traced(dy, seed_tensor(*law[:2]), law[2:])


# Less what `Function.apply` does about torch.func, which `straight` has excluded: a microsecond of five.
_drop = super(torch.autograd.Function, _Drop).apply


def check_overlap(x: Tensor) -> None:
    """Refuse to write to expanded memory, as PyTorch does."""
    if torch._debug_has_internal_overlap(x) == 1:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def _check_inplace(x: Tensor) -> None:
    """Refuse what PyTorch refuses, before a number is drawn or anything is written."""
    check_overlap(x)
    if x.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed: clone it before.")
    check_leaf(x)


def check_leaf(x: Tensor) -> None:
    """Refuse to write to what gradients are of."""
    if x.requires_grad and torch.is_grad_enabled():
        base = x._base
        if x.is_leaf or (base is not None and base.is_leaf and base.requires_grad):
            what = "a leaf Variable" if x.is_leaf else "a view of a leaf Variable"
            raise RuntimeError(f"{what} that requires grad is being used in an in-place operation.")


def under(x: Tensor, law: tuple[Any, ...], inplace: bool = False) -> Tensor:
    """x, which goes the straight way, under a law."""
    if x.requires_grad and torch.is_grad_enabled():
        if inplace and x._is_view():  # autograd may refuse, which `copy_` lets it do before anything is written
            return x.copy_(_drop(x, law, False))
        return _drop(x, law, inplace)
    if not inplace:
        return apply(x, law, torch.empty_like(x))
    apply(x, law, x)
    torch.autograd.graph.increment_version(x)
    return x


def transforming() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, in code that is not being compiled."""
    return not _compiling() and (_transformed() or forward_ad._current_level >= 0)


def _functionalized() -> bool:
    """Whether `torch.func.functionalize` is among the transforms. It knows operators, but no Function."""
    if _compiling() or not _transformed():
        return False
    stack = torch._C._functorch.get_interpreter_stack()
    return any(level.key() == torch._C._functorch.TransformType.Functionalize for level in stack)


def _traced(x: Tensor, seed: Tensor, law: Sequence[Any], inplace: bool = False) -> Tensor:
    """x through the operator, under a law that has a tensor for key and call."""
    p, noise, block, scale, shift, dropped, part = law
    if _functionalized():
        keep = drop_op(torch.ones_like(x), seed, p, noise or (), block or (), 1.0, 0.0, 0.0, part or ()) != 0
        y = torch.where(keep, x * scale + shift, dropped)
        return x.copy_(y) if inplace else y
    op = Transformed.apply if transforming() else drop_op
    y = op(x, seed, p, noise or (), block or (), scale, shift, dropped, part or ())
    return x.copy_(y) if inplace else y


def next_seed(generator: Generator | None) -> Tensor:
    """The seed of the next mask, as the operators take it."""
    if generator is not None:
        return call_op(handle(generator)) if _compiling() else seed_tensor(*draw(generator))
    if (_SEES_TRANSFORMS or not _compiling()) and _transformed():  # vmap's own rules say whether examples share it
        return torch.randint(KEYS, (), dtype=torch.int64, device="cpu")
    return seed_op()


def drop(
    x: Tensor,
    p: float,
    noise: Sequence[int] | None = None,
    block: Sequence[int] | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
    dropped: float = 0.0,
    inplace: bool = False,
    generator: Generator | None = None,
    part: Sequence[int] | None = None,
) -> Tensor:
    """``keep ? scale * x + shift : dropped`` under the next mask; everything was checked, and x is `ours`.

    `noise` is the mask's shape, one entry per axis of x, 1 or x's extent; `block` the extents of blocks along the last
    axes, for which p is the share of elements that are dropped; `part` says which part of a whole x is, and goes with
    the whole's `noise`, as `parts.find_part` finds them. A part without elements draws too, since others have some.
    """
    if straight(x):
        if inplace:
            _check_inplace(x)
        key, call = draw(generator)
        return under(x, (key, call, p, noise, block, scale, shift, dropped, part), inplace)
    return _traced(x, next_seed(generator), (p, noise, block, scale, shift, dropped, part), inplace)
