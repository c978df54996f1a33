"""Losses of number against number, against finite differences and PyTorch."""

import copy
import pickle

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

REDUCTIONS = ["mean", "sum", "none"]
WEIGHTS = {"weight": np.array([0.5, 1.0, 2.0]), "pos_weight": np.array([[3.0], [0.2], [1.0], [1.5]])}

# a function's name, its options, a layer's name, and what makes input and target of normal numbers
LOSSES = {
    "l1": ("l1_loss", {}, "L1Loss", None),
    "huber": ("huber_loss", {"delta": 0.7}, "HuberLoss", None),
    "smooth l1": ("smooth_l1_loss", {"beta": 0.7}, "SmoothL1Loss", None),
    "smooth l1, sharp": ("smooth_l1_loss", {"beta": 0.0}, "SmoothL1Loss", None),
    "bce": ("binary_cross_entropy_with_logits", {}, "BCEWithLogitsLoss", "probability"),
    "bce, weights": ("binary_cross_entropy_with_logits", WEIGHTS, "BCEWithLogitsLoss", "probability"),
    "bce, classes": ("binary_cross_entropy_with_logits", WEIGHTS, "BCEWithLogitsLoss", "class"),
    "kl": ("kl_div", {}, "KLDivLoss", "probability"),
    "kl, logarithms": ("kl_div", {"log_target": True}, "KLDivLoss", None),
}
losses = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def data(np_rng, kind, shape=(4, 3), dtype=np.float64):
    x, t = np_rng.standard_normal((2, *shape))
    if kind == "class":
        t = (t > 0).astype(float)
    elif kind == "probability":
        t = 1 / (1 + np.exp(-t))
    return (2 * x).astype(dtype), t.astype(dtype)


def as_torch(torch, options, dtype=np.float64):
    return {k: torch.tensor(v.astype(dtype)) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@losses
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # PyTorch's, of kl_div
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients(check_gradients, same_as_torch, torch, np_rng, name, reduction):
    function, options, _, kind = LOSSES[name]
    ours, theirs = getattr(F, function), getattr(torch.nn.functional, function)
    x, t = data(np_rng, kind)
    check_gradients(lambda a, b: ours(a, b, reduction=reduction, **options), x, t)
    for dtype in (np.float32, np.float64):
        same_as_torch(
            lambda a, b: ours(a, b, reduction=reduction, **options),
            lambda a, b, d=dtype: theirs(a, b, reduction=reduction, **as_torch(torch, options, d)),
            x.astype(dtype),
            t.astype(dtype),
        )


@losses
def test_float16(torch, np_rng, name):
    function, options, _, kind = LOSSES[name]
    arrays = data(np_rng, kind, dtype=np.float16)
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    wide = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    y, z = getattr(F, function)(*mine, **options), getattr(F, function)(*wide, **options)
    y.backward()
    z.backward()
    assert y.dtype == np.float16 and y.array == z.array.astype(np.float16)
    for a, b in zip(mine, wide, strict=True):
        assert a.grad.dtype == np.float16
        np.testing.assert_allclose(a.grad.array, b.grad.array, rtol=2e-3, atol=1e-6)


@losses
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_layers_agree_with_functions(torch, np_rng, name, reduction):
    function, options, layer, kind = LOSSES[name]
    x, t = data(np_rng, kind)
    ours = getattr(nn, layer)(reduction=reduction, **options)
    theirs = getattr(torch.nn, layer)(reduction=reduction, **as_torch(torch, options))
    np.testing.assert_array_equal(ours(x, t).array, getattr(F, function)(x, t, reduction=reduction, **options).array)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    for again in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        np.testing.assert_array_equal(again(x, t).array, ours(x, t).array)


@losses
def test_any_memory_order_and_an_integer_target(np_rng, name):
    function, options, _, _ = LOSSES[name]
    loss = getattr(F, function)
    x, t = data(np_rng, "class")
    want = loss(x, t, **options).item()
    assert loss(np.asfortranarray(x), t[::-1].copy()[::-1], **options).item() == pytest.approx(want)
    assert loss(x, t.astype(int), **options).item() == pytest.approx(want)


@losses
def test_nothing(np_rng, name):
    function, options, _, _ = LOSSES[name]
    x = Tensor(np.zeros((0, 1)), requires_grad=True)
    options = {k: v for k, v in options.items() if not isinstance(v, np.ndarray)}
    y = getattr(F, function)(x, np.zeros((0, 1)), **options)
    y.backward()
    assert np.isnan(y.item()) and x.grad.shape == (0, 1)
    assert getattr(F, function)(x, np.zeros((0, 1)), reduction="sum", **options).item() == 0


def test_batchmean(check_gradients, torch, np_rng):
    x, t = data(np_rng, "probability")
    want = torch.nn.functional.kl_div(torch.tensor(x), torch.tensor(t), reduction="batchmean").item()
    assert F.kl_div(x, t, "batchmean").item() == pytest.approx(want)
    assert nn.KLDivLoss(reduction="batchmean")(x, t).item() == pytest.approx(want)
    check_gradients(lambda a, b: F.kl_div(a, b, "batchmean"), x, t)


def test_probabilities_of_zero(same_as_torch, torch):
    x, t = np.array([-1.0, -np.inf, -2.0]), np.array([0.0, 0.0, 1.0])
    assert F.kl_div(x, t, "none").tolist() == [0, 0, 2]
    same_as_torch(
        lambda a: F.kl_div(a, t[::2], "sum"),
        lambda a: torch.nn.functional.kl_div(a, torch.tensor(t[::2]), reduction="sum"),
        x[::2],
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_logits_keep_their_digits(dtype):
    x = Tensor(np.array([-1000, -60, -20, 20, 60, 1000], dtype), requires_grad=True)
    t = np.array([0, 0, 0, 1, 1, 1], dtype)
    y = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    y.backward(np.ones(6))
    with np.errstate(under="ignore"):
        tail = np.exp(np.array([-1000.0, -60.0, -20.0]))
    small = np.concatenate([tail, tail[::-1]])
    np.testing.assert_allclose(y.array, np.log1p(small), rtol=1e-5)
    np.testing.assert_allclose(x.grad.array, np.sign(0.5 - t) * small, rtol=1e-5)
    y = F.binary_cross_entropy_with_logits(x, 1 - t, reduction="none")
    np.testing.assert_allclose(y.array, np.abs(x.array), rtol=1e-6)


def test_changing_an_input_in_place_is_refused():
    x, t = Tensor(np.ones(3), requires_grad=True) * 1, Tensor(np.zeros(3))
    loss = F.l1_loss(x, t)
    for tensor in (x, t):
        with pytest.raises(RuntimeError, match="backward of l1_loss"):
            tensor.add_(1)
    loss.backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.l1_loss(x, x[:1]), ValueError, r"l1_loss: input \(2, 3\) and target \(1, 3\) must have the same"),
        (lambda x: F.kl_div(x, x[0]), ValueError, "same shape"),
        (lambda x: F.huber_loss(x.astype(int), x), TypeError, "input must have a floating dtype, got int64"),
        (lambda x: F.huber_loss(x, x, delta=0), ValueError, "delta must be positive, got 0"),
        (lambda x: F.smooth_l1_loss(x, x, beta=-1), ValueError, "beta must be at least 0, got -1"),
        (lambda x: nn.HuberLoss(delta=float("nan")), ValueError, "delta must be positive"),
        (lambda x: nn.SmoothL1Loss(beta="1"), TypeError, "beta has to be a real number"),
        (lambda x: F.l1_loss(x, x, "avg"), ValueError, "'avg' is not a valid value for reduction"),
        (lambda x: F.l1_loss(x, x, "batchmean"), ValueError, "'batchmean' is not a valid value"),
        (lambda x: nn.KLDivLoss(reduction="avg"), ValueError, "'avg' is not a valid value"),
        (lambda x: F.kl_div(x[0, 0], x[0, 0], "batchmean"), ValueError, "needs at least 1 axis"),
        (lambda x: F.binary_cross_entropy_with_logits(x, x, np.ones(2)), ValueError, r"weight must broadcast .*\(2,\)"),
        (lambda x: F.binary_cross_entropy_with_logits(x, x, pos_weight=np.ones((1, 1, 3))), ValueError, "pos_weight"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), np.float32))
