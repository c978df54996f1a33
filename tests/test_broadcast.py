"""Dropout that shares decisions: one table of kinds, and what holds for each, as functions and as layers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn, reference
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

LAST = {"channels_last": True}
# function on arrays, on tensors, and layer, if there are; options, an input's shape, the noise shape it stands for
KINDS = [
    (fd.spatial_dropout, None, None, {}, (6, 40, 5, 7), (6, 40, 1, 1)),
    (fd.spatial_dropout, None, None, LAST, (6, 5, 7, 40), (6, 1, 1, 40)),
    (fd.spatial_dropout, None, None, {}, (6, 40, 5), (6, 40, 1)),
    (fd.dropout1d, F.dropout1d, nn.Dropout1d, {}, (6, 40, 33), (6, 40, 1)),
    (fd.dropout1d, F.dropout1d, nn.Dropout1d, LAST, (6, 33, 40), (6, 1, 40)),
    (fd.dropout1d, F.dropout1d, nn.Dropout1d, {}, (240, 9), (240, 1)),
    (fd.dropout1d, F.dropout1d, nn.Dropout1d, LAST, (9, 240), (1, 240)),
    (fd.dropout2d, F.dropout2d, nn.Dropout2d, {}, (6, 40, 7, 7), (6, 40, 1, 1)),
    (fd.dropout2d, F.dropout2d, nn.Dropout2d, LAST, (6, 7, 7, 40), (6, 1, 1, 40)),
    (fd.dropout3d, F.dropout3d, nn.Dropout3d, {}, (6, 40, 2, 3, 4), (6, 40, 1, 1, 1)),
    (fd.dropout3d, F.dropout3d, nn.Dropout3d, LAST, (6, 2, 3, 4, 40), (6, 1, 1, 1, 40)),
    (fd.dropout3d, F.dropout3d, nn.Dropout3d, {}, (240, 2, 3, 4), (240, 1, 1, 1)),
    (fd.drop_path, F.drop_path, nn.DropPath, {}, (240, 5, 3), (240, 1, 1)),
    (fd.drop_path, F.drop_path, nn.DropPath, {"mode": "batch"}, (24, 5, 3), (1, 1, 1)),
    (fd.locked_dropout, F.locked_dropout, nn.LockedDropout, {}, (11, 6, 40), (1, 6, 40)),
    (fd.locked_dropout, F.locked_dropout, nn.LockedDropout, {"batch_first": True}, (6, 11, 40), (6, 1, 40)),
    (fd.locked_dropout, F.locked_dropout, nn.LockedDropout, {}, (11, 240), (1, 240)),
    (fd.token_dropout, F.token_dropout, nn.TokenDropout, {}, (6, 40, 9), (6, 40, 1)),
]


def table(*columns):
    """Some columns of the table, as parameters of a test, for the kinds that have them all."""
    names = ("function", "tensors", "layer", "options", "shape", "noise_shape")
    rows = [[row[names.index(c)] for c in columns] for row in KINDS]
    ids = [f"{row[0].__name__}-{len(row[4])}{'-'.join(['', *row[3]])}" for row in KINDS]
    chosen = [pytest.param(*row, id=name) for row, name in zip(rows, ids) if None not in row]
    return pytest.mark.parametrize(columns, chosen)


kinds = table("function", "options", "shape", "noise_shape")
layers = table("layer", "tensors", "function", "options", "shape")


def same_bits(a, b):
    u = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.view(u), b.view(u))


@kinds
def test_it_is_the_reference(isa, dtype, function, options, shape, noise_shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for p in (0.5, 0.1, 1.0):
        rng = fd.Generator(3)
        y = function(x, p, rng=rng, **options)
        assert rng.call == 1
        assert same_bits(y, reference.dropout(x, p, rng.key, 0, noise_shape=noise_shape))
        out = x.copy()
        assert function(out, p, rng=fd.Generator(3), out=out, **options) is out and same_bits(out, y)


@kinds
def test_nothing_to_do_gives_the_input_itself(function, options, shape, noise_shape):
    x, rng = np.ones(shape, np.float32), fd.Generator(0)
    assert function(x, 0.0, rng=rng, **options) is x
    assert function(x, 0.5, False, rng=rng, **options) is x
    assert rng.call == 0
    x[:] = np.inf
    assert not function(x, 1.0, **options).any()


@kinds
def test_a_mask_can_be_used_again(function, options, shape, noise_shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    mask = fd.Generator(7).mask(noise_shape, 0.3)
    y = function(x, 0.3, mask=mask, **options)
    assert same_bits(y, function(x, 0.3, rng=fd.Generator(7), **options))
    assert same_bits(y, mask.broadcast_to(shape).apply(x))


@kinds
def test_statistics(function, options, shape, noise_shape):
    """Equal along what shares a decision; at rate p, and unrelated from one decision to the next, along what does not.

    400 calls of 240 decisions (of 1 for "batch"): the rate, and the correlation of neighbours along each axis and from
    call to call, are within 5 standard deviations, which fails once in 1.7 million runs each. So is the variance of how
    many a call keeps, within 5 of its standard errors (a normal distribution's, sqrt(2 / 400)). The seed is fixed.
    """
    p, rng, x = 0.3, fd.Generator(11), np.ones(shape, np.float32)
    kept = []
    for _ in range(400):
        y = function(x, p, rng=rng, **options)
        alike = tuple(slice(0, k) for k in noise_shape)
        assert np.array_equal(y, np.broadcast_to(y[alike], shape))
        kept.append(y[alike] != 0)
    decisions = np.stack(kept).astype(float)
    variance, n = p * (1 - p), decisions.size
    assert abs(decisions.mean() - (1 - p)) < 5 * np.sqrt(variance / n)
    centred = (decisions - (1 - p)) / np.sqrt(variance)
    for axis in range(centred.ndim):
        along = np.moveaxis(centred, axis, 0)
        if len(along) > 1:
            pairs = along[1:] * along[:-1]
            assert abs(pairs.mean()) < 5 / np.sqrt(pairs.size)
    per_call = n / len(kept)
    assert abs(centred.reshape(len(kept), -1).sum(1).var() / per_call - 1) < 5 * np.sqrt(2 / len(kept))


def test_spatial_dropout_is_the_view_that_its_docstring_names():
    x = np.random.default_rng(0).standard_normal((3, 5, 4, 4)).astype(np.float32)
    mask = fd.Generator(1).mask((3, 5), 0.4)[:, :, None, None].broadcast_to(x.shape)
    assert same_bits(fd.spatial_dropout(x, 0.4, rng=fd.Generator(1)), mask.apply(x))


def test_dropout2d_of_three_axes_reads_them_as_pytorch_does():
    x = np.ones((4, 6, 9), np.float32)
    with pytest.warns(UserWarning, match=r"\(N, C, L\)") as seen:
        y = fd.dropout2d(x, 0.5, rng=fd.Generator(2))
    assert seen[0].filename == __file__
    assert same_bits(y, fd.dropout1d(x, 0.5, rng=fd.Generator(2)))
    with pytest.warns(UserWarning, match=r"\(N, L, C\)"):
        y = fd.dropout2d(x, 0.5, channels_last=True, rng=fd.Generator(2))
    assert same_bits(y, fd.dropout1d(x, 0.5, channels_last=True, rng=fd.Generator(2)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rng: fd.spatial_dropout(np.ones((2, 3)), rng=rng), r"at least 3 axes, \(N, C, ...\), but got \(2, 3\)"),
        (lambda rng: fd.spatial_dropout(np.ones(3), channels_last=True, rng=rng), r"\(N, ..., C\)"),
        (lambda rng: fd.dropout1d(np.ones(3), rng=rng), r"dropout1d takes 2 or 3 axes, \(C, L\) or with N"),
        (lambda rng: fd.dropout1d(np.ones((1, 1, 1, 1)), 0.0, rng=rng), "2 or 3 axes"),
        (lambda rng: fd.dropout2d(np.ones((2, 3)), rng=rng), r"3 or 4 axes, \(C, H, W\)"),
        (lambda rng: fd.dropout2d(np.ones((2,) * 5), False, rng=rng), "3 or 4 axes"),
        (lambda rng: fd.dropout3d(np.ones((2,) * 3), channels_last=True, rng=rng), r"\(D, H, W, C\)"),
        (lambda rng: fd.drop_path(np.ones(3), mode="rows", rng=rng), "'row' or 'batch', but got 'rows'"),
        (lambda rng: fd.drop_path(np.float32(1), rng=rng), "at least 1 axis"),
        (lambda rng: fd.locked_dropout(np.ones(3), rng=rng), r"3 axes, \(T, N, C\), or 2"),
        (lambda rng: fd.locked_dropout(np.ones((2,) * 4), batch_first=True, rng=rng), r"\(N, T, C\)"),
        (lambda rng: fd.drop_path(np.ones(3), 1.5, rng=rng), "dropout probability"),
    ],
)
def test_bad_input_takes_no_call(call, words):
    rng = fd.Generator(0)
    with pytest.raises(ValueError, match=words):
        call(rng)
    assert rng.call == 0


# ---- the layers ----


@layers
@pytest.mark.parametrize("p", [0.3, 0.5, 1.0])
def test_values_and_gradients_are_the_mask_applied(layer, tensors, function, options, shape, p):
    for dtype in (np.float16, np.float32, np.float64):
        array, dy = np.random.default_rng(7).standard_normal((2, *shape)).astype(dtype)
        for take in (layer(p, generator=fd.Generator(5), **options), None):
            x = Tensor(array.copy(), requires_grad=True)
            y = take(x) if take else tensors(x, p, generator=fd.Generator(5), **options)
            y.backward(dy)
            np.testing.assert_array_equal(y.array, function(array, p, rng=fd.Generator(5), **options))
            np.testing.assert_array_equal(x.grad.array, function(dy, p, rng=fd.Generator(5), **options))
            assert y.dtype == x.grad.dtype == dtype


@layers
def test_gradients_against_finite_differences(check_gradients, layer, tensors, function, options, shape):
    small = np.random.default_rng(7).standard_normal([min(n, 3) for n in shape])
    check_gradients(lambda x: tensors(x * x, 0.4, generator=fd.Generator(1), **options), small)


@layers
def test_modes_and_in_place(layer, tensors, function, options, shape):
    rng = fd.Generator(9)
    made = layer(0.5, generator=rng, **options)
    x = nn.ones(*shape)
    assert made.eval()(x) is x and layer(0.0, generator=rng, **options)(x) is x and rng.call == 0
    first, second = made.train()(x), made(x)
    assert rng.call == 2 and first is not x
    assert set(np.unique(first.array)) | set(np.unique(second.array)) <= {0.0, 2.0}
    inside = layer(0.5, inplace=True, generator=fd.Generator(9), **options)
    assert inside(x) is x and np.array_equal(x.array, first.array)


@layers
def test_repr_pickle_and_copy(layer, tensors, function, options, shape):
    made = layer(0.25, generator=fd.Generator(2), **options)
    text = repr(made)
    assert text.startswith(f"{layer.__name__}(p=0.25, inplace=False")
    assert all(f"{name}={value!r}" in text for name, value in options.items())
    want = layer(0.25, generator=fd.Generator(2), **options)(nn.ones(*shape)).array
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert repr(again) == text and np.array_equal(again(nn.ones(*shape)).array, want)


@layers
def test_bad_arguments(layer, tensors, function, options, shape):
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
        nn.Dropout1d()(nn.ones(2, 2, 2, 2))


@pytest.mark.parametrize(("name", "shape"), [("1d", (6, 50, 3)), ("1d", (50, 3)), ("2d", (6, 50, 3, 2)),
                                             ("3d", (6, 50, 2, 3, 2)), ("3d", (50, 2, 3, 2))])  # fmt: skip
def test_the_same_elements_share_a_decision_as_in_pytorch(name, shape):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, f"dropout{name}")(torch.ones(shape), 0.5).numpy()
    ours = getattr(F, f"dropout{name}")(nn.ones(*shape), 0.5).array
    spatial = tuple(range(2 if len(shape) > int(name[0]) + 1 else 1, len(shape)))
    for y in (theirs, ours):
        assert set(np.unique(y)) == {0.0, 2.0}
        assert np.array_equal(y, np.broadcast_to(y.max(axis=spatial, keepdims=True), shape))
