"""The operator ``fastdrop::drop``: the mask law on a CPU tensor, as PyTorch's compiler and transforms see it.

    y = keep ? scale * x + shift : dropped

`seed` is an int64 tensor, (key, call) or a key alone; `noise` is the mask's shape, empty for x's own; `block` holds the
extents of DropBlock's blocks, empty without; `part` says which part of a whole x is, as `parts.find_part` does, empty
if it is all of it. The operator is linear in x up to a constant, so its derivative of any order is itself with no
shift, under the same seed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdrop._core import DTYPE_CODES, Generator, apply_memory, set_team
from fastdrop.block import seed_probability
from fastdrop.torch.stream import draw, seed_of, seed_tensor

__all__ = ["CODES", "Transformed", "apply", "call_op", "drop_op", "fill", "handle", "seed_op"]

CODES = {getattr(torch, name): code for name, code in DTYPE_CODES.items()}

_library = torch.library.Library("fastdrop", "FRAGMENT")
_library.define(
    "drop(Tensor x, Tensor seed, float p, SymInt[] noise, SymInt[] block, float scale, float shift, float dropped, "
    "SymInt[] part=[]) -> Tensor"
)
# The tag keeps the compiler from merging two draws, and from making one again in backward.
_library.define("seed() -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))
_library.define("call(int handle) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))
drop_op = torch.ops.fastdrop.drop.default
seed_op = torch.ops.fastdrop.seed.default
call_op = torch.ops.fastdrop.call.default

#: Generators that compiled code draws from, by what stands for them in a trace.
_generators: dict[int, Generator] = {}


def _keep(generator: Generator) -> None:
    _generators[id(generator)] = generator


# What torch.compiler.assume_constant_result sets, which imports the compiler: a second for those who do not compile.
_keep._dynamo_marked_constant = True  # type: ignore[attr-defined]


def handle(generator: Generator) -> int:
    """What stands for a generator in a trace. It stays alive, as the trace may."""
    _keep(generator)
    return id(generator)


_threads = torch.get_num_threads


def _lend_team() -> None:
    """Give the kernels PyTorch's threads. They spin between operators, and would leave no core to others."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if torch.backends.openmp.is_available() and path.exists():
        parallel = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)  # found in what the library is linked with
        if parallel is not None:
            set_team(ctypes.cast(parallel, ctypes.c_void_p).value or 0)


_lend_team()

_ONES = {dtype: torch.ones((), dtype=dtype, device="cpu") for dtype in CODES}


def fill(law: Sequence[Any], y: Tensor) -> Tensor:
    """Fill y, on the CPU, with what `law` makes of ones."""
    return apply(_ONES[y.dtype], law, y, (0,) * y.dim())


def apply(x: Tensor, law: Sequence[Any], y: Tensor, strides: Sequence[int] | None = None) -> Tensor:
    """Fill y from x, both on the CPU, by `law`: what `fastdrop._core.apply_memory` takes before the memory.

    With blocks its p is the share of elements to drop, not the seeds' probability. `strides` are x's, if not others.
    """
    key, call, p, noise, block, scale, shift, dropped, part = law
    if block is not None:  # solved here, where extents are numbers and not a trace's symbols
        p = seed_probability(y.shape[-len(block) :], block, p)
    apply_memory(
        key, call, p, noise, block, scale, shift, dropped, part,
        CODES[y.dtype], x.data_ptr(), y.data_ptr(), y.shape, x.stride() if strides is None else strides, y.stride(),
        _threads(),
    )  # fmt: skip
    return y


def _drop(
    x: Tensor,
    seed: Tensor,
    p: float,
    noise: Sequence[int],
    block: Sequence[int],
    scale: float,
    shift: float,
    dropped: float,
    part: Sequence[int] = (),
) -> Tensor:
    law = (*seed_of(seed), p, noise or None, block or None, scale, shift, dropped, part or None)
    return apply(x, law, torch.empty_like(x))


def _drop_fake(x: Tensor, *law: Any) -> Tensor:
    return torch.empty_like(x)


def _seed() -> Tensor:
    return torch.tensor(draw(None)[0], dtype=torch.int64, device="cpu")


def _seed_fake() -> Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


def _call(handle: int) -> Tensor:
    return seed_tensor(*draw(_generators[handle]))


def _call_fake(handle: int) -> Tensor:
    return torch.empty(2, dtype=torch.int64, device="cpu")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, seed, *ctx.law = inputs
    ctx.save_for_backward(seed)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    p, noise, block, scale, _, _, part = ctx.law
    return drop_op(dy, *ctx.saved_tensors, p, noise, block, scale, 0.0, 0.0, part), *(None,) * 8


class Transformed(torch.autograd.Function):
    """The operator under torch.func's transforms and forward-mode differentiation, which want a Function."""

    @staticmethod
    def forward(x: Tensor, seed: Tensor, *law: Any) -> Tensor:
        return drop_op(x, seed, *law)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return Transformed._derivative(ctx, grads[0]), *(None,) * 8

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return Transformed._derivative(ctx, tangents[0])

    @staticmethod
    def _derivative(ctx: Any, dy: Tensor) -> Tensor:
        p, noise, block, scale, _, _, part = ctx.law
        return Transformed.apply(dy, *ctx.saved_tensors, p, noise, block, scale, 0.0, 0.0, part)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, seed: Tensor, p: float, noise: Any, block: Any, *law: Any
    ) -> tuple[Tensor, int]:
        return _vmap(Transformed.apply, info, in_dims, x, seed, p, noise, block, *law)


def _vmap(
    op: Any, info: Any, in_dims: tuple[Any, ...], x: Tensor, seed: Tensor, p: float, noise: Any, block: Any, *law: Any
) -> tuple[Tensor, int]:
    """One seed for all examples is a mask that they share; blocks, and a seed for each, go example by example."""
    of_x, of_seed = in_dims[:2]
    if of_seed is None and not block:
        x = x.movedim(of_x, 0)
        return op(x, seed, p, (1, *(noise or x.shape[1:])), block, *law), 0
    xs = [x] * info.batch_size if of_x is None else x.unbind(of_x)
    seeds = [seed] * info.batch_size if of_seed is None else seed.unbind(of_seed)
    return torch.stack([op(a, s, p, noise, block, *law) for a, s in zip(xs, seeds)]), 0


_library.impl("drop", _drop, "CPU")
_library.impl("seed", _seed, "CompositeExplicitAutograd")
torch.library.register_fake("fastdrop::drop", _drop_fake, lib=_library)
_library.impl("call", _call, "CompositeExplicitAutograd")
torch.library.register_fake("fastdrop::call", _call_fake, lib=_library)
torch.library.register_fake("fastdrop::seed", _seed_fake, lib=_library)
torch.library.register_autograd("fastdrop::drop", _backward, setup_context=_setup_context, lib=_library)
if hasattr(torch.library, "register_vmap"):  # since PyTorch 2.5; for vmap inside of compiled code
    torch.library.register_vmap("fastdrop::drop", partial(_vmap, drop_op), lib=_library)
