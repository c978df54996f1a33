"""GELU: against math.erf to the last bits, PyTorch, finite differences."""

import copy
import math
import pickle
from decimal import Decimal, localcontext

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import Tensor, ones
from fastdrop.nn import functional as F


def exact(x):
    """x Phi(x) and its slope for a float, to about 2e-16 relative (math.erfc's own error).

    -x / sqrt(2) is rounded before math.erfc sees it, which far out costs x**2 epsilons: the rest is added by the slope.
    """
    with localcontext() as context:
        context.prec = 40
        ratio = -Decimal(x) / Decimal(2).sqrt()
        rest = float(ratio - Decimal(float(ratio)))
        density = float((-(Decimal(x) ** 2) / 2).exp()) / math.sqrt(2 * math.pi)
    share = math.erfc(float(ratio)) / 2 - density * math.sqrt(2) * rest
    return x * share, share + x * density


@pytest.mark.parametrize(("dtype", "far"), [(np.float32, 12.5), (np.float64, 37)])
def test_values_and_slopes_to_a_few_epsilons(np_rng, dtype, far):
    tiny = -(10.0 ** np_rng.uniform(-30, 0, 300))
    x = np.concatenate([np_rng.uniform(-far, 8, 3000), np_rng.uniform(-1, 1, 1000), tiny, -tiny]).astype(dtype)
    want = np.array([exact(v) for v in x.tolist()])
    t = Tensor(x, requires_grad=True)
    y = F.gelu(t)
    y.backward(np.ones_like(x))
    epsilon = np.finfo(dtype).eps
    assert np.abs(y.array / want[:, 0] - 1).max() < 5 * epsilon
    assert np.abs(t.grad.array - want[:, 1]).max() < 2 * epsilon
    assert y.dtype == t.grad.dtype == dtype


def test_erf_from_gelu(np_rng):
    x = np_rng.uniform(-6, 6, 500)
    erf = 2 * F.gelu(x).array / x - 1
    np.testing.assert_allclose(erf, [math.erf(v / math.sqrt(2)) for v in x], rtol=0, atol=1e-15)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4, 5)])
def test_gelu(check_gradients, same_as_torch, np_rng, approximate, shape):
    torch = pytest.importorskip("torch")
    x = np_rng.standard_normal(shape) * 3
    check_gradients(lambda t: F.gelu(t, approximate), x)
    for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-14)):
        same_as_torch(
            lambda t: F.gelu(t, approximate),
            lambda t: torch.nn.functional.gelu(t, approximate=approximate),
            np.asarray(x, dtype),
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_blocks_layouts_and_half_precision(np_rng, approximate, monkeypatch):
    from fastdrop.nn import gelu as module

    x = np_rng.standard_normal((6, 7, 5)).astype(np.float32)
    want = F.gelu(x, approximate).array
    monkeypatch.setattr(module, "_BLOCK", 16)
    for layout in (x, np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1], np.repeat(x, 2, axis=2)[..., ::2]):
        t = Tensor(layout, requires_grad=True)
        y = F.gelu(t, approximate)
        y.backward(x)
        # One may be computed by vectors and the other element by element: exp differs in the last bit.
        np.testing.assert_allclose(y.array, want, rtol=1e-6)
    assert F.gelu(x[0, 0, 0], approximate).shape == ()
    half = x.astype(np.float16)
    wide = F.gelu(half.astype(np.float32), approximate).array
    assert F.gelu(half, approximate).dtype == np.float16
    np.testing.assert_allclose(F.gelu(half, approximate).array, wide, rtol=2**-10)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ends_of_the_line(approximate, dtype):
    x = Tensor(np.array([-np.inf, np.finfo(dtype).min, -50, 0, 50, np.finfo(dtype).max, np.inf], dtype), True)
    with np.errstate(all="raise", under="ignore"):
        y = F.gelu(x, approximate)
        y.backward(np.ones(7, dtype))
    assert y.tolist() == [0, 0, 0, 0, *x.tolist()[4:]]
    assert x.grad.tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    assert np.isnan(F.gelu(np.array([np.nan], dtype), approximate).array).all()


def test_nothing_that_is_kept_stands_in_the_way_of_changes_in_place():
    x = ones(3, requires_grad=True)
    y = x * 2
    z = F.gelu(y)
    y.mul_(0)
    z.mul_(2)
    z.sum().backward()
    np.testing.assert_allclose(x.grad.array, 4 * exact(2.0)[1], rtol=1e-6)


def test_layer():
    torch = pytest.importorskip("torch")
    for approximate in ("none", "tanh"):
        layer = nn.GELU(approximate)
        assert repr(layer) == repr(torch.nn.GELU(approximate))
        x = np.linspace(-3, 3, 50, dtype=np.float32)
        for again in (layer, pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
            np.testing.assert_array_equal(again(x).array, F.gelu(x, approximate).array)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.gelu(ones(2), "erf"), ValueError, "approximate must be 'none' or 'tanh', got 'erf'"),
        (lambda: nn.GELU(True), ValueError, "'none' or 'tanh', got True"),
        (lambda: F.gelu(np.arange(3)), TypeError, "floating dtype, got int64"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
