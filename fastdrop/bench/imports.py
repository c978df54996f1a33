"""What ``import fastdrop`` takes beyond ``import numpy``: fresh processes in pairs, one with each."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["LIMIT_MS", "PAIRS", "Clock", "cpu_seconds_of", "differences", "seconds_of"]

#: The bar, in milliseconds.
LIMIT_MS = 30.0
PAIRS = 41

Clock = Callable[[str], float]


def seconds_of(statement: str) -> float:
    """Seconds that a fresh process takes to start, run a statement and end. It sees the installed packages alone."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", statement], check=True, timeout=120)
    return time.perf_counter() - begin


def cpu_seconds_of(statement: str) -> float:
    """The processor's seconds of the same: what is left of the difference where other programs want the cores too."""
    import resource  # not on Windows

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    begin = used()
    seconds_of(statement)
    return used() - begin


def differences(pairs: int = PAIRS, clock: Clock = seconds_of) -> Iterator[float]:
    """Milliseconds that each pair's second import takes; who goes first alternates.

    Parameters
    ----------
    pairs : int
    clock : callable
        Gives the seconds of a statement.

    Examples
    --------
    >>> seconds = {"import numpy": 0.1, "import numpy, fastdrop": 0.125}
    >>> [round(ms) for ms in differences(2, seconds.__getitem__)]
    [25, 25]
    """
    plain, ours = "import numpy", "import numpy, fastdrop"
    for statement in (plain, ours):  # the first of all reads the disk, and may compile
        clock(statement)
    for k in range(pairs):
        order = (plain, ours) if k % 2 == 0 else (ours, plain)
        seconds = {statement: clock(statement) for statement in order}
        yield 1000 * (seconds[ours] - seconds[plain])
