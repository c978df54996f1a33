"""Dropout forward, of every dtype."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import DTYPES, DTYPES_AT, SIZES, P, measure, points


@points(
    *(Case("forward", n, p=p) for n in SIZES for p in P),
    *(Case("forward", DTYPES_AT, dtype, p) for dtype in DTYPES for p in P),
)
def test_forward(benchmark, spec, case):
    measure(benchmark, spec, case)
