"""Dropout forward and forward+backward: naive NumPy, fastdrop on each instruction set, and the copy as the floor."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference

SIZES = (2**12, 2**17, 2**22, 2**24)
P = (0.5, 0.1)


def arrays(n, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)


def describe(benchmark, op, dtype, n, p, isa="-", threads=1):
    benchmark.group = f"{op} {dtype} n={n} p={p}"
    benchmark.extra_info.update(op=op, dtype=dtype, n=n, p=p, isa=isa, threads=threads)


@pytest.fixture(
    params=[(isa, threads) for isa in fd.available_isas() for threads in (1, 2)], ids=lambda v: f"{v[0]}-{v[1]}t"
)
def machine(request):
    before = fd.isa(), fd.get_num_threads()
    fd.set_isa(request.param[0])
    fd.set_num_threads(request.param[1])
    yield request.param
    fd.set_isa(before[0])
    fd.set_num_threads(before[1])


def verify(mask, x, y):
    """The first elements against the reference; all of them against the mask."""
    some = min(x.size, 4096)
    assert np.array_equal(np.asarray(mask)[:some], reference.keep(mask.key, mask.call, mask.p, 0, (some,), (1,)))
    want = np.where(np.asarray(mask), x * x.dtype.type(1 / (1 - mask.p)), x.dtype.type(0))
    assert np.array_equal(y, want)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_fastdrop(benchmark, machine, dtype, n, p):
    x, _ = arrays(n, dtype)
    rng, out = fd.Generator(0), np.empty_like(x)

    def forward():
        mask = rng.mask(n, p)
        mask.apply(x, out=out)
        return mask

    verify(forward(), x, out)
    describe(benchmark, "forward", dtype, n, p, *machine)
    benchmark(forward)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_naive_numpy(benchmark, dtype, n, p):
    x, _ = arrays(n, dtype)
    rng = np.random.default_rng(0)
    y, kept = reference.naive_dropout(x, p, rng)
    assert np.array_equal(y != 0, kept) and abs(kept.mean() - (1 - p)) < 5 / np.sqrt(n)
    describe(benchmark, "forward", dtype, n, p)
    benchmark(reference.naive_dropout, x, p, rng)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_copy(benchmark, dtype, n, p):
    x, _ = arrays(n, dtype)
    out = np.empty_like(x)
    np.copyto(out, x)
    assert np.array_equal(out, x)
    describe(benchmark, "forward", dtype, n, p)
    benchmark(np.copyto, out, x)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("n", SIZES)
def test_forward_backward_fastdrop(benchmark, machine, n, p):
    x, dy = arrays(n, "float32")
    rng, out, dx = fd.Generator(0), np.empty_like(x), np.empty_like(x)

    def both():
        mask = rng.mask(n, p)
        mask.apply(x, out=out)
        mask.apply(dy, out=dx)
        return mask

    mask = both()
    verify(mask, x, out)
    verify(mask, dy, dx)
    describe(benchmark, "forward+backward", "float32", n, p, *machine)
    benchmark(both)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("n", SIZES)
def test_forward_backward_naive_numpy(benchmark, n, p):
    x, dy = arrays(n, "float32")
    rng = np.random.default_rng(0)

    def both():
        y, kept = reference.naive_dropout(x, p, rng)
        return y, kept, reference.naive_dropout_backward(dy, kept, p)

    y, kept, dx = both()
    assert np.array_equal(y != 0, kept) and np.array_equal(dx != 0, kept)
    describe(benchmark, "forward+backward", "float32", n, p)
    benchmark(both)
