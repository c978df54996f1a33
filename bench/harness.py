"""What the benchmark files share: a family's points as parameters, and one measurement, verified first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest

from fastdrop import _core
from fastdrop.bench.cases import Arrays, Case, count
from fastdrop.bench.contenders import CONTENDERS, entry
from fastdrop.bench.paired import settings_kept
from fastdrop.bench.ready import check

SIZES = (2**12, 2**17, 2**22)
P = (0.5, 0.1)
#: The other dtypes run at one size.
DTYPES, DTYPES_AT = ("float64", "float16", "bfloat16"), 2**17


def points(*cases: Case) -> Any:
    """Parametrise a test with everybody who competes in some cases, on one thread and on two where they can be told."""
    return pytest.mark.parametrize(("spec", "case"), [param for case in cases for param in _params(case)])


def _params(case: Case) -> Iterator[Any]:
    for contender in CONTENDERS.values():
        if case.family not in contender.prepare:
            continue
        isas = [f"@{name}" for name, _ in _core.isas()] if contender.role == "ours" else [""]
        threads = (1, 2) if contender.threads == "told" and case.n >= 2**17 else (1,)
        for isa in isas:
            for count_ in threads:
                spec = f"{contender.name}{isa}:{count_}"
                yield pytest.param(spec, case, id=f"{spec}-{case.dtype}-{count(case.n).replace(' ', '')}-p{case.p:g}")


@lru_cache(maxsize=1)
def _arrays(case: Case) -> Arrays:
    return Arrays(case)


def measure(benchmark: Any, spec: str, case: Case) -> None:
    """Verify a contender, then time it; whoever is not here is reported as skipped."""
    found = entry(spec, case)
    if found.skipped:
        pytest.skip(f"{found.label}: {found.skipped}")
    arrays = _arrays(replace(case, p=0.5))
    with settings_kept():
        ready = found.ready(arrays)
        check(ready, arrays, found.case)
        benchmark.group = str(case)
        benchmark.extra_info.update(
            op=case.family, dtype=case.dtype, n=case.n, p=case.p, isa=found.case.isa or "-", threads=found.case.threads
        )
        ready.refill()
        benchmark(ready.call)
