"""Tensor: every operation against finite differences and PyTorch, and the habits around it."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastdrop
from fastdrop import nn
from fastdrop.nn import Tensor, arange, as_tensor, from_numpy, ones, rand, randint, randn, tensor, zeros

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
UNARY = ["exp", "log", "sqrt", "abs", "tanh", "sigmoid", "relu", "__neg__"]


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((1, 3), (2, 1)), ((), (2,)), ((2, 1, 3), (4, 1)), ((0, 3), (3,))]
)
def test_binary_gradients(check_gradients, np_rng, operation, shapes):
    a, b = (np_rng.uniform(0.5, 2, shape) for shape in shapes)
    check_gradients(operation, a, b)


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("other", [2, 1.5, np.float64(1.5), np.float32(2), np.array(2.0), np.full(3, 1.5, np.float32)])
def test_numbers_and_arrays_on_either_side(operation, other):
    a = np.array([1.0, 2.0, 3.0], np.float32)
    for x, y in ((Tensor(a), other), (other, Tensor(a))):
        result = operation(x, y)
        assert isinstance(result, Tensor)
        assert result.dtype == np.float32
        expected = operation(*(v.array if isinstance(v, Tensor) else v for v in (x, y)))
        np.testing.assert_allclose(result.array, expected, rtol=1e-6)


@pytest.mark.parametrize("operation", BINARY)
def test_reflected_gradients(check_gradients, np_rng, operation):
    check_gradients(lambda x: operation(1.7, x), np_rng.uniform(0.5, 2, (2, 3)))


def test_float32_stays_float32_beside_integers():
    x = ones(3)
    assert (x * arange(3)).dtype == np.float32
    assert (arange(3) / 2).dtype == np.float32
    assert (arange(3) / arange(1, 4)).dtype == np.float32
    assert (arange(3) * 2.5).dtype == np.float32
    assert (2.5 - arange(3)).tolist() == [2.5, 1.5, 0.5]
    assert (arange(3) * 2).dtype == np.int64
    assert (x * tensor(2.0, dtype=np.float64)).dtype == np.float32
    assert (x * ones(3, dtype=np.float64)).dtype == np.float64


def test_promotion_gives_each_input_a_gradient_in_its_own_dtype():
    a, b = ones(3, requires_grad=True), ones(3, dtype=np.float64, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64


@pytest.mark.parametrize("operation", BINARY)
def test_operators_refuse_what_is_no_number(operation):
    for other in ("a", None, object(), np.array(["a"]), 1j):
        with pytest.raises(TypeError):
            operation(ones(2), other)
        with pytest.raises(TypeError):
            operation(other, ones(2))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("layout", ["C", "F", "sliced"])
def test_unary_gradients(check_gradients, np_rng, name, layout):
    x = np_rng.uniform(0.3, 2, (3, 4))
    if name in ("abs", "tanh", "relu", "__neg__"):
        x *= np.where(np.arange(4) % 2, -1, 1)
    x = {"C": x, "F": np.asfortranarray(x), "sliced": np.repeat(x, 2, axis=1)[:, ::2]}[layout]
    check_gradients(lambda t: getattr(t, name)(), x)


def test_power_at_zero(check_gradients):
    x = tensor([0.0, 0.0, 2.0], requires_grad=True)
    (x ** tensor([0.0, 2.0, 0.0])).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]
    x = tensor([-2.0], requires_grad=True)
    (x**3).backward()
    assert x.grad.tolist() == [12]


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 2)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((5, 3, 4), (4, 2)), ((2, 1, 3, 4), (5, 4, 2)),
     ((4,), (5, 4, 2)), ((5, 3, 4), (4,))],
)  # fmt: skip
def test_matmul(check_gradients, same_as_torch, np_rng, shapes):
    a, b = (np_rng.standard_normal(shape) for shape in shapes)
    check_gradients(operator.matmul, a, b)
    same_as_torch(operator.matmul, operator.matmul, a, b)


def test_matmul_with_arrays_and_errors():
    a = np.ones((2, 3), np.float32)
    assert (a @ Tensor(a.T)).tolist() == [[3, 3], [3, 3]]
    assert (Tensor(a) @ a.T).tolist() == [[3, 3], [3, 3]]
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 2x3\)"):
        Tensor(a) @ a
    with pytest.raises(RuntimeError, match="at least 1D"):
        Tensor(a) @ tensor(1.0)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("dim", [None, 0, 1, -1, (0, 2), (1,)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_reductions(check_gradients, np_rng, name, dim, keepdim):
    check_gradients(lambda t: getattr(t, name)(dim, keepdim), np_rng.standard_normal((2, 3, 2)))


def test_max(same_as_torch, np_rng):
    x = np_rng.integers(0, 3, (4, 5)).astype(np.float32)
    same_as_torch(lambda t: t.max(), lambda t: t.max(), x)
    for keepdim in (False, True):
        distinct = np_rng.permutation(20).reshape(4, 5).astype(np.float32)
        same_as_torch(*[lambda t, keepdim=keepdim: t.max(1, keepdim).values] * 2, distinct)
    values, indices = Tensor(x).max(0)
    assert indices.tolist() == Tensor(x).argmax(0).tolist() == x.argmax(0).tolist()
    assert values.tolist() == x.max(0).tolist()
    tied = tensor([[1.0, 1.0]], requires_grad=True)
    tied.max(1).values.backward()
    assert tied.grad.tolist() == [[1, 0]]


SHAPES = {
    "reshape": lambda t: t.reshape(3, -1),
    "view tuple": lambda t: t.view((4, 6)),
    "flatten": lambda t: t.flatten(),
    "flatten 1": lambda t: t.flatten(1),
    "flatten -2": lambda t: t.flatten(-2, -1),
    "transpose": lambda t: t.transpose(0, -1),
    "permute": lambda t: t.permute(2, 0, 1),
    "permute negative": lambda t: t.permute(-1, 0, 1),
    "unsqueeze": lambda t: t.unsqueeze(1),
    "squeeze": lambda t: t[:1].squeeze(0),
    "integer": lambda t: t[1],
    "slices": lambda t: t[:, 1:, ::2],
    "ellipsis": lambda t: t[..., None, 0],
}
EXTRA = {
    "T": lambda t: t.T,
    "repeated": lambda t: t[[0, 0, 1]],
    "array": lambda t: t[np.array([1, 1]), :, np.array([0, 3])],
    "boolean": lambda t: t[t.array[:, 0, 0] > -9],
    "iteration": lambda t: sum(list(t), start=tensor(0.0, dtype=np.float64)),
    "contiguous": lambda t: t.T.contiguous(),
    "clone": lambda t: t.clone(),
}


@pytest.mark.parametrize("name", [*SHAPES, *EXTRA])
def test_shape_gradients(check_gradients, same_as_torch, np_rng, name):
    x = np_rng.standard_normal((2, 3, 4))
    function = {**SHAPES, **EXTRA}[name]
    check_gradients(function, x)
    check_gradients(function, np.asfortranarray(x))
    if name in SHAPES:
        same_as_torch(function, function, x)


def test_shape_errors():
    with pytest.raises(IndexError, match="start_dim=3"):
        ones(2, 2).flatten(3)
    with pytest.raises(RuntimeError, match="cannot come after"):
        ones(2, 2).flatten(1, 0)
    with pytest.raises(RuntimeError, match="3D"):
        ones(1, 1, 1).t()
    with pytest.raises(ValueError, match="reshape"):
        ones(2, 2).reshape(3)
    assert zeros(0, 3, 2).flatten(1).shape == (0, 6)
    assert tensor(1.0).flatten().shape == (1,)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_broadcasting_as_numpy(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3))
    a, b = (Tensor(np.ones(s), requires_grad=True) for s in shapes.input_shapes)
    y = a * b + a
    assert y.shape == shapes.result_shape
    y.sum().backward()
    assert a.grad.shape == a.shape and b.grad.shape == b.shape
    size = int(np.prod(y.shape))
    if size:
        assert np.all(a.grad.array == 2 * size / a.numel())
        assert np.all(b.grad.array == size / b.numel())


def test_comparisons():
    x = tensor([1.0, 2.0, 3.0])
    assert (x == 2).tolist() == [False, True, False]
    assert (x != x).tolist() == [False] * 3
    assert (x > np.array([0, 2, 4])).tolist() == [True, False, False]
    assert (2 >= x).tolist() == [True, True, False]
    assert (x < tensor([2, 2, 2])).dtype == np.bool_
    assert (x <= 1).float().mean().item() == pytest.approx(1 / 3)
    assert (x == "a") is False
    assert len({x, x}) == 1


def test_what_it_is():
    x = ones(2, 3, dtype=np.float64, requires_grad=True)
    assert x.shape == x.size() == (2, 3) and x.size(1) == 3 and x.ndim == x.dim() == 2 and x.numel() == 6
    assert x.is_leaf and not (x * 2).is_leaf
    assert len(x) == 2 and len(list(x)) == 2
    assert x.float().dtype == np.float32 and x.long().dtype == np.int64 and x.to("cpu") is x and x.double() is x
    assert x.data.array is x.array and not x.detach().requires_grad
    assert tensor(3.5).item() == 3.5 and float(tensor(3.5)) == 3.5 and int(tensor(3)) == 3
    assert [10, 20][tensor(1)] == 20
    assert bool(tensor([1.0])) and not bool(tensor(0))
    assert np.asarray(tensor([1, 2])).tolist() == [1, 2]
    assert np.array(tensor([1, 2]), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bool(ones(2)), RuntimeError, "ambiguous"),
        (lambda: ones(2).item(), RuntimeError, "2 elements"),
        (lambda: len(tensor(1)), TypeError, "0-d"),
        (lambda: list(tensor(1)), TypeError, "0-d"),
        (lambda: [1][tensor(0.0)], TypeError, "integer"),
        (lambda: tensor(["a"]), TypeError, "cannot make a tensor"),
        (lambda: tensor(1j), TypeError, "complex"),
        (lambda: from_numpy([1]), TypeError, "list"),
        (lambda: arange(3).mean(), RuntimeError, "int64"),
    ],
)
def test_clear_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_dtypes_of_new_tensors():
    assert tensor([1.0]).dtype == tensor(1.0).dtype == np.float32
    assert tensor([1]).dtype == np.int64 and tensor([True]).dtype == np.bool_
    assert tensor(np.ones(2)).dtype == np.float64
    assert tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert tensor([tensor(1.0), tensor(2.0)]).tolist() == [1, 2]
    assert arange(3).dtype == np.int64 and arange(0, 1, 0.5).dtype == np.float32
    assert zeros((2, 3)).shape == zeros(2, 3).shape == (2, 3)


def test_sharing():
    a = np.ones(3, np.float32)
    assert np.shares_memory(from_numpy(a).array, a) and np.shares_memory(as_tensor(a).array, a)
    assert not np.shares_memory(tensor(a).array, a)
    x = tensor(a)
    assert as_tensor(x) is x
    assert not np.shares_memory(tensor(x).array, x.array)


def test_random_tensors_follow_the_seed():
    def draw():
        return [randn(4).tolist(), rand(2, 2).tolist(), randint(10, (5,)).tolist(), randint(3, 5, (5,)).tolist()]

    fastdrop.manual_seed(1)
    first = draw()
    fastdrop.manual_seed(1)
    assert draw() == first
    assert draw() != first
    a = randn(3, generator=fastdrop.Generator(9))
    assert a.tolist() == randn(3, generator=fastdrop.Generator(9)).tolist()
    assert a.dtype == np.float32 and randn(2, dtype=np.float64).dtype == np.float64
    assert set(first[3]) <= {3, 4}


def test_repr():
    assert repr(tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(tensor([1])) == "tensor([1])"
    x = ones(1, dtype=np.float64, requires_grad=True)
    assert repr(x) == "tensor([1.], dtype=float64, requires_grad=True)"
    assert repr(x + 1) == "tensor([2.], dtype=float64, grad_fn=<add>)"


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_become_float32(name, dtype):
    x = np.ones(3, dtype)
    y = getattr(Tensor(x), name)()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.array, getattr(Tensor(x.astype(np.float32)), name)().array)


def test_python_functions_on_tensors():
    x = tensor([-1.5, 2.0])
    assert abs(x).tolist() == [1.5, 2.0]
    assert f"{x.sum():.2f}" == "0.50" and f"{x}" == str(x)
    for dtype in (np.uint8, np.int32, np.bool_):
        assert Tensor(np.ones(300, dtype)).sum().dtype == np.int64
    with pytest.raises(TypeError, match="dtype"):
        tensor(np.ones(2, np.longdouble))


@pytest.mark.parametrize(("name", "dim", "shapes"), [
    ("cat", 0, [(2, 3), (1, 3), (0, 3)]), ("cat", 1, [(2, 3), (2, 1)]), ("cat", -1, [(2, 2, 3), (2, 2, 1)]),
    ("cat", 0, [(4,)]), ("stack", 0, [(2, 3), (2, 3)]), ("stack", -1, [(2, 3)] * 3), ("stack", 1, [(2, 3), (2, 3)]),
])  # fmt: skip
def test_joining(np_rng, same_as_torch, check_gradients, name, dim, shapes):
    torch = pytest.importorskip("torch")
    arrays = [np_rng.standard_normal(shape) for shape in shapes]
    same_as_torch(
        lambda *tensors: getattr(nn, name)(tensors, dim), lambda *tensors: getattr(torch, name)(tensors, dim), *arrays
    )
    check_gradients(lambda *tensors: getattr(nn, name)([x * x for x in tensors], dim), *arrays)


def test_joining_a_tensor_with_itself_and_with_others_of_another_dtype():
    x, y = ones(2, requires_grad=True), ones(2, dtype=np.float64, requires_grad=True)
    nn.cat([x, x, y]).backward(np.arange(6.0))
    assert x.grad.tolist() == [2.0, 4.0] and x.grad.dtype == np.float32 and y.grad.dtype == np.float64
    assert nn.cat([x, tensor([1, 2])]).dtype == np.float32 and nn.stack([tensor(1), tensor(2)]).dtype == np.int64
    assert nn.stack([tensor(1), tensor(2)]).tolist() == [1, 2]


@pytest.mark.parametrize(("join", "argument", "error", "message"), [
    (nn.cat, [], RuntimeError, "non-empty"), (nn.stack, (), RuntimeError, "non-empty"),
    (nn.cat, ones(2, 2), TypeError, "list or tuple of Tensors"), (nn.stack, [np.ones(2)], TypeError, "element 0"),
    (nn.cat, [tensor(1.0)], RuntimeError, "use stack"),
    (nn.cat, [ones(2, 3), ones(2, 4)], RuntimeError, r"except in dimension 0.*\(2, 3\).*tensor 1 has \(2, 4\)"),
    (nn.stack, [ones(2), ones(3)], RuntimeError, r"\(2,\) and tensor 1 has \(3,\)"),
])  # fmt: skip
def test_joining_what_does_not_fit(join, argument, error, message):
    with pytest.raises(error, match=message):
        join(argument)
    for dim in (2, -3):
        with pytest.raises(IndexError, match=rf"dim={dim} is out of range.*\[-2, 1\]"):
            join([ones(2, 2)] if join is nn.cat else [ones(2)], dim)
