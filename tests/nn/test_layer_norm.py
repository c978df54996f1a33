"""Layer normalisation: PyTorch's numbers, finite differences, half precision, errors."""

import copy
import pickle

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import Tensor, ones
from fastdrop.nn import functional as F


@pytest.mark.parametrize(
    ("shape", "normalized"),
    [((3, 4), 4), ((2, 3, 5), (5,)), ((2, 3, 5), [3, 5]), ((4, 5), (4, 5)), ((7,), 7), ((0, 4), 4), ((3, 1), 1)],
)
@pytest.mark.parametrize("parameters", [0, 1, 2])
def test_layer_norm(check_gradients, same_as_torch, np_rng, shape, normalized, parameters):
    torch = pytest.importorskip("torch")
    sizes = (normalized,) if isinstance(normalized, int) else tuple(normalized)
    arrays = [np_rng.standard_normal(s) for s in (shape, sizes, sizes)][: 1 + parameters]
    check_gradients(lambda x, *wb: F.layer_norm(x, normalized, *wb), *arrays)
    same_as_torch(
        lambda x, *wb: F.layer_norm(x, normalized, *wb),
        lambda x, *wb: torch.nn.functional.layer_norm(x, sizes, *wb),
        *[a.astype(np.float32) for a in arrays],
        atol=1e-5,
    )


def test_a_bias_alone_and_eps(same_as_torch, np_rng):
    torch = pytest.importorskip("torch")
    same_as_torch(
        lambda x, b: F.layer_norm(x, 4, None, b, 0.5),
        lambda x, b: torch.nn.functional.layer_norm(x, (4,), None, b, 0.5),
        np_rng.standard_normal((3, 4)),
        np_rng.standard_normal(4),
    )


def test_any_memory_order(np_rng):
    x, dy = np_rng.standard_normal((2, 4, 3, 5))
    results = []
    for layout in (x, np.asfortranarray(x), np.repeat(x, 2, axis=2)[..., ::2]):
        t = Tensor(layout, requires_grad=True)
        y = F.layer_norm(t, (3, 5))
        y.backward(dy)
        results.append((y.array, t.grad.array))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-12)


def test_float16_is_computed_in_float32(np_rng):
    # Squares of these overflow float16.
    x = (np_rng.standard_normal((5, 64)) * 1000).astype(np.float16)
    w, b = np_rng.standard_normal((2, 64)).astype(np.float16)
    t = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    y = F.layer_norm(t[0], 64, *t[1:])
    y.backward(x)
    wide = [Tensor(a.astype(np.float32), requires_grad=True) for a in (x, w, b)]
    z = F.layer_norm(wide[0], 64, *wide[1:])
    z.backward(x)
    np.testing.assert_array_equal(y.array, z.array.astype(np.float16))
    assert y.dtype == np.float16
    # dy in float16 is the same numbers, so every gradient is rounded once.
    for a, c in zip(t, wide, strict=True):
        assert a.grad.dtype == np.float16
        np.testing.assert_array_equal(a.grad.array, c.grad.array.astype(np.float16))


def test_a_large_mean_costs_no_accuracy(np_rng):
    x = np_rng.standard_normal((4, 256)).astype(np.float32)
    moved = (x + 4096).astype(np.float32)
    # The values themselves lose 2**-12 by being moved, and the result no more than a few times that.
    np.testing.assert_allclose(F.layer_norm(moved, 256).array, F.layer_norm(x, 256).array, atol=2e-3)


def test_what_backward_reads_is_guarded():
    x = ones(2, 3, requires_grad=True)
    y = x * 2
    F.layer_norm(y, 3)
    kept = F.layer_norm(y, 3)
    with pytest.raises(RuntimeError, match="layer_norm"):
        y.mul_(2)
    assert kept.requires_grad


def test_the_layer_is_pytorchs(same_as_torch, np_rng):
    torch = pytest.importorskip("torch")
    for arguments in ({}, {"eps": 0.1}, {"bias": False}, {"elementwise_affine": False}):
        ours, theirs = nn.LayerNorm((3, 5), **arguments), torch.nn.LayerNorm((3, 5), **arguments)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for name, value in theirs.state_dict().items():
            np.testing.assert_array_equal(ours.state_dict()[name].array, value.numpy())
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        ours.load_state_dict(theirs.state_dict())
        same_as_torch(ours, theirs, np_rng.standard_normal((4, 3, 5)).astype(np.float32), atol=1e-5)


def test_pickle_and_copy(np_rng):
    layer = nn.LayerNorm(4, dtype=np.float64)
    layer.weight.array[...] = np_rng.standard_normal(4)
    x = np_rng.standard_normal((2, 4))
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(again) == repr(layer) and again.weight is not layer.weight
        np.testing.assert_array_equal(again(x).array, layer(x).array)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.layer_norm(ones(2, 3), 4), RuntimeError, r"normalized_shape=\[4\].*\[\*, 4\].*\[2, 3\]"),
        (lambda: F.layer_norm(ones(3), (2, 3)), RuntimeError, r"\[\*, 2, 3\].*\[3\]"),
        (lambda: F.layer_norm(np.ones((2, 3), int), 3), TypeError, "floating dtype, got int64"),
        (lambda: F.layer_norm(ones(2, 3), 3, ones(2)), RuntimeError, r"weight must have shape \(3,\).*\(2,\)"),
        (lambda: F.layer_norm(ones(2, 3), 3, None, np.ones(3)), RuntimeError, "bias must.*float32.*float64"),
        (lambda: F.layer_norm(ones(2, 3), 3, eps=-1), ValueError, "eps must not be negative, got -1"),
        (lambda: nn.LayerNorm(3, eps=float("nan")), ValueError, "eps must not be negative, got nan"),
        (lambda: nn.LayerNorm(3, eps="1"), TypeError, "eps has to be a real number"),
        (lambda: nn.LayerNorm(()), ValueError, "at least one axis"),
        (lambda: nn.LayerNorm(2.5), TypeError, "normalized_shape has to be an integer"),
        (lambda: nn.LayerNorm((2, -3)), ValueError, r"normalized_shape\[1\] has to be between 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
