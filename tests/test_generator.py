"""Generators: keys, calls, states, children, threads."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import _core


def test_key_comes_from_the_seed_sequence():
    for seed in (0, 1, 2**200, [1, 2, 3], np.random.SeedSequence(5)):
        want = np.random.SeedSequence(seed) if not isinstance(seed, np.random.SeedSequence) else seed
        assert fd.Generator(seed).key == int(want.generate_state(1, np.uint64)[0])
    assert fd.Generator().key != fd.Generator().key


def test_numpys_integers_are_seeds(rng):
    assert fd.Generator(np.int64(5)) == fd.Generator(5)
    assert fd.Generator(np.array([1, 2], np.uint8)) == fd.Generator([1, 2])
    for seed in ([[1, 2], [3, 4]], np.random.SeedSequence(np.int64(7)), np.random.SeedSequence(np.array([1, 2]))):
        other = fd.Generator(seed)
        assert pickle.loads(pickle.dumps(other)) == other
        assert json.loads(json.dumps(other.state)) == other.state
        restored = fd.Generator()
        restored.state = other.state
        assert restored.spawn(1)[0].key == other.spawn(1)[0].key
    assert fd.Generator.__new__(fd.Generator).spawn(1)


def test_each_mask_takes_the_next_call(rng):
    masks = [rng.mask((4, 5), p=0.3) for _ in range(3)]
    assert [m.call for m in masks] == [0, 1, 2] and rng.call == 3
    assert all(m.key == rng.key and m.start == 0 and m.strides == (5, 1) and m.p == 0.3 for m in masks)
    assert rng.mask(3).p == 0.5
    with pytest.raises(ValueError):
        rng.mask(3, p=2)
    with pytest.raises(TypeError):
        rng.mask("abc")
    assert rng.call == 4  # a refused mask takes none


def test_state_saves_and_restores(rng):
    rng.mask(3)
    rng.spawn(2)
    saved = json.loads(json.dumps(rng.state))
    after = [rng.mask((2, 3)), *[c.key for c in rng.spawn(2)]]
    other = fd.Generator(99)
    other.state = saved
    assert other != rng
    assert [other.mask((2, 3)), *[c.key for c in other.spawn(2)]] == after
    assert other == rng
    other.state = {"key": 5, "call": 7}
    assert other.mask(3) == fd.Mask(5, 7, 0.5, 3)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"key": 1},
        {"key": -1, "call": 0},
        {"key": 1, "call": 2**64},
        {"key": 1, "call": 0, "seed_seq": {"x": 1}},
        {"key": 1, "call": 0, "seed_seq": {"entropy": None}},
        {"key": 1, "call": 0, "seed_seq": {"entropy": 1, "pool_size": 2**100}},
        {"key": 1, "call": 0, "seed_seq": {"entropy": 1, "n_children_spawned": -5}},
    ],
)
def test_bad_state_changes_nothing(rng, state):
    before = rng.state
    with pytest.raises(ValueError, match="state"):
        rng.state = state
    assert rng.state == before


def test_spawn_is_numpys(rng):
    children = rng.spawn(3)
    assert [c.key for c in children] == [
        int(s.generate_state(1, np.uint64)[0]) for s in np.random.SeedSequence(1234).spawn(3)
    ]
    assert rng.spawn(1)[0].key not in [c.key for c in children]
    assert rng.call == 0 and rng.spawn(0) == []


def test_numpy_stream(rng):
    a = rng.numpy().random(5)
    assert rng.call == 1
    b = rng.numpy().random(5)
    again = fd.Generator(seed=1234)
    assert np.array_equal(again.numpy().random(5), a) and np.array_equal(again.numpy().random(5), b)
    assert not np.array_equal(a, b)


def test_pickle_copy_repr(rng):
    rng.mask(1)
    for other in (pickle.loads(pickle.dumps(rng)), copy.deepcopy(rng), copy.copy(rng)):
        assert other == rng and other is not rng
        assert other.mask(4) == copy.copy(rng).mask(4)
        assert rng.call == 1
    assert repr(rng) == f"Generator(key={rng.key}, call=1)"
    with pytest.raises(TypeError):
        hash(rng)


def test_manual_seed():
    assert fd.manual_seed(7) is fd.default_generator()
    a = fd.default_generator().mask(5)
    x = np.ones(100)
    y = fd.dropout(x)
    fd.manual_seed(7)
    assert fd.default_generator().mask(5) == a and np.array_equal(fd.dropout(x), y)
    assert a == fd.Generator(7).mask(5)


@pytest.mark.parametrize("seed", ["a", 1.5, True, -1, [1, -2], [True], ["0x10"], object(), {"a": 1}])
def test_bad_seeds(seed):
    with pytest.raises((TypeError, ValueError), match="seed"):
        fd.Generator(seed)


def test_the_last_call():
    rng = fd.Generator(0)
    rng.state = {"key": 1, "call": 2**64 - 2}
    assert rng.mask(1).call == 2**64 - 2
    for _ in range(2):
        with pytest.raises(OverflowError, match="calls"):
            rng.mask(1)


def test_threads_never_share_a_call(rng):
    calls: list[list[int]] = [[] for _ in range(8)]

    def take(mine):
        mine += [rng.mask(4).call for _ in range(2000)]

    workers = [threading.Thread(target=take, args=(c,)) for c in calls]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(call for mine in calls for call in mine) == list(range(16000))


def test_calls_are_given_back_unless_others_were_taken_since():
    rng = fd.Generator(0)
    rng.mask(1), rng.mask(1), rng.mask(1)
    assert not _core.give_back(rng, rng.key, 1, 2) and rng.call == 3
    assert not _core.give_back(rng, rng.key ^ 1, 1, 3) and rng.call == 3  # seeded again in between
    assert _core.give_back(rng, rng.key, 1, 3) and rng.call == 1
