"""``python -m trust.matrix``: what the sessions of ``make test-matrix`` found, as a table; 1 where one failed.

A Python of the variable ``PYTHONS`` that was not run is named too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from trust import record

FOLDER = record.ROOT / "build" / "matrix"


@dataclass(frozen=True)
class Row:
    """One session: the tests on one Python and one NumPy."""

    python: str
    numpy: str
    free_threaded: bool
    part: str
    passed: int
    failed: int
    skipped: int
    seconds: float

    def __str__(self) -> str:
        build = f"{self.python}{'t' if self.free_threaded else ''}"
        return (
            f"Python {build}, NumPy {self.numpy}, {self.part}: {self.passed} passed, {self.failed} failed, "
            f"{self.skipped} skipped in {self.seconds:.0f} s"
        )


def rows(folder: Path = FOLDER) -> Iterator[Row]:
    """What the sessions left. One that broke off has no results, and counts as a failure."""
    for path in folder.glob("*.json"):
        who = json.loads(path.read_text(encoding="utf-8"))
        results = path.with_suffix(".xml")
        counts = {"tests": 0, "failures": 1, "errors": 0, "skipped": 0, "time": 0.0}
        if results.exists():
            suite = next(ElementTree.parse(results).iter("testsuite"))
            counts = {key: float(suite.get(key, 0)) for key in counts}
        failed = int(counts["failures"] + counts["errors"])
        passed = int(counts["tests"] - counts["skipped"]) - failed if results.exists() else 0
        yield Row(
            who["python"], who["numpy"], who["free_threaded"], who["part"], passed, failed, int(counts["skipped"]),
            counts["time"],
        )  # fmt: skip


def _order(row: Row) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    def numbers(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".") if part.isdigit())

    return numbers(row.python), row.free_threaded, numbers(row.numpy)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write the record if asked to."""
    parser = argparse.ArgumentParser(prog="python -m trust.matrix", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write docs/trust/compatibility.json")
    args = parser.parse_args(argv)
    found = sorted(rows(), key=_order)
    for row in found:
        print(row)
    # A path in the list is taken as it is, and nox fails where there is nothing.
    absent = [
        name
        for name in os.environ.get("PYTHONS", "").split()
        if "/" not in name and not any(FOLDER.glob(f"{name}-*.json"))
    ]
    for python in absent:
        print(f"Python {python}: not here, so not run")
    if not found:
        print("nothing was run", file=sys.stderr)
        return 1
    if args.record:
        figures = {"runs": [str(row) for row in found], "not_here": absent}
        print(record.write("compatibility", "make test-matrix", sum(row.seconds for row in found), figures))
    return 1 if any(row.failed or not row.passed for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
