"""What a contender becomes for one case, and how its answer is checked before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .._core import Mask
from .cases import Arrays, Case
from .kinds import WrongAnswer

__all__ = ["Answer", "Ready", "WrongAnswer", "check", "check_law"]

Array = NDArray[Any]

#: How many standard deviations a keep rate may be off: a right contender fails in one of 1.7 million checks.
DEVIATIONS = 5
#: Elements compared with the slow reference, and at a time with the mask.
REFERENCE, PART = 4096, 2**20
#: Decisions from which on two calls cannot agree in all of them by chance.
FRESH = 1024


class Answer(NamedTuple):
    """What a call gave: y, or y and dx, as NumPy arrays; and the mask, of those who have one."""

    outputs: tuple[Array, ...]
    mask: Mask | None = None


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Ready:
    """A contender ready to run one case.

    Parameters
    ----------
    call : callable
        What is timed.
    answer : callable, optional
        Makes an `Answer` of what `call` returned. Only `check` calls it.
    enter : callable
        Makes the settings (threads, instruction set), before a sample and outside its time.
    refill : callable
        Gives work in place its input back, likewise.
    spins : bool
        Its threads go on spinning for a while after a call, to the cost of whoever comes next.
    copies : bool
        The output is the input: a limit.
    resolution : float
        How far p itself may be off, where draws have few bits.
    verify : callable, optional
        Does the checking itself, where there is no such answer.
    """

    call: Callable[[], Any]
    answer: Callable[[Any], Answer] | None = None
    enter: Callable[[], None] = nothing
    refill: Callable[[], None] = nothing
    spins: bool = False
    copies: bool = False
    resolution: float = 0.0
    verify: Callable[[], None] | None = None


def _same(a: Array, b: Array) -> bool:
    """Equal to the last bit."""
    return a.shape == b.shape and np.array_equal(np.ascontiguousarray(a).view(np.uint8), b.view(np.uint8))


def check_law(mask: Mask, x: Array, y: Array) -> None:
    """The first elements against the reference, all of them against the mask."""
    first = np.unravel_index(np.arange(min(REFERENCE, x.size)), x.shape)
    index = mask.start + sum(np.asarray(i, np.int64) * step for i, step in zip(first, mask.strides))
    kept = np.asarray(mask)
    if not np.array_equal(kept[first], reference.keep_at(mask.key, mask.call, mask.p, np.asarray(index))):
        raise WrongAnswer(f"{mask} differs from the reference")
    flat_kept, flat_x, flat_y = kept.reshape(-1), x.reshape(-1), y.reshape(-1)
    for begin in range(0, x.size, PART):
        part = slice(begin, begin + PART)
        want = reference.apply(flat_kept[part], flat_x[part], 1 / (1 - mask.p))
        if not _same(flat_y[part], want):
            raise WrongAnswer(f"an output from element {begin} on differs from what {mask} says")


def _check_rate(kept: Array, case: Case, resolution: float) -> None:
    bound = resolution + DEVIATIONS * (case.p * (1 - case.p) / kept.size) ** 0.5
    # Below a few hundred decisions the rate is no normal number.
    bound = max(bound, 12 / kept.size)
    rate = float(np.count_nonzero(kept)) / kept.size
    if abs(rate - (1 - case.p)) > bound:
        raise WrongAnswer(f"kept {rate:.6f} of {kept.size} where 1 - p is {1 - case.p:g} (allowed: {bound:.6f} off)")


def _check_scaled(kept: Array, x: Array, y: Array, p: float) -> None:
    close = {2: 1e-2, 4: 1e-6, 8: 1e-12}[x.dtype.itemsize]
    flat_kept, flat_x, flat_y = kept.reshape(-1), x.reshape(-1), y.reshape(-1)
    for begin in range(0, x.size, PART):
        part = slice(begin, begin + PART)
        want = np.where(flat_kept[part], flat_x[part].astype(np.float64) / (1 - p), 0)
        if not np.allclose(flat_y[part].astype(np.float64), want, rtol=close, atol=0):
            raise WrongAnswer(f"an output from element {begin} on is neither 0 nor x / (1 - p)")


def _decisions(answer: Answer, case: Case) -> Array:
    """What a peer kept, as booleans or as 0 and 1."""
    made = answer.outputs[0]
    if case.family != "mask-bits":
        kept: Array = np.not_equal(made, 0)
        return kept
    return np.unpackbits(made, bitorder="little", count=case.n) if made.dtype == np.uint8 else made.copy()


def _check_fresh(ready: Ready, answer: Answer, case: Case) -> None:
    """Two calls of a peer have to decide differently: fastdrop's mask has a number that counts calls."""
    assert ready.answer is not None
    if answer.mask is not None or case.n < FRESH or case.family.startswith("spatial"):
        return
    before = _decisions(answer, case)
    ready.refill()
    if np.array_equal(before, _decisions(ready.answer(ready.call()), case)):
        raise WrongAnswer("two calls made the same decisions")


def _check_bits(answer: Answer, case: Case, resolution: float) -> None:
    (bits,) = answer.outputs
    mask = answer.mask
    if mask is None:
        kept = _decisions(answer, case)
        if kept.size != case.n:
            raise WrongAnswer(f"{kept.size} decisions where {case.n} were asked for")
        _check_rate(kept, case, resolution)
        return
    few = min(REFERENCE, case.n)
    first = np.unpackbits(bits[: (few + 7) // 8], bitorder="little", count=few)
    right = np.array_equal(first, reference.keep_at(mask.key, mask.call, mask.p, np.arange(few)))
    if not right or not np.array_equal(bits, np.packbits(np.asarray(mask), bitorder="little")):
        raise WrongAnswer(f"packed bits differ from {mask}")


def check(ready: Ready, arrays: Arrays, case: Case) -> None:
    """Run a contender and look at its answer.

    Parameters
    ----------
    ready : Ready
    arrays : Arrays
        Those it was made ready with.
    case : Case
        What it was made ready for.

    Raises
    ------
    WrongAnswer
        For fastdrop, if the first 4,096 decisions are not `fastdrop.reference`'s, or any element is not what
        ``np.asarray(mask)`` says, to the last bit. For a peer, if the keep rate is more than 5 standard deviations off,
        or a kept element is not ``x / (1 - p)``, or a second call drops the same elements again. For a limit, if a byte
        differs.
    """
    ready.enter()
    if ready.verify is not None:
        ready.verify()
        return
    assert ready.answer is not None
    arrays.poison()
    ready.refill()
    answer = ready.answer(ready.call())
    inputs = (arrays.x, arrays.dy) if case.family == "forward+backward" else (arrays.x,)
    if len(answer.outputs) != len(inputs):
        raise WrongAnswer(f"{len(answer.outputs)} outputs where {len(inputs)} were asked for")
    if ready.copies:
        if not all(_same(y, x) for x, y in zip(inputs, answer.outputs)):
            raise WrongAnswer("a copy differs from its original")
        return
    if case.family == "mask-bits":
        _check_bits(answer, case, ready.resolution)
        _check_fresh(ready, answer, case)
        return
    for x, y in zip(inputs, answer.outputs):
        if y.shape != x.shape or y.dtype != x.dtype:
            raise WrongAnswer(f"an output of {y.dtype} {y.shape} where {x.dtype} {x.shape} was asked for")
    if answer.mask is not None:
        for x, y in zip(inputs, answer.outputs):
            check_law(answer.mask, x, y)
        return
    kept = _decisions(answer, case)
    if case.family.startswith("spatial"):
        axes = (2, 3) if case.family == "spatial-nchw" else (1, 2)
        whole: Array = np.asarray(kept.all(axis=axes))
        if not np.array_equal(whole, kept.any(axis=axes)):
            raise WrongAnswer("a feature map is dropped in part")
        _check_rate(whole, case, ready.resolution)
    else:
        _check_rate(kept, case, ready.resolution)
    for x, y in zip(inputs, answer.outputs):
        _check_scaled(kept, x, y, case.p)
    _check_fresh(ready, answer, case)
