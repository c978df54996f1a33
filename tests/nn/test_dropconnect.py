"""DropConnect under the tape, the layers that drop weights. Which bits they take: tests/test_dropconnect.py."""

from __future__ import annotations

import copy
import functools
import pickle
import tracemalloc

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, optim
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

modes = pytest.mark.parametrize("per_example", [True, False])


def operands(rng, batch, outputs, inputs, dtype=np.float32):
    return [rng.standard_normal(s).astype(dtype) for s in ((batch, inputs), (outputs, inputs), (outputs,))]


# ---- the function ----


@modes
@pytest.mark.parametrize("drop_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_and_gradients_are_those_on_arrays(np_rng, per_example, drop_bias, dtype):
    arrays = operands(np_rng, 6, 5, 20, dtype)
    x, w, b = (Tensor(a, requires_grad=True) for a in arrays)
    rng, options = fd.Generator(5), {"per_example": per_example, "drop_bias": drop_bias}
    y = F.dropconnect(x, w, b, 0.3, generator=rng, **options)
    assert rng.call == 1 + drop_bias and y.dtype == dtype
    np.testing.assert_array_equal(y.array, fd.dropconnect(*arrays, p=0.3, rng=fd.Generator(5), **options))
    dy = np_rng.standard_normal(y.shape).astype(dtype)
    y.backward(dy)
    rng = fd.Generator(5)
    mask = rng.mask((6, 5, 20) if per_example else (5, 20), 0.3)
    dx, dw = fd.dropconnect_backward(dy, arrays[0], arrays[1], mask)
    np.testing.assert_array_equal(x.grad.array, dx)
    np.testing.assert_array_equal(w.grad.array, dw)
    db = rng.mask((6, 5) if per_example else 5, 0.3).apply(dy) if drop_bias else dy
    np.testing.assert_allclose(b.grad.array, db.sum(axis=0), rtol=2e-2 if dtype == np.float16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("drop_bias", [False, True])
def test_the_biases_gradient_of_float16_is_added_up_in_float32(drop_bias):
    x, w = np.ones((5000, 2), np.float16), np.ones((3, 2), np.float16)
    b = Tensor(np.zeros(3, np.float16), requires_grad=True)
    F.dropconnect(x, w, b, 0.5, drop_bias=drop_bias, generator=fd.Generator(1)).sum().backward()
    rng = fd.Generator(1)
    rng.mask((5000, 3, 2), 0.5)
    kept = np.asarray(rng.mask((5000, 3), 0.5)).sum(axis=0)
    np.testing.assert_array_equal(b.grad.array, (2 * kept if drop_bias else np.full(3, 5000)).astype(np.float16))


@modes
@pytest.mark.parametrize("drop_bias", [False, True])
def test_gradients_against_finite_differences(check_gradients, np_rng, per_example, drop_bias):
    options = {"per_example": per_example, "drop_bias": drop_bias}
    x, w, b = operands(np_rng, 3, 4, 5)

    def function(x, w, b=None, p=0.4):
        return F.dropconnect(x * x, w, b, p, generator=fd.Generator(1), **options)

    for p in (0.0, 0.4, 1.0):
        check_gradients(functools.partial(function, p=p), x, w, b)
    check_gradients(function, x[0], w)


def test_leading_axes_and_inputs_that_need_no_gradient(np_rng):
    x, w, b = operands(np_rng, 6, 5, 20)
    weight = Tensor(w, requires_grad=True)
    y = F.dropconnect(x.reshape(2, 3, 20), weight, b, generator=fd.Generator(1))
    assert y.shape == (2, 3, 5)
    y.sum().backward()
    assert weight.grad.shape == (5, 20)
    frozen = Tensor(x, requires_grad=True)
    F.dropconnect(frozen, w, generator=fd.Generator(1)).sum().backward()
    assert frozen.grad.shape == x.shape
    y = F.dropconnect(x, weight, b, 0.5, False)
    np.testing.assert_array_equal(y.array, F.linear(x, weight, b).array)


def test_what_backward_reads_may_not_change(np_rng):
    x, w, _ = operands(np_rng, 6, 5, 20)
    x, w = Tensor(x), Tensor(w, requires_grad=True)
    y = F.dropconnect(x, w)
    with pytest.raises(RuntimeError, match="dropconnect needs the values"):
        F.relu(x, inplace=True)
    y.sum().backward()
    F.relu(x, inplace=True)


# ---- DropConnectLinear ----


def test_parameters_are_linears():
    plain, layer = (make(7, 3, generator=fd.Generator(2)) for make in (nn.Linear, nn.DropConnectLinear))
    assert list(plain.state_dict()) == list(layer.state_dict()) == ["weight", "bias"]
    for a, b in zip(plain.parameters(), layer.parameters()):
        np.testing.assert_array_equal(a.array, b.array)
    nn.Linear(7, 3).load_state_dict(layer.state_dict())
    layer.load_state_dict(nn.Linear(7, 3).state_dict())
    assert nn.DropConnectLinear(7, 3, bias=False).bias is None
    assert nn.DropConnectLinear(7, 3, dtype=np.float64)(np.ones((2, 7))).dtype == np.float64


@modes
def test_modes(np_rng, per_example):
    rng = fd.Generator(3)
    layer = nn.DropConnectLinear(20, 5, 0.3, per_example, drop_bias=True, generator=rng)
    x, call = np_rng.standard_normal((6, 20)).astype(np.float32), rng.call
    first, second = layer(x), layer(x)
    assert rng.call == call + 4 and not np.array_equal(first.array, second.array)
    mask, bias_mask = (fd.Mask(rng.key, call + k, 0.3, s) for k, s in enumerate(((6, 5, 20), (6, 5))))
    mask, bias_mask = (mask, bias_mask) if per_example else (mask[0], bias_mask[0])
    w, b = layer.weight.array, layer.bias.array
    np.testing.assert_array_equal(first.array, fd.dropconnect(x, w, b, p=0.3, mask=mask, bias_mask=bias_mask))
    np.testing.assert_array_equal(layer.eval()(x).array, F.linear(x, layer.weight, layer.bias).array)
    layer.p = 0.0
    np.testing.assert_array_equal(layer.train()(x).array, F.linear(x, layer.weight, layer.bias).array)
    assert rng.call == call + 4
    layer.p = 1.0
    assert not layer(x).array.any()
    layer.p = 1.5
    with pytest.raises(ValueError, match="dropout probability"):
        layer(x)


def test_the_activation_acts_in_every_mode(np_rng):
    x = np_rng.standard_normal((6, 20)).astype(np.float32)
    layer = nn.DropConnectLinear(20, 5, activation=nn.ReLU(), generator=fd.Generator(1))
    assert (layer(x).array >= 0).all()
    np.testing.assert_array_equal(layer.eval()(x).array, F.relu(F.linear(x, layer.weight, layer.bias)).array)
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("p", "drop_bias", "activation"), [(0.5, False, F.relu), (0.2, True, F.relu), (0.5, True, lambda t: t * t)]
)
def test_gaussian_inference_is_the_average_of_dropconnect(np_rng, p, drop_bias, activation):
    """Against 5000 masks, with 5000 normals: both averages' errors together, 6 standard errors of 24 numbers.

    A normal's tail makes that one false alarm in 20 million runs; the averages of squares have fatter ones. Where a
    ReLU sees 2 standard deviations of zeros or more, its variance is not estimated but bounded by that of its input.
    That the pre-activation is a sum of 400 terms and no normal shifts the mean of a ReLU by about a tenth of a standard
    error at most; that of a square not at all.
    """
    T, inputs = 5000, 400
    layer = nn.DropConnectLinear(
        inputs, 6, p, drop_bias=drop_bias, activation=activation, inference="gaussian", n_samples=T,
        dtype=np.float64, generator=fd.Generator(8),
    )  # fmt: skip
    x = np_rng.standard_normal((4, inputs))
    sampled = layer(np.repeat(x, T, axis=0)).array.reshape(4, T, 6)
    call = layer.generator.call
    with nn.no_grad():
        expected = layer.eval()(x).array
    assert layer.generator.call == call + 1
    mean, w = F.linear(x, layer.weight, layer.bias).array, layer.weight.array
    variance = p / (1 - p) * (x**2 @ w.T**2 + drop_bias * layer.bias.array**2)
    bound = np.where(mean**2 > 4 * variance, variance, 0)
    error = np.sqrt(2 * np.maximum(sampled.var(axis=1), bound) / T)
    assert np.all(np.abs(expected - sampled.mean(axis=1)) < 6 * error + 1e-12)
    assert not np.allclose(expected, activation(F.linear(x, layer.weight, layer.bias)).array, rtol=0.02)


def test_gaussian_inference_is_the_formula(np_rng):
    rng = fd.Generator(4)
    layer = nn.DropConnectLinear(20, 5, 0.3, activation=F.tanh, inference="gaussian", n_samples=3, generator=rng)
    layer.eval()
    x = np_rng.standard_normal((2, 3, 20)).astype(np.float32)
    noise = fd.Noise(rng.key, rng.call, (3, 2, 3, 5))
    w, b = layer.weight.array, layer.bias.array
    mean, deviation = x @ w.T + b, np.sqrt(0.3 / 0.7 * (x**2 @ (w**2).T))
    want = np.tanh(mean + deviation * np.asarray(noise)).mean(axis=0)
    np.testing.assert_allclose(layer(x).array, want, rtol=1e-4, atol=1e-6)
    again = copy.deepcopy(layer)
    np.testing.assert_array_equal(again(x).array, layer(x).array)
    for p in (0.0, 1.0):
        layer.p, call = p, rng.call
        np.testing.assert_array_equal(layer(x).array, F.tanh(F.linear(x, layer.weight, layer.bias)).array)
        assert rng.call == call


def test_gaussian_inference_in_float16_adds_up_in_float32(np_rng):
    seen = []
    layers = [
        nn.DropConnectLinear(
            8, 3, activation=lambda t: seen.append(t.dtype) or F.relu(t), inference="gaussian", dtype=dtype,
            generator=fd.Generator(7),
        ).eval()
        for dtype in (np.float16, np.float32)
    ]  # fmt: skip
    for layer in layers:
        layer.weight.array[...], layer.bias.array[...] = 0.5, 0
    x = np.full((2, 8), 300, np.float16)  # its square is an infinity, and so is the sum of the samples
    found, want = layers[0](x), layers[1](x.astype(np.float32))
    assert found.dtype == np.float16 and seen[0] == np.float16
    np.testing.assert_allclose(found.array, want.array, rtol=2e-3)
    with pytest.raises(RuntimeError):
        layers[0](x.astype(np.float32))


def test_what_gaussian_inference_refuses_takes_no_call():
    rng = fd.Generator(4)
    layer = nn.DropConnectLinear(4, 3, activation=F.tanh, inference="gaussian", generator=rng).eval()
    call, x = rng.call, np.ones((2, 4), np.float32)
    for samples, error in ((0, ValueError), (2.5, TypeError)):
        layer.n_samples = samples
        with pytest.raises(error, match="n_samples has to be"):
            layer(x)
    layer.n_samples = 5
    with pytest.raises(RuntimeError, match="linear"):
        layer(x[:, :3])
    layer.activation = None
    with pytest.raises(ValueError, match="give activation"):
        layer(x)
    assert rng.call == call


def test_gaussian_inference_has_a_gradient_where_nothing_varies():
    layer = nn.DropConnectLinear(4, 3, activation=F.tanh, inference="gaussian", n_samples=5).eval()
    x = Tensor(np.array([[0] * 4, [1] * 4], np.float32), requires_grad=True)
    layer(x).sum().backward()
    assert all(np.isfinite(t.grad.array).all() for t in (x, layer.weight, layer.bias))


def test_gaussian_inference_keeps_one_sample_at_a_time(np_rng):
    layer = nn.DropConnectLinear(50, 100, activation=F.relu, inference="gaussian", n_samples=200).eval()
    x = np_rng.standard_normal((64, 50)).astype(np.float32)
    with nn.no_grad():
        layer(x)
        tracemalloc.start()
        y = layer(x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12 * y.array.nbytes


def test_it_learns(np_rng):
    x = np_rng.standard_normal((200, 10)).astype(np.float32)
    target = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    model = nn.Sequential(nn.DropConnectLinear(10, 64, 0.2, activation=F.relu), nn.DropConnectLinear(64, 2, 0.2))
    step, loss = optim.Adam(model.parameters(), lr=0.01), nn.CrossEntropyLoss()
    for _ in range(60):
        step.zero_grad()
        loss(model(x), target).backward()
        step.step()
    assert (model.eval()(x).array.argmax(axis=1) == target).mean() > 0.9


def test_monte_carlo_passes_drop_and_replay(np_rng):
    model = nn.Sequential(nn.DropConnectLinear(10, 4)).eval()
    x = np_rng.standard_normal((5, 10)).astype(np.float32)
    found = nn.mc_predict(model, x, 3, seed=1, return_samples=True)
    assert not np.array_equal(found.samples[0], found.samples[1])
    again = nn.mc_predict(model, x, 3, seed=1, return_samples=True)
    np.testing.assert_array_equal(found.samples, again.samples)


def test_repr_pickle_and_copy(np_rng):
    layer = nn.DropConnectLinear(
        4, 2, 0.25, False, drop_bias=True, activation=F.relu, inference="gaussian", n_samples=7,
        generator=fd.Generator(2),
    )  # fmt: skip
    assert repr(layer) == (
        "DropConnectLinear(in_features=4, out_features=2, bias=True, p=0.25, per_example=False, drop_bias=True, "
        "inference='gaussian', n_samples=7)"
    )
    assert repr(nn.DropConnectLinear(4, 2)) == "DropConnectLinear(in_features=4, out_features=2, bias=True, p=0.5)"
    x = np_rng.standard_normal((3, 4)).astype(np.float32)
    copies = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
    want = layer(x).array
    for again in copies:
        assert repr(again) == repr(layer) and np.array_equal(again(x).array, want)


# ---- WeightDrop ----


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_weight_drop_runs_the_layer_on_dropped_weights(np_rng, make):
    inner, x = make(3, 4), np_rng.standard_normal((5, 2, 3)).astype(np.float32)
    layer = nn.WeightDrop(inner, 0.4, generator=fd.Generator(6))
    raw = inner.weight_hh_l0
    y, _ = layer(x)
    assert inner.weight_hh_l0 is raw and raw.is_leaf
    y.sum().backward()
    mask = fd.Generator(6).mask(raw.shape, 0.4)
    other = make(3, 4)
    other.load_state_dict(inner.state_dict())
    other.weight_hh_l0.array[...] = mask.apply(raw.array)
    z, _ = other(x)
    z.sum().backward()
    np.testing.assert_array_equal(y.array, z.array)
    np.testing.assert_array_equal(raw.grad.array, mask.apply(other.weight_hh_l0.grad.array))
    np.testing.assert_array_equal(inner.weight_ih_l0.grad.array, other.weight_ih_l0.grad.array)
    assert [name for name, _ in layer.named_parameters()] == [f"module.{n}" for n in inner.state_dict()]
    call = layer.generator.call
    np.testing.assert_array_equal(layer.eval()(x)[0].array, inner(x)[0].array)
    assert layer.generator.call == call == 1


def test_weight_drop_gradients_against_finite_differences(np_rng):
    inner = nn.LSTM(2, 3, dtype=np.float64)
    x, towards = np_rng.standard_normal((4, 2, 2)), np_rng.standard_normal((4, 2, 3))

    def loss():
        return (nn.WeightDrop(inner, 0.3, generator=fd.Generator(1))(x)[0] * towards).sum()

    loss().backward()
    weight = inner.weight_hh_l0
    for index in np.ndindex(weight.shape):
        before, values = weight.array[index], []
        for step in (1e-6, -1e-6):
            weight.array[index] = before + step
            values.append(loss().item())
        weight.array[index] = before
        np.testing.assert_allclose(weight.grad.array[index], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-7)


def test_weight_drop_of_a_convolution_is_dropconnect_per_batch(np_rng):
    conv = nn.Conv2d(2, 3, 3)
    layer = nn.WeightDrop(conv, 0.5, ("weight", "bias"), generator=fd.Generator(1))
    x = np_rng.standard_normal((2, 2, 6, 6)).astype(np.float32)
    rng = fd.Generator(1)
    w, b = (rng.mask(a.shape).apply(a.array) for a in (conv.weight, conv.bias))
    np.testing.assert_array_equal(layer(x).array, F.conv2d(x, w, b).array)
    linear = nn.Linear(20, 5)
    x = np_rng.standard_normal((6, 20)).astype(np.float32)
    y = nn.WeightDrop(linear, 0.3, ("weight",), generator=fd.Generator(2))(x)
    want = fd.dropconnect(x, linear.weight.array, linear.bias.array, p=0.3, per_example=False, rng=fd.Generator(2))
    np.testing.assert_array_equal(y.array, want)


@pytest.mark.parametrize(
    ("inner", "names", "bad"),
    [
        (nn.LSTM(3, 4), ("weight_hh_l0", "weight_ih_l0"), np.ones((5, 2, 7), np.float32)),
        (nn.GRU(3, 4), ("weight_hh_l0",), np.ones((5, 2, 3), int)),
        (nn.Conv2d(2, 3, 3), ("weight", "bias"), np.ones((1, 3, 6, 6), np.float32)),
        (nn.Linear(4, 2), ("weight",), np.ones((2, 5), np.float32)),
        (nn.Sequential(nn.WeightDrop(nn.Linear(4, 2), names=("weight",))), (), np.ones((2, 5), np.float32)),
    ],
)
def test_what_the_layer_refuses_takes_no_call(inner, names, bad):
    rng = fd.Generator(3)
    layer = nn.WeightDrop(inner, 0.5, names, generator=rng) if names else inner
    state = rng.state
    with fd.random.drawing_from(rng), pytest.raises((RuntimeError, ValueError, TypeError)):
        layer(bad)
    assert rng.state == state


def test_calls_that_others_took_since_are_not_given_back():
    class Draws(nn.Linear):
        def forward(self, input):
            rng.mask(3)
            raise RuntimeError("too late")

    rng = fd.Generator(3)
    with pytest.raises(RuntimeError, match="too late"):
        nn.WeightDrop(Draws(4, 2), 0.5, ("weight",), generator=rng)(np.ones((2, 4), np.float32))
    assert rng.call == 2  # the second one is not this layer's, and the first one may not come after it


def test_weight_drop_in_monte_carlo_passes(np_rng):
    model = nn.Sequential(nn.WeightDrop(nn.Linear(6, 5), 0.4, ("weight", "bias"), generator=fd.Generator(1)))
    x = np_rng.standard_normal((3, 6)).astype(np.float32)
    found = nn.mc_predict(model, x, 3, seed=7, return_samples=True)
    for t, sample in enumerate(found.samples):
        with nn.mc_dropout(model, seed=7, t=t):
            np.testing.assert_array_equal(model(x).array, sample)
        rng = fd.Generator(7).spawn(t + 1)[t]
        w, b = (rng.mask(a.shape, 0.4).apply(a.array) for a in model.parameters())
        np.testing.assert_array_equal(sample, F.linear(x, w, b).array)
    assert model[0].generator.call == 0


def test_weight_drop_after_an_error_and_as_a_copy(np_rng):
    layer = nn.WeightDrop(nn.LSTM(3, 4, num_layers=2), 0.4, ("weight_hh_l0", "weight_hh_l1"), generator=fd.Generator(6))
    with pytest.raises(RuntimeError, match="input_size=3"):
        layer(np.ones((5, 2, 7), np.float32))
    assert all(isinstance(getattr(layer.module, name), nn.Parameter) for name in layer.names)
    x = np_rng.standard_normal((5, 2, 3)).astype(np.float32)
    copies = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
    want = layer(x)[0].array
    for again in copies:
        np.testing.assert_array_equal(again(x)[0].array, want)
    layer.p = 1.0
    assert np.isfinite(layer(x)[0].array).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.DropConnectLinear(4, 2, 1.5), ValueError, "dropout probability"),
        (lambda: nn.DropConnectLinear(4, 2, "half"), TypeError, "dropout probability"),
        (lambda: nn.DropConnectLinear(0, 2), ValueError, "in_features"),
        (lambda: nn.DropConnectLinear(4, 2, per_example=3), TypeError, "per_example has to be True or False"),
        (lambda: nn.DropConnectLinear(4, 2, drop_bias=3), TypeError, "drop_bias has to be True or False"),
        (lambda: nn.DropConnectLinear(4, 2, activation="relu"), TypeError, "activation has to be a function"),
        (lambda: nn.DropConnectLinear(4, 2, inference="normal"), ValueError, "'mean' or 'gaussian', but got 'normal'"),
        (lambda: nn.DropConnectLinear(4, 2, inference="gaussian"), ValueError, "give activation"),
        (lambda: nn.DropConnectLinear(4, 2, n_samples=0), ValueError, "n_samples has to be between 1"),
        (lambda: nn.DropConnectLinear(4, 2, generator=np.random.default_rng(0)), TypeError, r"fastdrop\.Generator"),
        (
            lambda: nn.DropConnectLinear(4, 2)(np.ones((3, 5), np.float32)),
            ValueError,
            "input has to have .* weight of",
        ),
        (lambda: nn.DropConnectLinear(4, 2)(np.ones((3, 4))), TypeError, "weight has to have the dtype of input"),
        (lambda: F.dropconnect(np.ones((3, 4), int), np.ones((2, 4), int)), TypeError, "floating"),
        (lambda: nn.WeightDrop(3), TypeError, "module has to be a Module"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), names="weight_hh_l0"), TypeError, "names has to be a sequence"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), names=()), TypeError, "names has to be a sequence"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), names=("weight_hh_l1",)), ValueError, "weight_ih_l0.*got 'weight_hh_l1'"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), names=("weight_hh_l0",) * 2), ValueError, "each parameter once"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), 1.5), ValueError, "dropout probability"),
        (lambda: nn.WeightDrop(nn.LSTM(2, 3), generator=1), TypeError, r"fastdrop\.Generator"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
