"""Calls of every kind that would take minutes, to be ended by a signal.

Most of their output is never touched: memory is taken as it is written.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop as fd
from fastdrop import _core

N = 2**31
#: Each element has a block of its own.
SPARSE = fd.Mask(key=1, call=2, p=0.1, shape=(N,), strides=(1000,))
ONE = np.broadcast_to(np.float16(1), (N,))
_BATCH, _WEIGHTS = (2**16, 900), (900, 900)


@functools.cache
def _ones(*shape: int) -> NDArray[Any]:
    """What a kernel takes as it is: to copy it would be no part of the call that can be ended."""
    return np.ones(shape, np.float32)


def _room() -> NDArray[Any]:
    return np.empty(N, np.float16)


def _blocks() -> NDArray[Any]:
    out = _room().reshape(-1, 128, 128)
    return fd.drop_block2d(np.broadcast_to(np.float16(1), out.shape), 0.1, 7, rng=fd.Generator(0), out=out)


def _connect(call: Callable[..., Any], *shapes: tuple[int, int]) -> Any:
    return call(fd.Mask(1, 2, 0.1, (_BATCH[0], *_WEIGHTS)), *(_ones(*shape) for shape in shapes), 1.0)


CALLS: dict[str, Callable[[], Any]] = {
    "packbits": lambda: SPARSE.packbits(),
    "booleans": lambda: np.asarray(SPARSE),
    "apply": lambda: SPARSE.apply(ONE, out=_room()),
    "dropout": lambda: [fd.dropout(ONE, 0.1, rng=fd.Generator(0), out=_room()) for _ in range(99)],
    "fused": lambda: fd.dropout_add(ONE, ONE, 0.1, mask=SPARSE, out=_room()),
    "noise": lambda: fd.Noise(1, 2, (N,), strides=(1000,)).apply(ONE, sigma=0.1, out=_room()),
    "normals": lambda: np.asarray(fd.Noise(1, 2, (N,), strides=(1000,))),
    "many": lambda: fd.apply_masks([SPARSE[: N // 8]] * 8, ONE[: N // 8], out=_room().reshape(8, -1)),
    "block": lambda: [_blocks() for _ in range(99)],
    "softmax": lambda: fd.softmax_dropout(np.broadcast_to(np.float32(1), (2**21, 1000)), 0.1, rng=fd.Generator(0)),
    "dropconnect": lambda: _connect(_core.dropconnect_forward, _BATCH, _WEIGHTS),
    "dropconnect_dx": lambda: _connect(_core.dropconnect_dx, _BATCH, _WEIGHTS),
    "dropconnect_dw": lambda: _connect(_core.dropconnect_dw, _BATCH, _BATCH),
}


def prepare() -> None:
    """Make what the calls share, which would be part of the first one's time."""
    for shape in (_BATCH, _WEIGHTS):
        _ones(*shape)


class Alarm:
    """A context in which a signal comes after so many seconds, to be handled by `action`; counts how often."""

    def __init__(self, action: Callable[[int, FrameType | None], Any], after: float = 0.05) -> None:
        self.action, self.after, self.calls = action, after, 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.calls += 1
        self.action(number, frame)

    def __enter__(self) -> Alarm:
        self.before = signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, self.after)
        return self

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
