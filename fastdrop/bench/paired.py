"""Measuring in pairs: contenders take turns in one process, and what is reported is the ratio of each round.

Clocks drift and machines are shared, so absolute times differ from minute to minute; two calls within a few
milliseconds meet the same machine.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .. import runtime
from . import _torch, blas
from .cases import Arrays, Case
from .contenders import COPIES, Entry, entry
from .ready import Ready, check

__all__ = ["Outcome", "Skipped", "Spread", "Timer", "compare", "fastest", "interleave", "settings_kept", "spread"]

#: A sample takes at least this long, in as many calls as that needs: the clock's grain and one interrupt vanish in it.
SAMPLE_SECONDS = 0.005
#: Shorter calls are made once untimed before a sample.
WARM_BELOW = 0.1
#: How long those are waited for whose threads spin.
SETTLE_SECONDS = 0.02


class Skipped(Exception):
    """A contender cannot run here; the message says who and why."""


class Spread(NamedTuple):
    """Quartiles."""

    q1: float
    median: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    """Take the quartiles.

    Examples
    --------
    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    Spread(q1=2.0, median=3.0, q3=4.0)
    """
    return Spread(*(float(q) for q in np.percentile(values, (25, 50, 75))))


@contextmanager
def settings_kept() -> Iterator[None]:
    """Give fastdrop its instruction set and threads back at the end, BLAS its threads, PyTorch its dropout."""
    isa, threads, products = runtime.isa(), runtime.get_num_threads(), blas.get_threads()
    try:
        yield
    finally:
        runtime.set_isa(isa)
        runtime.set_num_threads(threads)
        _torch.own_dropout()
        if products is not None:
            blas.set_threads(products)


class Timer(NamedTuple):
    """What the time is, and how to wait."""

    clock: Callable[[], float] = time.perf_counter
    wait: Callable[[float], None] = time.sleep


REAL = Timer()


def _timed(ready: Ready, calls: int, timer: Timer, warm: bool = True) -> float:
    """Seconds per call, of so many in a row, after one that brings caches and threads into the state of a row."""
    call = ready.call
    ready.enter()
    ready.refill()
    if warm:
        call()
        ready.refill()
    begin = timer.clock()
    for _ in range(calls):
        call()
    seconds = timer.clock() - begin
    if ready.spins:
        timer.wait(SETTLE_SECONDS)
    return seconds / calls


def _calls(ready: Ready, seconds: float, timer: Timer) -> tuple[int, float]:
    """How many calls make a sample, and the seconds of one."""
    calls = 1
    while True:
        each = _timed(ready, calls, timer)
        if each * calls >= seconds:
            return calls, each
        calls = max(2 * calls, min(math.ceil(seconds / max(each, 1e-9)), 100 * calls))


def interleave(
    contenders: Mapping[str, Ready],
    rounds: int,
    *,
    budget: float = math.inf,
    seconds: float = SAMPLE_SECONDS,
    timer: Timer = REAL,
) -> dict[str, list[float]]:
    """Time contenders in turns.

    Each round times everyone once. Every other round has a random order, and the next one the reverse of it: nobody
    always follows the same one, and drift within a round cancels.

    Parameters
    ----------
    contenders : mapping of str to Ready
    rounds : int
    budget : float
        Seconds that all rounds may take: there are fewer where they would take longer, but at least three.
    seconds : float
        The least time of one sample.
    timer : Timer

    Returns
    -------
    dict of str to list of float
        Seconds per call, one for each round.
    """
    sizes = {name: _calls(ready, seconds, timer) for name, ready in contenders.items()}
    # A call this long meets its own caches and threads; to run it twice would only cost time.
    warm = {name: each < WARM_BELOW for name, (_, each) in sizes.items()}
    cost = sum(each * (calls + warm[name]) for name, (calls, each) in sizes.items())
    rounds = min(rounds, max(3, int(min(budget / cost, rounds))))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            if turn % 2:
                order.reverse()
            else:
                shuffle(order)
            for name in order:
                times[name].append(_timed(contenders[name], sizes[name][0], timer, warm[name]))
    finally:
        if collecting:
            gc.enable()
    return times


def fastest(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Name who has the least median; not the least of each round, which would beat every one of them.

    Examples
    --------
    >>> fastest({"a": [1.0, 9.0, 9.0], "b": [5.0, 5.0, 5.0]}, ["a", "b"])
    'b'
    """
    return min(names, key=lambda name: spread(times[name]).median)


@dataclass(frozen=True)
class Outcome:
    """Two contenders in one case.

    Parameters
    ----------
    first, second : str
        Their labels; of "copy", that of the fastest.
    case : Case
    times : dict
        Seconds per call of every round, per label.
    """

    first: str
    second: str
    case: Case
    times: dict[str, list[float]]

    @property
    def ratios(self) -> list[float]:
        """First over second, round by round."""
        return [a / b for a, b in zip(self.times[self.first], self.times[self.second])]

    @property
    def ratio(self) -> Spread:
        """Quartiles of the ratios."""
        return spread(self.ratios)

    def nanoseconds(self, label: str) -> float:
        """Median time per element."""
        return spread(self.times[label]).median * 1e9 / self.case.n


def _expanded(spec: str, case: Case) -> list[Entry]:
    name, colon, threads = spec.partition(":")
    return [entry(f"{copy}{colon}{threads}", case) for copy in COPIES] if name == "copy" else [entry(spec, case)]


def compare(
    first: str,
    second: str,
    case: Case,
    rounds: int = 15,
    *,
    arrays: Arrays | None = None,
    seconds: float = SAMPLE_SECONDS,
    timer: Timer = REAL,
) -> Outcome:
    """Check two contenders, then time them in turns.

    Parameters
    ----------
    first, second : str
        ``NAME[@ISA][:THREADS]``, or "copy" for the fastest of the copies in this run.
    case : Case
    rounds : int
    arrays : Arrays, optional
        Of this case or one that differs in p, threads or instruction set; made if not given.
    seconds, timer
        As for `interleave`.

    Raises
    ------
    Skipped
        If one cannot run here.
    WrongAnswer
        If one does not compute what it claims to.
    """
    sides = [_expanded(first, case), _expanded(second, case)]
    # Whoever is on both sides runs twice: what the machine makes of a difference of nothing.
    twice = {found.label for found in sides[0]}
    sides[1] = [replace(found, label=f"{found.label}, again") if found.label in twice else found for found in sides[1]]
    everyone = {found.label: found for side in sides for found in side}
    for found in everyone.values():
        if found.skipped:
            raise Skipped(f"{found.label}: {found.skipped}")
    if arrays is None:
        arrays = Arrays(case)
    with settings_kept():
        ready = {label: found.ready(arrays) for label, found in everyone.items()}
        for label, one in ready.items():
            check(one, arrays, everyone[label].case)
        times = interleave(ready, rounds, seconds=seconds, timer=timer)
    names = [fastest(times, [found.label for found in side]) for side in sides]
    return Outcome(names[0], names[1], case, times)
