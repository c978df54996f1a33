"""Batch normalisation, against PyTorch, finite differences and float64."""

import copy
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

SHAPES = [(6, 3), (4, 3, 5), (2, 3, 4, 5)]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def pair(torch, shape, dtype=np.float32, **options):
    """The same layer here and there, with weights and statistics that are not the initial ones."""
    name = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours = getattr(nn, name)(shape[1], dtype=dtype, **options)
    theirs = getattr(torch.nn, name)(shape[1], dtype=getattr(torch, np.dtype(dtype).name), **options)
    rng = np.random.default_rng(5)
    for tensor in (*ours.parameters(), *ours.buffers()):
        if tensor.dtype.kind == "f":
            tensor.array[...] = rng.uniform(0.5, 2, tensor.shape)
    theirs.load_state_dict({name: torch.tensor(value.array) for name, value in ours.state_dict().items()})
    return ours, theirs


def layouts(x):
    yield x
    yield np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield x[::-1].copy()[::-1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None, "eps": 1e-3}, {"momentum": 0.7}],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_do_what_pytorchs_do(same_as_torch, torch, np_rng, shape, training, options, dtype):
    ours, theirs = pair(torch, shape, dtype, **options)
    ours.train(training), theirs.train(training)
    for _ in range(3):  # Each batch moves the statistics.
        same_as_torch(ours, theirs, np_rng.normal(2, 3, shape).astype(dtype), rtol=2e-5, atol=2e-5)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, value in ours.state_dict().items():
        np.testing.assert_allclose(value.array, state[name].numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
        assert str(value.dtype) == str(state[name].dtype).removeprefix("torch.")
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad.array, other.grad.numpy(), rtol=1e-4, atol=1e-4)
    without_bias = re.compile("bias=(True|False), ")  # PyTorch shows it since 2.13.
    assert without_bias.sub("", repr(ours)) == without_bias.sub("", repr(theirs))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(check_gradients, np_rng, shape, training):
    mean, var = np_rng.random(3), np_rng.uniform(0.5, 2, 3)
    weight, bias = np_rng.standard_normal((2, 3))
    check_gradients(
        lambda x, w, b: F.batch_norm(x, mean.copy(), var.copy(), w, b, training), np_rng.normal(1, 2, shape), weight,
        bias,
    )  # fmt: skip
    check_gradients(
        lambda x: F.batch_norm(x, mean.copy(), var.copy(), training=training), np_rng.standard_normal(shape)
    )


@pytest.mark.parametrize("training", [True, False])
def test_any_memory_order(np_rng, training):
    x, dy = np_rng.standard_normal((2, 3, 5, 4, 6))
    results = []
    for layout in layouts(x):
        layer = nn.BatchNorm2d(5, dtype=np.float64).train(training)
        layer.running_mean.array[...] = 0.5
        tensor = Tensor(layout, requires_grad=True)
        y = layer(tensor)
        y.backward(dy)
        results.append([y.array, tensor.grad.array, layer.weight.grad.array, layer.bias.grad.array])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3, -3e4, 1e6])
@pytest.mark.parametrize("rows", [7, 1024, 50_000])
def test_a_large_mean_costs_no_digits(np_rng, offset, rows):
    # What is compared with is the float64 result for the same float32 numbers, whose last digits `offset` has eaten.
    x = (np_rng.standard_normal((rows, 3)) + offset).astype(np.float32)
    wide = x.astype(np.float64)
    layer = nn.BatchNorm1d(3, momentum=1.0)
    tensor = Tensor(x, requires_grad=True)
    y = layer(tensor)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    np.testing.assert_allclose(y.array, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(layer.running_var.array, wide.var(0, ddof=1), rtol=2e-6)
    np.testing.assert_allclose(layer.running_mean.array, wide.mean(0), rtol=1e-6, atol=1e-7)
    dy = np_rng.standard_normal(x.shape).astype(np.float32)
    y.backward(dy)
    dx = (dy - dy.mean(0) - expected * (dy * expected).mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    np.testing.assert_allclose(tensor.grad.array, dx, rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize("parameters", [np.float16, np.float32])
@pytest.mark.parametrize("training", [True, False])
def test_float16_is_computed_in_float32(np_rng, parameters, training):
    x = np_rng.normal(300, 40, (64, 3, 10)).astype(np.float16)
    dy = np_rng.standard_normal(x.shape).astype(np.float16)
    layer = nn.BatchNorm1d(3, dtype=parameters).train(training)
    exact = nn.BatchNorm1d(3).train(training)
    mine, wide = Tensor(x, requires_grad=True), Tensor(x.astype(np.float32), requires_grad=True)
    y, z = layer(mine), exact(wide)
    y.backward(dy)
    z.backward(dy)
    assert y.dtype == mine.grad.dtype == np.float16 and layer.weight.grad.dtype == parameters
    np.testing.assert_array_equal(y.array, z.array.astype(np.float16))
    np.testing.assert_array_equal(mine.grad.array, wide.grad.array.astype(np.float16))
    np.testing.assert_array_equal(layer.running_var.array, exact.running_var.array.astype(parameters))


def test_float16_as_in_pytorch(torch, np_rng):
    ours, theirs = pair(torch, (16, 3, 8))
    x = np_rng.standard_normal((16, 3, 8)).astype(np.float16)
    mine = ours(Tensor(x))
    other = theirs(torch.tensor(x))
    assert mine.dtype == np.float16 and other.dtype == torch.float16
    np.testing.assert_allclose(mine.array, other.detach().numpy(), rtol=2e-3, atol=2e-3)


def test_half_of_the_parameters_may_stay_fixed(np_rng):
    x = np_rng.standard_normal((6, 3)).astype(np.float32)
    full = nn.BatchNorm1d(3)
    full(x).sum().backward()
    layer = nn.BatchNorm1d(3)
    layer.weight.requires_grad_(False)
    y = layer(x)
    assert y.node.saved == ()
    y.sum().backward()
    assert layer.weight.grad is None
    np.testing.assert_array_equal(layer.bias.grad.array, full.bias.grad.array)
    assert nn.BatchNorm1d(3, bias=False).bias is None


def test_evaluation_keeps_the_statistics(np_rng):
    layer = nn.BatchNorm1d(3)
    x = np_rng.standard_normal((6, 3)).astype(np.float32)
    before = {name: value.array.copy() for name, value in layer.eval().state_dict().items()}
    first = layer(x)
    assert all(np.array_equal(value.array, before[name]) for name, value in layer.state_dict().items())
    np.testing.assert_allclose(layer(x[:1]).array, first.array[:1])  # One row is fine here.
    layer.track_running_stats = False
    layer.train()(x)
    assert all(np.array_equal(value.array, before[name]) for name, value in layer.state_dict().items())
    layer.track_running_stats = True
    layer(x)
    layer.reset_running_stats()
    assert all(np.array_equal(value.array, before[name]) for name, value in layer.state_dict().items())


def test_monte_carlo_dropout_leaves_it_in_evaluation(np_rng):
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))
    x = np_rng.standard_normal((8, 4)).astype(np.float32)
    model(x)
    before = {name: value.array.copy() for name, value in model.state_dict().items()}
    want = model.eval()(x).array
    with nn.mc_dropout(model):
        y = model(x).array
    assert (y == 0).any() and np.array_equal(y[y != 0], 2 * want[y != 0])
    assert all(np.array_equal(value.array, before[name]) for name, value in model.state_dict().items())


def test_cumulative_average(np_rng):
    layer = nn.BatchNorm1d(2, momentum=None, dtype=np.float64)
    batches = np_rng.standard_normal((4, 8, 2))
    for batch in batches:
        layer(batch)
    assert layer.num_batches_tracked.item() == 4
    np.testing.assert_allclose(layer.running_mean.array, batches.mean((0, 1)))
    np.testing.assert_allclose(layer.running_var.array, batches.var(1, ddof=1).mean(0))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0), (0, 3, 2, 2)])
def test_empty_batches(shape):
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(3)
    x = Tensor(np.zeros(shape, np.float32), requires_grad=True)
    y = layer(x)
    y.backward(np.zeros(shape))
    assert y.shape == x.grad.shape == shape and layer.weight.grad.tolist() == [0, 0, 0]
    assert layer.running_mean.tolist() == [0, 0, 0] and layer.running_var.tolist() == [1, 1, 1]
    assert layer.eval()(x).shape == shape


@pytest.mark.parametrize("training", [True, False])
def test_no_channels(training):
    x = Tensor(np.ones((2, 0, 3), np.float32), requires_grad=True)
    nothing = np.zeros(0, np.float32)
    y = F.batch_norm(x, nothing, nothing, nothing, nothing, training)
    y.sum().backward()
    assert y.shape == x.grad.shape == x.shape


def test_pickle_and_copy(np_rng):
    layer = nn.BatchNorm1d(3)
    x = np_rng.standard_normal((6, 3)).astype(np.float32)
    layer(x)
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        np.testing.assert_array_equal(again.eval()(x).array, layer.eval()(x).array)
        assert repr(again) == repr(layer)


def test_changing_the_input_in_place_is_refused(np_rng):
    x = Tensor(np_rng.standard_normal((6, 3)), requires_grad=True) * 1
    layer = nn.BatchNorm1d(3, dtype=np.float64)
    y = layer(x)
    with pytest.raises(RuntimeError, match="batch_norm"):
        x.add_(1)
    layer.weight.data.mul_(2)  # An optimiser's step between forward and backward: what backward needs it has kept.
    y.sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.BatchNorm1d(3)(np.ones((1, 3), np.float32)), ValueError, r"more than 1 value .*\[1, 3\]"),
        (lambda: nn.BatchNorm2d(3)(np.ones((1, 3, 1, 1), np.float32)), ValueError, "more than 1 value per channel"),
        (lambda: nn.BatchNorm1d(3, track_running_stats=False).eval()(np.ones((1, 3))), ValueError, "more than"),
        (lambda: nn.BatchNorm1d(3)(np.ones(3, np.float32)), ValueError, r"expected 2D or 3D input \(got 1D input\)"),
        (lambda: nn.BatchNorm2d(3)(np.ones((4, 3), np.float32)), ValueError, r"expected 4D input \(got 2D input\)"),
        (lambda: nn.BatchNorm1d(3)(np.ones((4, 5), np.float32)), RuntimeError, r"running_mean must have shape \(5,\)"),
        (lambda: nn.BatchNorm1d(3)(np.ones((4, 3))), RuntimeError, "one floating dtype.*float64 and float32"),
        (lambda: nn.BatchNorm1d(3)(np.ones((4, 3), int)), RuntimeError, "one floating dtype"),
        (lambda: F.batch_norm(np.ones(4), None, None, training=True), ValueError, r"\(N, C, ...\), got"),
        (lambda: F.batch_norm(np.ones((4, 3)), None, None), RuntimeError, "must be given when training=False"),
        (lambda: F.batch_norm(np.ones((4, 3)), None, None, np.ones(2), training=True), RuntimeError, "weight must"),
        (lambda: F.batch_norm(np.ones((4, 3)), None, None, training=True, eps=0), ValueError, "positive in training"),
        (lambda: F.batch_norm(np.ones((4, 3)), np.ones(3), np.ones(3), eps=-1.0), ValueError, "at least 0"),
        (lambda: nn.BatchNorm1d(0), ValueError, "num_features has to be between 1"),
        (lambda: nn.BatchNorm1d(3, momentum="fast"), TypeError, "momentum has to be a real number or None"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_batch_changes_nothing():
    layer = nn.BatchNorm1d(3)
    for bad in (np.ones((1, 3), np.float32), np.ones((4, 3)), np.ones((4, 2), np.float32)):
        with pytest.raises((ValueError, RuntimeError)):
            layer(bad)
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.tolist() == [0, 0, 0]


def test_any_real_number_is_an_eps():
    x, running = np.ones((4, 6), np.float32), [np.zeros(6, np.float32), np.ones(6, np.float32)]
    y = F.batch_norm(x, *running, training=True, eps=Fraction(1, 2))
    np.testing.assert_array_equal(y.array, F.batch_norm(x, *running, training=True, eps=0.5).array)
