"""Optimizers: PyTorch's numbers over twenty steps, its messages, and exact resumption."""

import copy
import pickle

import numpy as np
import pytest

from fastdrop import nn, optim

SGDS = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
]
ADAMS = [
    {},
    {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    {"lr": 0.1, "amsgrad": True},
]
ADAMWS = [{}, {"lr": 0.01, "weight_decay": 0.3}, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}]
CASES = [
    *(("SGD", options) for options in SGDS),
    *(("Adam", options) for options in ADAMS),
    *(("AdamW", options) for options in ADAMWS),
]


def parameters(dtype=np.float64):
    rng = np.random.default_rng(3)
    return [nn.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (4,))]


def gradients(step):
    rng = np.random.default_rng(step)
    return [rng.standard_normal(shape) for shape in ((3, 4), (4,))]


def run(optimizer, params, steps):
    for step in steps:
        for p, g in zip(params, gradients(step), strict=True):
            p.grad = nn.Tensor(g.astype(p.dtype))
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_pytorchs(name, options, dtype):
    torch = pytest.importorskip("torch")
    ours = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    mine = getattr(optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    memory = [p.array for p in ours]
    run(mine, ours, range(20))
    for step in range(20):
        for p, g in zip(theirs, gradients(step), strict=True):
            p.grad = torch.tensor(g.astype(dtype))
        other.step()
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    for a, b, before in zip(ours, theirs, memory, strict=True):
        assert a.array is before and a.dtype == dtype
        np.testing.assert_allclose(a.array, b.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dict_resumes_exactly(name, options):
    whole, half = parameters(), parameters()
    run(getattr(optim, name)(whole, **options), whole, range(6))
    first = getattr(optim, name)(half, **options)
    run(first, half, range(3))
    saved = first.state_dict()
    resumed = [nn.Parameter(p.array.copy()) for p in half]
    run(first, half, range(3, 4))  # The saved arrays are copies: going on does not change them.
    second = getattr(optim, name)(resumed, lr=123.0)
    second.load_state_dict(saved)
    run(second, resumed, range(3, 6))
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a.array, b.array)


def test_gradients_are_left_alone():
    params = parameters()
    for options in SGDS:
        optimizer = optim.SGD(params, **options)
        for step in range(2):
            run(optimizer, params, [step])
            for p, g in zip(params, gradients(step), strict=True):
                np.testing.assert_array_equal(p.grad.array, g)


def test_parameter_groups():
    a, b = parameters()
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.0}], lr=0.5)
    before = a.array.copy(), b.array.copy()
    run(optimizer, [a, b], [0])
    np.testing.assert_allclose(a.array, before[0] - 0.5 * gradients(0)[0])
    np.testing.assert_array_equal(b.array, before[1])
    optimizer.param_groups[1]["lr"] = 1.0
    run(optimizer, [a, b], [1])
    np.testing.assert_allclose(b.array, before[1] - gradients(1)[1])
    c = nn.Parameter(np.ones(2))
    optimizer.add_param_group({"params": c, "momentum": 0.9})
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 1]


def test_parameters_without_gradient_are_left():
    a, b = parameters()
    before = b.array.copy()
    a.grad = nn.ones(3, 4)
    optimizer = optim.Adam([a, b])
    optimizer.step()
    np.testing.assert_array_equal(b.array, before)
    assert list(optimizer.state_dict()["state"]) == [0]


def test_zero_grad_and_closure():
    (a, _) = parameters()
    optimizer = optim.SGD([a], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (a * a).sum()
        loss.backward()
        return loss

    with nn.no_grad():
        assert optimizer.step(closure).item() > optimizer.step(closure).item()
    kept = a.grad
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is kept and not kept.array.any()
    optimizer.zero_grad()
    assert a.grad is None


def test_repr():
    text = repr(optim.SGD(parameters(), lr=0.1))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0") and "    lr: 0.1\n" in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda p: optim.SGD(p, lr=float("nan")), ValueError, "Invalid learning rate: nan"),
        (lambda p: optim.SGD(p, momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda p: optim.SGD(p, weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda p: optim.SGD(p, nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
        (lambda p: optim.Adam(p, betas=(1, 1)), ValueError, "Invalid beta parameter at index 0: 1"),
        (lambda p: optim.Adam(p, eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda p: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
        (lambda p: optim.SGD([1]), TypeError, "one of the params is int"),
        (lambda p: optim.SGD(p[0]), TypeError, "iterable of Tensors or dicts"),
        (lambda p: optim.SGD([p[0] * 2]), ValueError, "non-leaf"),
        (lambda p: optim.SGD([p[0], p[0]]), ValueError, "duplicate"),
        (lambda p: optim.SGD([{"params": p}, {"params": p}]), ValueError, "more than one"),
        (lambda p: optim.SGD(p).load_state_dict(optim.SGD(p[:1]).state_dict()), ValueError, "size of optimizer's"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(parameters())


def test_state_of_another_shape_is_refused():
    params = parameters()
    optimizer = optim.SGD(params, momentum=0.9)
    run(optimizer, params, [0])
    other = optim.SGD([nn.Parameter(np.ones(2)), nn.Parameter(np.ones(4))])
    with pytest.raises(ValueError, match=r"momentum_buffer has shape \(3, 4\)"):
        other.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_optimizers_copy_with_their_state(copied):
    p = nn.Parameter(np.ones(2, np.float32))
    pair = p, optim.SGD([p], lr=0.1, momentum=0.9)
    (p * p).sum().backward()
    pair[1].step()
    twin = copied(pair)
    for _, optimizer in (pair, twin):
        optimizer.step()
    assert np.array_equal(pair[0].array, twin[0].array)


@pytest.mark.parametrize("betas", [(0.9,), 0.9, (0.9, 0.99, 0.999), (0.9, 1.0)])
def test_bad_betas(betas):
    with pytest.raises(ValueError, match="beta"):
        optim.Adam([nn.Parameter(np.ones(2))], betas=betas)


def test_a_gradient_of_another_shape_is_refused():
    p = nn.Parameter(np.ones((2, 3), np.float32))
    p.grad = nn.ones(3)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        optim.SGD([p], lr=0.1).step()
    assert (p.array == 1).all()


@pytest.mark.parametrize("lr", [True, float("inf"), float("nan"), -1.0])
def test_bad_learning_rates(lr):
    for make in (optim.SGD, optim.Adam):
        with pytest.raises(ValueError, match="learning rate"):
            make([nn.Parameter(np.ones(2))], lr=lr)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("layout", ["sliced", "transposed", "half", "swapped", "gradient of another layout"])
def test_every_layout_and_dtype(name, options, layout):
    rng = np.random.default_rng(0)
    values, gradient = rng.standard_normal((2, 6, 8)).astype(np.float32)
    gradient += np.copysign(0.5, gradient)  # squares of tiny ones would be 0 in half precision
    array = {
        "sliced": lambda: np.repeat(values, 2, axis=1)[:, ::2],
        "transposed": lambda: values.T.copy().T,
        "half": lambda: values.astype(np.float16),
        "swapped": lambda: values.astype(">f4"),
        "gradient of another layout": values.copy,
    }[layout]()
    found = []
    for p in (nn.Parameter(array), nn.Parameter(values.astype(np.float64))):
        optimizer = getattr(optim, name)([p], **options)
        for _ in range(3):
            p.grad = nn.Tensor(gradient.astype(p.array.dtype).T.copy().T)
            optimizer.step()
        found.append(p.array)
    assert found[0] is array and array.dtype == found[0].dtype
    np.testing.assert_allclose(*found, atol=0.01 if layout == "half" else 1e-5)


def test_a_parameter_may_be_its_own_gradient():
    p = nn.Parameter(np.ones(3, np.float32))
    p.grad = nn.Tensor(p.array)
    optim.SGD([p], lr=0.25).step()
    assert p.tolist() == [0.75, 0.75, 0.75]
