"""RNN, LSTM and GRU: against PyTorch, against a slow recurrence step by step, and by finite differences."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, reference
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

T, N, C, H = 5, 3, 4, 6
LAYERS = [nn.RNN, nn.LSTM, nn.GRU]
layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
RATES = ("dropout", "dropout_input", "dropout_output", "dropout_recurrent", "zoneout")
ALL_DROPOUT = {"dropout": 0.5, "dropout_input": 0.25, "dropout_output": 0.4, "dropout_recurrent": 0.3}


def flat(result):
    """Output and states as one list: h_n, and for an LSTM c_n."""
    output, last = result
    return [output, *(last if isinstance(last, tuple) else (last,))]


def weighted_sum(results, total=0.0):
    for k, y in enumerate(results):
        weights = np.random.default_rng(k).standard_normal(tuple(y.shape)).astype(str(y.dtype).removeprefix("torch."))
        total = (y * (weights if isinstance(y, Tensor) else y.new_tensor(weights))).sum() + total
    return total


# --- against PyTorch --------------------------------------------------------------------------------------------------


OPTIONS = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bias": False},
]


@pytest.mark.parametrize("initial", [False, True], ids=["zeros", "initial"])
@pytest.mark.parametrize(
    ("layer", "options"),
    [*((layer, o) for layer in LAYERS for o in OPTIONS), (nn.RNN, {"nonlinearity": "relu", "bidirectional": True})],
    ids=lambda value: "-".join(value) or "plain" if isinstance(value, dict) else value.__name__,
)
@pytest.mark.parametrize("shape", [(T, N, C), (T, C), (1, N, C), (T, 1, C)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_and_gradients_are_pytorchs(np_rng, layer, dtype, shape, options, initial):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, layer.__name__)(C, H, dtype=getattr(torch, np.dtype(dtype).name), **options)
    ours = layer(C, H, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict()) and repr(ours) == repr(theirs)
    theirs.load_state_dict({name: torch.tensor(value.array) for name, value in ours.state_dict().items()})

    batch = () if len(shape) == 2 else (shape[1 - options.get("batch_first", False)],)
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    arrays = [np_rng.standard_normal(shape).astype(dtype)]
    if initial:
        arrays += list(np_rng.standard_normal((1 + (layer is nn.LSTM), rows, *batch, H)).astype(dtype))
    mine = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    results = []
    for model, (x, *states) in ((ours, mine), (theirs, other)):
        hx = (tuple(states) if layer is nn.LSTM else states[0]) if states else None
        results.append(flat(model(x, hx)))
        weighted_sum(results[-1]).backward()
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    for y, z in zip(*results, strict=True):
        assert y.shape == tuple(z.shape) and y.dtype == dtype
        np.testing.assert_allclose(y.array, z.detach().numpy(), **tolerance)
    for a, b in zip([*mine, *ours.parameters()], [*other, *theirs.parameters()], strict=True):
        assert a.grad.dtype == dtype
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), **tolerance)


def test_initial_weights_have_pytorchs_distribution():
    # The most of 1000s of numbers uniform in +-1/sqrt(16) stays 1 % below the bound with probability 1e-11 and less.
    for layer in LAYERS:
        for parameter in layer(50, 16).parameters():
            assert abs(parameter.array).max() <= 0.25
        assert abs(layer(200, 16).weight_ih_l0.array).max() > 0.2475
    made = [nn.GRU(3, 4, generator=fd.Generator(1)).weight_hh_l0.tolist() for _ in range(2)]
    assert made[0] == made[1] != nn.GRU(3, 4, generator=fd.Generator(2)).weight_hh_l0.tolist()


# --- against a slow recurrence ----------------------------------------------------------------------------------------


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def step(kind, x, h, entering, c, w):
    """One step as in the books; `entering` is the h that meets the weights."""
    given, product = x @ w["weight_ih"].T + w["bias_ih"], entering @ w["weight_hh"].T + w["bias_hh"]
    if kind is nn.RNN:
        return np.tanh(given + product), c
    if kind is nn.LSTM:
        i, f, g, o = np.split(given + product, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (gr, gz, gn), (pr, pz, pn) = np.split(given, 3, axis=-1), np.split(product, 3, axis=-1)
    z = sigmoid(gz + pz)
    return (1 - z) * np.tanh(gn + sigmoid(gr + pr) * pn) + z * h, c


class Slow:
    """A layer's forward pass by loops, its masks made by the reference of the mask law."""

    def __init__(self, layer, training):
        self.layer, self.training = layer, training
        self.key, self.call = layer.generator.key, layer.generator.call

    def keep(self, shape, p):
        self.call += 1
        return reference.keep_at(self.key, self.call - 1, p, np.arange(np.prod(shape)).reshape(shape))

    def drop(self, x, p):
        if not self.training or not p:
            return x
        return np.where(self.keep(x.shape[1:], p), x / (1 - p) if p < 1 else 0, 0)  # the same at each step

    def __call__(self, x):
        layer, last = self.layer, []
        x = self.drop(x, layer.dropout_input)
        for number in range(layer.num_layers):
            outputs = []
            for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
                y, states = self.direction(x, f"_l{number}{suffix}")
                outputs.append(y)
                last.append(states)
            x = np.concatenate(outputs, axis=-1)
            x = self.drop(x, layer.dropout if number < layer.num_layers - 1 else layer.dropout_output)
        return [x, *np.stack(last, axis=1)[: 1 + isinstance(layer, nn.LSTM)]]

    def direction(self, x, suffix):
        layer, shape = self.layer, (x.shape[1], self.layer.hidden_size)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w = {name: getattr(layer, name + suffix).array for name in names}
        p = layer.dropout_recurrent
        entering = self.keep(shape, p) / (1 - p) if self.training and p else 1.0
        news = []
        for p in (layer.zoneout, getattr(layer, "zoneout_cell", 0.0)):
            new = self.keep((len(x), *shape), p) if self.training and p else np.full((len(x), *shape), 1 - p)
            news.append(new)
        h, c = np.zeros(shape), np.zeros(shape)
        y = np.empty((len(x), *shape))
        for t in reversed(range(len(x))) if "reverse" in suffix else range(len(x)):
            made_h, made_c = step(type(layer), x[t], h, h * entering, c, w)
            h, c = (new[t] * made + (1 - new[t]) * old for new, made, old in zip(news, (made_h, made_c), (h, c)))
            y[t] = h
        return y, (h, c)


KINDS_OF_DROPOUT = [
    {"dropout_input": 0.5},
    {"dropout_output": 0.3},
    {"dropout": 0.5, "num_layers": 3},
    {"dropout_recurrent": 0.4},
    {"zoneout": 0.5},
    {"zoneout": 1.0},
    {**ALL_DROPOUT, "zoneout": 0.2, "num_layers": 2, "bidirectional": True},
    {"zoneout_cell": 0.4},
    {**ALL_DROPOUT, "zoneout": 0.2, "zoneout_cell": 0.5, "num_layers": 2, "bidirectional": True},
]
kinds = pytest.mark.parametrize(
    ("layer", "options"),
    [(layer, o) for layer in LAYERS for o in KINDS_OF_DROPOUT if layer is nn.LSTM or "zoneout_cell" not in o],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)


def made(layer, options, seed=3):
    return layer(C, H, dtype=np.float64, generator=fd.Generator(seed), **options)


@kinds
def test_each_mask_is_the_generators_and_stands_still(np_rng, isa, layer, options):
    ours = made(layer, options)
    x = np_rng.standard_normal((T, N, C))
    for training in (True, False, True):
        ours.train(training)
        slow = Slow(ours, training)
        for y, z in zip(flat(ours(x)), slow(x), strict=True):
            np.testing.assert_allclose(y.array, z, rtol=1e-10, atol=1e-12)
        assert ours.generator.call == slow.call  # as many calls, and none in evaluation


@kinds
def test_gradients_with_dropout_against_finite_differences(np_rng, check_gradients, layer, options):
    ours = made(layer, options)
    names, values = zip(*((name, p.array.copy()) for name, p in ours.named_parameters()))
    states = 1 + (layer is nn.LSTM)
    rows = ours.num_layers * (1 + ours.bidirectional)

    def function(x, *others):
        ours.generator = fd.Generator(7)
        # Under the names of the parameters, so that their gradients are found too.
        ours._parameters.update(zip(names, others[states:], strict=True))
        hx = others[:states]
        results = flat(ours(x * x, tuple(hx) if states > 1 else hx[0]))
        return nn.cat([y.flatten() for y in results])

    start = np_rng.standard_normal((states, rows, 2, H))
    check_gradients(function, np_rng.standard_normal((3, 2, C)), *start, *values, tolerance=1e-5)


# --- what dropout is --------------------------------------------------------------------------------------------------


@layers
def test_masks_stand_still_over_time_and_differ_otherwise(layer):
    ours = layer(64, 64, generator=fd.Generator(0), dropout_output=0.5, zoneout=0.0)
    x = nn.ones(T, N, 64)
    first, second = (ours(x)[0].array == 0 for _ in range(2))
    assert (first == first[:1]).all() and (first[0] != first[0, :1]).any(axis=1)[1:].all() and (first != second).any()
    want = fd.Generator(0)
    want.numpy()
    assert np.array_equal(~first[0], np.asarray(want.mask((N, 64), 0.5)))


@layers
def test_recurrent_masks_differ_between_layers_and_directions(layer, monkeypatch):
    taken, run = [], nn.recurrent.run_direction
    monkeypatch.setattr(nn.recurrent, "run_direction", lambda *args: taken.append(args) or run(*args))
    ours = layer(C, H, 2, bidirectional=True, dropout_recurrent=0.5, zoneout=0.5, generator=fd.Generator(1))
    ours(nn.ones(T, N, C))
    masks = [share.mask for args in taken for share in (args[4], *args[5]) if share is not None]
    assert [mask.call for mask in masks] == list(range(1, 9))
    assert [mask.shape for mask in masks] == [(N, H), (T, N, H)] * 4


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
def test_the_state_that_is_carried_on_is_neither_dropped_nor_scaled(layer):
    ours = layer(C, H, dropout_recurrent=0.5, generator=fd.Generator(1))
    h = nn.rand(1, N, H)
    with nn.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
        ours.bias_ih_l0[H : 2 * H] = 100.0  # z or f is 1: the old state stays; an LSTM adds i g = 0
        _, last = ours(nn.ones(T, N, C), (h, h) if layer is nn.LSTM else h)
    assert np.array_equal((last[1] if layer is nn.LSTM else last).array, h.array)


def test_a_state_is_scaled_once_for_each_product_that_it_enters():
    ours = nn.RNN(H, H, nonlinearity="relu", bias=False, dropout_recurrent=0.5, generator=fd.Generator(1))
    h = nn.rand(1, N, H)
    with nn.no_grad():
        ours.weight_hh_l0[...] = np.eye(H)
        y = ours(nn.zeros(T, N, H), h)[0].array
    keep = np.asarray(fd.Mask(ours.generator.key, 1, 0.5, (N, H)))
    for t in range(T):
        np.testing.assert_array_equal(y[t], np.where(keep, h.array[0] * 2.0 ** (t + 1), 0))


@layers
def test_p_of_zero_and_of_one(np_rng, layer):
    x = np_rng.standard_normal((T, N, C)).astype(np.float32)
    rates = [*RATES, "zoneout_cell"] if layer is nn.LSTM else RATES
    ours = layer(C, H, 2, generator=fd.Generator(0), **dict.fromkeys(rates, 0.0))
    plain = layer(C, H, 2, generator=fd.Generator(0))
    assert all(np.array_equal(a.array, b.array) for a, b in zip(flat(ours(x)), flat(plain(x))))
    assert ours.generator.call == 1  # the initial weights
    ours.dropout_output = 1.0
    assert not ours(x)[0].array.any() and ours(x)[1][0].array.any()
    ours.dropout_output, ours.zoneout = 0.0, 1.0
    assert not ours(x)[0].array.any()
    ours.zoneout, ours.dropout_input, ours.dropout_recurrent = 0.0, 1.0, 1.0
    assert np.isfinite(ours(x)[0].array).all() and np.array_equal(ours(x)[0].array, ours(0 * x)[0].array)


@layers
def test_evaluation_drops_nothing(np_rng, layer):
    x = np_rng.standard_normal((T, N, C)).astype(np.float32)
    ours = layer(C, H, 2, generator=fd.Generator(0), **ALL_DROPOUT).eval()
    plain = layer(C, H, 2, generator=fd.Generator(0))
    assert all(np.array_equal(a.array, b.array) for a, b in zip(flat(ours(x)), flat(plain(x))))
    assert ours.generator.call == 1
    assert not np.array_equal(ours.train()(x)[0].array, plain(x)[0].array)


@layers
def test_zoneout_keeps_units_to_the_bit_and_its_expectation_is_their_mean(layer):
    ours = layer(C, H, zoneout=0.5, generator=fd.Generator(2))
    y = ours(nn.randn(50, N, C))[0].array
    stays = np.asarray(fd.Mask(ours.generator.key, 1, 0.5, (50, N, H)))[1:] == 0
    assert np.array_equal(y[1:] == y[:-1], stays)
    # One step from 0: its mean over masks is p * 0 + (1 - p) * new. 4000 examples, 6 sigma: false positives below 1e-7.
    x = np.repeat(np.ones((1, 1, C), np.float32), 4000, axis=1)
    trained, expected = ours(x)[0].array[0], ours.eval()(x)[0].array[0, 0]
    assert (abs(trained.mean(axis=0) - expected) < 6 * abs(expected) / np.sqrt(4000)).all()


def test_the_default_generator_is_used():
    layer = nn.LSTM(C, H, dropout_recurrent=0.5)
    before = fd.default_generator().call
    layer(nn.ones(T, N, C))
    assert fd.default_generator().call == before + 1


@layers
def test_dropout_between_layers_is_locked_dropout(np_rng, layer):
    x = np_rng.standard_normal((T, N, C)).astype(np.float32)
    ours = layer(C, H, 2, dropout=0.5, dropout_input=0.25, generator=fd.Generator(4))
    first, second = layer(C, H), layer(H, H)
    state = ours.state_dict()
    first.load_state_dict({name: value for name, value in state.items() if name.endswith("_l0")})
    second.load_state_dict({name.replace("_l1", "_l0"): v for name, v in state.items() if name.endswith("_l1")})
    again = copy.deepcopy(ours.generator)
    between = first(F.locked_dropout(x, 0.25, generator=again))[0]
    want = second(F.locked_dropout(between, 0.5, generator=again))[0]
    assert np.array_equal(ours(x)[0].array, want.array) and again == ours.generator


# --- habits -----------------------------------------------------------------------------------------------------------


@layers
def test_pickle_copy_and_repr(layer):
    ours = layer(C, H, 2, bias=False, batch_first=True, bidirectional=True, generator=fd.Generator(5), **ALL_DROPOUT)
    text = (
        f"{layer.__name__}(4, 6, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, "
        "dropout_input=0.25, dropout_output=0.4, dropout_recurrent=0.3)"
    )
    x = nn.ones(N, T, C)
    copies = [pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)]
    want = ours(x)[0].array
    for again in copies:
        assert repr(again) == repr(ours) == text and np.array_equal(again(x)[0].array, want)
    relu = pickle.loads(pickle.dumps(nn.RNN(C, H, nonlinearity="relu")))
    assert relu(nn.randn(T, N, C))[0].array.min() == 0


@layers
def test_second_backward_and_changes_in_place(layer):
    ours = layer(C, H, dropout_recurrent=0.5, zoneout=0.1)
    x = nn.randn(T, N, C, requires_grad=True)
    loss = ours(x)[0].sum()
    loss.backward(retain_graph=True)
    once = x.grad.array.copy()
    loss.backward()
    np.testing.assert_array_equal(x.grad.array, 2 * once)
    with pytest.raises(RuntimeError, match=r"the backward of .*Cell needs the values"):
        F.dropout(ours(x)[0], 0.5, inplace=True)


@layers
def test_inputs_without_gradient_and_other_memory_layouts(np_rng, layer):
    ours = layer(C, H, 1)
    x = np_rng.standard_normal((T, N, C)).astype(np.float32)
    want = ours(x)[0]
    want.sum().backward()
    assert ours.weight_hh_l0.grad is not None
    for other in (np.asfortranarray(x), np.ascontiguousarray(x[::-1])[::-1], np.repeat(x, 2, axis=2)[:, :, ::2]):
        np.testing.assert_allclose(ours(other)[0].array, want.array, atol=1e-6)  # BLAS rounds by layout
    with nn.no_grad():
        assert not ours(x)[0].requires_grad


@layers
def test_half_precision(np_rng, layer):
    x = np_rng.standard_normal((T, N, C)).astype(np.float16)
    half, single = (layer(C, H, 2, dtype=d, generator=fd.Generator(6), **ALL_DROPOUT) for d in (np.float16, np.float32))
    single.load_state_dict(half.state_dict())
    y, z = half(x)[0], single(x.astype(np.float32))[0]
    y.backward(np.ones(y.shape)), z.backward(np.ones(z.shape))
    assert y.dtype == half.weight_hh_l1.grad.dtype == np.float16
    np.testing.assert_allclose(y.array, z.array, atol=0.01)
    np.testing.assert_allclose(half.weight_ih_l0.grad.array, single.weight_ih_l0.grad.array, atol=0.1)


@layers
def test_a_batch_of_none(layer):
    ours = layer(C, H, 2, bidirectional=True, zoneout=0.5, **ALL_DROPOUT)
    x = nn.zeros(T, 0, C, requires_grad=True)
    output = ours(x)[0]
    output.sum().backward()
    assert output.shape == (T, 0, 2 * H) and x.grad.shape == x.shape and not ours.weight_hh_l0.grad.array.any()


@layers
def test_bad_arguments(layer):
    for name in RATES:
        for p, error in ((1.5, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("half", TypeError)):
            with pytest.raises(error, match=f"{name} has to be a probability.*but got"):
                layer(C, H, 2, **{name: p})
    for name in ("input_size", "hidden_size", "num_layers"):
        for value in (0, -1, 2.5, True):
            with pytest.raises(ValueError, match=f"{name} must be a positive int"):
                layer(**{"input_size": C, "hidden_size": H, name: value})
    with pytest.raises(TypeError, match=r"bias has to be True or False, but got 0\.5"):
        layer(C, H, bias=0.5)
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        layer(C, H, generator=np.random.default_rng(0))
    with pytest.warns(UserWarning, match="num_layers=1"):
        layer(C, H, dropout=0.5)
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'sin'"):
        nn.RNN(C, H, nonlinearity="sin")
    generator = fd.Generator(0)
    for name in RATES[1:]:
        with pytest.raises(ValueError):
            layer(C, H, generator=generator, **{name: 2})
    assert generator.call == 0


@layers
def test_bad_inputs_take_no_call_of_the_generator(layer):
    ours = layer(C, H, 2, generator=fd.Generator(0), **ALL_DROPOUT)
    pair = layer is nn.LSTM

    def states(*shape, dtype=np.float32):
        return (nn.zeros(*shape, dtype=dtype),) * 2 if pair else nn.zeros(*shape, dtype=dtype)

    for x, hx, error, message in [
        (nn.ones(T), None, ValueError, r"3 axes, \(T, N, C\), or 2, \(T, C\), but got shape \(5,\)"),
        (nn.ones(T, N, C, 1), None, ValueError, "3 axes"),
        (nn.ones(T, N, C + 1), None, RuntimeError, r"input_size=4 .*got shape \(5, 3, 5\)"),
        (nn.ones(0, N, C), None, RuntimeError, "at least one step"),
        (nn.ones(T, N, C, dtype=np.float64), None, RuntimeError, "dtype float32, but got float64"),
        (nn.ones(T, N, C), states(2, N, C), RuntimeError, r"h_0 must have shape \(2, 3, 6\).*got \(2, 3, 4\)"),
        (nn.ones(T, N, C), states(2, H), RuntimeError, r"h_0 must have shape \(2, 3, 6\)"),
        (nn.ones(T, C), states(2, N, H), RuntimeError, r"h_0 must have shape \(2, 6\)"),
        (nn.ones(T, N, C), states(2, N, H, dtype=np.float64), RuntimeError, "h_0 must have the parameters' dtype"),
        (nn.ones(T, N, C), nn.zeros(2, N, H) if pair else (nn.zeros(2, N, H),), TypeError, "hx must be"),
    ]:
        with pytest.raises(error, match=message):
            ours(x, hx)
    ours.zoneout = 1.5
    with pytest.raises(ValueError, match="zoneout has to be a probability"):
        ours(nn.ones(T, N, C))
    assert ours.generator.call == 1  # the initial weights
