"""Runs the sweep: workers that may crash, a tally, and what was found."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import record

ROOT = Path(__file__).resolve().parent.parent.parent
WORKER = ("-m", "trust.sweep.worker")
FINE = ("refused", "returned", "compared")


@dataclass
class Found:
    """What a sweep has found."""

    calls: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)


def results(seed: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """What each call did; where a worker dies, the call it was at is told, and another worker goes on behind it."""
    while start < stop:
        with tempfile.TemporaryFile("w+") as errors:
            words = [sys.executable, *WORKER, str(seed), str(start), str(stop)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as worker:
                assert worker.stdout is not None
                at = None
                for line in worker.stdout:
                    if line.startswith("{"):
                        told = json.loads(line)
                        at = None
                        start = told["index"] + 1
                        yield told
                    else:
                        at = int(line)
            if at is None and worker.returncode == 0:
                return
            errors.seek(0)
            said = errors.read()[-3000:]
            if at is None:
                raise RuntimeError(f"the worker ended between calls, at {start}: {worker.returncode}\n{said}")
            verdict = "hang" if worker.returncode == -14 else "crash"
            yield {"index": at, "verdict": verdict, "status": worker.returncode, "said": said}
            start = at + 1


def sweep(seed: int, n: int, progress: bool = True) -> Found:
    """Make the first `n` calls of a seed."""
    found = Found()
    began = told = time.monotonic()
    for result in results(seed, 0, n):
        found.calls += 1
        found.verdicts[result["verdict"]] += 1
        if "raised" in result:
            found.raised[result["raised"]] += 1
        if result["verdict"] not in FINE:
            found.faults.append(result)
        if progress and time.monotonic() - told > 10:
            told = time.monotonic()
            print(
                f"seed {seed}: {found.calls} of {n} calls, {told - began:.0f} s, {len(found.faults)} faults", flush=True
            )
    return found


def kinds() -> int:
    """How many kinds of wrong call the tables of tests/bad_input hold, as pytest counts them."""
    words = [sys.executable, "-c", "from tests.bad_input.count import kinds; print(len(kinds()))"]
    return int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trust.sweep", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="calls for each seed (default: %(default)s)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--only", type=int, metavar="INDEX", help="this call of the first seed alone, in this process")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="write every fault, a line of JSON each")
    parser.add_argument("--record", action="store_true", help="write docs/trust/bad_input.json")
    args = parser.parse_args()
    if args.only is not None:
        from . import worker

        worker.main(args.seed[0], args.only, args.only + 1)
        return 0
    began = time.monotonic()
    every = {seed: sweep(seed, args.n) for seed in args.seed}
    seconds = time.monotonic() - began
    for seed, found in every.items():
        print(f"seed {seed}: {found.calls} calls: {dict(found.verdicts)}; raised: {dict(found.raised.most_common())}")
        for fault in found.faults[:20]:
            print(f"  --seed {seed} --only {fault['index']}: {json.dumps(fault)[:500]}")
    if args.faults:
        args.faults.write_text(
            "".join(json.dumps({"seed": s, **f}) + "\n" for s, found in every.items() for f in found.faults)
        )
    if args.record:
        from .report import figures

        command = f"python -m trust.sweep --n {args.n} --seed {' '.join(map(str, args.seed))} --record"
        print(record.write("bad_input", command, seconds, figures(every, kinds())))
    return 1 if any(found.faults for found in every.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
