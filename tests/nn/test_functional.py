"""The operations behind the layers: finite differences, PyTorch's numbers, and clear errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdrop.nn import Tensor, no_grad, ones, tensor
from fastdrop.nn import functional as F


def torch_functional():
    return pytest.importorskip("torch").nn.functional


def distinct(np_rng, shape):
    """Numbers far enough apart that a finite step changes no maximum."""
    return np_rng.permutation(int(np.prod(shape))).reshape(shape) / 7 - 3.3


def layouts(x):
    """The same (N, C, H, W) values in other memory orders."""
    yield x
    yield np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=3)[..., ::2]
    yield x[:, :, ::-1].copy()[:, :, ::-1]


def test_relu():
    x = tensor([-1.0, 0.0, 2.0, np.nan], requires_grad=True)
    y = F.relu(x)
    np.testing.assert_array_equal(y.array, np.array([0, 0, 2, np.nan], np.float32))
    y.backward(np.array([np.inf, np.inf, 3, 1]))
    assert x.grad.tolist() == [0, 0, 3, 0]  # Not inf * 0: a gradient is selected, not multiplied.
    z = tensor([-1.0, 2.0])
    assert F.relu(z, inplace=True) is z and z.tolist() == [0, 2]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
def test_linear(check_gradients, same_as_torch, np_rng, shape, bias):
    arrays = [np_rng.standard_normal(s) for s in (shape, (5, 4), (5,))][: 3 if bias else 2]
    check_gradients(F.linear, *arrays)
    same_as_torch(F.linear, torch_functional().linear, *arrays)


CONVOLUTIONS = {
    "plain": ((2, 3, 6, 5), (4, 3, 3, 2), {}),
    "one channel": ((3, 1, 7, 7), (2, 1, 3, 3), {}),
    "many channels": ((1, 20, 4, 4), (3, 20, 2, 2), {}),
    "stride": ((2, 2, 7, 6), (3, 2, 3, 2), {"stride": (2, 3)}),
    "padding": ((2, 2, 4, 5), (3, 2, 3, 3), {"padding": (1, 2)}),
    "dilation": ((2, 2, 7, 7), (3, 2, 3, 2), {"dilation": (2, 3)}),
    "everything": ((2, 4, 8, 7), (6, 2, 3, 2), {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "groups": 2}),
    "depthwise": ((2, 3, 5, 5), (3, 1, 3, 3), {"groups": 3, "padding": 1}),
    "1x1": ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    "1x1 padded": ((2, 3, 4, 4), (5, 3, 1, 1), {"padding": 1}),
    "1x1 stride": ((2, 3, 5, 5), (4, 3, 1, 1), {"stride": 2}),
    "same": ((2, 2, 5, 6), (3, 2, 3, 3), {"padding": "same"}),
    "valid": ((2, 2, 5, 6), (3, 2, 3, 3), {"padding": "valid"}),
    "one image": ((2, 5, 5), (3, 2, 3, 3), {}),
    "no image": ((0, 2, 5, 5), (3, 2, 3, 3), {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(check_gradients, same_as_torch, np_rng, name):
    shape, weights, options = CONVOLUTIONS[name]
    arrays = [np_rng.standard_normal(s) for s in (shape, weights, weights[:1])]
    few = arrays[0][:1] if arrays[0].ndim == 4 else arrays[0]
    check_gradients(lambda *a: F.conv2d(*a, **options), few, *arrays[1:])
    conv2d = torch_functional().conv2d
    same_as_torch(lambda *a: F.conv2d(*a, **options), lambda *a: conv2d(*a, **options), *arrays)
    same_as_torch(lambda *a: F.conv2d(*a, **options), lambda *a: conv2d(*a, **options), *arrays[:2])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d_in_single_precision(isa, same_as_torch, np_rng, name):
    shape, weights, options = CONVOLUTIONS[name]
    arrays = [np_rng.standard_normal(s).astype(np.float32) for s in (shape, weights, weights[:1])]
    conv2d = torch_functional().conv2d
    for few in (arrays, arrays[:2]):
        same_as_torch(lambda *a: F.conv2d(*a, **options), lambda *a: conv2d(*a, **options), *few, rtol=1e-4, atol=1e-4)


def test_conv2d_does_not_depend_on_the_threads(np_rng):
    import fastdrop

    arrays = [np_rng.standard_normal(s).astype(np.float32) for s in ((37, 5, 14, 11), (20, 5, 3, 3), (20,))]
    before, found = fastdrop.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            fastdrop.set_num_threads(threads)
            tensors = [Tensor(a, requires_grad=True) for a in arrays]
            y = F.conv2d(*tensors, padding=1)
            (y * y).sum().backward()
            found.append([y.array] + [t.grad.array for t in tensors])
    finally:
        fastdrop.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_conv2d_over_several_chunks(same_as_torch, np_rng, monkeypatch):
    from fastdrop.nn import kernels

    monkeypatch.setattr(kernels, "_COLUMN_BYTES", 3 * 9 * 16 * 8 * 2)
    arrays = [np_rng.standard_normal(s) for s in ((5, 3, 6, 6), (4, 3, 3, 3), (4,))]
    for padding in (0, 1):
        same_as_torch(
            lambda *a, p=padding: F.conv2d(*a, padding=p),
            lambda *a, p=padding: torch_functional().conv2d(*a, padding=p),
            *arrays,
        )


def test_conv2d_takes_any_memory_order(np_rng):
    x = np_rng.standard_normal((2, 20, 6, 6))
    w, b = np_rng.standard_normal((4, 20, 3, 3)), np_rng.standard_normal(4)
    dy = np_rng.standard_normal((2, 4, 4, 4))
    results = []
    for layout in layouts(x):
        np.testing.assert_array_equal(layout, x)
        tensors = [Tensor(a, requires_grad=True) for a in (layout, w, b)]
        y = F.conv2d(*tensors)
        y.backward(dy)
        results.append([y.array] + [t.grad.array for t in tensors])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_no_gradient_is_computed_for_images_that_need_none(np_rng):
    x = np_rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    w = ones(4, 3, 3, 3, requires_grad=True)
    F.conv2d(x, w).sum().backward()
    assert w.grad.shape == w.shape and w.grad.dtype == np.float32


POOLS = {
    "2": ((2, 3, 6, 4), {"kernel_size": 2}),
    "2 odd": ((2, 3, 7, 5), {"kernel_size": 2}),
    "3x2": ((2, 2, 6, 6), {"kernel_size": (3, 2)}),
    "overlap": ((2, 2, 6, 7), {"kernel_size": 3, "stride": 2}),
    "sparse": ((2, 2, 8, 7), {"kernel_size": 2, "stride": 3}),
    "padding": ((2, 2, 6, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "dilation": ((2, 2, 8, 8), {"kernel_size": 2, "stride": 1, "dilation": 3}),
    "ceil": ((2, 2, 7, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil padded": ((2, 2, 6, 5), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "1": ((2, 2, 3, 3), {"kernel_size": 1}),
    "one image": ((2, 5, 6), {"kernel_size": 2}),
    "no image": ((0, 2, 5, 6), {"kernel_size": 2}),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool2d(check_gradients, same_as_torch, np_rng, name):
    shape, options = POOLS[name]
    check_gradients(lambda x: F.max_pool2d(x, **options), distinct(np_rng, shape))
    pool = torch_functional().max_pool2d
    tied = np_rng.integers(0, 3, shape).astype(np.float32)
    same_as_torch(lambda x: F.max_pool2d(x, **options), lambda x: pool(x, **options), tied)


@pytest.mark.parametrize("name", POOLS)
def test_max_pool2d_treats_nan_as_pytorch_does(same_as_torch, np_rng, name):
    shape, options = POOLS[name]
    pool = torch_functional().max_pool2d
    x = np_rng.choice([-np.inf, 0.0, 1.0, np.nan], shape, p=[0.4, 0.2, 0.2, 0.2]).astype(np.float32)
    same_as_torch(lambda x: F.max_pool2d(x, **options), lambda x: pool(x, **options), x)


def test_large_windows(same_as_torch, np_rng):
    x = np_rng.integers(0, 50, (2, 3, 40, 33)).astype(np.float32)
    same_as_torch(lambda x: F.max_pool2d(x, (30, 20), 3), lambda x: torch_functional().max_pool2d(x, (30, 20), 3), x)


@pytest.mark.parametrize("function", [F.relu, lambda x: F.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 3, 1)])
def test_half_precision(function, np_rng):
    x = np_rng.integers(-8, 8, (2, 3, 6, 6)).astype(np.float16)
    tensors = [Tensor(x.astype(dtype), requires_grad=True) for dtype in (np.float16, np.float64)]
    for t in tensors:
        y = function(t)
        assert y.dtype == t.dtype
        y.backward(np.ones(y.shape, y.dtype))
        assert t.grad.dtype == t.dtype
    np.testing.assert_array_equal(function(tensors[0]).array, function(tensors[1]).array)
    np.testing.assert_array_equal(tensors[0].grad.array, tensors[1].grad.array)


@pytest.mark.parametrize("inplace", [False, True])
def test_relu_takes_any_memory_order(np_rng, inplace):
    values = np_rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    wide = np.zeros(values.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(values.shape)
    np.copyto(wide, values)  # not aligned
    for layout in [*layouts(values), wide, values.astype(">f4")]:
        leaf = Tensor(layout.copy(order="K") if layout is not wide else layout, requires_grad=True)
        y = F.relu(leaf * 1 if inplace else leaf, inplace)
        np.testing.assert_array_equal(y.array, np.maximum(values, 0))
        y.backward(np.ascontiguousarray(values))
        np.testing.assert_array_equal(leaf.grad.array, np.where(values > 0, values, 0))


def test_max_pool2d_takes_any_memory_order(same_as_torch, np_rng):
    for layout in layouts(np_rng.integers(0, 3, (2, 3, 6, 6)).astype(np.float32)):
        same_as_torch(lambda x: F.max_pool2d(x, 2), lambda x: torch_functional().max_pool2d(x, 2), layout)
        x = Tensor(layout, requires_grad=True)
        F.max_pool2d(x, 3, 1).sum().backward()
        y = Tensor(np.ascontiguousarray(layout), requires_grad=True)
        F.max_pool2d(y, 3, 1).sum().backward()
        np.testing.assert_array_equal(x.grad.array, y.grad.array)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 3),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_conv2d_against_a_plain_loop(n, channels, size, kernel, stride, dilation, padding):
    x = np.random.default_rng(0).standard_normal((n, channels, *size))
    w = np.random.default_rng(1).standard_normal((2, channels, *kernel))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    counts = [(s + 2 * p - e) // t + 1 for s, p, e, t in zip(size, padding, spans, stride, strict=True)]
    if min(counts) < 1:
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            F.conv2d(x, w, None, stride, padding, dilation)
        return
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    expected = np.zeros((n, 2, *counts))
    for i, j in np.ndindex(*counts):
        top, left = i * stride[0], j * stride[1]
        window = padded[:, :, top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1]]
        expected[:, :, i, j] = np.einsum("nchw,ochw->no", window, w)
    np.testing.assert_allclose(F.conv2d(x, w, None, stride, padding, dilation).array, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(check_gradients, same_as_torch, np_rng, name, dim):
    x = np_rng.standard_normal((3, 4))
    check_gradients(lambda t: getattr(F, name)(t, dim), x)
    same_as_torch(lambda t: getattr(F, name)(t, dim), lambda t: getattr(torch_functional(), name)(t, dim), x * 300)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.linear(ones(2, 3), ones(4, 5)), RuntimeError, r"expected input of shape \(..., 5\).*\(2, 3\)"),
        (lambda: F.linear(np.ones((2, 5)), ones(4, 5)), RuntimeError, r"float64.*float32.*\.float\(\)"),
        (lambda: F.linear(np.ones((2, 5), np.uint8), ones(4, 5)), RuntimeError, "uint8"),
        (lambda: F.conv2d(ones(2, 3), ones(4, 3, 3, 3)), RuntimeError, "3D .unbatched. or 4D"),
        (lambda: F.conv2d(ones(2, 2, 5, 5), ones(4, 3, 3, 3)), RuntimeError, "to have 3 channels, but got 2 channels"),
        (lambda: F.conv2d(ones(2, 3, 2, 5), ones(4, 3, 3, 3)), RuntimeError, r"Kernel size: \(3 x 3\)"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=0), ValueError, "stride must be at least 1"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), padding=-1), ValueError, "padding must be at least 0"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), padding="full"), ValueError, "'valid', 'same'"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=2, padding="same"), ValueError, "strided"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 2, 2), padding="same"), NotImplementedError, "odd span"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=1.5), TypeError, "stride must be an int"),
        (lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), groups=3), ValueError, "groups must divide the 4"),
        (lambda: F.max_pool2d(ones(3, 3), 2), RuntimeError, "3D or 4D"),
        (lambda: F.max_pool2d(np.ones((1, 4, 4), int), 2), TypeError, "int64"),
        (lambda: F.max_pool2d(ones(1, 3, 3), 4), RuntimeError, "does not fit"),
        (lambda: F.max_pool2d(ones(1, 3, 3), 2, padding=2), ValueError, "at most half"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_recorded_without_need():
    w = ones(2, 2, requires_grad=True)
    with no_grad():
        assert not F.relu(F.linear(ones(1, 2), w)).requires_grad
    assert not F.max_pool2d(ones(1, 4, 4), 2).requires_grad
