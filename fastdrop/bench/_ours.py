"""fastdrop as a contender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastdrop as fd

from .cases import Arrays, Case
from .ready import Answer, Ready

__all__ = ["PREPARE", "prepare_apply", "settings"]


def settings(case: Case) -> Callable[[], None]:
    """What sets its instruction set and threads."""
    isa = case.isa or fd.isa()

    def enter() -> None:
        fd.set_isa(isa)
        fd.set_num_threads(case.threads)

    return enter


def _forward(case: Case, arrays: Arrays) -> Ready:
    x, y, rng, shape, p = arrays.x, arrays.y, fd.Generator(0), arrays.x.shape, case.p

    def call() -> fd.Mask:
        mask = rng.mask(shape, p)
        mask.apply(x, y)
        return mask

    return Ready(call, lambda mask: Answer((y,), mask), settings(case))


def _forward_backward(case: Case, arrays: Arrays) -> Ready:
    x, y, dy, dx, rng, shape, p = arrays.x, arrays.y, arrays.dy, arrays.dx, fd.Generator(0), arrays.x.shape, case.p

    def call() -> fd.Mask:
        mask = rng.mask(shape, p)
        mask.apply(x, y)
        mask.apply(dy, dx)
        return mask

    return Ready(call, lambda mask: Answer((y, dx), mask), settings(case))


def _in_place(case: Case, arrays: Arrays) -> Ready:
    y, rng, shape, p = arrays.y, fd.Generator(0), arrays.y.shape, case.p

    def call() -> fd.Mask:
        mask = rng.mask(shape, p)
        mask.apply(y, y)
        return mask

    return Ready(call, lambda mask: Answer((y,), mask), settings(case), arrays.refill)


def _spatial(case: Case, arrays: Arrays) -> Ready:
    x, y, rng, maps, shape, p = arrays.x, arrays.y, fd.Generator(0), case.maps, arrays.x.shape, case.p
    first = case.family == "spatial-nchw"

    def call() -> fd.Mask:
        mask = rng.mask(maps, p)
        mask = (mask[:, :, None, None] if first else mask[:, None, None, :]).broadcast_to(shape)
        mask.apply(x, y)
        return mask

    return Ready(call, lambda mask: Answer((y,), mask), settings(case))


def _bits(case: Case, arrays: Arrays) -> Ready:
    rng, n, p = fd.Generator(0), case.n, case.p

    def call() -> tuple[fd.Mask, Any]:
        mask = rng.mask(n, p)
        return mask, mask.packbits()

    return Ready(call, lambda both: Answer((both[1],), both[0]), settings(case))


def _one_liner(case: Case, arrays: Arrays) -> Ready:
    x, p = arrays.x, case.p

    def call() -> Any:
        return fd.dropout(x, p)

    def answer(y: Any) -> Answer:
        rng = fd.default_generator()
        return Answer((y,), fd.Mask(rng.key, rng.call - 1, p, x.shape))

    return Ready(call, answer, settings(case))


def prepare_apply(case: Case, arrays: Arrays) -> Ready:
    """``mask.apply(x, out=y)`` alone, with a mask that is there already."""
    x, y = arrays.x, arrays.y
    mask = fd.Mask(0, 0, case.p, x.shape)

    def call() -> fd.Mask:
        mask.apply(x, out=y)
        return mask

    return Ready(call, lambda mask: Answer((y,), mask), settings(case))


def prepare_step(case: Case, arrays: Arrays, dropout: bool = True) -> Ready:
    """A training step of fastdrop.nn, with dropout or without."""
    from fastdrop import nn, optim

    from .cases import HIDDEN
    from .steps import CLASSES, FEATURES, check_dropped, check_learns, examples, training_step

    images, labels = examples(case)
    rng = fd.Generator(0)
    state = fd.default_generator().state
    fd.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU())
    drop = nn.Dropout(case.p, generator=rng) if dropout else nn.Identity()
    model = nn.Sequential(hidden, drop, nn.Linear(HIDDEN, CLASSES))
    fd.default_generator().state = state
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    x, target = nn.as_tensor(images), nn.as_tensor(labels)

    call = training_step(optimizer, lambda: nn.functional.cross_entropy(model(x), target))

    def verify() -> None:
        check_learns(lambda: float(call()))
        if dropout:
            before = hidden(x)
            check_dropped(case, np.asarray(before.detach()), np.asarray(drop(before).detach()))

    return Ready(call, enter=settings(case), verify=verify)


def _network(case: Case, arrays: Arrays) -> Ready:
    """A training step of a whole network; NumPy's BLAS gets as many threads as fastdrop."""
    from fastdrop import nn, optim

    from . import blas, networks

    ours = settings(case)

    def enter() -> None:
        ours()
        blas.set_threads(case.threads)

    return networks.prepare(case, nn, optim, nn.as_tensor, enter)


PREPARE = {
    "forward": _forward,
    "forward+backward": _forward_backward,
    "in-place": _in_place,
    "spatial-nchw": _spatial,
    "spatial-nhwc": _spatial,
    "mask-bits": _bits,
    "small-calls": _one_liner,
    "training-step": prepare_step,
    "cnn-step": _network,
    "mlp-step": _network,
}
