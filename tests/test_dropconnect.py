"""DropConnect on arrays: its masks bit for bit, its values and gradients within rounding of float64."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastdrop as fd
from fastdrop import reference
from fastdrop._core import dropconnect_forward

EPS = {"float32": 1e-5, "float64": 1e-13}
sizes = st.integers(1, 70)


def operands(seed, batch, outputs, inputs, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(s).astype(dtype) for s in ((batch, inputs), (outputs, inputs), (batch, outputs)))


def close(found, want, bound, relative):
    """Within a relative error of the sum of the terms' sizes: cancellation is not the kernels' doing."""
    assert found.shape == want.shape
    assert np.all(np.abs(found.astype(np.float64) - want) <= relative * bound + 1e-30)


def check_against_reference(x, w, dy, mask, relative):
    kept, p = np.broadcast_to(np.asarray(mask), (len(x), *w.shape)), mask.p
    close(
        fd.dropconnect(x, w, p=p, mask=mask),
        reference.dropconnect(x, w, kept, p),
        reference.dropconnect(abs(x), abs(w), kept, p),
        relative,
    )
    bounds = reference.dropconnect_backward(abs(dy), abs(x), abs(w), kept, p)
    wanted = reference.dropconnect_backward(dy, x, w, kept, p)
    for found, want, bound in zip(fd.dropconnect_backward(dy, x, w, mask), wanted, bounds):
        close(found, want, bound, relative)


# ---- masks ----


def isolated(mask, shape, dtype):
    """The decisions that the forward pass, dx and dw follow, found weight by weight."""
    batch, outputs, inputs = shape
    scale = 1 / (1 - mask.p)
    w = (np.arange(outputs * inputs).reshape(outputs, inputs) % 7 + 1).astype(dtype)
    seen = np.empty((3, *shape), bool)
    for i in range(inputs):
        x = np.zeros((batch, inputs), dtype)
        x[:, i] = 1
        y = fd.dropconnect(x, w, p=mask.p, mask=mask)
        seen[0, :, :, i] = y != 0
        assert np.allclose(y, np.where(y != 0, scale * w[:, i], 0), rtol=1e-6)
    for o in range(outputs):
        dy = np.zeros((batch, outputs), dtype)
        dy[:, o] = 1
        seen[1, :, o] = fd.dropconnect_backward(dy, np.ones((batch, inputs), dtype), w, mask)[0] != 0
    for b in range(batch):
        dy = np.zeros((batch, outputs), dtype)
        dy[b] = 1
        seen[2, b] = fd.dropconnect_backward(dy, np.ones((batch, inputs), dtype), w, mask)[1] != 0
    return seen


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 16), (2, 7, 37), (5, 3, 130), (4, 33, 20)])
def test_masks_are_the_reference(isa, dtype, shape):
    for p in (0.5, 0.1):
        rng = fd.Generator(3)
        mask = rng.mask(shape, p)
        want = reference.keep_at(rng.key, 0, p, np.arange(np.prod(shape)).reshape(shape))
        for seen in isolated(mask, shape, dtype):
            assert np.array_equal(seen, want)
        x, w, _ = operands(0, *shape, dtype)
        drawn = fd.dropconnect(x, w, p=p, rng=fd.Generator(3))
        assert np.array_equal(drawn, fd.dropconnect(x, w, p=p, mask=mask))
        rng = fd.Generator(3)
        shared = fd.dropconnect(x, w, p=p, per_example=False, rng=rng)
        assert rng.call == 1
        assert np.array_equal(shared, fd.dropconnect(x, w, p=p, mask=fd.Generator(3).mask(w.shape, p)))
        want = np.broadcast_to(reference.keep_at(rng.key, 0, p, np.arange(w.size).reshape(w.shape)), shape)
        for seen in isolated(fd.Generator(3).mask(w.shape, p), shape, dtype):
            assert np.array_equal(seen, want)


def test_masks_may_be_any_view(isa):
    x, w, dy = operands(1, 6, 9, 40)
    whole = fd.Mask(11, 5, 0.3, (20, 20, 90), start=77)
    for mask in (whole[3:9, ::2, 1:81:2][:, :9], whole[:6, :9, :40].transpose(0, 1, 2), whole[::-1][:6, 11:, 39::-1],
                 fd.Mask(1, 2, 0.3, (40, 9, 6)).T, fd.Mask(1, 2, 0.3, (9, 6, 40)).transpose(1, 0, 2),
                 fd.Mask(1, 2, 0.3, (6, 9, 40), start=2**40 + 3)):  # fmt: skip
        check_against_reference(x, w, dy, mask, 1e-5)


#: Masks of (B, O, I) by every pattern of strides: fresh, shared, turned, in steps, reversed, a part.
VIEWS = {
    "fresh": lambda of, b, o, i: of(b, o, i),
    "per batch": lambda of, b, o, i: of(o, i),
    "of inputs": lambda of, b, o, i: of(b, 1, i),
    "of outputs": lambda of, b, o, i: of(b, o, 1),
    "one row": lambda of, b, o, i: of(i),
    "turned": lambda of, b, o, i: of(i, o, b).T,
    "turned in part": lambda of, b, o, i: of(b, i, o).transpose(0, 2, 1),
    "in steps": lambda of, b, o, i: of(2 * b, o + 3, 3 * i)[::2, 2 : 2 + o, ::3],
    "reversed": lambda of, b, o, i: of(b, o, i)[::-1, :, ::-1],
    "rows reversed": lambda of, b, o, i: of(b, o, i)[:, ::-1],
    "a part": lambda of, b, o, i: of(b, o + 5, i + 8)[:, :o, 8:],
}


@settings(deadline=None, derandomize=True, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes, sizes, sizes, st.sampled_from(sorted(VIEWS)), st.sampled_from([0.5, 0.1, 2.0**-31, 1e-300, 1 - 2.0**-31]),
    st.sampled_from([0, 7, 8, 2**32 - 5, 2**40 + 9, 2**60]), st.booleans(),
)  # fmt: skip
def test_any_view_of_any_size(isa, batch, outputs, inputs, view, p, start, double):
    mask = VIEWS[view](lambda *shape: fd.Mask(31, 2, p, shape, start), batch, outputs, inputs)
    x, w, dy = operands(batch + inputs, batch, outputs, inputs, np.float64 if double else np.float32)
    check_against_reference(x, w, dy, mask, EPS[x.dtype.name])


def test_dropout_of_inputs_and_of_outputs_are_views_too():
    x, w, _ = operands(2, 6, 9, 40)
    inputs = fd.Generator(4).mask((6, 1, 40), 0.4)
    y = fd.dropconnect(x, w, p=0.4, mask=inputs)
    np.testing.assert_allclose(y, inputs[:, 0].apply(x) @ w.T, rtol=1e-5, atol=1e-5)
    outputs = fd.Generator(4).mask((6, 9, 1), 0.4)
    y = fd.dropconnect(x, w, p=0.4, mask=outputs)
    np.testing.assert_allclose(y, outputs[:, :, 0].apply(x @ w.T), rtol=1e-5, atol=1e-5)


# ---- values ----


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes, sizes, sizes, st.sampled_from([0.5, 0.25, 0.1, 0.9]), st.integers(0, 300), st.booleans(), st.booleans())
def test_values_are_those_of_float64(isa, batch, outputs, inputs, p, start, per_example, double):
    dtype = np.float64 if double else np.float32
    x, w, dy = operands(batch + 100 * outputs, batch, outputs, inputs, dtype)
    shape = (batch, outputs, inputs) if per_example else (outputs, inputs)
    check_against_reference(x, w, dy, fd.Mask(17, 3, p, shape, start), EPS[np.dtype(dtype).name])


@pytest.mark.parametrize("shape", [(64, 100, 300), (33, 257, 65), (2, 10, 1000), (130, 17, 129)])
def test_larger_ones(isa, shape, threads):
    x, w, dy = operands(3, *shape)
    results = []
    for n in (1, 2, 3):
        fd.set_num_threads(n)
        mask = fd.Mask(5, 6, 0.5, shape)
        results.append((fd.dropconnect(x, w, mask=mask), *fd.dropconnect_backward(dy, x, w, mask)))
    for one, two, three in zip(*results):
        assert np.array_equal(one, two) and np.array_equal(one, three)
    check_against_reference(x, w, dy, fd.Mask(5, 6, 0.1, shape), 1e-5)


def test_per_batch_is_the_dense_product_of_the_masked_weights():
    x, w, dy = operands(4, 12, 20, 30)
    mask = fd.Generator(1).mask(w.shape, 0.3)
    dropped = mask.apply(w)
    np.testing.assert_array_equal(fd.dropconnect(x, w, p=0.3, mask=mask), x @ dropped.T)
    dx, dw = fd.dropconnect_backward(dy, x, w, mask)
    np.testing.assert_array_equal(dx, dy @ dropped)
    np.testing.assert_array_equal(dw, mask.apply(dy.T @ x))


def test_leading_axes_are_the_batch():
    x, w, dy = operands(5, 12, 7, 20)
    want = fd.dropconnect(x, w, rng=fd.Generator(2))
    found = fd.dropconnect(x.reshape(3, 4, 20), w, rng=fd.Generator(2))
    assert found.shape == (3, 4, 7) and np.array_equal(found.reshape(12, 7), want)
    one = fd.dropconnect(x[0], w, rng=fd.Generator(2))
    assert one.shape == (7,) and np.array_equal(one, fd.dropconnect(x[:1], w, rng=fd.Generator(2))[0])
    mask = fd.Generator(2).mask((12, 7, 20))
    dx, dw = fd.dropconnect_backward(dy.reshape(3, 4, 7), x.reshape(3, 4, 20), w, mask)
    plain = fd.dropconnect_backward(dy, x, w, mask)
    assert dx.shape == (3, 4, 20) and np.array_equal(dx.reshape(12, 20), plain[0]) and np.array_equal(dw, plain[1])


@pytest.mark.parametrize("layout", ["F", "sliced", ">", "list", "read-only"])
def test_memory_layouts(layout):
    x, w, dy = operands(6, 5, 8, 20)
    mask = fd.Mask(1, 1, 0.5, (5, 8, 20))
    change = {
        "F": np.asfortranarray,
        "sliced": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        ">": lambda a: a.astype(">f4"),
        "list": lambda a: a.astype(float).tolist(),
        "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    }[layout]
    want = fd.dropconnect(x, w, mask=mask), *fd.dropconnect_backward(dy, x, w, mask)
    x, w, dy = change(x), change(w), change(dy)
    for a, b in zip((fd.dropconnect(x, w, mask=mask), *fd.dropconnect_backward(dy, x, w, mask)), want):
        assert a.dtype.isnative
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_empty(shape):
    batch, outputs, _ = shape
    x, w, dy = operands(7, *shape)
    bias = np.arange(outputs, dtype=np.float32)
    for per_example in (True, False):
        for p in (0.0, 0.5, 1.0):
            y = fd.dropconnect(x, w, bias, p=p, per_example=per_example, rng=fd.Generator(1))
            assert y.shape == (batch, outputs) and np.array_equal(y, np.broadcast_to(bias, y.shape))
            dx, dw = fd.dropconnect_backward(dy, x, w, fd.Mask(0, 0, p, shape if per_example else shape[1:]))
            assert dx.shape == x.shape and dw.shape == w.shape and not dx.any() and not dw.any()


def test_p_0_p_1_and_out_of_training():
    x, w, dy = operands(8, 5, 8, 20)
    bias, rng = np.arange(8, dtype=np.float32), fd.Generator(0)
    for p, training in ((0.0, True), (0.5, False)):
        for drop_bias in (False, True):
            y = fd.dropconnect(x, w, bias, p=p, training=training, drop_bias=drop_bias, rng=rng)
            np.testing.assert_array_equal(y, x @ w.T + bias)
    assert rng.call == 0
    for a, b in zip(fd.dropconnect_backward(dy, x, w, fd.Mask(0, 0, 0.0, (5, 8, 20))), (dy @ w, dy.T @ x)):
        np.testing.assert_array_equal(a, b)
    x[0, 0], w[0, 0] = np.inf, np.nan
    for per_example in (True, False):
        options = {"p": 1.0, "per_example": per_example, "rng": rng}
        np.testing.assert_array_equal(fd.dropconnect(x, w, bias, **options), np.broadcast_to(bias, (5, 8)))
        assert not fd.dropconnect(x, w, bias, drop_bias=True, **options).any()
        dx, dw = fd.dropconnect_backward(dy, x, w, fd.Mask(0, 0, 1.0, (5, 8, 20) if per_example else (8, 20)))
        assert not dx.any() and not dw.any()


def test_a_dropped_infinity_is_nothing_per_example():
    x, w, _ = operands(9, 4, 6, 30)
    mask = fd.Mask(2, 0, 0.5, (4, 6, 30))
    kept = np.asarray(mask)
    x[1, 7] = np.inf
    y = fd.dropconnect(x, w, mask=mask)
    assert np.array_equal(np.isfinite(y[1]), ~kept[1, :, 7]) and np.isfinite(y[[0, 2, 3]]).all()


@pytest.mark.parametrize("per_example", [True, False])
def test_the_bias_has_a_mask_of_its_own(per_example):
    x, w, _ = operands(10, 6, 50, 20)
    bias = np.random.default_rng(1).standard_normal(50).astype(np.float32)
    options = {"p": 0.3, "per_example": per_example}
    plain = fd.dropconnect(x, w, rng=fd.Generator(4), **options)
    np.testing.assert_allclose(fd.dropconnect(x, w, bias, rng=fd.Generator(4), **options), plain + bias, rtol=1e-6)
    rng = fd.Generator(4)
    y = fd.dropconnect(x, w, bias, drop_bias=True, rng=rng, **options)
    assert rng.call == 2
    shape = (6, 50) if per_example else (50,)
    kept = reference.keep_at(rng.key, 1, 0.3, np.arange(np.prod(shape)).reshape(shape))
    np.testing.assert_allclose(y, plain + np.where(kept, bias / np.float32(0.7), 0), rtol=1e-5, atol=1e-6)
    full = reference.keep_at(rng.key, 0, 0.3, np.arange(w.size * (6 if per_example else 1)).reshape(-1, *w.shape))
    wide = reference.dropconnect(x, w, np.broadcast_to(full, (6, *w.shape)), 0.3, bias, np.broadcast_to(kept, (6, 50)))
    np.testing.assert_allclose(y, wide, rtol=1e-4, atol=1e-5)
    rng = fd.Generator(4)
    again = fd.dropconnect(
        x, w, bias, p=0.3, mask=rng.mask((6, 50, 20) if per_example else (50, 20), 0.3), bias_mask=rng.mask(shape, 0.3)
    )
    assert np.array_equal(again, y)


def test_half_types_are_computed_in_float32_and_rounded_once(dtype):
    if dtype.itemsize != 2:
        pytest.skip("float32 and float64 have tests of their own")
    x, w, dy = (a.astype(dtype) for a in operands(11, 5, 8, 30))
    bias = np.linspace(-2, 2, 8).astype(dtype)
    wide = [a.astype(np.float32) for a in (x, w, bias, dy)]
    for mask in (fd.Mask(1, 1, 0.3, (5, 8, 30)), fd.Mask(1, 1, 0.3, (8, 30))):
        y = fd.dropconnect(x, w, bias, p=0.3, mask=mask)
        want = fd.dropconnect(*wide[:3], p=0.3, mask=mask)
        assert y.dtype == dtype and np.array_equal(y, want.astype(dtype))
        found = fd.dropconnect_backward(dy, x, w, mask)
        for a, b in zip(found, fd.dropconnect_backward(wide[3], wide[0], wide[1], mask)):
            assert a.dtype == dtype and np.array_equal(a, b.astype(dtype))
    assert fd.dropconnect(x, w, bias, p=0.0).dtype == dtype


# ---- statistics and memory ----


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_statistics(p):
    """At rate p, and unrelated from one example, output and input to the next; the same for all examples per batch.

    x is one-hot in turn, so that each output shows one decision: 40 x 30 x 50 of them. Rate and the correlation of
    neighbours along each axis are within 5 standard deviations, which fails once in 1.7 million runs each.
    """
    shape = batch, outputs, inputs = 40, 30, 50
    w = np.ones((outputs, inputs), np.float32)
    kept, shared = np.empty(shape), np.empty(shape)
    for i in range(inputs):
        x = np.zeros((batch, inputs), np.float32)
        x[:, i] = 1
        kept[:, :, i] = fd.dropconnect(x, w, p=p, rng=fd.Generator(19)) != 0
        shared[:, :, i] = fd.dropconnect(x, w, p=p, per_example=False, rng=fd.Generator(19)) != 0
    assert np.array_equal(shared, np.broadcast_to(shared[:1], shape))
    for decisions in (kept, shared[0]):
        assert abs(decisions.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / decisions.size)
        centred = (decisions - (1 - p)) / np.sqrt(p * (1 - p))
        for axis in range(decisions.ndim):
            along = np.moveaxis(centred, axis, 0)
            pairs = along[1:] * along[:-1]
            assert abs(pairs.mean()) < 5 / np.sqrt(pairs.size)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_mean_and_variance(p):
    """Of 20 000 examples alike: the dense product, and the variance p / (1 - p) sum (w x)^2 of the paper.

    5 standard errors each, of a normal's for the variance: 30 outputs, one false alarm in 29 000 runs.
    """
    n, (x, w, _) = 20_000, operands(12, 1, 30, 60)
    y = fd.dropconnect(np.repeat(x, n, axis=0), w, p=p, rng=fd.Generator(23)).astype(np.float64)
    variance = p / (1 - p) * (x.astype(np.float64) ** 2 @ w.T.astype(np.float64) ** 2)[0]
    assert np.all(np.abs(y.mean(axis=0) - (x @ w.T)[0]) < 5 * np.sqrt(variance / n))
    assert np.all(np.abs(y.var(axis=0) / variance - 1) < 5 * np.sqrt(3 / n))  # 3: room for a kurtosis of 4


def peak(function):
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("per_example", [True, False])
def test_no_buffer_of_batch_times_outputs_times_inputs(per_example):
    shape = (96, 80, 160)
    x, w, dy = operands(13, *shape)
    mask = fd.Mask(3, 0, 0.5, shape if per_example else shape[1:])
    # A bit for each decision would be 150 kB, a byte 1.2 MB, a float32 4.9 MB.
    operand_bytes = x.nbytes + w.nbytes + dy.nbytes
    assert peak(lambda: fd.dropconnect(x, w, mask=mask)) < 2 * operand_bytes
    assert peak(lambda: fd.dropconnect_backward(dy, x, w, mask)) < 3 * operand_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="reads kB from getrusage, as Linux gives them")
def test_peak_memory_of_the_process():
    """What tracemalloc does not see, too. A bit for each decision would be 16.8 MB, the operands are 4 MB."""
    code = """
import resource
import numpy as np, fastdrop as fd
def run(batch, outputs, inputs):
    x, w = np.ones((batch, inputs), np.float32), np.ones((outputs, inputs), np.float32)
    mask = fd.Mask(1, 0, 0.5, (batch, outputs, inputs))
    y = fd.dropconnect(x, w, mask=mask)
    fd.dropconnect_backward(y, x, w, mask)
run(2, 512, 1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(256, 512, 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 12_000


# ---- errors ----

X, W = np.ones((4, 6), np.float32), np.ones((3, 6), np.float32)
MASK = fd.Mask(0, 0, 0.5, (4, 3, 6))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: fd.dropconnect(X, W, p=1.5, rng=rng), ValueError, "dropout probability .* 1.5"),
        (lambda rng: fd.dropconnect(X, W, p=float("nan"), rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.dropconnect(X, W, p="half", rng=rng), TypeError, "dropout probability"),
        (lambda rng: fd.dropconnect(X.astype(int), W.astype(int), rng=rng), TypeError, "float32, float64"),
        (lambda rng: fd.dropconnect(X, W.astype(float), rng=rng), TypeError, "w has to have the dtype of x, float32"),
        (lambda rng: fd.dropconnect(X, W, np.ones(3), rng=rng), TypeError, "bias has to have the dtype of x"),
        (lambda rng: fd.dropconnect(X, W[0], rng=rng), ValueError, r"w has to have 2 axes, \(out, in\)"),
        (lambda rng: fd.dropconnect(X[:, :5], W, rng=rng), ValueError, r"x has to have shape \(..., 6\)"),
        (lambda rng: fd.dropconnect(X[0, 0], W, rng=rng), ValueError, r"x has to have shape .* got \(\)"),
        (lambda rng: fd.dropconnect(X, W, W[0, :4], rng=rng), ValueError, r"bias has to have shape \(3,\)"),
        (lambda rng: fd.dropconnect(X, W, per_example=1, rng=rng), TypeError, "per_example has to be True or False"),
        (lambda rng: fd.dropconnect(X, W, drop_bias="yes", rng=rng), TypeError, "drop_bias has to be True or False"),
        (lambda rng: fd.dropconnect(X, W, rng=np.random.default_rng()), TypeError, r"rng has to be a fastdrop\.Gen"),
        (lambda rng: fd.dropconnect(X, W, mask=rng), TypeError, r"mask has to be a fastdrop\.Mask"),
        (lambda rng: fd.dropconnect(X, W, mask=MASK, rng=rng), ValueError, "give no rng"),
        (lambda rng: fd.dropconnect(X, W, p=0.2, mask=MASK), ValueError, "mask has p=0.5"),
        (lambda rng: fd.dropconnect(X, W, mask=MASK[:3]), ValueError, r"\(4, 3, 6\)"),
        (lambda rng: fd.dropconnect(X, W, W[:, 0], mask=MASK, drop_bias=True), ValueError, "give bias_mask"),
        (lambda rng: fd.dropconnect(X, W, W[:, 0], bias_mask=1, rng=rng), TypeError, "bias_mask has to be a fastdrop"),
        (lambda rng: fd.dropconnect(X, W, bias_mask=MASK[0, 0, :3], rng=rng), ValueError, "give it with a bias"),
        (lambda rng: fd.dropconnect(X, W, W[:, 0], bias_mask=MASK[0, 0], rng=rng), ValueError, r"\(4, 3\)"),
        (lambda rng: fd.dropconnect(X, W, W[:, 0], p=0.1, bias_mask=MASK[0, 0, :3], rng=rng), ValueError,
         "bias_mask has p=0.5"),
        (lambda rng: fd.dropconnect_backward(X, X, W, MASK), ValueError, r"dy has to have shape \(4, 3\)"),
        (lambda rng: fd.dropconnect_backward(np.ones((4, 3)), X, W, MASK), TypeError, "dy has to have the dtype of x"),
        (lambda rng: fd.dropconnect_backward(X[:, :3], X, W, None), TypeError, r"mask has to be a fastdrop\.Mask"),
        (lambda rng: fd.dropconnect_backward(X[:, :3], X, W, MASK[:3]), ValueError, r"\(4, 3, 6\)"),
        (lambda rng: fd.dropconnect_backward(X[:, :3].astype(int), X.astype(int), W.astype(int), MASK), TypeError,
         "float32, float64"),
    ],
)  # fmt: skip
def test_bad_input_takes_no_call(call, error, words):
    rng = fd.Generator(0)
    with pytest.raises(error, match=words):
        call(rng)
    assert rng.call == 0


class Liar(np.ndarray):
    """Says of every question of NumPy's that the answer is no."""

    def __array_function__(self, func, types, args, kwargs):
        return False


@pytest.mark.parametrize("name", ["x", "w"])
def test_out_may_not_be_an_operand_whatever_a_subclass_says(name):
    square = np.ones((4, 4), np.float32)
    given = {"x": square, "w": square.copy()}
    out = given[name]
    given[name] = out.view(Liar)
    with pytest.raises(ValueError, match=f"out overlaps {name}"):
        dropconnect_forward(fd.Mask(0, 0, 0.5, (4, 4, 4)), given["x"], given["w"], 2.0, out)
    assert np.all(out == 1)
