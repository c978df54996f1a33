"""``dieharder`` (Marsaglia's and Brown's, Debian's 3.31.1) on the keep bits of p = .5, all its tests.

    python -m trust.dieharder              # an hour on one core; --record writes docs/trust/dieharder.*
    python -m trust.dieharder --seed 2 --test 15

The bits come through the library, packed, as they lie in memory: a call gives 64 MiB of them in parts at consecutive
starts; then comes the next call. dieharder says WEAK for a p-value below .005 or above .995, so one result in a hundred
is WEAK for a perfect generator, and FAILED below 1e-6 or above 1 - 1e-6. A test that is not PASSED is run again,
on bits of another seed, with samples added until the result is clear (``-Y 1 -k 2``); both results are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastdrop as fd
from fastdrop._files import whole_file
from fastdrop._reporting import clock

from . import record

PIECE = 2**25  # bits: 4 MiB
PIECES_OF_A_CALL = 16
FIELDS = ("test_name", "show_num", "ntuple", "tsamples", "psamples", "pvalues", "assessment")
#: What ``dieharder -l`` says of its own tests, where it is not "Good".
RELIABILITY = {
    "diehard_opso": "Suspect",
    "diehard_oqso": "Suspect",
    "diehard_dna": "Suspect",
    "diehard_sums": "Do Not Use",
}


class Result(NamedTuple):
    """A line of dieharder's table."""

    name: str
    number: int
    ntuple: int
    tsamples: int
    psamples: int
    p: float
    assessment: str

    def __str__(self) -> str:
        said = RELIABILITY.get(self.name)
        doubt = f"  (dieharder calls this test: {said})" if said else ""
        numbers = f"{self.ntuple:>6} {self.tsamples:>10} {self.psamples:>8} {self.p:>12.8f}"
        return f"{self.name:<22} {numbers}  {self.assessment}{doubt}"


def stream(seed: int) -> Iterator[NDArray[np.uint8]]:
    """The bits of p = .5 without an end: 64 MiB of a call, in pieces, then the next call."""
    rng = fd.Generator(seed)
    while True:
        mask = rng.mask((PIECES_OF_A_CALL, PIECE), 0.5)
        for part in mask:
            yield part.packbits()


def parse(line: str) -> Result | None:
    """Read a line of the table, fields in the order of FIELDS; None for what is no result.

    Examples
    --------
    >>> parse("         rgb_bitdist,200,   2,    100000,     100,0.96824574,  PASSED  ")
    Result(name='rgb_bitdist', number=200, ntuple=2, tsamples=100000, psamples=100, p=0.96824574, assessment='PASSED')
    >>> parse("#====#") is None
    True
    """
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(FIELDS) or parts[-1] not in ("PASSED", "WEAK", "FAILED"):
        return None
    name, number, ntuple, tsamples, psamples, p, assessment = parts
    return Result(name, int(number), int(ntuple), int(tsamples), int(psamples), float(p), assessment)


def feed(pipe: IO[bytes], seed: int) -> None:
    """Write the stream until the reader has had enough."""
    with contextlib.suppress(BrokenPipeError), pipe:
        for piece in stream(seed):
            pipe.write(piece.data)


def run(seed: int, options: Sequence[str]) -> Iterator[Result]:
    """Start dieharder on a stream, and give its results as they come."""
    columns = itertools.chain.from_iterable(("-D", name) for name in FIELDS)
    # stdbuf: into a pipe dieharder would show nothing for minutes.
    command = ["stdbuf", "-oL", "dieharder", "-g", "200", "-c", ",", *columns, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 2**20)
        feeder = threading.Thread(target=feed, args=(process.stdin, seed), daemon=True)
        feeder.start()
        try:
            for line in process.stdout:
                result = parse(line.decode())
                if result is not None:
                    yield result
        finally:
            process.terminate()
            feeder.join()
    if process.returncode:
        raise SystemExit(f"dieharder {' '.join(options)} ended with status {process.returncode}")


def again(result: Result, seed: int) -> list[Result]:
    """The same test on bits of another seed, with samples added until it is not WEAK."""
    options = ["-d", str(result.number), "-Y", "1", "-k", "2"]
    if result.ntuple:
        options += ["-n", str(result.ntuple)]
    return [r for r in run(seed, options) if (r.name, r.ntuple) == (result.name, result.ntuple)]


def summary(results: Sequence[Result], reruns: Sequence[Result], seed: int) -> str:
    """The page: the table as dieharder gave it, what was run again, and how to read both."""
    counts = Counter(r.assessment for r in results)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("PASSED", "WEAK", "FAILED"))
    lines = [
        f"dieharder -a on fastdrop's keep bits of p = .5, seed {seed}: {len(results)} results, {kinds}",
        f"WEAK is p < .005 or p > .995: of a perfect generator {len(results) / 100:.1f} results are expected to be.",
        "",
        f"{'test':<22} {'ntuple':>6} {'tsamples':>10} {'psamples':>8} {'p-value':>12}  assessment",
        *map(str, results),
    ]
    if reruns:
        lines += ["", f"Run again for not being PASSED, on bits of seed {seed + 1} (-Y 1 -k 2):", *map(str, reruns)]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 if a test FAILED, at first or when run again."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.dieharder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of the stream (default: 1)")
    parser.add_argument("--test", type=int, metavar="N", help="one test alone, by dieharder's number (dieharder -l)")
    parser.add_argument("--record", action="store_true", help="write docs/trust/dieharder.txt and dieharder.json")
    options = parser.parse_args(argv)
    if options.record and options.test is not None:
        parser.error("--record keeps a run of all tests: it goes with no --test")
    for tool in ("dieharder", "stdbuf"):
        if shutil.which(tool) is None:
            print(f"there is no {tool} here; on Debian: apt-get install dieharder coreutils", file=sys.stderr)
            return 2

    began = time.perf_counter()
    results, reruns = [], []
    for result in run(options.seed, ["-a"] if options.test is None else ["-d", str(options.test)]):
        results.append(result)
        print(f"{clock(time.perf_counter() - began):>7}  {result}", flush=True)
    for result in results:
        if result.assessment != "PASSED":
            for once_more in again(result, options.seed + 1):
                reruns.append(once_more)
                print(f"{clock(time.perf_counter() - began):>7}  again: {once_more}", flush=True)
    if not results:
        print("dieharder gave no result", file=sys.stderr)
        return 2
    if options.record:
        keep(results, reruns, options.seed, time.perf_counter() - began)
    return int(any(r.assessment == "FAILED" for r in (*results, *reruns)))


def keep(
    results: Sequence[Result], reruns: Sequence[Result], seed: int, seconds: float, folder: Path = record.FOLDER
) -> None:
    """Write the page and the record."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "dieharder.txt") as part:
        part.write_text(summary(results, reruns, seed), encoding="utf-8")
    counts = Counter(r.assessment for r in results)

    def short(some: Sequence[Result]) -> list[str]:
        return [f"{r.name} {r.ntuple}: {r.p:.8f} {r.assessment} ({r.psamples} psamples)" for r in some]

    figures = {
        "seed": seed,
        "results": len(results),
        "passed": counts["PASSED"],
        "weak": counts["WEAK"],
        "failed": counts["FAILED"],
        "weak_expected": round(len(results) / 100, 2),
        "not_passed": short([r for r in results if r.assessment != "PASSED"]),
        "run_again": short(reruns),
        "run_again_seed": seed + 1,
        "tests_dieharder_itself_doubts": RELIABILITY,
    }
    record.write("dieharder", f"make dieharder ARGS='--seed {seed} --record'", seconds, figures, folder)


if __name__ == "__main__":
    raise SystemExit(main())
