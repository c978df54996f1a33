"""The losses, against finite differences and PyTorch."""

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import functional as F

REDUCTIONS = ["mean", "sum", "none"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2), (3,)])
def test_cross_entropy(check_gradients, same_as_torch, torch, np_rng, reduction, smoothing, weighted, shape):
    x = np_rng.standard_normal(shape)
    target = np_rng.integers(0, 3, (shape[:1] + shape[2:]) if len(shape) > 1 else ())
    if len(shape) == 2:
        target[1] = -100
    weight = np_rng.uniform(0.5, 2, 3) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}

    def ours(t):
        return F.cross_entropy(t, target, weight, **options)

    def theirs(t):
        w = None if weight is None else torch.tensor(weight)
        return torch.nn.functional.cross_entropy(t, torch.tensor(target), w, **options)

    check_gradients(ours, x)
    same_as_torch(ours, theirs, x)
    if not smoothing:
        same_as_torch(
            lambda t: F.nll_loss(F.log_softmax(t, 0 if t.ndim == 1 else 1), target, weight, reduction=reduction),
            theirs,
            x,
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (3,)])
def test_cross_entropy_of_probabilities(same_as_torch, torch, np_rng, reduction, smoothing, shape):
    x = np_rng.standard_normal(shape)
    axis = 0 if len(shape) == 1 else 1
    target = np_rng.random(shape)
    target /= target.sum(axis=axis, keepdims=True)
    weight = np_rng.uniform(0.5, 2, 3)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    same_as_torch(
        lambda t: F.cross_entropy(t, target, weight, **options),
        lambda t: torch.nn.functional.cross_entropy(t, torch.tensor(target), torch.tensor(weight), **options),
        x,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_loss(check_gradients, same_as_torch, torch, np_rng, reduction):
    x, y = np_rng.standard_normal((2, 3, 4))
    check_gradients(lambda a, b: F.mse_loss(a, b, reduction), x, y)
    theirs = torch.nn.functional.mse_loss
    same_as_torch(lambda a, b: F.mse_loss(a, b, reduction), lambda a, b: theirs(a, b, reduction=reduction), x, y)


def test_modules_agree_with_functions(np_rng):
    x = np_rng.standard_normal((4, 3)).astype(np.float32)
    y = np.array([0, 1, 2, 2])
    w = np.array([1.0, 2.0, 3.0], np.float32)
    assert nn.CrossEntropyLoss()(x, y).item() == F.cross_entropy(x, y).item()
    expected = F.cross_entropy(x, y, w, ignore_index=2, reduction="sum", label_smoothing=0.1)
    assert nn.CrossEntropyLoss(w, ignore_index=2, reduction="sum", label_smoothing=0.1)(x, y).item() == expected.item()
    assert nn.NLLLoss(w)(x, y).item() == F.nll_loss(x, y, w).item()
    assert nn.MSELoss()(x, x * 2).item() == F.mse_loss(x, x * 2).item()
    assert list(nn.CrossEntropyLoss(w).state_dict()) == ["weight"]


def test_large_logits_stay_finite():
    x = nn.tensor([[1e4, -1e4]], requires_grad=True)
    loss = F.cross_entropy(x, np.array([1]))
    loss.backward()
    assert loss.item() == 2e4
    assert x.grad.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: F.cross_entropy(x, np.array([0, 3])), IndexError, "Target 3 is out of bounds for 3 classes"),
        (lambda x: F.cross_entropy(x, np.array([0, -1])), IndexError, "Target -1 is out of bounds"),
        (lambda x: F.cross_entropy(x, np.array([0])), ValueError, r"shape \(2,\)"),
        (lambda x: F.cross_entropy(x, np.array([0.0, 1.0])), ValueError, "class numbers must be integers"),
        (lambda x: F.cross_entropy(x, np.array([True, False])), TypeError, "bool"),
        (lambda x: F.cross_entropy(x, np.array([0, 1]), reduction="avg"), ValueError, "avg"),
        (lambda x: F.cross_entropy(x, np.array([0, 1]), label_smoothing=2), ValueError, "between 0.0 and 1.0"),
        (lambda x: F.cross_entropy(x, np.array([0, 1]), np.ones(2)), RuntimeError, r"\(3,\)"),
        (lambda x: F.cross_entropy(x.astype(int), np.array([0, 1])), ValueError, "floating"),
        (lambda x: F.mse_loss(x, x[:1]), ValueError, "same shape"),
        (lambda x: nn.MSELoss("max"), ValueError, "max"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), np.float32))


def test_cross_entropy_of_masked_logits():
    x = nn.tensor([[1.0, -np.inf, 2.0]], requires_grad=True)
    loss = nn.functional.cross_entropy(x, nn.tensor([0]))
    loss.backward()
    assert np.isclose(loss.item(), 1.3132616)
    assert np.isfinite(x.grad.array).all()


def test_the_mean_of_no_losses_has_no_gradient():
    x = nn.tensor([[1.0, 2.0]], requires_grad=True)
    loss = F.cross_entropy(x, nn.tensor([-100]))
    loss.backward()
    assert np.isnan(loss.item()) and x.grad.tolist() == [[0.0, 0.0]]
