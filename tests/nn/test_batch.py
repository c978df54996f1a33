"""Layers that have a part of a batch each: together they are the layer that has all of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import functional as F
from fastdrop.nn.batch import along, batch_part, part_of, shared_batch, undivided, whole

EXTENTS = (4, 0, 3)
N = sum(EXTENTS)


class Case(NamedTuple):
    """A layer made with a generator, the shape of an input, and the axis of its examples."""

    make: Callable[..., nn.Module]
    shape: tuple[int, ...] = (N, 6, 5)
    axis: int = 0
    result: int | None = None  # the axis of its examples in the result, where that is another


def integers(shape):
    return np.arange(np.prod(shape)).reshape(shape) % 9


class Adds(nn.Module):
    """A layer of two inputs, given the one and a function of it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x * 2 + 1)


class Attends(nn.Module):
    def __init__(self, layer, **options):
        super().__init__()
        self.layer = layer
        self.options = options

    def forward(self, x):
        return self.layer(x, x, x, **self.options)[0]


class First(nn.Module):
    """A layer's first result."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def rnn(kind, **options):
    rates = {"dropout": 0.3, "dropout_input": 0.2, "dropout_output": 0.4, "dropout_recurrent": 0.3, "zoneout": 0.2}
    more = {"zoneout_cell": 0.1} if kind is nn.LSTM else {}
    return lambda g: First(kind(5, 4, num_layers=2, bidirectional=True, generator=g, **rates, **more, **options))


CASES = {
    "Dropout": Case(lambda g: nn.Dropout(0.4, generator=g)),
    "Dropout, shared": Case(lambda g: nn.Dropout(0.4, noise_shape=(1, None, 1), generator=g)),
    "Dropout, noise_shape": Case(lambda g: nn.Dropout(0.4, noise_shape=(N, 1, 5), generator=g)),
    "Dropout, standard": Case(lambda g: nn.Dropout(0.4, scaling="standard", generator=g)),
    "Dropout1d": Case(lambda g: nn.Dropout1d(0.4, generator=g)),
    "Dropout1d, channels last": Case(lambda g: nn.Dropout1d(0.4, channels_last=True, generator=g)),
    "Dropout2d": Case(lambda g: nn.Dropout2d(0.4, generator=g), (N, 6, 3, 4)),
    "Dropout3d": Case(lambda g: nn.Dropout3d(0.4, generator=g), (N, 6, 3, 2, 2)),
    "DropPath": Case(lambda g: nn.DropPath(0.4, generator=g)),
    "DropPath, batch": Case(lambda g: nn.DropPath(0.4, "batch", generator=g)),
    "TokenDropout": Case(lambda g: nn.TokenDropout(0.4, generator=g)),
    "LockedDropout": Case(lambda g: nn.LockedDropout(0.4, generator=g), (6, N, 5), 1),
    "LockedDropout, batch first": Case(lambda g: nn.LockedDropout(0.4, batch_first=True, generator=g)),
    "AlphaDropout": Case(lambda g: nn.AlphaDropout(0.4, generator=g)),
    "FeatureAlphaDropout": Case(lambda g: nn.FeatureAlphaDropout(0.4, generator=g)),
    "GaussianDropout": Case(lambda g: nn.GaussianDropout(0.4, generator=g)),
    "GaussianNoise": Case(lambda g: nn.GaussianNoise(0.4, generator=g)),
    "DropBlock1d": Case(lambda g: nn.DropBlock1d(0.4, 2, generator=g)),
    "DropBlock2d": Case(lambda g: nn.DropBlock2d(0.4, 2, generator=g), (N, 3, 6, 5)),
    "DropBlock2d, channels last": Case(lambda g: nn.DropBlock2d(0.4, 2, channels_last=True, generator=g), (N, 6, 5, 3)),
    "DropBlock3d": Case(lambda g: nn.DropBlock3d(0.4, 2, generator=g), (N, 2, 4, 3, 5)),
    "ActivationDropout": Case(lambda g: nn.ActivationDropout(0.4, "gelu", generator=g)),
    "DropoutAdd": Case(lambda g: Adds(nn.DropoutAdd(0.4, generator=g))),
    "Zoneout": Case(lambda g: Adds(nn.Zoneout(0.4, generator=g))),
    "DropConnectLinear": Case(lambda g: nn.DropConnectLinear(5, 4, generator=g), (N, 5)),
    "DropConnectLinear, more axes": Case(lambda g: nn.DropConnectLinear(5, 4, drop_bias=True, generator=g)),
    "DropConnectLinear, per batch": Case(
        lambda g: nn.DropConnectLinear(5, 4, per_example=False, drop_bias=True, generator=g)
    ),
    "DropConnectLinear, gaussian": Case(
        lambda g: nn.DropConnectLinear(
            5, 4, activation=F.relu, inference="gaussian", n_samples=3, generator=g
        ).eval(),
        (N, 5),
    ),
    "WeightDrop": Case(lambda g: nn.WeightDrop(nn.Linear(5, 4, generator=g), 0.5, ("weight",), generator=g)),
    "Embedding": Case(lambda g: nn.Embedding(9, 5, dropout=0.4, generator=g), (N, 6)),
    "WordDropout": Case(lambda g: nn.WordDropout(0.4, generator=g), (N, 6)),
    "LSTM": Case(rnn(nn.LSTM), (6, N, 5), 1),
    "LSTM, batch first": Case(rnn(nn.LSTM, batch_first=True)),
    "GRU": Case(rnn(nn.GRU), (6, N, 5), 1),
    "RNN": Case(rnn(nn.RNN), (6, N, 5), 1),
    "MultiheadAttention": Case(
        lambda g: Attends(nn.MultiheadAttention(6, 2, 0.3, generator=g), need_weights=False), (5, N, 6), 1
    ),
    "MultiheadAttention, batch first": Case(
        lambda g: Attends(nn.MultiheadAttention(6, 2, 0.3, batch_first=True, generator=g)), (N, 5, 6)
    ),
    "TransformerEncoderLayer": Case(
        lambda g: nn.TransformerEncoderLayer(6, 2, 8, 0.3, drop_path=0.2, generator=g), (5, N, 6), 1
    ),
    "TransformerEncoderLayer, batch first": Case(
        lambda g: nn.TransformerEncoderLayer(6, 2, 8, 0.3, batch_first=True, generator=g), (N, 5, 6)
    ),
    "BatchNorm1d": Case(lambda g: nn.BatchNorm1d(6)),
    "BatchNorm2d": Case(lambda g: nn.BatchNorm2d(3), (N, 3, 4, 5)),
    "Linear": Case(lambda g: nn.Linear(5, 4, generator=g)),
    "Conv2d": Case(lambda g: nn.Conv2d(3, 4, 3, padding=1, generator=g), (N, 3, 6, 5)),
    "MaxPool2d": Case(lambda g: nn.MaxPool2d(2), (N, 3, 6, 4)),
    "LayerNorm": Case(lambda g: nn.LayerNorm(5)),
    "Flatten": Case(lambda g: nn.Flatten()),
}  # fmt: skip
#: Hold generators and have other layers draw.
CONTAINERS = {"TransformerEncoder", "MCDropout"}
TOKENS = ("Embedding", "WordDropout")


class Reduction:
    """Adds arrays up over threads, as processes do over a network."""

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=60)
        self.arrays = []
        self.lock = threading.Lock()

    def __call__(self, array):
        with self.lock:
            self.arrays.append(array)
        self.barrier.wait()
        total = sum(each.copy() for each in list(self.arrays))
        self.barrier.wait()
        array[...] = total
        with self.lock:
            self.arrays = [each for each in self.arrays if each is not array]
        self.barrier.wait()


def step(case, x, weight):
    """Result, gradients of input and parameters, and buffers, of one step from one seed."""
    layer = case.make(fd.Generator(3))
    given = nn.tensor(x, requires_grad=x.dtype.kind == "f")
    y = layer(given)
    if y.requires_grad:
        y.backward(weight(y.shape))
    return (
        y.array,
        None if given.grad is None else given.grad.array,
        [p.grad.array for p in layer.parameters() if p.grad is not None],
        [b.array for b in layer.buffers()],
    )


def cut(rank, axis):
    ends = np.cumsum((0, *EXTENTS))
    return (*[slice(None)] * axis, slice(ends[rank], ends[rank + 1]))


@pytest.mark.parametrize("name", CASES)
def test_parts_put_together_are_the_whole(name):
    case = CASES[name]
    rng = np.random.default_rng(1)
    x = integers(case.shape) if name in TOKENS else rng.standard_normal(case.shape).astype(np.float32)
    weights = {}

    def weight(shape):
        return weights.setdefault(shape, rng.standard_normal(shape).astype(np.float32))

    y, dx, gradients, buffers = step(case, x, weight)
    axis = case.axis
    total, parts, errors = Reduction(len(EXTENTS)), [None] * len(EXTENTS), []

    def work(rank):
        try:
            with batch_part(fd.Shard(0, rank, EXTENTS), total):
                parts[rank] = step(case, x[cut(rank, axis)], lambda shape: weight(y.shape)[cut(rank, axis)])
        except BaseException as error:
            total.barrier.abort()
            errors.append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(EXTENTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    # Products of other shapes add in another order, and so do sums over parts.
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts], axis), y, **close)
    assert np.array_equal(np.concatenate([part[0] for part in parts], axis) == 0, y == 0)
    if dx is not None:
        np.testing.assert_allclose(np.concatenate([part[1] for part in parts], axis), dx, **close)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(sum(part[2][i] for part in parts if part[2]), gradient, rtol=1e-4, atol=1e-5)
    for part in parts:
        for mine, theirs in zip(part[3], buffers, strict=True):
            np.testing.assert_allclose(mine, theirs, **close)


def test_every_layer_that_draws_is_among_them():
    kinds = {name.split(",")[0] for name in CASES} | CONTAINERS
    drawing = {
        name
        for name in dir(nn)
        if inspect.isclass(kind := getattr(nn, name))
        and issubclass(kind, nn.Module)
        and "generator" in inspect.signature(kind).parameters
    }
    # Those that draw their first weights alone.
    once = {"Linear", "Conv1d", "Conv2d", "Conv3d"}
    assert drawing - once <= kinds


def test_what_is_no_part_of_the_batch_is_refused():
    with batch_part(fd.Shard(0, 0, (3, 4))):
        with pytest.raises(ValueError, match=r"examples along axis 0, but it was given \(5, 3\)"):
            F.dropout(np.ones((5, 3), np.float32), 0.5)
        with undivided():
            assert F.dropout(np.ones((5, 3), np.float32), 0.5).shape == (5, 3)
        with pytest.raises(ValueError, match="names an axis that a tensor of 1 axes does not have"), along(1):
            F.dropout(np.ones(3, np.float32), 0.5)


def test_nothing_is_shared_elsewhere():
    assert not shared_batch() and whole((3, 4)) == (3, 4)
    mask = fd.Mask(0, 0, 0.5, (3, 4))
    assert part_of(mask, (3, 4)) is mask
    with batch_part(fd.Shard(0, 1, 2)):
        assert shared_batch() and whole((3, 4)) == (6, 4)
        seen = []
        other = threading.Thread(target=lambda: seen.append(shared_batch()))
        other.start()
        other.join()
        assert seen == [False]
        with along(1):
            assert whole((3, 4)) == (3, 8)
    assert not shared_batch()


def test_one_value_in_all_of_the_batch():
    def one():
        with pytest.raises(ValueError, match="Expected more than 1 value"):
            F.batch_norm(np.ones((1, 2), np.float32), None, None, training=True)

    one()
    with batch_part(fd.Shard(0, 0, (1, 0)), lambda array: None):
        one()
