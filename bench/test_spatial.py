"""Whole feature maps, channels first and last."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import SIZES, measure, points


@points(*(Case(f"spatial-{layout}", n, p=0.2) for layout in ("nchw", "nhwc") for n in SIZES))
def test_spatial(benchmark, spec, case):
    measure(benchmark, spec, case)
