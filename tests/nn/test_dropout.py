"""Dropout under the tape: the gradient is the mask, applied; no array is kept."""

import numpy as np
import pytest

import fastdrop
from fastdrop import nn
from fastdrop.nn import Tensor, ones, tensor
from fastdrop.nn import functional as F


def arrays_held_by(function):
    return [cell.cell_contents for cell in function.__closure__ or () if isinstance(cell.cell_contents, np.ndarray)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradient_is_the_mask_applied(np_rng, p, dtype):
    x = Tensor(np_rng.standard_normal((7, 33)).astype(dtype), requires_grad=True)
    dy = np_rng.standard_normal((7, 33)).astype(dtype)
    rng = fastdrop.Generator(11)
    y = F.dropout(x, p, generator=rng)
    assert arrays_held_by(y.node.function) == [] and y.node.saved == ()
    mask = fastdrop.Generator(11).mask((7, 33), p)
    y.backward(dy)
    np.testing.assert_array_equal(y.array, mask.apply(x.array))
    np.testing.assert_array_equal(x.grad.array, mask.apply(dy))
    assert y.dtype == x.grad.dtype == dtype


def test_gradient_over_a_broadcast_gradient_and_another_layout():
    x = Tensor(np.ones((4, 6), np.float32).T, requires_grad=True)
    y = F.dropout(x, 0.5, generator=fastdrop.Generator(1))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, y.array)


def test_noise_shape():
    layer = nn.Dropout(0.5, noise_shape=(None, 1, 8), generator=fastdrop.Generator(2))
    x = ones(4, 5, 8, requires_grad=True)
    y = layer(x)
    assert np.array_equal(y.array, np.broadcast_to(y.array[:, :1], y.shape))
    assert {0.0, 2.0} == set(np.unique(y.array))
    y.backward(np.ones(y.shape, np.float32))
    np.testing.assert_array_equal(x.grad.array, y.array)
    with pytest.raises(ValueError, match="noise_shape"):
        nn.Dropout(noise_shape=(3, 5, 8))(x)


def test_standard_scaling():
    layer = nn.Dropout(0.25, scaling="standard", generator=fastdrop.Generator(2))
    x = ones(1000, requires_grad=True)
    y = layer(x)
    assert set(np.unique(y.array)) == {0.0, 1.0}
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, y.array)
    layer.eval()
    x.grad = None
    y = layer(x)
    assert set(np.unique(y.array)) == {0.75}
    y.sum().backward()
    assert set(np.unique(x.grad.array)) == {0.75}
    z = ones(3)
    assert F.dropout(z, 0.25, False, True, scaling="standard") is z and z.tolist() == [0.75] * 3
    with pytest.raises(ValueError, match="upside"):
        nn.Dropout(scaling="upside")


def test_nothing_to_drop_returns_the_input_and_draws_nothing():
    rng = fastdrop.Generator(3)
    before = rng.state
    x = ones(3, requires_grad=True)
    assert nn.Dropout(0.0, generator=rng)(x) is x
    assert nn.Dropout(0.5, generator=rng).eval()(x) is x
    assert F.dropout(x, training=False, generator=rng) is x
    assert rng.state == before


def test_p_one_is_zero_whatever_came_in():
    x = tensor([np.inf, np.nan, -1.0], requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.backward(np.array([1, np.inf, np.nan]))
    assert y.tolist() == [0, 0, 0] and x.grad.tolist() == [0, 0, 0]
    assert not np.signbit(y.array).any()


@pytest.mark.parametrize(
    ("p", "error"),
    [(-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError), ("0.5", TypeError), (True, TypeError)],
)
def test_bad_p(p, error):
    with pytest.raises(error):
        nn.Dropout(p)
    layer = nn.Dropout()
    layer.p = p
    with pytest.raises(error):
        layer(ones(2))
    with pytest.raises(error):
        layer.eval()(ones(2))


def test_messages():
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1\.5"):
        nn.Dropout(1.5)
    with pytest.raises(TypeError, match="int64"):
        F.dropout(np.arange(3))


def test_masks_follow_the_seed_and_change_from_call_to_call():
    layer = nn.Dropout()
    fastdrop.manual_seed(5)
    first = [layer(ones(200)).tolist() for _ in range(2)]
    fastdrop.manual_seed(5)
    assert [layer(ones(200)).tolist() for _ in range(2)] == first
    assert first[0] != first[1]


def test_in_place_gives_the_same_numbers(np_rng):
    values = np_rng.standard_normal(50).astype(np.float32)
    x = Tensor(values.copy())
    y = F.dropout(x, 0.3, inplace=True, generator=fastdrop.Generator(4))
    assert y is x
    np.testing.assert_array_equal(x.array, F.dropout(values, 0.3, generator=fastdrop.Generator(4)).array)


@pytest.mark.parametrize(
    "call",
    [
        lambda **rng: F.dropout(ones(3), 0.5, **rng),
        lambda **rng: F.locked_dropout(ones(3, 2), 0.5, inplace=True, **rng),
        lambda **rng: F.alpha_dropout(ones(3), 0.5, **rng),
        lambda **rng: F.gaussian_dropout(ones(3), 0.5, **rng),
        lambda **rng: F.gaussian_noise(ones(3), 0.5, **rng),
        lambda **rng: F.activation_dropout(ones(3), 0.5, **rng),
        lambda **rng: F.dropout_add(ones(3), ones(3), 0.5, **rng),
        lambda **rng: F.zoneout(ones(3), ones(3), 0.5, **rng),
        lambda **rng: F.embedding(np.array([0]), ones(3, 2), dropout=0.5, **rng),
        lambda **rng: F.scaled_dot_product_attention(ones(2, 3), ones(2, 3), ones(2, 3), None, 0.5, **rng),
        lambda **rng: nn.init.uniform_(ones(3), **rng),
    ],
)
def test_what_is_no_generator_is_refused_by_name(call):
    for other in (np.random.default_rng(0), 3):
        with pytest.raises(
            TypeError, match=f"generator has to be a fastdrop.Generator, but got a {type(other).__name__}"
        ):
            call(generator=other)
