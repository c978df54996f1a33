"""A training step with dropout and without."""

from __future__ import annotations

from fastdrop.bench.cases import Case

from .harness import P, measure, points


@points(*(Case("training-step", 2**16, p=p) for p in P))
def test_training_step(benchmark, spec, case):
    measure(benchmark, spec, case)
