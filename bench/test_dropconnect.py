"""DropConnect with a mask for each example: forward, its gradients, and all of them."""

from __future__ import annotations

from fastdrop.bench.cases import FAMILIES, WIDTH, Case

from .harness import P, measure, points

WORKS = [name for name in FAMILIES if name.startswith("dropconnect")]


@points(*(Case(work, 4 * WIDTH**2, p=p) for work in WORKS for p in P))
def test_dropconnect(benchmark, spec, case):
    measure(benchmark, spec, case)
