"""One call on 256 elements."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import P, measure, points


@points(*(Case("small-calls", 256, p=p) for p in P))
def test_small_calls(benchmark, spec, case):
    measure(benchmark, spec, case)
