"""The networks."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop
from fastdrop import nn
from fastdrop.mnist.models import IN_TRAINING, MODELS, make
from fastdrop.mnist.regularizers import REGULARIZERS

PAIRS = [(model, name) for model, kind in MODELS.items() for name in kind.takes]


def seeded(model: str, regularizer: str, **more: object) -> nn.Module:
    fastdrop.manual_seed(3)
    return make(model, regularizer, **more)  # type: ignore[arg-type]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("model", "regularizer"), PAIRS)
def test_a_regularizer_changes_training_and_not_the_initial_weights(model: str, regularizer: str) -> None:
    plain, other = seeded(model, "none"), seeded(model, regularizer)
    first = [p.array for p in plain.parameters() if p.array.ndim > 1]
    second = [p.array for p in other.parameters() if p.array.ndim > 1]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    x = images(4, 1, 28, 28)
    y = other(x)
    assert y.shape == (4, 10)
    assert not np.array_equal(y.array, plain(x).array)
    other.eval()
    if regularizer not in ("batch-norm", "zoneout"):  # statistics of its own; the expected state
        np.testing.assert_allclose(other(x).array, plain.eval()(x).array, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(other(x).array, other(x).array)


@pytest.mark.parametrize(("model", "regularizer"), PAIRS)
def test_gradients_reach_every_parameter(model: str, regularizer: str) -> None:
    network = seeded(model, regularizer)
    nn.functional.cross_entropy(network(images(8, 1, 28, 28)), nn.tensor(np.arange(8))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.array).all(), name


@pytest.mark.parametrize(
    ("size", "classes"), [((8, 8), 2), ((28, 28), 26), ((20, 33), 3), ((4, 40), 10), ((15, 16), 10)]
)
@pytest.mark.parametrize("model", MODELS)
def test_images_of_any_size_and_number_of_classes(model: str, size: tuple[int, int], classes: int) -> None:
    for regularizer in MODELS[model].compare:
        assert make(model, regularizer, size, classes)(images(3, 1, *size)).shape == (3, classes)


def test_parameters() -> None:
    def count(model: str) -> int:
        return sum(p.array.size for p in make(model).parameters())

    assert count("cnn") == 32 * 10 + 64 * (288 + 1) + 128 * (1600 + 1) + 10 * 129
    assert count("mlp") == count("dropconnect") == 800 * 785 + 800 * 801 + 10 * 801
    assert count("mlp-selu") == 256 * 785 + 3 * 256 * 257 + 10 * 257
    assert count("lstm") == 4 * 128 * (28 + 128 + 2) + 10 * 129


def test_the_rows_of_an_image_are_steps() -> None:
    network = seeded("lstm", "none")
    x = images(2, 1, 28, 28)
    layer = network[0].layer  # type: ignore[index]
    output, _ = layer(x[:, 0].transpose(1, 0, 2).copy())
    np.testing.assert_allclose(network[0](x).array, output.array[-1], rtol=1e-6)  # type: ignore[index]


def test_what_a_model_takes_is_there() -> None:
    for model, kind in MODELS.items():
        assert set(kind.takes) <= set(REGULARIZERS)
        assert len(set(kind.compare)) == len(kind.compare) > 1
        for regularizer in (*kind.compare, *IN_TRAINING):
            make(model, regularizer)
    taken = {name for kind in MODELS.values() for name in kind.takes} | set(IN_TRAINING)
    assert taken == set(REGULARIZERS)


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_does_not_take_is_refused(model: str) -> None:
    for name in set(REGULARIZERS) - set(MODELS[model].takes) - set(IN_TRAINING):
        with pytest.raises(ValueError, match=f"model '{model}' takes no '{name}'; it takes "):
            make(model, f"l2+{name}")


def test_unknown_models_and_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="model 'resnet': there is none of that name; there are cnn, mlp"):
        make("resnet")
    with pytest.raises(ValueError, match="at least 4 pixels high and wide, but got 28x3"):
        make("cnn", "none", (28, 3))
