"""The keep decisions alone."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import SIZES, P, measure, points


@points(*(Case("mask-bits", n, p=p) for n in SIZES for p in P))
def test_mask_bits(benchmark, spec, case):
    measure(benchmark, spec, case)
