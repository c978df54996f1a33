"""``python -m trust.import_time``: what `import fastdrop` takes beyond `import numpy`, against its bar."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from fastdrop.bench.imports import LIMIT_MS, PAIRS, cpu_seconds_of, differences, seconds_of
from fastdrop.bench.paired import spread
from trust import record


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write the record if asked to; 1 where the median is above the bar."""
    parser = argparse.ArgumentParser(prog="python -m trust.import_time", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of processes (default: %(default)s)")
    parser.add_argument(
        "--cpu", action="store_true", help="count the processor's time, for a machine that is not quiet"
    )
    parser.add_argument("--record", action="store_true", help="write docs/trust/import_time.json")
    args = parser.parse_args(argv)
    begin = time.monotonic()
    found: list[float] = []
    for ms in differences(args.pairs, cpu_seconds_of if args.cpu else seconds_of):
        found.append(ms)
        print(f"[{len(found)}/{args.pairs}] {ms:.1f} ms", flush=True)
    low, median, high = spread(found)
    verdict = "pass" if median <= LIMIT_MS else "MISS"
    print(f"import fastdrop beyond NumPy: {median:.1f} ms [{low:.1f}, {high:.1f}], at most {LIMIT_MS:g} ms: {verdict}")
    if args.record:
        figures = {
            "median_ms": round(median, 1),
            "quartiles_ms": [round(low, 1), round(high, 1)],
            "clock": "processor" if args.cpu else "wall",
            "pairs": args.pairs,
            "limit_ms": LIMIT_MS,
            "passed": verdict == "pass",
        }
        print(record.write("import_time", "python -m trust.import_time --record", time.monotonic() - begin, figures))
    return 0 if verdict == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
