"""Attention: PyTorch's numbers, finite differences, and dropout that is exactly the generator's mask."""

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.nn import Tensor, no_grad, ones
from fastdrop.nn import functional as F

attention = F.scaled_dot_product_attention


def torchs():
    return pytest.importorskip("torch").nn.functional.scaled_dot_product_attention


def arrays(np_rng, *shapes, dtype=np.float64):
    return [np_rng.standard_normal(shape).astype(dtype) for shape in shapes]


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


SHAPES = [
    ((4, 3), (5, 3), (5, 2)),
    ((2, 4, 3), (2, 5, 3), (2, 5, 3)),
    ((2, 3, 4, 3), (2, 3, 5, 3), (2, 3, 5, 2)),
    ((1, 1), (1, 1), (1, 1)),
    ((0, 2, 3), (0, 4, 3), (0, 4, 3)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_against_pytorch_and_finite_differences(check_gradients, same_as_torch, np_rng, shapes, options):
    qkv = arrays(np_rng, *shapes)
    check_gradients(lambda *t: attention(*t, **options), *qkv)
    same_as_torch(lambda *t: attention(*t, **options), lambda *t: torchs()(*t, **options), *qkv)
    narrow = [a.astype(np.float32) for a in qkv]
    same_as_torch(lambda *t: attention(*t, **options), lambda *t: torchs()(*t, **options), *narrow)


@pytest.mark.parametrize("shapes", [((4, 3), (2, 5, 3), (2, 5, 2)), ((2, 1, 4, 3), (3, 5, 3), (2, 3, 5, 2))])
def test_leading_axes_broadcast(check_gradients, np_rng, shapes):
    q, k, v = arrays(np_rng, *shapes)
    check_gradients(attention, q, k, v)
    check_gradients(lambda *t: attention(*t, dropout_p=0.4, generator=fd.Generator(1)), q, k, v)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(3)
    np.testing.assert_allclose(attention(q, k, v).array, softmax(scores) @ v, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 5), (2, 1, 4, 5), (3, 1, 5), (1, 5), (2, 3, 4, 5)])
def test_masks(check_gradients, same_as_torch, np_rng, shape):
    torch = pytest.importorskip("torch")
    qkv = arrays(np_rng, (2, 3, 4, 3), (2, 3, 5, 3), (2, 3, 5, 2))
    allowed = np_rng.random(shape) < 0.6
    allowed[..., 0] = True
    same_as_torch(
        lambda *t: attention(*t, attn_mask=allowed), lambda *t: torchs()(*t, attn_mask=torch.tensor(allowed)), *qkv
    )
    # A mask of numbers, which takes part in the graph.
    check_gradients(attention, *qkv, np_rng.standard_normal(shape))
    same_as_torch(attention, torchs(), *qkv, np_rng.standard_normal(shape))


def test_a_query_with_nothing_to_attend_to_gets_zeros(np_rng):
    q, k, v = (Tensor(a, requires_grad=True) for a in arrays(np_rng, (4, 3), (5, 3), (5, 2)))
    allowed = np.ones((4, 5), bool)
    allowed[1] = False
    for mask in (allowed, np.where(allowed, 0.0, -np.inf)):
        for p in (0.0, 0.5):
            y = attention(q, k, v, mask, p)
            y.backward(np.ones((4, 2)))
            assert not y.array[1].any() and not q.grad.array[1].any()
            assert all(np.isfinite(t.grad.array).all() for t in (q, k, v)) and np.isfinite(y.array).all()
    assert attention(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 4))).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dropout_is_the_generators_mask(np_rng, p, dtype):
    q, k, v = arrays(np_rng, (2, 3, 8, 4), (2, 3, 9, 4), (2, 3, 9, 5), dtype=dtype)
    rng = fd.Generator(3)
    rng.mask(1)
    y = attention(q, k, v, dropout_p=p, generator=rng)
    assert rng.call == 2 and y.dtype == dtype
    again = fd.Generator(3)
    again.mask(1)
    mask = again.mask((2, 3, 8, 9), p)
    wide = np.float32 if dtype == np.float16 else dtype
    weights = softmax((q.astype(wide) / 2) @ k.astype(wide).swapaxes(-1, -2))
    tolerance = {np.float16: 1e-3, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(y.array, mask.apply(weights) @ v.astype(wide), rtol=tolerance, atol=tolerance)
    # Bit for bit: values that name their key show which weights were kept.
    seen = attention(
        q, k, np.broadcast_to(np.eye(9, dtype=dtype), (2, 3, 9, 9)), dropout_p=p, generator=fd.Generator(8)
    )
    np.testing.assert_array_equal(seen.array != 0, np.asarray(fd.Generator(8).mask((2, 3, 8, 9), p)) & (weights > 1e-7))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_everything_dropped(np_rng, dtype):
    tensors = [Tensor(a, requires_grad=True) for a in arrays(np_rng, (3, 4), (5, 4), (5, 2), dtype=dtype)]
    y = attention(*tensors, dropout_p=1.0)
    y.backward(np.ones((3, 2)))
    assert not y.array.any() and all(t.grad.dtype == dtype and not t.grad.array.any() for t in tensors)


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_gradients_with_dropout(check_gradients, np_rng, p):
    arguments = arrays(np_rng, (2, 4, 3), (2, 5, 3), (2, 5, 2), (4, 5))
    check_gradients(lambda *t: attention(*t[:3], dropout_p=p, generator=fd.Generator(2)), *arguments[:3])
    check_gradients(lambda *t: attention(*t, dropout_p=p, generator=fd.Generator(2)), *arguments)
    check_gradients(lambda *t: attention(*t, is_causal=True, dropout_p=p, generator=fd.Generator(2)), *arguments[:3])


def test_dropout_averages_out(np_rng):
    q, k, v = arrays(np_rng, (6, 4), (7, 4), (7, 3))
    runs = attention(*(np.broadcast_to(a, (20000, *a.shape)) for a in (q, k, v)), dropout_p=0.3).array
    # 18 means, each within 5 standard errors: wrong once in 90000 seeds.
    error = runs.std(axis=0) / np.sqrt(20000)
    assert (np.abs(runs.mean(axis=0) - attention(q, k, v).array) < 5 * error).all()


def test_off_out_of_training_and_no_number_drawn(np_rng):
    q, k, v = arrays(np_rng, (4, 3), (5, 3), (5, 2))
    rng = fd.Generator(1)
    quiet = attention(q, k, v, dropout_p=0.5, training=False, generator=rng)
    np.testing.assert_array_equal(quiet.array, attention(q, k, v, dropout_p=0.0, generator=rng).array)
    assert rng.call == 0
    for bad in (
        lambda: attention(q, k, v, dropout_p=1.5, generator=rng),
        lambda: attention(q, k, v[:4], dropout_p=0.5, generator=rng),
        lambda: attention(q, k, v, np.ones((3, 5), bool), 0.5, generator=rng),
    ):
        with pytest.raises((ValueError, RuntimeError)):
            bad()
    assert rng.call == 0


def test_what_is_kept_is_the_probabilities_and_no_mask(np_rng):
    tensors = [Tensor(a, requires_grad=True) for a in arrays(np_rng, (2, 4, 3), (2, 5, 3), (2, 5, 2))]
    y = attention(*tensors, dropout_p=0.5)
    kept = [cell.cell_contents for cell in y.node.function.__closure__]
    large = [a for a in kept if isinstance(a, np.ndarray) and a.shape == (2, 4, 5)]
    assert len(large) == 1 and large[0].dtype == np.float64
    np.testing.assert_allclose(large[0].sum(-1), 1)
    with no_grad():
        assert not attention(*tensors, dropout_p=0.5).requires_grad
    # Twice the same, although the dropped weights are made again and their memory is used for more.
    y.backward(np.ones(y.shape), retain_graph=True)
    first = [t.grad.array.copy() for t in tensors]
    y.backward(np.ones(y.shape))
    for t, g in zip(tensors, first, strict=True):
        np.testing.assert_allclose(t.grad.array, 2 * g, rtol=1e-12)


def test_values_do_not_depend_on_recording_or_layout(np_rng):
    q, k, v = arrays(np_rng, (2, 6, 3, 4), (2, 7, 3, 4), (2, 7, 3, 4), dtype=np.float32)
    heads = [a.transpose(0, 2, 1, 3) for a in (q, k, v)]
    want = attention(*map(np.ascontiguousarray, heads), dropout_p=0.5, generator=fd.Generator(1)).array
    plain = attention(*heads, dropout_p=0.5, generator=fd.Generator(1)).array
    recorded = attention(*(Tensor(a, True) for a in heads), dropout_p=0.5, generator=fd.Generator(1)).array
    np.testing.assert_allclose(plain, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(recorded, plain)
    assert plain.transpose(0, 2, 1, 3).flags.c_contiguous


def test_what_backward_reads_is_guarded(np_rng):
    x = ones(2, 3, requires_grad=True)
    key = x * 1
    y = attention(x, key, x)
    with pytest.raises(RuntimeError, match="scaled_dot_product_attention"):
        key.mul_(2)
    y.mul_(2).sum().backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, k, v: attention(q[0], k, v), RuntimeError, r"at least 2 axes.*\(3,\), \(5, 3\) and \(5, 2\)"),
        (lambda q, k, v: attention(q, k, v.astype(np.float32)), RuntimeError, "one floating dtype.*float32"),
        (lambda q, k, v: attention(*(a.astype(int) for a in (q, k, v))), RuntimeError, "one floating dtype.*int64"),
        (lambda q, k, v: attention(q, v, v), RuntimeError, r"agree in their last axis.*key \(5, 2\)"),
        (lambda q, k, v: attention(q, k, v[1:]), RuntimeError, r"value \(4, 2\)"),
        (lambda q, k, v: attention(q, np.stack([k] * 2), np.stack([v] * 3)), RuntimeError, "must broadcast"),
        (lambda q, k, v: attention(q, k, v, np.ones((4, 5), int)), RuntimeError, "of bool.*float64.*got int64"),
        (lambda q, k, v: attention(q, k, v, np.ones((5, 4), bool)), RuntimeError, r"\(4, 5\), got \(5, 4\)"),
        (lambda q, k, v: attention(q, k, v, np.ones((1, 4, 5), bool)), RuntimeError, r"got \(1, 4, 5\)"),
        (lambda q, k, v: attention(q, k, v, np.ones((4, 5), bool), 0, True), RuntimeError, "is_causal=True"),
        (lambda q, k, v: attention(q, k, v, None, -0.5), ValueError, "between 0 and 1, but got -0.5"),
        (lambda q, k, v: attention(q, k, v, None, "0.5"), TypeError, "dropout probability"),
        (lambda q, k, v: attention(q, k, v, scale="big"), TypeError, "scale has to be a real number"),
    ],
)
def test_errors(np_rng, call, error, message):
    with pytest.raises(error, match=message):
        call(*arrays(np_rng, (4, 3), (5, 3), (5, 2)))
