"""Layers: weights as PyTorch makes them, and arguments checked."""

import math

import numpy as np
import pytest

import fastdrop
from fastdrop import nn


@pytest.mark.parametrize(
    ("layer", "fan"),
    [(lambda g: nn.Linear(50, 400, generator=g), 50), (lambda g: nn.Conv2d(8, 64, 3, groups=2, generator=g), 36)],
)
def test_initial_weights_are_uniform_within_the_bound(layer, fan):
    made = layer(fastdrop.Generator(1))
    bound = 1 / math.sqrt(fan)
    w = made.weight.array
    assert w.dtype == np.float32
    assert np.abs(w).max() <= bound and np.abs(made.bias.array).max() <= bound
    assert np.abs(w).max() > 0.99 * bound
    # Standard error of the mean of n uniforms on +-b: b / sqrt(3 n); five of them, so wrong once in a million seeds.
    assert abs(w.mean()) < 5 * bound / math.sqrt(3 * w.size)
    assert abs(w.var() / (bound**2 / 3) - 1) < 0.1
    np.testing.assert_array_equal(w, layer(fastdrop.Generator(1)).weight.array)


def test_initial_weights_follow_the_seed():
    fastdrop.manual_seed(8)
    first = nn.Linear(3, 4).weight.tolist()
    fastdrop.manual_seed(8)
    assert nn.Linear(3, 4).weight.tolist() == first
    assert nn.Linear(3, 4).weight.tolist() != first


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (("Linear", 4, 3), (5, 4)),
        (("Conv2d", 4, 6, 3, 2, 1, 1, 2), (2, 4, 7, 7)),
        (("MaxPool2d", 3, 2, 1), (2, 4, 7, 7)),
        (("Flatten",), (2, 3, 4)),
        (("ReLU",), (2, 3)),
        (("Identity", 1, 2), (2, 3)),
    ],
)
def test_layers_compute_what_pytorchs_do(same_as_torch, np_rng, arguments, same):
    torch = pytest.importorskip("torch")
    name, *options = arguments
    ours, theirs = getattr(nn, name)(*options), getattr(torch.nn, name)(*options)
    ours.load_state_dict(theirs.state_dict())
    same_as_torch(ours, theirs, np_rng.standard_normal(same).astype(np.float32))


def test_float64_layers(check_gradients, np_rng):
    layer = nn.Conv2d(2, 3, 2, dtype=np.float64)
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    check_gradients(layer, np_rng.standard_normal((2, 2, 3, 3)))


def test_in_place_relu_layer():
    x = nn.tensor([-1.0, 1.0])
    assert nn.ReLU(inplace=True)(x) is x and x.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(0, 1), "in_features must be a positive int, got 0"),
        (lambda: nn.Linear(1, 2.5), "out_features must be a positive int, got 2.5"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(1, 4, 0), "kernel_size must be at least 1"),
        (lambda: nn.MaxPool2d(2, 0), "stride must be at least 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
