"""DropConnect's contenders: products of x (B, I), w (O, I) and dy (B, O) under a mask of (B, O, I).

The limit is the dense product. Peers keep the mask as an array of B O I numbers; gradients are taken under the mask
that the forward pass left, so that no peer draws there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastdrop as fd

from .. import connections, reference
from . import _ours, _torch, blas
from .cases import Arrays, Case
from .kinds import DEVIATIONS, WrongAnswer
from .ready import REFERENCE, Ready, nothing

__all__ = ["DENSE", "NAIVE", "OURS", "STORED", "TORCH"]

Array = NDArray[Any]

#: What each family makes.
MAKES = {
    "dropconnect": ("y",),
    "dropconnect-dx": ("dx",),
    "dropconnect-dw": ("dw",),
    "dropconnect-both": ("y", "dx", "dw"),
}


class Made(NamedTuple):
    """What a call gave: its products, and what it kept; None where nothing is dropped, nor scaled."""

    products: tuple[Array, ...]
    kept: fd.Mask | Array | None = None


def _check_kept(kept: fd.Mask | Array, p: float) -> None:
    """A mask against the reference, a peer's decisions by their share."""
    if isinstance(kept, fd.Mask):
        few = np.arange(min(REFERENCE, kept.size))
        if not np.array_equal(np.asarray(kept).reshape(-1)[few], reference.keep_at(kept.key, kept.call, kept.p, few)):
            raise WrongAnswer(f"{kept} differs from the reference")
        return
    rate, bound = float(kept.mean()), DEVIATIONS * (p * (1 - p) / kept.size) ** 0.5
    if abs(rate - (1 - p)) > bound:
        raise WrongAnswer(f"kept {rate:.6f} of {kept.size} where 1 - p is {1 - p:g} (allowed: {bound:.6f} off)")


def _exact(names: Sequence[str], every: Array, scale: float, x: Array, w: Array, dy: Array) -> dict[str, Array]:
    """The products in float64, example by example: all of the mask's weights at once would take 8 B O I bytes."""
    found = {name: np.zeros_like(like) for name, like in (("y", dy), ("dx", x), ("dw", w)) if name in names}
    for e, kept in enumerate(every):
        dropped = kept * (scale * w) if "y" in found or "dx" in found else w
        if "y" in found:
            found["y"][e] = dropped @ x[e]
        if "dx" in found:
            found["dx"][e] = dy[e] @ dropped
        if "dw" in found:
            found["dw"] += kept * np.outer(scale * dy[e], x[e])
    return found


def check_products(case: Case, arrays: Arrays, made: Made) -> None:
    """Compare with float64: within rounding of the sum of all terms' sizes."""
    names = MAKES[case.family]
    if len(made.products) != len(names):
        raise WrongAnswer(f"{len(made.products)} outputs where {len(names)} were asked for")
    every, scale = np.broadcast_to(np.True_, case.shape), 1.0
    if made.kept is not None:
        _check_kept(made.kept, case.p)
        every, scale = np.asarray(made.kept), 1 / (1 - case.p)
    x, w, dy = (array.astype(np.float64) for array in (arrays.x, arrays.w, arrays.dy))
    wants = _exact(names, every, scale, x, w, dy)
    sizes = {"y": abs(x) @ abs(w).T, "dx": abs(dy) @ abs(w), "dw": abs(dy).T @ abs(x)}
    close = scale * (1e-6 if case.dtype == "float32" else 1e-14)
    for name, found in zip(names, made.products):
        want = wants[name]
        if found.shape != want.shape or found.dtype != arrays.dtype:
            raise WrongAnswer(f"{name} of {found.dtype} {found.shape} where {arrays.dtype} {want.shape} was asked for")
        if not (np.abs(found - want) <= close * sizes[name]).all():
            raise WrongAnswer(f"{name} is not the sum of what the mask keeps")


def _ready(
    case: Case,
    arrays: Arrays,
    call: Callable[[], Any],
    made: Callable[[Any], Made] = lambda made: made,
    enter: Callable[[], None] = nothing,
    draws: bool = False,
) -> Ready:
    def verify() -> None:
        first = made(call())
        check_products(case, arrays, first)
        if draws and np.array_equal(np.asarray(first.kept), np.asarray(made(call()).kept)):
            raise WrongAnswer("two calls made the same decisions")

    return Ready(call, enter=enter, verify=verify)


def _ours_one(case: Case, arrays: Arrays) -> Ready:
    x, w, dy, p, rng, shape = arrays.x, arrays.w, arrays.dy, case.p, fd.Generator(0), case.shape

    def forward() -> Made:
        mask = fd.Mask(rng.key, rng.call, p, shape)
        return Made((fd.dropconnect(x, w, p=p, rng=rng),), mask)

    def of_x() -> Made:
        mask = rng.mask(shape, p)
        return Made((connections.input_gradient(mask, dy, w),), mask)

    def of_w() -> Made:
        mask = rng.mask(shape, p)
        return Made((connections.weight_gradient(mask, dy, x),), mask)

    def both() -> Made:
        made = forward()
        assert isinstance(made.kept, fd.Mask)
        return Made((*made.products, *fd.dropconnect_backward(dy, x, w, made.kept)), made.kept)

    calls = {"dropconnect": forward, "dropconnect-dx": of_x, "dropconnect-dw": of_w, "dropconnect-both": both}
    return _ready(case, arrays, calls[case.family], enter=_ours.settings(case), draws=True)


def _dense(case: Case, arrays: Arrays) -> Ready:
    x, w, dy = arrays.x, arrays.w, arrays.dy
    products: dict[str, Callable[[], Array]] = {"y": lambda: x @ w.T, "dx": lambda: dy @ w, "dw": lambda: dy.T @ x}
    chosen = [products[name] for name in MAKES[case.family]]

    def enter() -> None:
        blas.set_threads(case.threads)

    return _ready(case, arrays, lambda: Made(tuple(f() for f in chosen)), enter=enter)


def _sums(case: Case, arrays: Arrays) -> Callable[[Array], tuple[Array, ...]]:
    """The products under a mask, in NumPy."""
    x, w, dy, rest = arrays.x, arrays.w, arrays.dy, arrays.dtype.type(1 - case.p)
    terms = {"y": ("boi,oi,bi->bo", w, x), "dx": ("boi,oi,bo->bi", w, dy), "dw": ("boi,bo,bi->oi", dy, x)}
    chosen = [terms[name] for name in MAKES[case.family]]
    return lambda kept: tuple(np.einsum(how, kept, a, b) / rest for how, a, b in chosen)


def _naive(case: Case, arrays: Arrays) -> Ready:
    rng, p, shape, sums = np.random.default_rng(0), case.p, case.shape, _sums(case, arrays)

    def call() -> Made:
        kept = rng.random(shape) >= p
        return Made(sums(kept), kept)

    return _ready(case, arrays, call, draws=True)


def _stored(case: Case, arrays: Arrays) -> Ready:
    kept, sums = np.random.default_rng(0).random(case.shape) >= case.p, _sums(case, arrays)
    return _ready(case, arrays, lambda: Made(sums(kept), kept))


def _torch_one(case: Case, arrays: Arrays) -> Ready:
    torch, p, shape = _torch.package(), case.p, case.shape
    x, w, dy = (_torch.tensor(array) for array in (arrays.x, arrays.w, arrays.dy))

    def draw() -> Any:
        return torch.empty(shape, dtype=x.dtype).bernoulli_(1 - p).div_(1 - p)

    def forward(mask: Any) -> Any:
        return ((mask * w) @ x[:, :, None])[..., 0]

    def call() -> tuple[Any, ...]:
        mask = draw()
        return mask, forward(mask)

    def both() -> tuple[Any, ...]:
        mask = draw()
        y = forward(mask)
        return mask, y, *torch.autograd.grad(y, (x, w), dy)

    def answer(found: tuple[Any, ...]) -> Made:
        return Made(tuple(_torch.array(t, arrays.dtype) for t in found[1:]), found[0].numpy() != 0)

    draws = case.family in NAIVE
    if case.family == "dropconnect-both":
        x, w = x.requires_grad_(), w.requires_grad_()
    stored = None if draws else draw()
    calls = {
        "dropconnect": call,
        "dropconnect-both": both,
        "dropconnect-dx": lambda: (stored, (dy[:, None] @ (stored * w))[:, 0]),
        "dropconnect-dw": lambda: (stored, (stored * (dy[:, :, None] * x[:, None])).sum(0)),
    }
    return _ready(case, arrays, calls[case.family], answer, _torch.settings(case), draws)


OURS: dict[str, Any] = dict.fromkeys(MAKES, _ours_one)
DENSE: dict[str, Any] = dict.fromkeys(MAKES, _dense)
NAIVE: dict[str, Any] = dict.fromkeys(("dropconnect", "dropconnect-both"), _naive)
STORED: dict[str, Any] = dict.fromkeys(MAKES, _stored)
TORCH: dict[str, Any] = dict.fromkeys(MAKES, _torch_one)
