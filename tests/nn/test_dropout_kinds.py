"""The dropout layers that share decisions: gradients, modes, options. Which bits they take: tests/test_broadcast.py."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor, ones
from fastdrop.nn import functional as F

# layer, the same as functions on tensors and on arrays, options, an input's shape
KINDS = [
    (nn.Dropout1d, F.dropout1d, fd.dropout1d, {}, (3, 8, 5)),
    (nn.Dropout1d, F.dropout1d, fd.dropout1d, {"channels_last": True}, (5, 8)),
    (nn.Dropout2d, F.dropout2d, fd.dropout2d, {}, (3, 8, 4, 2)),
    (nn.Dropout2d, F.dropout2d, fd.dropout2d, {"channels_last": True}, (3, 4, 2, 8)),
    (nn.Dropout3d, F.dropout3d, fd.dropout3d, {}, (8, 2, 3, 2)),
    (nn.DropPath, F.drop_path, fd.drop_path, {}, (8, 3, 2)),
    (nn.DropPath, F.drop_path, fd.drop_path, {"mode": "batch"}, (8, 3)),
    (nn.LockedDropout, F.locked_dropout, fd.locked_dropout, {}, (4, 3, 8)),
    (nn.LockedDropout, F.locked_dropout, fd.locked_dropout, {"batch_first": True}, (3, 4, 8)),
]
kinds = pytest.mark.parametrize(("layer", "function", "plain", "options", "shape"), KINDS)


@kinds
@pytest.mark.parametrize("p", [0.3, 0.5, 1.0])
def test_values_and_gradients_are_the_mask_applied(np_rng, layer, function, plain, options, shape, p):
    for dtype in (np.float16, np.float32, np.float64):
        array, dy = np_rng.standard_normal((2, *shape)).astype(dtype)
        for take in (layer(p, generator=fd.Generator(5), **options), None):
            x = Tensor(array.copy(), requires_grad=True)
            y = take(x) if take else function(x, p, generator=fd.Generator(5), **options)
            y.backward(dy)
            np.testing.assert_array_equal(y.array, plain(array, p, rng=fd.Generator(5), **options))
            np.testing.assert_array_equal(x.grad.array, plain(dy, p, rng=fd.Generator(5), **options))
            assert y.dtype == x.grad.dtype == dtype


@kinds
def test_gradients_against_finite_differences(np_rng, check_gradients, layer, function, plain, options, shape):
    check_gradients(lambda x: function(x * x, 0.4, generator=fd.Generator(1), **options), np_rng.standard_normal(shape))


@kinds
def test_modes_and_in_place(layer, function, plain, options, shape):
    rng = fd.Generator(9)
    made = layer(0.5, generator=rng, **options)
    x = ones(*shape)
    assert made.eval()(x) is x and layer(0.0, generator=rng, **options)(x) is x and rng.call == 0
    first, second = made.train()(x), made(x)
    assert rng.call == 2 and first is not x
    assert set(np.unique(first.array)) | set(np.unique(second.array)) <= {0.0, 2.0}
    inside = layer(0.5, inplace=True, generator=fd.Generator(9), **options)
    assert inside(x) is x and np.array_equal(x.array, first.array)


@kinds
def test_repr_pickle_and_copy(layer, function, plain, options, shape):
    made = layer(0.25, generator=fd.Generator(2), **options)
    text = repr(made)
    assert text.startswith(f"{layer.__name__}(p=0.25, inplace=False, ")
    assert all(f"{name}={value!r}" in text for name, value in options.items())
    want = layer(0.25, generator=fd.Generator(2), **options)(ones(*shape)).array
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert repr(again) == text and np.array_equal(again(ones(*shape)).array, want)


@kinds
def test_bad_arguments(layer, function, plain, options, shape):
    for p, error in ((1.5, ValueError), (float("nan"), ValueError), ("half", TypeError), (True, TypeError)):
        with pytest.raises(error):
            layer(p, **options)
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        layer(0.5, generator=np.random.default_rng(0), **options)
    with pytest.raises(TypeError, match="floating"):
        layer(0.5, **options)(np.ones(shape, np.int64))


def test_an_option_is_refused_when_it_is_given():
    with pytest.raises(ValueError, match="'row' or 'batch'"):
        nn.DropPath(0.5, "rows")
    with pytest.raises(ValueError, match="2 or 3 axes"):
        nn.Dropout1d()(ones(2, 2, 2, 2))


@pytest.mark.parametrize(("name", "shape"), [("1d", (6, 50, 3)), ("1d", (50, 3)), ("2d", (6, 50, 3, 2)),
                                             ("3d", (6, 50, 2, 3, 2)), ("3d", (50, 2, 3, 2))])  # fmt: skip
def test_the_same_elements_share_a_decision_as_in_pytorch(name, shape):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, f"dropout{name}")(torch.ones(shape), 0.5).numpy()
    ours = getattr(F, f"dropout{name}")(ones(*shape), 0.5).array
    spatial = tuple(range(2 if len(shape) > int(name[0]) + 1 else 1, len(shape)))
    for y in (theirs, ours):
        assert set(np.unique(y)) == {0.0, 2.0}
        assert np.array_equal(y, np.broadcast_to(y.max(axis=spatial, keepdims=True), shape))
