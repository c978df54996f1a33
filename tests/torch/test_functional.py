"""The functions on tensors: masks bit for bit, values, layouts, dtypes, errors and warnings."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import fastdrop as fd

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

F, TF = ft.functional, torch.nn.functional
HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, *HALVES)

# kind, options, shape, noise shape
SHARED = [
    (F.dropout, {}, (6, 40, 9), (6, 40, 9)),
    (F.dropout, {}, (), ()),
    (F.dropout1d, {}, (6, 5, 9), (6, 5, 1)),
    (F.dropout1d, {}, (5, 9), (5, 1)),
    (F.dropout2d, {}, (6, 5, 4, 9), (6, 5, 1, 1)),
    (F.dropout3d, {}, (6, 5, 4, 3, 2), (6, 5, 1, 1, 1)),
    (F.dropout3d, {}, (5, 4, 3, 2), (5, 1, 1, 1)),
    (F.drop_path, {}, (16, 5, 4), (16, 1, 1)),
    (F.drop_path, {"mode": "batch"}, (16, 5, 4), (1, 1, 1)),
    (F.locked_dropout, {}, (7, 6, 5), (1, 6, 5)),
    (F.locked_dropout, {"batch_first": True}, (7, 6, 5), (7, 1, 5)),
]
ALPHA = [(F.alpha_dropout, (6, 40), (6, 40)), (F.feature_alpha_dropout, (6, 40, 3, 2), (6, 40, 1, 1))]


def next_mask(shape, p):
    """The mask of the next call under PyTorch's generator, which stays as it is."""
    state = torch.get_rng_state()
    key = int(torch.empty((), dtype=torch.int64).random_()) % 2**62
    torch.set_rng_state(state)
    return fd.Mask(key, 0, p, shape)


def array(x):
    return x.detach().double().numpy()


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("function, options, shape, noise", SHARED)
def test_values(isa, function, options, shape, noise, p):
    torch.manual_seed(7)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    rng = fd.Generator(3)
    for generator, mask in ((None, next_mask(noise, p)), (rng, fd.Generator(3).mask(noise, p))):
        expected = mask.broadcast_to(shape)
        y = function(x, p, True, generator=generator, **options)
        np.testing.assert_array_equal(array(y), expected.apply(array(x)))
        (dx,) = torch.autograd.grad(y.sum(), x)
        np.testing.assert_array_equal(array(dx), expected.apply(np.ones(shape)))
    assert rng.call == 1


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("function, shape, noise", ALPHA)
def test_alpha(function, shape, noise, p):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mask = fd.Generator(4).mask(noise, p).broadcast_to(shape)
    y = function(x, p, True, generator=fd.Generator(4))
    np.testing.assert_array_equal(array(y), fd.alpha_dropout(array(x), p, mask=mask))
    (dx,) = torch.autograd.grad(y.sum(), x)
    scale = fd.alpha.alpha_constants(p)[0]
    np.testing.assert_array_equal(array(dx), np.asarray(mask) * scale)
    assert function(x, p) is x  # PyTorch's default is not to train


@pytest.mark.parametrize("shape", [(3, 9, 8), (2, 3, 9, 8), (2, 3, 2, 2)])
def test_drop_block(shape):
    x = torch.randn(shape, requires_grad=True)
    y = F.drop_block2d(x, 0.3, 3, generator=fd.Generator(5))
    expected = fd.drop_block2d(x.detach().numpy(), 0.3, 3, rng=fd.Generator(5))
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    (dx,) = torch.autograd.grad(y.sum(), x)
    np.testing.assert_array_equal(dx.numpy() != 0, expected != 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dtypes_are_rounded_once(dtype, p):
    x = torch.randn(1000).to(dtype)
    y = F.dropout(x, p, generator=fd.Generator(1))
    assert y.dtype == dtype
    keep = np.asarray(fd.Generator(1).mask(1000, p))
    factor = torch.tensor(1 / (1 - p), dtype=torch.float32 if dtype in HALVES else dtype)
    wide = x.float() if dtype in HALVES else x
    assert torch.equal(y, torch.where(torch.from_numpy(keep), (wide * factor).to(dtype), torch.zeros((), dtype=dtype)))


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2),
    "channels_last": lambda x: x[None].contiguous(memory_format=torch.channels_last)[0],
    "sliced": lambda x: x[::2, 1:, ::3],
    "expanded": lambda x: x[:, :1].expand(-1, 5, -1),
    "storage_offset": lambda x: x[3:],
    "negated": lambda x: torch.complex(x, x).conj().imag,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = LAYOUTS[layout](torch.randn(6, 7, 8))
    for leaf in (x, x.detach().requires_grad_()):
        y = F.dropout(leaf, 0.5, generator=fd.Generator(2))
        mask = fd.Generator(2).mask(tuple(x.shape), 0.5)
        np.testing.assert_array_equal(array(y), mask.apply(array(x)))
        assert y.stride() == TF.dropout(leaf, 0.5).stride()


def test_channels_last_stays():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    for function in (F.dropout, F.dropout2d, F.drop_block2d):
        assert function(x, 0.5).is_contiguous(memory_format=torch.channels_last)


def test_dropped_infinities_are_zeros():
    x = torch.full((64,), math.nan, requires_grad=True)
    y = F.dropout(x, 0.5, generator=fd.Generator(0))
    keep = np.asarray(fd.Generator(0).mask(64, 0.5))
    np.testing.assert_array_equal(np.isnan(y.detach().numpy()), keep)
    assert torch.equal(F.dropout(x, 1.0), torch.zeros(64))


@pytest.mark.parametrize("function", [F.dropout, F.dropout2d, F.drop_path, F.drop_block2d])
def test_nothing_to_drop_gives_the_input_and_draws_nothing(function):
    state = torch.get_rng_state()
    x = torch.ones(2, 3, 4, 5)
    assert function(x, 0.0) is x
    assert function(x, 0.5, training=False) is x
    empty = torch.ones(2, 3, 0, 5)
    assert function(empty, 0.5).shape == empty.shape
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
@pytest.mark.parametrize(
    "function", [getattr(F, name) for name in F.__all__ if "attention" not in name and "connect" not in name]
)
def test_bad_p(function, p):
    state, rng = torch.get_rng_state(), fd.Generator(0)
    for generator in (None, rng):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            function(torch.ones(2, 3, 4), p, generator=generator)
    assert rng.call == 0 and torch.equal(state, torch.get_rng_state())


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"argument .input. .* must be Tensor, not numpy.ndarray"):
        F.dropout(np.ones(3))
    with pytest.raises(TypeError, match=r"generator has to be a fastdrop\.Generator, but got a Generator"):
        F.dropout(torch.ones(3), generator=torch.Generator())
    rng = fd.Generator(0)
    with pytest.raises(
        ValueError, match=r"generator is for floating tensors on the CPU, but got torch.float32 on meta"
    ):
        F.dropout(torch.ones(3, device="meta"), generator=rng)
    with pytest.raises(RuntimeError, match="dropout1d: Expected 2D or 3D input"):
        F.dropout1d(torch.ones(2, 3, 4, 5), generator=rng)
    for function in (F.feature_alpha_dropout, F.dropout3d):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(RuntimeError, match="at least 2 dimensions"):
                function(torch.ones(3), 0.5, True, generator=rng)
    assert rng.call == 0


@pytest.mark.parametrize(
    "name, rank", [("dropout2d", 2), ("dropout2d", 3), ("dropout2d", 5), ("dropout3d", 3), ("dropout3d", 6)]
)
def test_ranks_that_warn(name, rank):
    x = torch.ones((3,) * rank)
    with pytest.warns(UserWarning) as theirs:
        expected = getattr(TF, name)(x, 0.5)
    with pytest.warns(UserWarning) as ours:
        y = getattr(F, name)(x, 0.5)
    assert [str(w.message)[:40] for w in ours] == [str(w.message)[:40] for w in theirs]
    assert y.shape == expected.shape


def test_in_place():
    mask = fd.Generator(1).mask((4, 8), 0.5)
    x = torch.ones(4, 8)
    version = x._version
    assert F.dropout(x, 0.5, inplace=True, generator=fd.Generator(1)) is x
    assert x._version > version
    np.testing.assert_array_equal(x.numpy(), mask.apply(np.ones((4, 8), np.float32)))
    leaf = torch.ones(4, 8, requires_grad=True)
    y = leaf * 1
    assert F.dropout(y, 0.5, inplace=True, generator=fd.Generator(1)) is y
    y.sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), mask.apply(np.ones((4, 8), np.float32)))


def test_in_place_where_autograd_forbids_it():
    rng = fd.Generator(1)
    leaf = torch.ones(4, 8, requires_grad=True)
    for x in (leaf, leaf.view(-1)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            F.dropout(x, 0.5, inplace=True, generator=rng)
    with pytest.raises(RuntimeError, match="single memory location"):
        F.dropout(torch.ones(1).expand(5), 0.5, inplace=True, generator=rng)
    assert rng.call == 0 and bool((leaf == 1).all())
    part = (leaf * 1).unbind(0)[0]
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        F.dropout(part, 0.5, inplace=True)
    assert bool((part.detach() == 1).all())
    y = leaf * 1
    assert F.dropout(y[1], 0.5, inplace=True, generator=rng)._base is y
    y.sum().backward()
    assert bool((leaf.grad[0] == 1).all()) and set(leaf.grad[1].tolist()) == {0.0, 2.0}
    leaf.grad = None
    y = leaf.exp()  # needs its result in backward
    F.dropout(y, 0.5, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.5}])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention(mask, options):
    if mask is not None and "is_causal" in options:
        pytest.skip("PyTorch takes one of them")
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64, requires_grad=True) for n in (5, 6, 6))
    given = {"bool": torch.rand(5, 6) > 0.3, "float": torch.randn(5, 6, dtype=torch.float64), None: None}[mask]
    with pytest.raises(ValueError, match="dropout probability"):
        F.scaled_dot_product_attention(q, k, v, given, 1.5, **options)
    y = F.scaled_dot_product_attention(q, k, v, given, 1e-12, **options)  # a threshold of 32 bits keeps all
    z = TF.scaled_dot_product_attention(q, k, v, given, **options)
    torch.testing.assert_close(y, z)
    for a, b in zip(torch.autograd.grad(y.sum(), (q, k, v)), torch.autograd.grad(z.sum(), (q, k, v))):
        torch.testing.assert_close(a, b)
    eye = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    weights = F.scaled_dot_product_attention(q, k, eye, given, 0.5, generator=fd.Generator(0), **options)
    kept = TF.scaled_dot_product_attention(q, k, eye, given, **options)
    keep = torch.from_numpy(np.asarray(fd.Generator(0).mask((2, 3, 5, 6), 0.5)))
    torch.testing.assert_close(weights, kept * keep * 2)


@pytest.mark.parametrize("given", [None, "bool", "float", "causal", "trained", "empty rows"])
def test_gradients_of_attention(given):
    """Those of one node against those of PyTorch's operators around the same mask; and of any order."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 6, 6))
    mask = {
        "bool": torch.rand(2, 1, 5, 6) > 0.3,
        "float": torch.randn(5, 6, dtype=torch.float64),
        "trained": torch.randn(5, 6, dtype=torch.float64, requires_grad=True),
        "empty rows": (torch.arange(5) > 1)[:, None].expand(5, 6),
    }.get(given)
    options = {"is_causal": True} if given == "causal" else {"attn_mask": mask}
    keep = torch.from_numpy(np.asarray(fd.Generator(3).mask((2, 3, 5, 6), 0.5)))
    leaves = (q, k, v) if given != "trained" else (q, k, v, mask)

    def ours(*_):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, generator=fd.Generator(3), **options)

    eye = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    expected = (TF.scaled_dot_product_attention(q, k, eye, **options) * keep * 2) @ v
    y = ours()
    torch.testing.assert_close(y, expected)
    g = torch.randn_like(y)
    for a, b in zip(*(torch.autograd.grad(z, leaves, g, retain_graph=True) for z in (y, expected))):
        torch.testing.assert_close(a, b)
    for leaf in leaves:  # alone, whatever else may want none
        others = [t.requires_grad_(t is leaf) for t in leaves]
        (found,) = torch.autograd.grad(ours(), leaf, g)
        torch.testing.assert_close(found, torch.autograd.grad(y, leaf, g, retain_graph=True)[0])
        assert all(t.requires_grad_() is t for t in others)
    assert torch.autograd.gradcheck(ours, leaves)
    assert torch.autograd.gradgradcheck(ours, leaves)
    batched = torch.autograd.grad(ours(), leaves, torch.stack([g, 2 * g]), is_grads_batched=True)
    for a, b in zip(batched, torch.autograd.grad(ours(), leaves, g)):
        torch.testing.assert_close(a[1], 2 * b)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_attention_to_what_is_shared(create_graph):
    x = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    made = x * 2
    calls = []
    made.register_hook(calls.append)

    def attend(f):
        torch.manual_seed(0)
        return torch.autograd.grad(f(made, made, made * x).square().sum(), x, create_graph=create_graph)[0]

    dx = attend(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5))
    assert len(calls) == 1
    made = x * 2
    expected = attend(lambda q, k, v: F.dropout((q @ k.mT / 2).softmax(-1), 0.5) @ v)
    torch.testing.assert_close(dx, expected)
    if create_graph:
        torch.testing.assert_close(*(torch.autograd.grad(d.square().sum(), x)[0] for d in (dx, expected)))
    assert torch.autograd.gradgradcheck(
        lambda x: F.scaled_dot_product_attention(x, x, x * 2, dropout_p=0.5, generator=fd.Generator(0)), x
    )


def test_attention_keeps_its_weights_alone():
    saved = []
    q, k, v = (torch.randn(2, 3, n, 4, requires_grad=True) for n in (5, 6, 6))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        F.scaled_dot_product_attention(q, k, v, dropout_p=0.5).sum().backward()
    assert [t.shape for t in saved if all(t is not x for x in (q, k, v))] == [(2, 3, 5, 6)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_dtypes_and_layouts(dtype):
    torch.manual_seed(0)
    made = [torch.randn(2, n, 3, 8).to(dtype).transpose(1, 2).requires_grad_() for n in (5, 6, 6)]
    wide = [t.detach().double().requires_grad_() for t in made]
    y, z = (F.scaled_dot_product_attention(*t, dropout_p=0.3, generator=fd.Generator(1)) for t in (made, wide))
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}.get(dtype, 0.1)
    torch.testing.assert_close(y.double(), z, rtol=tolerance, atol=tolerance)
    g = torch.randn_like(z)
    for a, b in zip(torch.autograd.grad(y, made, g.to(dtype)), torch.autograd.grad(z, wide, g)):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)
    assert not F.scaled_dot_product_attention(*made, dropout_p=1.0).any()


def test_attention_broadcasts_and_takes_nothing():
    q, k = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(1, 3, 6, 8, requires_grad=True)
    F.scaled_dot_product_attention(q, k, k, dropout_p=0.5).sum().backward()
    assert k.grad.shape == k.shape
    empty = torch.randn(0, 3, 5, 8, requires_grad=True)
    assert F.scaled_dot_product_attention(empty, empty, empty, dropout_p=0.5).shape == (0, 3, 5, 8)
    with pytest.raises(RuntimeError):
        F.scaled_dot_product_attention(q, torch.randn(2, 3, 6, 7), k, dropout_p=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_takes_a_float32_mask(dtype):
    q = torch.randn(2, 3, 5, 8).to(dtype)
    mask = torch.randn(5, 5)
    y = F.scaled_dot_product_attention(q, q, q, mask, 0.3, generator=fd.Generator(1))
    z = F.scaled_dot_product_attention(q, q, q, mask.to(dtype), 0.3, generator=fd.Generator(1))
    assert y.dtype == dtype and torch.equal(y, z)


def test_attention_lets_its_mask_be_overwritten():
    q = torch.randn(2, 5, 8, requires_grad=True)
    with torch.inference_mode():
        never = torch.randn(5, 5)
    for mask in (torch.randn(5, 5), torch.rand(5, 5) > 0.3, never):
        y = F.scaled_dot_product_attention(q, q, q, mask, 0.3)
        (expected,) = torch.autograd.grad(y.sum(), q, retain_graph=True)
        if mask is not never:
            mask.fill_(False)
            with pytest.raises(RuntimeError, match="attn_mask was modified"):
                torch.autograd.grad(y.sum(), q, create_graph=True)
        assert torch.equal(torch.autograd.grad(y.sum(), q)[0], expected)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"query": torch.ones(8)}, "at least 2 axes, but got 1, 3 and 3"),
        ({"key": torch.ones(2, 5, 8).double()}, "same dtype, but got torch.float32, torch.float64 and torch.float32"),
        ({"attn_mask": torch.ones(5, 5, dtype=torch.int64)}, "attn_mask has to be bool, .* but got torch.int64"),
        ({"attn_mask": torch.ones(5, 5), "is_causal": True}, "attn_mask should not be set"),
    ],
)
def test_attention_refuses(changes, match):
    tensors = dict.fromkeys(("query", "key", "value"), torch.ones(2, 5, 8))
    rng = fd.Generator(0)
    with pytest.raises(RuntimeError, match=match):
        F.scaled_dot_product_attention(**{**tensors, **changes}, dropout_p=0.5, generator=rng)
    assert rng.call == 0
    with pytest.raises(RuntimeError):
        TF.scaled_dot_product_attention(**{**tensors, **changes}, dropout_p=0.5)


@pytest.mark.parametrize("name", ["query", "key", "value", "attn_mask"])
def test_attention_wants_tensors(name):
    tensors = {**dict.fromkeys(("query", "key", "value"), torch.ones(2, 5, 8)), name: [1.0]}
    with pytest.raises(TypeError, match=rf"{name} has to be a Tensor, but got a list"):
        F.scaled_dot_product_attention(**tensors, dropout_p=0.5)


def test_attention_without_features():
    q, v = torch.ones(2, 5, 0), torch.randn(2, 5, 3)
    torch.testing.assert_close(
        F.scaled_dot_product_attention(q, q, v, dropout_p=1e-12), v.mean(1, keepdim=True).expand(2, 5, 3)
    )


def test_attention_of_groups():
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    y = F.scaled_dot_product_attention(q, k, k, dropout_p=1e-12, enable_gqa=True)
    wide = k.repeat_interleave(2, 1)
    torch.testing.assert_close(y, TF.scaled_dot_product_attention(q, wide, wide))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_example", [True, False])
def test_dropconnect(dtype, per_example):
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 3, 8).to(dtype), torch.randn(5, 8).to(dtype), torch.randn(5).to(dtype)
    for t in (x, w, b):
        t.requires_grad_()
    y = F.dropconnect(x, w, b, 0.5, per_example=per_example, generator=fd.Generator(0))
    rng = fd.Generator(0)
    keep = torch.from_numpy(np.asarray(rng.mask((6, 5, 8) if per_example else (5, 8), 0.5))).double()
    wide = [t.detach().double().requires_grad_() for t in (x, w, b)]
    rows, kept = wide[0].reshape(6, 8), keep * wide[1] * 2
    z = ((kept @ rows[..., None])[..., 0] if per_example else rows @ kept.T).reshape(2, 3, 5) + wide[2]
    bounds = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 0.02, torch.bfloat16: 0.15}
    torch.testing.assert_close(y.double(), z, rtol=bounds[dtype], atol=bounds[dtype])
    dy = torch.randn(2, 3, 5, dtype=torch.float64).to(dtype)
    for ours, theirs in zip(torch.autograd.grad(y, (x, w, b), dy), torch.autograd.grad(z, wide, dy.double())):
        torch.testing.assert_close(ours.double(), theirs, rtol=bounds[dtype], atol=bounds[dtype])


def test_dropconnect_refuses():
    rng = fd.Generator(0)
    for args, kind, message in [
        ((torch.ones(2, 3), torch.ones(4, 2)), ValueError, "shapes"),
        ((torch.ones(2, 3), torch.ones(4, 3).double()), TypeError, "dtype of input"),
        ((torch.ones(2, 3), torch.ones(4, 3), torch.ones(3)), ValueError, "bias has to have shape"),
        (
            (torch.ones(2, 3).long(), torch.ones(4, 3)),
            TypeError,
            "input has to be a floating tensor, but got torch.int64",
        ),
        (
            (torch.ones(2, 3, device="meta"), torch.ones(4, 3, device="meta")),
            ValueError,
            "on the CPU, but got .* on meta",
        ),
    ]:
        with pytest.raises(kind, match=message):
            F.dropconnect(*args, generator=rng)
    assert rng.call == 0


@pytest.mark.parametrize("per_example", [True, False])
def test_dropconnect_elsewhere(per_example, monkeypatch):
    """The way that tensors of other devices take: by PyTorch's generator, and the same law but for the bits."""
    monkeypatch.setattr("fastdrop.torch.connections.ours", lambda x: False)
    torch.manual_seed(0)
    x, w = torch.eye(30).repeat(20, 1), torch.ones(5, 30, requires_grad=True)
    y = F.dropconnect(x, w, torch.full((5,), 7.0), 0.25, per_example=per_example)
    kept = (y.view(20, 30, 5) - 7).detach()
    torch.testing.assert_close(kept.unique(), torch.tensor([0, 4 / 3]))
    assert abs((kept != 0).double().mean() - 0.75) < (0.03 if per_example else 0.2)
    assert kept[0].equal(kept[1]) != per_example
    (dw,) = torch.autograd.grad(y.sum(), w)
    torch.testing.assert_close(dw, kept.sum(0).T)


def test_dropconnect_transforms():
    x, w = torch.randn(4, 3, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)

    def call(x, w):
        return F.dropconnect(x, w, None, 0.5, generator=fd.Generator(3))

    expected = torch.autograd.functional.jacobian(call, (x[0], w))
    for mode in (torch.func.jacrev, torch.func.jacfwd):
        for found, want in zip(mode(call, (0, 1))(x[0], w), expected):
            torch.testing.assert_close(found, want)
    hessian = torch.func.hessian(lambda x, w: call(x, w).square().sum(), (0, 1))(x[0], w)
    wanted = torch.autograd.functional.hessian(lambda x, w: call(x, w).square().sum(), (x[0], w))
    for found, want in zip(hessian, wanted):
        for a, b in zip(found, want):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.func.vmap(call, (0, None))(x, w), torch.stack([call(a, w) for a in x]))
    drawn = torch.func.vmap(lambda a: F.dropconnect(a, w, None, 0.5), randomness="different")(x[:1].expand(2, 3, 8))
    assert not drawn[0].equal(drawn[1])


@pytest.mark.parametrize("function", [F.drop_path, F.locked_dropout, F.drop_block2d])
def test_kinds_of_ours_elsewhere(function, monkeypatch):
    """The way that tensors of other devices take."""
    monkeypatch.setattr("fastdrop.torch.functional.ours", lambda x: False)
    torch.manual_seed(0)
    x = torch.ones(4, 6, 8)
    y = function(x, 0.5)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    if function is not F.drop_block2d:
        shared = (1, 2) if function is F.drop_path else (0,)
        assert bool((y.amax(shared) == y.amin(shared)).all())
    assert function(x, 0.5, inplace=True) is x
    assert set(x.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_dtypes_that_pytorch_refuses(dtype):
    x = torch.ones(4, dtype=dtype)
    with pytest.raises(RuntimeError) as theirs:
        TF.dropout(x, 0.5)
    with pytest.raises(type(theirs.value)) as ours:
        F.dropout(x, 0.5)
    assert str(ours.value) == str(theirs.value)


def test_meta_and_subclasses_are_pytorchs():
    assert F.dropout(torch.ones(3, device="meta"), 0.5).is_meta

    class Named(torch.Tensor):
        pass

    x = torch.ones(64).as_subclass(Named)
    torch.manual_seed(0)
    y = F.dropout(x, 0.5)
    torch.manual_seed(0)
    assert isinstance(y, Named) and torch.equal(y, TF.dropout(x, 0.5))


def test_under_a_function_mode():
    """`torch.set_default_device` is one: it has to change nothing."""
    with torch.device("meta"):
        y = F.dropout(torch.ones(8, device="cpu"), 0.5, generator=fd.Generator(0))
    np.testing.assert_array_equal(y.numpy(), fd.Generator(0).mask(8, 0.5).apply(np.ones(8, np.float32)))
