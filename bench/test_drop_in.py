"""Training steps of PyTorch: with its own dropout, with fastdrop's, and without any."""

from __future__ import annotations

from fastdrop.bench.cases import PIXELS, TOKENS, Case

from .harness import measure, points


@points(Case("torch-mlp", 128 * PIXELS), Case("torch-transformer", TOKENS, p=0.1))
def test_drop_in(benchmark, spec, case):
    measure(benchmark, spec, case)
