"""The two networks: equal but for dropout."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop
from fastdrop import nn
from fastdrop.mnist.models import cnn


def of(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("side", [4, 8, 15, 16, 28, 32])
@pytest.mark.parametrize("dropout", [False, True])
def test_any_side_gives_ten_logits(side: int, dropout: bool) -> None:
    model = cnn(dropout, side=side)
    assert nn.predict(model, np.zeros((3, 1, side, side), np.float32)).shape == (3, 10)


def test_too_small_a_side() -> None:
    with pytest.raises(ValueError, match="side has to be at least 4, but got 3"):
        cnn(side=3)


def test_the_layers_of_the_issue() -> None:
    model = cnn()
    assert [weight.array.shape for weight in model.parameters() if weight.array.ndim > 1] == [
        (32, 1, 3, 3),
        (64, 32, 3, 3),
        (128, 1600),
        (10, 128),
    ]
    assert len(of(model, nn.MaxPool2d)) == 2
    assert of(model, nn.Dropout) == []


def test_where_dropout_stands() -> None:
    assert [layer.p for layer in cnn(True).modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5, 0.5]
    assert [layer.p for layer in cnn((0, 0.3)).modules() if isinstance(layer, nn.Dropout)] == [0.3]
    with pytest.raises(ValueError, match="between 0 and 1"):
        cnn((0.2, 1.5))


def test_one_seed_gives_both_nets_the_same_weights() -> None:
    fastdrop.manual_seed(5)
    plain = list(cnn(False).parameters())
    fastdrop.manual_seed(5)
    dropped = list(cnn(True).parameters())
    assert len(plain) == len(dropped) == 8
    for one, other in zip(plain, dropped, strict=True):
        np.testing.assert_array_equal(one.array, other.array)


def test_dropout_acts_in_training_alone() -> None:
    fastdrop.manual_seed(0)
    model = cnn(True, side=8)
    x = nn.tensor(np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32))
    model.train()
    assert (model(x).array != model(x).array).any()
    model.eval()
    np.testing.assert_array_equal(model(x).array, model(x).array)
