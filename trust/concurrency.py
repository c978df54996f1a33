"""Threads, processes and signals, for longer than the tests: ``make concurrency``.

How long each kind of long call goes on after Ctrl-C, on every instruction set; threads that share a generator; forks at
any moment of other threads' calls.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastdrop as fd

from . import record
from .long_calls import CALLS, Alarm, prepare

BOUND = 1.0  # seconds within which Ctrl-C has to be honoured


def latency(name: str) -> float:
    """Seconds from a signal within a call of this kind to the exception."""
    came = 0.0

    def handler(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    after = 0.3
    with Alarm(handler, after):
        came = time.monotonic() + after
        try:
            CALLS[name]()
        except KeyboardInterrupt:
            return time.monotonic() - came
    raise AssertionError(f"{name} ended by itself: it is no long call")


def interrupts(repeats: int) -> dict[str, Any]:
    """The longest and the median of all, and the kind of the longest."""
    prepare()
    found = {}
    turns = list(itertools.product(fd.available_isas(), (1, 2), CALLS, range(repeats)))
    for isa, threads, name, turn in track(turns, "Ctrl-C ", console=Console(stderr=True)):
        fd.set_isa(isa)
        fd.set_num_threads(threads)
        found[isa, threads, name, turn] = latency(name)
    slowest = max(found, key=lambda each: found[each])
    return {
        "calls interrupted": len(found),
        "kinds": len(CALLS),
        "isas": list(fd.available_isas()),
        "median seconds": round(float(np.median(list(found.values()))), 3),
        "longest seconds": round(found[slowest], 3),
        "longest of": f"{slowest[2]}, {slowest[0]}, {slowest[1]} threads",
    }


def shared_generator(threads: int, each: int) -> dict[str, Any]:
    """Draws of many threads from one generator, and how many calls were given twice or never."""
    rng = fd.Generator(0)
    taken: list[list[int]] = [[] for _ in range(threads)]
    barrier = threading.Barrier(threads)

    def draw(mine: list[int]) -> None:
        barrier.wait()
        mine += [rng.mask(1).call for _ in range(each)]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        _together([threading.Thread(target=draw, args=(mine,)) for mine in taken])
    finally:
        sys.setswitchinterval(before)
    calls = np.sort(np.concatenate([np.array(mine, np.uint64) for mine in taken]))
    wrong = int((calls != np.arange(threads * each, dtype=np.uint64)).sum())
    return {"threads": threads, "draws": len(calls), "calls given twice or never": wrong}


def forks(count: int) -> dict[str, Any]:
    """Children forked while other threads are in calls, and how many of them did not find the same bits."""
    fd.set_num_threads(3)
    mask, x, done = fd.Mask(1, 2, 0.3, 500_000), np.ones(500_000, np.float32), threading.Event()
    want = mask.apply(x).sum()

    def work() -> None:
        while not done.is_set():
            mask.apply(x)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    wrong = 0
    try:
        for _ in track(range(count), "fork   ", console=Console(stderr=True)):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if mask.apply(x).sum() == want else 1)
            timer = threading.Timer(60, os.kill, (pid, signal.SIGKILL))
            timer.start()
            wrong += os.waitpid(pid, 0)[1] != 0
            timer.cancel()
    finally:
        done.set()
        for worker in workers:
            worker.join()
    return {"children": count, "children that failed": wrong}


def _together(threads: list[threading.Thread]) -> None:
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status is 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m trust.concurrency", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="interrupts of each kind of call (3)")
    parser.add_argument("--draws", type=int, default=100_000, help="draws of each of 16 threads (100,000)")
    parser.add_argument("--forks", type=int, default=200, help="children (200)")
    parser.add_argument("--record", action="store_true", help="write docs/trust/concurrency.json")
    args = parser.parse_args(argv)
    began = time.monotonic()
    figures = {
        "Ctrl-C": interrupts(args.repeats),
        "shared generator": shared_generator(16, args.draws),
        "fork": forks(args.forks),
    }
    table = Table("what", "figure", "value")
    for what, found in figures.items():
        for name, value in found.items():
            table.add_row(what, name, str(value))
    Console().print(table)
    good = (
        figures["Ctrl-C"]["longest seconds"] < BOUND
        and figures["shared generator"]["calls given twice or never"] == 0
        and figures["fork"]["children that failed"] == 0
    )
    print("all as promised" if good else "NOT as promised")
    if args.record:
        print("written to", record.write("concurrency", "make concurrency", time.monotonic() - began, figures))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
