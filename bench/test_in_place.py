"""Dropout of an array onto itself."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import SIZES, P, measure, points


@points(*(Case("in-place", n, p=p) for n in SIZES for p in P))
def test_in_place(benchmark, spec, case):
    measure(benchmark, spec, case)
