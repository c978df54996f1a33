"""The DropBlock layers: gradients, modes, options. Which bits they take: tests/test_block.py."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor, ones
from fastdrop.nn import functional as F

# layer, the same as functions on tensors and on arrays, block size, options, an input's shape
KINDS = [
    (nn.DropBlock1d, F.drop_block1d, fd.drop_block1d, 3, {}, (3, 4, 9)),
    (nn.DropBlock1d, F.drop_block1d, fd.drop_block1d, (4,), {"channels_last": True}, (9, 5)),
    (nn.DropBlock2d, F.drop_block2d, fd.drop_block2d, 3, {}, (3, 4, 6, 5)),
    (nn.DropBlock2d, F.drop_block2d, fd.drop_block2d, (2, 9), {"channels_last": True}, (2, 6, 5, 4)),
    (nn.DropBlock3d, F.drop_block3d, fd.drop_block3d, 2, {}, (5, 4, 3, 5)),
]
kinds = pytest.mark.parametrize(("layer", "function", "plain", "block", "options", "shape"), KINDS)


@kinds
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_values_and_gradients_are_the_seeds_applied(np_rng, layer, function, plain, block, options, shape, p):
    for dtype in (np.float16, np.float32, np.float64):
        array, dy = np_rng.standard_normal((2, *shape)).astype(dtype)
        for take in (layer(p, block, generator=fd.Generator(5), **options), None):
            x = Tensor(array.copy(), requires_grad=True)
            y = take(x) if take else function(x, p, block, generator=fd.Generator(5), **options)
            y.backward(dy)
            np.testing.assert_array_equal(y.array, plain(array, p, block, rng=fd.Generator(5), **options))
            np.testing.assert_array_equal(x.grad.array, plain(dy, p, block, rng=fd.Generator(5), **options))
            assert y.dtype == x.grad.dtype == dtype


@kinds
def test_gradients_against_finite_differences(np_rng, check_gradients, layer, function, plain, block, options, shape):
    def squared(x):
        return function(x * x, 0.4, block, generator=fd.Generator(1), **options)

    check_gradients(squared, np_rng.standard_normal(shape))


@kinds
def test_modes_and_in_place(layer, function, plain, block, options, shape):
    rng = fd.Generator(9)
    made = layer(0.5, block, generator=rng, **options)
    x = ones(*shape)
    assert made.eval()(x) is x and layer(0.0, block, generator=rng, **options)(x) is x and rng.call == 0
    first = made.train()(x)
    made(x)
    assert rng.call == 2 and first is not x and set(np.unique(first.array)) <= {0.0, 2.0}
    inside = layer(0.5, block, inplace=True, generator=fd.Generator(9), **options)
    assert inside(x) is x and np.array_equal(x.array, first.array)
    leaf = Tensor(np.ones(shape), requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        layer(0.5, block, inplace=True, generator=rng, **options)(leaf)
    y = leaf * 1.0
    function(y, 0.5, block, inplace=True, generator=fd.Generator(9), **options).backward(np.ones(shape))
    np.testing.assert_array_equal(leaf.grad.array, first.array)


@kinds
def test_repr_pickle_and_copy(layer, function, plain, block, options, shape):
    made = layer(0.25, block, generator=fd.Generator(2), **options)
    text = repr(made)
    assert text.startswith(f"{layer.__name__}(p=0.25, inplace=False, block_size={block!r}, ")
    want = layer(0.25, block, generator=fd.Generator(2), **options)(ones(*shape)).array
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert repr(again) == text and np.array_equal(again(ones(*shape)).array, want)


@kinds
def test_bad_arguments(layer, function, plain, block, options, shape):
    for p, error in ((1.5, ValueError), (float("nan"), ValueError), ("half", TypeError), (True, TypeError)):
        with pytest.raises(error):
            layer(p, block, **options)
        with pytest.raises(error):
            function(ones(*shape), p, block, training=False, **options)
    for size, error in ((0, ValueError), (2.5, TypeError), ((2, 2, 2, 2), ValueError)):
        with pytest.raises(error, match="block_size"):
            layer(0.5, size, **options)
        with pytest.raises(error, match="block_size"):
            function(ones(*shape), 0.5, size, training=False, **options)
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        layer(0.5, block, generator=np.random.default_rng(0), **options)
    with pytest.raises(TypeError, match="floating"):
        layer(0.5, block, **options)(np.ones(shape, np.int64))
    with pytest.raises(ValueError, match="axes"):
        layer(0.5, block, **options)(ones(2))
