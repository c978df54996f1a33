"""Fixtures that every test file shares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.nn import Tensor

with suppress(ImportError):  # an installed package may be tested without hypothesis
    from hypothesis import settings

    # No test depends on how long something takes: machines are shared.
    settings.register_profile("no clock", deadline=None)
    settings.load_profile("no clock")

# `trust` is not installed: it is found in the folder above, after everything else, so that no source folder hides an
# installed fastdrop.
sys.path.append(str(Path(__file__).resolve().parents[1]))

#: Calls the command line: exit status, standard output, standard error.
Command = Callable[..., tuple[int, str, str]]

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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Call ``fastdrop`` in an empty folder, where no data of the user's are found."""
    from fastdrop import cli
    from fastdrop.mnist import data

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    monkeypatch.setattr(data, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "100")

    def call(*argv: object) -> tuple[int, str, str]:
        code = cli.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def bfloat16() -> np.dtype:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return bfloat16() if request.param == "bfloat16" else np.dtype(request.param)


# ---- finite differences, and the comparison with PyTorch ----


def _check_gradients(function, *arrays, step=1e-6, tolerance=1e-6):
    """Compare the gradients of ``sum(function(*tensors) * weights)`` with central differences, in float64."""
    tensors = [Tensor(np.array(a, dtype=np.float64, copy=True, order="K"), requires_grad=True) for a in arrays]
    y = function(*tensors)
    weights = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(weights)
    for position, tensor in enumerate(tensors):
        expected = np.zeros_like(tensor.array)
        for index in np.ndindex(tensor.shape):
            values = []
            for sign in (1, -1):
                moved = [np.array(a, dtype=np.float64, copy=True, order="K") for a in arrays]
                moved[position][index] += sign * step
                values.append((function(*map(Tensor, moved)).array * weights).sum())
            expected[index] = (values[0] - values[1]) / (2 * step)
        assert tensor.grad is not None, f"input {position} got no gradient"
        assert tensor.grad.dtype == np.float64
        np.testing.assert_allclose(tensor.grad.array, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def check_gradients():
    return _check_gradients


def _same_as_torch(ours, theirs, *arrays, rtol=1e-5, atol=1e-6):
    """Run the same expression here and in PyTorch; compare the result and every gradient."""
    torch = pytest.importorskip("torch")
    mine = [Tensor(a.copy(order="K"), requires_grad=True) for a in arrays]
    other = [torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    assert y.shape == tuple(z.shape)
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.array, z.detach().numpy(), rtol=rtol, atol=atol)
    weights = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=rtol, atol=atol)


@pytest.fixture
def same_as_torch():
    return _same_as_torch
