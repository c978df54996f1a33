"""The further kinds of dropout, one row each."""

from __future__ import annotations

from fastdrop.bench.cases import Case
from fastdrop.bench.kinds import KINDS

from .harness import measure, points


@points(*(Case(kind, n, p=0.1) for kind in KINDS for n in (2**16, 2**20)))
def test_kinds(benchmark, spec, case):
    measure(benchmark, spec, case)
