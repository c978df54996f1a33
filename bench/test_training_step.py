"""A training step with dropout and without; and those of whole networks."""

from __future__ import annotations

from fastdrop.bench.cases import PIXELS, Case

from .harness import P, measure, points


@points(*(Case("training-step", 2**16, p=p) for p in P))
def test_training_step(benchmark, spec, case):
    measure(benchmark, spec, case)


@points(*(Case(family, 128 * PIXELS) for family in ("cnn-step", "mlp-step")))
def test_network_step(benchmark, spec, case):
    measure(benchmark, spec, case)
