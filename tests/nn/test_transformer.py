"""The Transformer's encoder with PyTorch's weights: values, gradients, masks; dropout, stochastic depth, copies."""

import copy
import pickle

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import Tensor
from fastdrop.nn import functional as F

N, L, E, H, WIDE = 3, 5, 8, 2, 12


def jitter(theirs):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape) / 4
    return theirs


def pair(**options):
    """Our layer and PyTorch's without dropout and with the same weights, none of them as at first."""
    torch = pytest.importorskip("torch")
    theirs = jitter(torch.nn.TransformerEncoderLayer(E, H, WIDE, 0.0, **options))
    ours = nn.TransformerEncoderLayer(E, H, WIDE, 0.0, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def same_parameter_gradients(ours, theirs):
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-3, atol=2e-4)


def sequence(np_rng, batch_first=True, batched=True, dtype=np.float32):
    shape = (L, E) if not batched else (N, L, E) if batch_first else (L, N, E)
    return np_rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"bias": False, "layer_norm_eps": 0.1}])
def test_against_pytorch(same_as_torch, np_rng, norm_first, batch_first, batched, options):
    ours, theirs = pair(norm_first=norm_first, batch_first=batch_first, **options)
    same_as_torch(ours, theirs, sequence(np_rng, batch_first, batched), rtol=1e-3, atol=1e-4)
    same_parameter_gradients(ours, theirs)


def test_a_callable_activation(same_as_torch, np_rng):
    ours, theirs = pair(activation=lambda x: x.tanh())
    same_as_torch(ours, theirs, sequence(np_rng, False), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm_first", [True, False])
def test_masks(same_as_torch, np_rng, norm_first):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(norm_first=norm_first, batch_first=True)
    later = np.triu(np.ones((L, L), bool), 1)
    padding = np.arange(L) >= np.array([[L], [3], [1]])
    for options in (
        {"src_mask": later},
        {"src_key_padding_mask": padding},
        {"src_mask": later, "src_key_padding_mask": padding},
        {"src_mask": later, "is_causal": True},
    ):
        same_as_torch(
            lambda x, options=options: ours(x, **options),
            lambda x, options=options: theirs(
                x, **{k: torch.tensor(m) if isinstance(m, np.ndarray) else m for k, m in options.items()}
            ),
            sequence(np_rng),
            rtol=1e-3,
            atol=1e-4,
        )
    x = sequence(np_rng)
    np.testing.assert_array_equal(ours(x, is_causal=True).array, ours(x, src_mask=later).array)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_encoder_against_pytorch(same_as_torch, np_rng, norm):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(batch_first=True, norm_first=True)
    theirs = jitter(torch.nn.TransformerEncoder(theirs, 3, torch.nn.LayerNorm(E) if norm else None))
    ours = nn.TransformerEncoder(ours, 3, nn.LayerNorm(E) if norm else None)
    ours.load_state_dict(theirs.state_dict())
    padding = np.arange(L) >= np.array([[L], [3], [1]])
    later = np.triu(np.ones((L, L), bool), 1)
    same_as_torch(
        lambda x: ours(x, later, padding),
        lambda x: theirs(x, torch.tensor(later), torch.tensor(padding)),
        sequence(np_rng),
        rtol=1e-3,
        atol=2e-4,
    )
    same_parameter_gradients(ours, theirs)
    x = sequence(np_rng)
    np.testing.assert_array_equal(ours(x, is_causal=True).array, ours(x, later).array)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_gradients_with_dropout(check_gradients, np_rng, norm_first, batch_first, drop_path):
    rng = fd.Generator(4)
    layer = nn.TransformerEncoderLayer(
        4, 2, 6, 0.3, "gelu", batch_first=batch_first, norm_first=norm_first, drop_path=drop_path, dtype=np.float64,
        generator=rng,
    )  # fmt: skip
    state = rng.state

    def function(x):
        rng.state = state
        return layer(x)

    check_gradients(function, np_rng.standard_normal((2, 3, 4)))


@pytest.mark.parametrize("norm_first", [True, False])
def test_every_dropout_takes_a_mask_and_none_in_evaluation(np_rng, norm_first):
    rng = fd.Generator(4)
    layer = nn.TransformerEncoderLayer(E, H, WIDE, norm_first=norm_first, generator=rng)
    before = rng.call
    x = sequence(np_rng)
    assert not np.array_equal(layer(x).array, layer(x).array)
    assert rng.call == before + 8  # The weights, the activations, two branches; twice.
    layer.drop_path.p = 0.5
    layer(x)
    assert rng.call == before + 14
    layer.eval()
    np.testing.assert_array_equal(layer(x).array, layer(x).array)
    assert rng.call == before + 14


@pytest.mark.parametrize("batch_first", [True, False])
def test_stochastic_depth_drops_whole_branches_of_examples(np_rng, batch_first):
    n = 64
    layer = nn.TransformerEncoderLayer(E, H, WIDE, 0.0, batch_first=batch_first, norm_first=True, drop_path=0.5)
    x = np_rng.standard_normal((n, L, E) if batch_first else (L, n, E)).astype(np.float32)
    rng = layer.drop_path.generator = fd.Generator(2)
    y = layer(x).array
    first, second = (np.asarray(mask) for mask in (fd.Generator(2).mask(n, 0.5), _second(fd.Generator(2), n)))
    moved = (y != x).any(axis=-1).all(axis=1 if batch_first else 0)
    untouched = (y == x).all(axis=(1, 2) if batch_first else (0, 2))
    np.testing.assert_array_equal(untouched, ~(first | second))
    np.testing.assert_array_equal(moved, first | second)
    assert rng.call == 2
    # A branch that is kept counts twice; where both are, the layer is that of doubled branches.
    layer.eval()
    for linear in (layer.self_attn.out_proj, layer.linear2):
        for parameter in linear.parameters():
            parameter.array *= 2
    both = np.moveaxis(layer(x).array, 0 if batch_first else 1, 0)[first & second]
    np.testing.assert_allclose(np.moveaxis(y, 0 if batch_first else 1, 0)[first & second], both, rtol=1e-4, atol=1e-5)
    layer.train().drop_path.p = 1.0
    np.testing.assert_array_equal(layer(x).array, x)
    assert layer(x[0]).shape == x[0].shape


def _second(rng, n):
    rng.mask(n)
    return rng.mask(n, 0.5)


def test_copies_have_parameters_of_their_own_and_share_the_generator(np_rng):
    rng = fd.Generator(6)
    first = nn.TransformerEncoderLayer(E, H, WIDE, 0.5, generator=rng)
    encoder = nn.TransformerEncoder(first, 3)
    generators = {id(m.generator) for m in encoder.modules() if hasattr(m, "generator")}
    assert generators == {id(rng)}
    parameters = [*first.parameters(), *encoder.parameters()]
    assert len({id(p.array) for p in parameters}) == 4 * len(list(first.parameters()))
    before = rng.call
    encoder(sequence(np_rng))
    assert rng.call == before + 12
    # A generator per part stays one per part.
    first.dropout.generator = fd.Generator(7)
    other = nn.TransformerEncoder(first, 2)
    assert all(layer.dropout.generator is first.dropout.generator for layer in other.layers)
    assert all(layer.dropout1.generator is rng for layer in other.layers)
    # Layers that draw from the default generator go on doing so.
    assert nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, WIDE), 1).layers[0].dropout.generator is None


def test_the_same_seed_gives_the_same_training_step(np_rng):
    x = sequence(np_rng)
    grads = []
    for _ in range(2):
        encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(E, H, WIDE, 0.2, drop_path=0.2, generator=fd.Generator(1)), 2
        )
        encoder(x).sum().backward()
        grads.append([p.grad.array for p in encoder.parameters()])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes(np_rng, dtype):
    layer = nn.TransformerEncoderLayer(E, H, WIDE, activation="gelu", dtype=dtype)
    x = Tensor(sequence(np_rng, dtype=dtype), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == layer.norm2.weight.grad.dtype == dtype


def test_repr_names_pickle_and_copy(np_rng):
    layer = nn.TransformerEncoderLayer(E, H, WIDE, generator=fd.Generator(3))
    names = [name for name, _ in layer.named_children()]
    assert names == [
        "self_attn",
        "linear1",
        "dropout",
        "linear2",
        "norm1",
        "norm2",
        "dropout1",
        "dropout2",
        "drop_path",
    ]
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(E))
    assert "(0-1): 2 x TransformerEncoderLayer(" in repr(encoder) and "(norm): LayerNorm((8,)" in repr(encoder)
    x = sequence(np_rng)
    again = pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)
    want = encoder(x).array
    for other in again:
        np.testing.assert_array_equal(other(x).array, want)
        assert repr(other) == repr(encoder)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 3), ValueError, "divisible by num_heads, got 8 and 3"),
        (lambda: nn.TransformerEncoderLayer(8, 2, 0), ValueError, "positive int, got 0"),
        (lambda: nn.TransformerEncoderLayer(8, 2, dropout=2), ValueError, "between 0 and 1, but got 2"),
        (lambda: nn.TransformerEncoderLayer(8, 2, drop_path=-1), ValueError, "between 0 and 1, but got -1"),
        (
            lambda: nn.TransformerEncoderLayer(8, 2, activation="elu"),
            RuntimeError,
            "relu/gelu or a callable, not 'elu'",
        ),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation=None), RuntimeError, "relu/gelu or a callable, not None"),
        (lambda: nn.TransformerEncoder(F.relu, 2), TypeError, "encoder_layer must be a Module, got a function"),
        (lambda: nn.TransformerEncoder(nn.ReLU(), -1), ValueError, "num_layers has to be between 0"),
        (lambda: nn.TransformerEncoder(nn.ReLU(), 1, F.relu), TypeError, "norm must be a Module, got a function"),
        (lambda: nn.TransformerEncoderLayer(8, 2)(np.ones(8, np.float32)), RuntimeError, "3 axes each, or 2"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
