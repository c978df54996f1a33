"""NumPy as a contender: as it is usually written, and as well as it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .cases import Arrays, Case
from .ready import Answer, Ready, nothing

__all__ = ["GOOD", "NAIVE"]

Array = NDArray[Any]

#: Elements at a time: temporaries stay in the second cache, and calls are few (2^14 took 30 % longer at p = .5).
CHUNK = 2**16
#: Draws of 16 bits.
RESOLUTION = 2.0**-16


def _naive(case: Case, arrays: Arrays) -> Ready:
    x, rng, p = arrays.x, np.random.default_rng(0), case.p
    return Ready(lambda: reference.naive_dropout(x, p, rng)[0], lambda y: Answer((y,)))


def _naive_both(case: Case, arrays: Arrays) -> Ready:
    x, dy, rng, p = arrays.x, arrays.dy, np.random.default_rng(0), case.p

    def call() -> tuple[Array, Array]:
        y, kept = reference.naive_dropout(x, p, rng)
        return y, reference.naive_dropout_backward(dy, kept, p)

    return Ready(call, Answer)


def _naive_in_place(case: Case, arrays: Arrays) -> Ready:
    y, rng, p = arrays.y, np.random.default_rng(0), case.p
    rest = y.dtype.type(1 - p)

    def call() -> None:
        np.multiply(y, rng.random(y.shape) >= p, out=y)
        np.divide(y, rest, out=y)

    return Ready(call, lambda _: Answer((y,)), refill=arrays.refill)


def _naive_spatial(case: Case, arrays: Arrays) -> Ready:
    x, rng, p, maps = arrays.x, np.random.default_rng(0), case.p, case.maps

    def call() -> Array:
        kept = case.over(rng.random(maps) >= p)
        y: Array = (x * kept / (1.0 - p)).astype(x.dtype)
        return y

    return Ready(call, lambda y: Answer((y,)))


def _naive_bits(case: Case, arrays: Arrays) -> Ready:
    rng, n, p = np.random.default_rng(0), case.n, case.p
    return Ready(lambda: np.packbits(rng.random(n) >= p, bitorder="little"), lambda bits: Answer((bits,)))


def _decisions(p: float) -> Callable[[int], Array]:
    """What makes up to `CHUNK` keep decisions: from each draw of the quickest generator 64 at p = .5, else four."""
    draw = np.random.SFC64(0).random_raw
    if p == 0.5:
        return lambda m: np.unpackbits(draw((m + 63) // 64).view(np.uint8), count=m).view(np.bool_)
    least = np.uint16(round(p * 2**16))
    kept = np.empty(CHUNK, np.bool_)

    def decide(m: int) -> Array:
        some = kept[:m]
        np.greater_equal(draw((m + 3) // 4).view(np.uint16)[:m], least, out=some)
        return some

    return decide


def _factors(case: Case, dtype: np.dtype[Any]) -> Callable[[int], Array]:
    """The same as factors, 0 or 1 / (1 - p): then one multiplication does all."""
    decide, scale, factors = _decisions(case.p), dtype.type(1 / (1 - case.p)), np.empty(CHUNK, dtype)

    def make(m: int) -> Array:
        some = factors[:m]
        np.copyto(some, decide(m))
        np.multiply(some, scale, out=some)
        return some

    return make


def _good(case: Case, arrays: Arrays) -> Ready:
    inplace = case.family == "in-place"
    y = arrays.y
    x = y if inplace else arrays.x
    n, factors = case.n, _factors(case, x.dtype)

    def call() -> None:
        for begin in range(0, n, CHUNK):
            end = min(begin + CHUNK, n)
            np.multiply(x[begin:end], factors(end - begin), out=y[begin:end])

    return Ready(call, lambda _: Answer((y,)), resolution=RESOLUTION, refill=arrays.refill if inplace else nothing)


def _good_both(case: Case, arrays: Arrays) -> Ready:
    """The mask is kept for backward at one byte per element, as frameworks keep it."""
    x, y, dy, dx, n = arrays.x, arrays.y, arrays.dy, arrays.dx, case.n
    decide, scale = _decisions(case.p), x.dtype.type(1 / (1 - case.p))
    kept, factors = np.empty(n, np.bool_), np.empty(CHUNK, x.dtype)

    def scaled(source: Array, target: Array, begin: int, end: int) -> None:
        some = factors[: end - begin]
        np.copyto(some, kept[begin:end])
        np.multiply(some, scale, out=some)
        np.multiply(source[begin:end], some, out=target[begin:end])

    def call() -> None:
        for begin in range(0, n, CHUNK):
            end = min(begin + CHUNK, n)
            kept[begin:end] = decide(end - begin)
            scaled(x, y, begin, end)
        for begin in range(0, n, CHUNK):
            scaled(dy, dx, begin, min(begin + CHUNK, n))

    return Ready(call, lambda _: Answer((y, dx)), resolution=RESOLUTION)


def _good_spatial(case: Case, arrays: Arrays) -> Ready:
    x, y, maps = arrays.x, arrays.y, case.maps
    rng, scale, p = np.random.default_rng(0), x.dtype.type(1 / (1 - case.p)), case.p

    def call() -> None:
        factors = (rng.random(maps, np.float32) >= p).astype(x.dtype)
        np.multiply(x, case.over(factors * scale), out=y)

    return Ready(call, lambda _: Answer((y,)))


def _good_bits(case: Case, arrays: Arrays) -> Ready:
    packed, n, decide = arrays.y, case.n, _decisions(case.p)
    if case.p == 0.5:  # the draws are the bits
        draw = np.random.SFC64(0).random_raw
        return Ready(
            lambda: np.copyto(packed, draw((n + 63) // 64).view(np.uint8)[: packed.size]), lambda _: Answer((packed,))
        )

    def call() -> None:
        for begin in range(0, n, CHUNK):
            end = min(begin + CHUNK, n)
            packed[begin // 8 : (end + 7) // 8] = np.packbits(decide(end - begin), bitorder="little")

    return Ready(call, lambda _: Answer((packed,)), resolution=RESOLUTION)


NAIVE = {
    "forward": _naive,
    "forward+backward": _naive_both,
    "in-place": _naive_in_place,
    "spatial-nchw": _naive_spatial,
    "spatial-nhwc": _naive_spatial,
    "mask-bits": _naive_bits,
    "small-calls": _naive,
}
GOOD = {
    "forward": _good,
    "forward+backward": _good_both,
    "in-place": _good,
    "spatial-nchw": _good_spatial,
    "spatial-nhwc": _good_spatial,
    "mask-bits": _good_bits,
    "small-calls": _good,
}
