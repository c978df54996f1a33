"""Initial weights: the formulas, PyTorch's gains, and reproducibility."""

import math

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import init

RANDOM = {
    "uniform_": {"a": -2.0, "b": 3.0},
    "normal_": {"mean": 1.0, "std": 2.0},
    "trunc_normal_": {"std": 0.5, "a": -1.0, "b": 0.3},
    "xavier_uniform_": {"gain": 2.0},
    "xavier_normal_": {"gain": 2.0},
    "kaiming_uniform_": {"mode": "fan_out", "nonlinearity": "relu"},
    "kaiming_normal_": {"a": 0.2},
    "lecun_normal_": {},
    "orthogonal_": {"gain": 3.0},
}


def close_to(values, mean, std, kurtosis=3.0):
    """Mean and variance within five standard errors, which fails once in 1.7 million seeds each; seeds are fixed."""
    values = values.array.astype(np.float64)
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(values.size)
    assert abs(values.var() / std**2 - 1) < 5 * math.sqrt((kurtosis - 1) / values.size)


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"), [((300, 200), 200, 300), ((40, 20, 5, 7), 700, 1400), ((90, 120, 9), 1080, 810)]
)
def test_variances_are_the_formulas(shape, fan_in, fan_out):
    rng = fd.Generator(1)

    def made(function, *arguments, **options):
        return function(nn.zeros(shape), *arguments, generator=rng, **options)

    def uniform(w, bound):
        assert 0.999 * bound < np.abs(w.array).max() <= bound * (1 + 1e-6)
        close_to(w, 0, bound / math.sqrt(3), 1.8)

    uniform(made(init.xavier_uniform_), math.sqrt(6 / (fan_in + fan_out)))
    close_to(made(init.xavier_normal_, 5 / 3), 0, 5 / 3 * math.sqrt(2 / (fan_in + fan_out)))
    uniform(made(init.kaiming_uniform_), math.sqrt(6 / fan_in))
    uniform(made(init.kaiming_uniform_, math.sqrt(5)), math.sqrt(1 / fan_in))
    close_to(made(init.kaiming_normal_, mode="fan_out", nonlinearity="relu"), 0, math.sqrt(2 / fan_out))
    close_to(made(init.kaiming_normal_, 0.5), 0, math.sqrt(2 / 1.25 / fan_in))
    close_to(made(init.kaiming_normal_, nonlinearity="tanh"), 0, 5 / 3 / math.sqrt(fan_in))
    close_to(made(init.lecun_normal_), 0, 1 / math.sqrt(fan_in))
    close_to(made(init.normal_, 3.0, 0.5), 3, 0.5)
    w = made(init.uniform_, -1.0, 5.0)
    assert w.array.min() >= -1 and w.array.max() <= 5
    close_to(w, 2, math.sqrt(3), 1.8)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 0.02, -2, 2), (1, 2, 0, 1.5), (0, 1, 3, 4), (0, 1, 6, math.inf), (0, 1, -math.inf, -6),
     (0, 1, -math.inf, math.inf), (5, 0.1, -1, 0)],
)  # fmt: skip
def test_truncated_normals(mean, std, a, b):
    w = init.trunc_normal_(nn.zeros(200_000, dtype=np.float64), mean, std, a, b, generator=fd.Generator(2))
    z = (w.array - mean) / std
    low, high = (a - mean) / std, (b - mean) / std
    assert z.min() >= low - 1e-9 and z.max() <= high + 1e-9
    # Moments by the midpoint rule, over where the density counts.
    nearest = min(max(0, low), high)
    edge = [max(low, -math.sqrt(nearest**2 + 80)), min(high, math.sqrt(nearest**2 + 80))]
    step = (edge[1] - edge[0]) / 400_000
    at = edge[0] + step * (np.arange(400_000) + 0.5)
    density = np.exp((nearest**2 - at * at) / 2)
    first = (at * density).sum() / density.sum()
    moments = [(((at - first) ** k) * density).sum() / density.sum() for k in (2, 4)]
    close_to(nn.Tensor(z), first, math.sqrt(moments[0]), moments[1] / moments[0] ** 2)


def test_truncated_normals_stay_inside_in_every_dtype():
    for dtype in (np.float16, np.float32, np.float64):
        w = init.trunc_normal_(nn.zeros(5000, dtype=dtype), 0.1, 1, 0.1, 0.1003, generator=fd.Generator(1))
        assert w.dtype == dtype and w.array.min() >= dtype(0.1) and w.array.max() <= dtype(0.1003)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 3, 2, 2)])
def test_orthogonal(shape):
    w = init.orthogonal_(nn.zeros(shape, dtype=np.float64), 2.0, generator=fd.Generator(3)).array.reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_orthogonal_matrices_have_no_preferred_signs():
    """The mean of 2000 first entries, of variance 1/2, is within five standard errors: wrong once in 1.7 million."""
    rng = fd.Generator(4)
    entries = np.array([init.orthogonal_(nn.zeros(2, 2), generator=rng).array for _ in range(2000)])
    assert (np.abs(entries.mean(0)) < 5 * math.sqrt(0.5 / 2000)).all()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_they_fill_parameters_and_follow_the_generator(name, dtype):
    function, options = getattr(init, name), RANDOM[name]
    parameter = nn.Parameter(nn.zeros(6, 4, dtype=dtype))
    rng = fd.Generator(5)
    version = parameter.storage.version
    assert function(parameter, generator=rng, **options) is parameter
    assert parameter.requires_grad and parameter.is_leaf and parameter.dtype == dtype and rng.call == 1
    assert parameter.storage.version > version and np.unique(parameter.array).size > 12
    again = function(nn.zeros(6, 4, dtype=dtype), generator=fd.Generator(5), **options)
    np.testing.assert_array_equal(again.array, parameter.array)
    fd.manual_seed(5)
    np.testing.assert_array_equal(function(nn.zeros(6, 4, dtype=dtype), **options).array, parameter.array)
    assert function(nn.zeros(0, 4), **options).shape == (0, 4)
    strided = nn.Tensor(np.zeros((4, 6), dtype).T)
    np.testing.assert_array_equal(function(strided, generator=fd.Generator(5), **options).array, parameter.array)


def test_constants():
    parameter = nn.Linear(2, 3).weight
    assert init.constant_(parameter, 1.5) is parameter and (parameter.array == 1.5).all()
    assert not init.zeros_(parameter).array.any() and (init.ones_(parameter).array == 1).all()


def test_gains_are_pytorchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


def test_lecun_weights_and_selu_keep_mean_and_variance(np_rng):
    """Twenty layers deep: where they drift to depends on the weights, so the bounds are loose."""
    rng, x = fd.Generator(6), np_rng.standard_normal((500, 400)).astype(np.float32)
    for _ in range(20):
        layer = nn.Linear(400, 400, bias=False)
        init.lecun_normal_(layer.weight, generator=rng)
        x = nn.functional.selu(layer(x)).detach().array
    assert abs(x.mean()) < 0.1 and 0.8 < x.var() < 1.25


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w, g: init.uniform_(w, 1, 0, generator=g), ValueError, "a must not be above b, got a=1 and b=0"),
        (lambda w, g: init.uniform_(w, 0, math.inf, generator=g), ValueError, "b has to be finite"),
        (lambda w, g: init.normal_(w, 0, -1, generator=g), ValueError, "std must not be negative, but got -1"),
        (lambda w, g: init.normal_(w, "0", generator=g), TypeError, "mean has to be a real number"),
        (lambda w, g: init.trunc_normal_(w, a=2, b=2, generator=g), ValueError, "takes a < b and std > 0"),
        (lambda w, g: init.trunc_normal_(w, std=0, generator=g), ValueError, "takes a < b and std > 0"),
        (lambda w, g: init.trunc_normal_(w, a=math.nan, generator=g), ValueError, "takes a < b"),
        (lambda w, g: init.xavier_uniform_(w[0], generator=g), ValueError, r"at least 2 axes.*got shape \(3,\)"),
        (lambda w, g: init.xavier_normal_(w, -1.0, generator=g), ValueError, "gain must not be negative"),
        (lambda w, g: init.orthogonal_(w[0], generator=g), ValueError, "at least 2 axes"),
        (lambda w, g: init.kaiming_normal_(w, mode="fan", generator=g), ValueError, "Mode 'fan' not supported"),
        (lambda w, g: init.kaiming_uniform_(w, nonlinearity="gelu2", generator=g), ValueError, "'gelu2'"),
        (lambda w, g: init.normal_(w.array, generator=g), TypeError, "expected a Tensor to fill, got a ndarray"),
        (lambda w, g: init.normal_(w.long(), generator=g), TypeError, "floating dtype to fill, got int64"),
        (lambda w, g: init.constant_(w, "x"), TypeError, "val has to be a real number"),
    ],
)
def test_bad_input_takes_no_call(call, error, message):
    rng, w = fd.Generator(0), nn.ones(4, 3)
    with pytest.raises(error, match=message):
        call(w, rng)
    assert rng.call == 0 and (w.array == 1).all()


def test_a_gain_goes_by_a_name():
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain(["relu"])
