"""Multi-head attention with PyTorch's weights: values, gradients, masks, layouts; dropout; errors."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor

N, L, S, E, H = 3, 5, 7, 8, 2


def pair(**options):
    """Our layer and PyTorch's with the same weights, none of them zero; and a way to compare parameters' gradients."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = nn.MultiheadAttention(E, H, **options), torch.nn.MultiheadAttention(E, H, **options)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape) / 4
    ours.load_state_dict(theirs.state_dict())

    def same_parameter_gradients():
        for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert name == other
            np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-4, atol=1e-4)

    return ours, theirs, same_parameter_gradients


def spread(kind):
    """How the inputs of a kind of attention become query, key and value."""
    return {"self": lambda x: (x, x, x), "memory": lambda x, y: (x, y, y), "three": lambda *t: t}[kind]


def inputs(np_rng, kind, batch_first, batched=True, kdim=E, vdim=E):
    sizes = {"self": [(L, E)], "memory": [(L, E), (S, E)], "three": [(L, E), (S, kdim), (S, vdim)]}[kind]
    for length, features in sizes:
        shape = (length, features) if not batched else (N, length, features) if batch_first else (length, N, features)
        yield np_rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", ["self", "memory", "three"])
def test_against_pytorch(same_as_torch, np_rng, need_weights, batch_first, batched, kind):
    ours, theirs, same_parameter_gradients = pair(batch_first=batch_first)
    same_as_torch(
        lambda *t: ours(*spread(kind)(*t), need_weights=need_weights)[0],
        lambda *t: theirs(*spread(kind)(*t), need_weights=need_weights)[0],
        *inputs(np_rng, kind, batch_first, batched),
        rtol=1e-4,
        atol=1e-5,
    )
    same_parameter_gradients()


@pytest.mark.parametrize("options", [{"bias": False}, {"kdim": 3, "vdim": 6}, {"vdim": 6, "bias": False}])
def test_options_against_pytorch(same_as_torch, np_rng, options):
    ours, theirs, same_parameter_gradients = pair(**options)
    sizes = {name: size for name, size in options.items() if name != "bias"}
    same_as_torch(
        lambda *t: ours(*t, need_weights=False)[0],
        lambda *t: theirs(*t, need_weights=False)[0],
        *inputs(np_rng, "three", False, **sizes),
        rtol=1e-4,
        atol=1e-5,
    )
    same_parameter_gradients()


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_weights_and_their_gradients_against_pytorch(same_as_torch, np_rng, average, batched):
    ours, theirs, _ = pair(batch_first=True)
    same_as_torch(
        lambda x: ours(x, x, x, average_attn_weights=average)[1],
        lambda x: theirs(x, x, x, average_attn_weights=average)[1],
        *inputs(np_rng, "self", True, batched),
        rtol=1e-4,
        atol=1e-5,
    )


def masks(np_rng):
    allowed_first = np_rng.random((L, S)) < 0.4
    allowed_first[:, 0] = False
    padding = np.arange(S) >= np.array([[S], [4], [5]])
    each = np_rng.random((N * H, L, S)) < 0.4
    each[..., 0] = False
    numbers = np_rng.standard_normal((L, S)).astype(np.float32)
    return {
        "attn": {"attn_mask": allowed_first},
        "attn, each head": {"attn_mask": each},
        "attn, numbers": {"attn_mask": numbers},
        "padding": {"key_padding_mask": padding},
        "padding, numbers": {"key_padding_mask": padding * np.float32(-3)},
        "both": {"attn_mask": allowed_first, "key_padding_mask": padding},
        "both, numbers": {"attn_mask": numbers, "key_padding_mask": padding * np.float32(-3)},
    }


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", list(masks(np.random.default_rng(0))))
def test_masks_against_pytorch(same_as_torch, np_rng, name, need_weights):
    ours, theirs, _ = pair(batch_first=True)
    given = masks(np_rng)[name]
    torch = pytest.importorskip("torch")
    same_as_torch(
        lambda x, y: ours(x, y, y, need_weights=need_weights, **given)[0],
        lambda x, y: theirs(
            x, y, y, need_weights=need_weights, **{key: torch.tensor(mask) for key, mask in given.items()}
        )[0],
        *inputs(np_rng, "memory", True),
        rtol=1e-4,
        atol=1e-5,
    )


def test_causal_needs_no_mask_and_adds_to_one(same_as_torch, np_rng):
    torch = pytest.importorskip("torch")
    ours, theirs, _ = pair()
    (x,) = inputs(np_rng, "self", False)
    later = torch.ones(L, L).triu(1).bool()
    same_as_torch(
        lambda x: ours(x, x, x, is_causal=True, need_weights=False)[0],
        lambda x: theirs(x, x, x, attn_mask=later, is_causal=True, need_weights=False)[0],
        x,
        rtol=1e-4,
        atol=1e-5,
    )
    both = ours(x, x, x, attn_mask=later.numpy(), is_causal=True)
    for a, b in zip(both, ours(x, x, x, is_causal=True), strict=True):
        np.testing.assert_array_equal(a.array, b.array)


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_mask_of_numbers_gets_a_gradient(check_gradients, np_rng, need_weights):
    layer = nn.MultiheadAttention(4, 2, dropout=0.3, dtype=np.float64, batch_first=True)

    def function(x, mask):
        layer.generator = fd.Generator(1)
        return layer(x, x, x, attn_mask=mask, need_weights=need_weights)[0]

    check_gradients(function, np_rng.standard_normal((2, 3, 4)), np_rng.standard_normal((3, 3)))


def test_a_padded_example_gets_the_bias_of_the_output(np_rng):
    layer = nn.MultiheadAttention(E, H, batch_first=True)
    layer.out_proj.bias.array[...] = np.arange(E)
    x = Tensor(next(inputs(np_rng, "self", True)), requires_grad=True)
    padding = np.zeros((N, L), bool)
    padding[1] = True
    y, weights = layer(x, x, x, key_padding_mask=padding)
    (y.sum() + weights.sum()).backward()
    np.testing.assert_array_equal(y.array[1], np.tile(np.arange(E, dtype=np.float32), (L, 1)))
    assert not weights.array[1].any() and not x.grad.array[1].any() and x.grad.array[0].any()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_gradients_with_dropout(check_gradients, np_rng, batch_first, need_weights, p):
    layer = nn.MultiheadAttention(4, 2, p, batch_first=batch_first, dtype=np.float64)

    def function(x, y):
        layer.generator = fd.Generator(7)
        return layer(x, y, y, need_weights=need_weights)[0]

    check_gradients(function, np_rng.standard_normal((2, 3, 4)), np_rng.standard_normal((2, 3, 4)))


def test_both_ways_drop_the_generators_mask(np_rng):
    layer = nn.MultiheadAttention(E, H, 0.5, batch_first=True)
    (x,) = inputs(np_rng, "self", True)
    results = []
    for need_weights in (True, False):
        layer.generator = fd.Generator(5)
        results.append(layer(x, x, x, need_weights=need_weights, average_attn_weights=False))
        assert layer.generator.call == 1
    np.testing.assert_allclose(results[0][0].array, results[1][0].array, rtol=1e-5, atol=1e-6)
    assert results[1][1] is None
    kept = results[0][1].array != 0
    np.testing.assert_array_equal(kept, np.asarray(fd.Generator(5).mask((N, H, L, L), 0.5)))
    layer.eval()
    quiet = layer(x, x, x, need_weights=False)[0].array
    assert layer.generator.call == 1
    layer.train().dropout = 0.0
    np.testing.assert_array_equal(quiet, layer(x, x, x, need_weights=False)[0].array)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes(np_rng, dtype):
    layer = nn.MultiheadAttention(E, H, 0.2, dtype=dtype)
    x = Tensor(next(inputs(np_rng, "self", False)).astype(dtype), requires_grad=True)
    for need_weights in (True, False):
        y, weights = layer(x, x, x, is_causal=True, need_weights=need_weights)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == layer.in_proj_weight.grad.dtype == dtype
        assert weights is None or weights.dtype == dtype


def test_initial_weights():
    layer = nn.MultiheadAttention(64, 4, generator=fd.Generator(1))
    bound = np.sqrt(6 / 256)
    w = layer.in_proj_weight.array
    assert w.dtype == np.float32 and 0.99 * bound < np.abs(w).max() <= bound
    # Standard error of the mean of n uniforms on +-b: b / sqrt(3 n); five of them, so wrong once in a million seeds.
    assert abs(w.mean()) < 5 * bound / np.sqrt(3 * w.size)
    assert not layer.in_proj_bias.array.any() and not layer.out_proj.bias.array.any()
    np.testing.assert_array_equal(w, nn.MultiheadAttention(64, 4, generator=fd.Generator(1)).in_proj_weight.array)


def test_names_pickle_and_copy(np_rng):
    layer = nn.MultiheadAttention(E, H, 0.5, generator=fd.Generator(3))
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert repr(layer) == "MultiheadAttention(\n  (out_proj): Linear(in_features=8, out_features=8, bias=True)\n)"
    (x,) = inputs(np_rng, "self", False)
    again = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
    want = layer(x, x, x)[0].array
    for other in again:
        np.testing.assert_array_equal(other(x, x, x)[0].array, want)


def test_a_refused_call_draws_nothing():
    rng = fd.Generator(1)
    layer = nn.MultiheadAttention(4, 2, 0.5, generator=rng)
    before = rng.call
    x = np.ones((3, 2, 4), np.float32)
    for options in ({"attn_mask": np.ones((2, 3), bool)}, {"key_padding_mask": np.ones((3, 3), bool)}):
        with pytest.raises(RuntimeError):
            layer(x, x, x, **options)
    layer.dropout = 2.0
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 2\.0"):
        layer(x, x, x)
    assert rng.call == before


x3 = np.ones((3, 2, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda layer: nn.MultiheadAttention(6, 4),
            ValueError,
            "embed_dim must be divisible by num_heads, got 6 and 4",
        ),
        (lambda layer: nn.MultiheadAttention(0, 1), ValueError, "embed_dim has to be between 1"),
        (lambda layer: nn.MultiheadAttention(4, 2.0), TypeError, "num_heads has to be an integer"),
        (lambda layer: nn.MultiheadAttention(4, 2, kdim=-1), ValueError, "kdim has to be between 1"),
        (lambda layer: nn.MultiheadAttention(4, 2, 1.5), ValueError, "between 0 and 1, but got 1.5"),
        (lambda layer: nn.MultiheadAttention(4, 2, generator=3), TypeError, "has to be a fastdrop.Generator"),
        (lambda layer: layer(x3, x3, x3[0]), RuntimeError, r"3 axes each, or 2 without a batch.*value \(2, 4\)"),
        (lambda layer: layer(x3, x3[..., :3], x3), RuntimeError, r"expecting 4 features of key, got shape \(3, 2, 3\)"),
        (lambda layer: layer(x3, x3, x3[:2]), RuntimeError, "must have one length"),
        (lambda layer: layer(x3, x3[:, :1], x3[:, :1]), RuntimeError, r"one batch size \(batch_first=False\)"),
        (lambda layer: layer(*[x3.astype(np.float64)] * 3), RuntimeError, r"linear: .*float64, float32"),
        (
            lambda layer: layer(x3, x3, x3, attn_mask=x3 > 0),
            RuntimeError,
            r"attn_mask must have shape \(3, 3\) or \(4,",
        ),
        (lambda layer: layer(x3, x3, x3, x3 > 0), RuntimeError, r"key_padding_mask must have shape \(2, 3\) or \(3,\)"),
        (lambda layer: layer(x3, x3, x3, np.ones((2, 3))), RuntimeError, "of bool.*float32.*got float64"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.MultiheadAttention(4, 2))


def test_one_array_for_all_three_is_taken_as_one_tensor_is(np_rng):
    x = np_rng.standard_normal((4, 3, E)).astype(np.float32)
    layer = nn.MultiheadAttention(E, H)
    tensor = Tensor(x)
    for need_weights in (True, False):
        ours, same = (layer(a, a, a, need_weights=need_weights)[0].array for a in (x, tensor))
        np.testing.assert_array_equal(ours, same)
