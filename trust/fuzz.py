"""Fuzz the C API from the seeds on, and say what was run: ``make fuzz``, after which the fuzzer is built.

Findings are libFuzzer's: a crash, a sanitizer's report, or a result that differs from the model's (tests/fuzz/). The
input that made one is kept in build/fuzz.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from typing import Any

from tests.fuzz.pack import unpack
from trust import record

FUZZ = record.ROOT / "build" / "fuzz"
SEEDS = record.ROOT / "tests" / "fuzz" / "seeds.bin"


def figures(log: str) -> dict[str, Any]:
    """What libFuzzer's output says: executions, the edges that were covered, findings."""
    ran = [int(n) for n in re.findall(r"stat::number_of_executed_units: (\d+)", log)]
    edges = [int(n) for n in re.findall(r"\bcov: (\d+)", log)]
    all_edges = [int(n) for n in re.findall(r"Loaded \d+ modules\s+\((\d+) inline", log)]
    return {
        "executions": sum(ran),
        "edges_covered": max(edges, default=0),
        "edges": max(all_edges, default=0),
        "findings": len(re.findall(r"SUMMARY: |FINDING ", log)),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trust.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=200_000, help="inputs to run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitizers", default="unknown", help="what the fuzzer was built with, for the record")
    parser.add_argument("--record", action="store_true", help="write docs/trust/fuzz.json")
    args = parser.parse_args(argv)
    corpus = FUZZ / "corpus"
    print(f"{unpack(SEEDS, corpus)} seeds, then {args.runs} inputs", flush=True)
    command = [str(FUZZ / "fuzz"), f"-runs={args.runs}", f"-seed={args.seed}", "-max_len=200", "-entropic=0"]
    command += ["-print_final_stats=1", f"-artifact_prefix={FUZZ}/", str(corpus)]
    began = time.monotonic()
    log = []
    env = {"ASAN_OPTIONS": "quarantine_size_mb=8", "UBSAN_OPTIONS": "print_stacktrace=1"}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        shown = 0.0
        for line in run.stderr:
            log.append(line)
            if not line.startswith("#"):
                print(line, end="", flush=True)
            elif time.monotonic() - shown > 10:  # its own lines come by the thousand
                shown = time.monotonic()
                print(line.split(" L:")[0].strip(), flush=True)
    seconds = time.monotonic() - began
    found = figures("".join(log))
    found["executions_per_second"] = round(found["executions"] / seconds)
    found["sanitizers"] = args.sanitizers
    print(found)
    if args.record:
        record.write("fuzz", f"make fuzz RUNS={args.runs} ARGS=--record", seconds, found)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
