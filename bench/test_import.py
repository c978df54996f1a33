"""`import fastdrop` in a fresh process, beside `import numpy`. `python -m trust.import_time` takes them in pairs."""

from __future__ import annotations

import pytest

from fastdrop.bench.imports import seconds_of


@pytest.mark.parametrize("statement", ["import numpy", "import numpy, fastdrop"])
def test_import(benchmark, statement):
    benchmark.group = "import"
    benchmark.pedantic(seconds_of, (statement,), rounds=11, warmup_rounds=1)
