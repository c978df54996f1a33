"""Dropout forward, and the gradient under the same mask."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import SIZES, P, measure, points


@points(*(Case("forward+backward", n, p=p) for n in SIZES for p in P))
def test_forward_backward(benchmark, spec, case):
    measure(benchmark, spec, case)
