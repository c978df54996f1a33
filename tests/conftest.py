"""Fixtures that every test file shares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastdrop as fd

ALL_ISAS = ("portable", "avx2", "avx512", "neon")


@pytest.fixture(params=ALL_ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on each instruction set; one that this machine lacks is reported as skipped."""
    if request.param not in fd.available_isas():
        pytest.skip(f"this machine cannot run {request.param}")
    before = fd.isa()
    fd.set_isa(request.param)
    assert fd.isa() == request.param
    yield request.param
    fd.set_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads after the test."""
    before = fd.get_num_threads()
    yield
    fd.set_num_threads(before)


@pytest.fixture
def rng() -> fd.Generator:
    return fd.Generator(seed=1234)


def bfloat16() -> np.dtype:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return bfloat16() if request.param == "bfloat16" else np.dtype(request.param)
