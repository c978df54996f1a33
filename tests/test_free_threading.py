"""Python threads at work together, with a GIL or without: shared generators and masks, caches, and models of one's own.

On free-threaded builds of Python the threads really run at once. There importing fastdrop must not switch the GIL on.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import _core, block, nn, optim
from fastdrop.nn import buffers

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """With a GIL threads take turns every 5 ms, in which these tests do most of their work."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*workers: Callable[[], Any]) -> list[Any]:
    """Call each on a thread of its own, all let go at once; what they return. What one raises is raised."""
    gate = threading.Barrier(len(workers))
    results: list[Any] = [None] * len(workers)
    errors: list[BaseException] = []

    def run(at: int, worker: Callable[[], Any]) -> None:
        try:
            gate.wait(60)
            results[at] = worker()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


@pytest.mark.skipif(not FREE_THREADED, reason="this build of Python has a GIL")
def test_importing_leaves_the_gil_off(tmp_path):
    code = (
        "import sys, fastdrop, fastdrop.nn, fastdrop.optim, fastdrop.mnist, fastdrop.bench._limits;"
        "print(sys._is_gil_enabled())"
    )
    # Without PYTHON_GIL, which would keep it off whatever the modules say.
    out = subprocess.run(
        [sys.executable, "-E", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert out.stdout.strip() == "False", out.stderr


# ---- generators ----


def test_no_draw_of_any_kind_is_made_twice():
    rng = fd.Generator(3)
    x = np.ones(64, np.float32)
    rounds = 300

    def take() -> list[int]:
        calls = []
        for _ in range(rounds):
            calls += [rng.mask(4).call, rng.noise((2, 2)).call, _core.take_call(rng)[1]]
        return calls

    def drop() -> list[bytes]:
        return [fd.dropout(x, 0.5, rng=rng).tobytes() for _ in range(3 * rounds)]

    *taken, dropped, more = together(take, take, drop, drop)
    outputs = dropped + more
    rest = set(range(12 * rounds)) - {call for calls in taken for call in calls}
    assert rng.call == 12 * rounds and len(rest) == 6 * rounds  # the other calls were taken once each
    assert sorted(outputs) == sorted(fd.Mask(rng.key, call, 0.5, 64).apply(x).tobytes() for call in rest)


def test_a_draw_is_of_one_seed_whatever_others_set():
    """Each key comes with calls of its own, from key * 10**6 on: a key of one state with a call of another shows."""
    rng = fd.Generator(0)

    def state(key: int) -> dict[str, Any]:
        return {"key": key, "call": key * 10**6, "seed_seq": {"entropy": key}}

    rng.state = state(1)
    done = threading.Event()

    def seed(*keys: int) -> None:
        try:
            for _ in range(4000):
                for key in keys:
                    rng.state = state(key)
        finally:
            done.set()

    def draw() -> list[tuple[int, int]]:
        found = []
        while not done.is_set():
            mask, noise, now = rng.mask(4), rng.noise(4), rng.state
            found += [(mask.key, mask.call), (noise.key, noise.call), _core.take_call(rng), (now["key"], now["call"])]
            found.append((now["seed_seq"]["entropy"], now["call"]))
            assert rng.seed_seq.entropy in (1, 2, 3)
        return found

    _, *drawn = together(lambda: seed(1, 2, 3), draw, draw, draw)
    pairs = {pair for found in drawn for pair in found}
    assert pairs and {(key, call) for key, call in pairs if call // 10**6 != key} == set()


def test_masks_are_of_one_of_the_seeds():
    rng = fd.Generator(1)
    x = np.ones(256, np.float32)
    draws, seeds = 500, (1, 2)
    at_work = threading.Semaphore(0)

    def drop() -> set[bytes]:
        try:
            return {fd.dropout(x, 0.5, rng=rng).tobytes() for _ in range(draws)}
        finally:
            at_work.release()

    def seed() -> None:
        for _ in range(2):
            while not at_work.acquire(blocking=False):
                for each in seeds:
                    rng.manual_seed(each)

    *found, _ = together(drop, drop, seed)
    keys = [fd.Generator(each).key for each in seeds]
    streams = {fd.Mask(key, call, 0.5, 256).apply(x).tobytes() for key in keys for call in range(2 * draws)}
    assert set().union(*found) <= streams


def test_children_of_a_shared_generator_are_all_different():
    rng = fd.Generator(7)
    keys = [key for found in together(*[lambda: [c.key for _ in range(60) for c in rng.spawn(3)]] * 6) for key in found]
    assert len(set(keys)) == len(keys) == 6 * 180
    assert rng.state["seed_seq"]["n_children_spawned"] == 6 * 180
    assert sorted(keys) == sorted(child.key for child in fd.Generator(7).spawn(6 * 180))


def test_calls_are_given_back_only_if_they_are_the_last():
    """Takes and gives back from several threads: a call that somebody keeps is nobody else's."""
    rng = fd.Generator(0)

    def work() -> list[int]:
        kept = []
        for _ in range(2000):
            key, call = _core.take_call(rng)
            if not _core.give_back(rng, key, call, call + 1):
                kept.append(call)
        return kept

    kept = [call for mine in together(*[work] * 4) for call in mine]
    assert len(set(kept)) == len(kept) and all(call < rng.call for call in kept)


def test_each_thread_has_its_own_stand_in():
    def work(seed: int) -> list[fd.Mask]:
        with fd.random.drawing_from(fd.Generator(seed)):
            return [fd.default_generator().mask(8) for _ in range(200)]

    before = fd.default_generator().call
    masks = together(*[lambda seed=seed: work(seed) for seed in range(6)])
    for seed, found in enumerate(masks):
        assert found == [fd.Mask(fd.Generator(seed).key, call, 0.5, 8) for call in range(200)]
    assert fd.default_generator().call == before


# ---- masks ----


def test_a_shared_mask_applied_and_viewed():
    mask = fd.Generator(5).mask((40, 50), 0.3)
    x = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    y, bits = mask.apply(x), mask.packbits()

    def work() -> None:
        for _ in range(150):
            out = np.empty_like(x)
            mask.apply(x, out=out)
            np.testing.assert_array_equal(out, y)
            np.testing.assert_array_equal(mask.T.apply(x.T), y.T)
            np.testing.assert_array_equal(mask[::-1, 5:].apply(x[::-1, 5:]), y[::-1, 5:])
            np.testing.assert_array_equal(mask.packbits(), bits)
            assert mask.reshape(-1).broadcast_to((2, 2000))[1] == mask.reshape(2000) and hash(mask) == hash(mask[:])

    together(*[work] * 4)


def test_a_mask_is_initialised_once():
    masks = [fd.Mask.__new__(fd.Mask) for _ in range(3000)]

    def fill(key: int) -> set[int]:
        mine = set()
        for at, mask in enumerate(masks):
            try:
                mask.__init__(key, key, key / 8, (key, 2))  # type: ignore[misc]
            except TypeError as error:
                assert "immutable" in str(error)
            else:
                mine.add(at)
        return mine

    keys = (1, 2, 3, 4)
    done: list[int] = []
    for key, mine in zip(keys, together(*[lambda key=key: fill(key) for key in keys])):
        assert all(masks[at] == fd.Mask(key, key, key / 8, (key, 2)) for at in mine)
        done += mine
    assert sorted(done) == list(range(len(masks)))


def test_instruction_sets_and_threads_may_change_meanwhile(threads):
    mask = fd.Generator(1).mask(70_000, 0.1)
    x = np.ones(70_000, np.float32)
    y = mask.apply(x)
    isas, before = fd.available_isas(), fd.isa()
    done = threading.Event()

    def change() -> None:
        try:
            for k in range(2000):
                fd.set_isa(isas[k % len(isas)])
                fd.set_num_threads(1 + k % 3)
        finally:
            done.set()

    def work() -> None:
        while not done.is_set():
            np.testing.assert_array_equal(mask.apply(x), y)

    try:
        together(change, work, work)
    finally:
        fd.set_isa(before)


def test_the_blocks_solver_fills_its_cache_from_several_threads():
    sizes = [(n, n) for n in range(7, 47)]
    expected = [block.seed_probability(size, 5, 0.1) for size in sizes]
    block._solve.cache_clear()
    found = together(*[lambda: [block.seed_probability(size, 5, 0.1) for size in sizes]] * 6)
    assert found == [expected] * 6


# ---- the framework ----


def train(seed: int) -> list[np.ndarray]:
    with fd.random.drawing_from(fd.Generator(seed)):
        model = nn.Sequential(
            nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 32), nn.Dropout(0.1), nn.Linear(32, 4)
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        data = np.random.default_rng(seed)
        for _ in range(12):
            x = nn.as_tensor(data.standard_normal((24, 16)).astype(np.float32))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), data.integers(0, 4, 24)).backward()
            optimizer.step()
    return [p.array.copy() for p in model.parameters()]


def test_models_of_ones_own_train_as_they_do_alone():
    alone = [train(seed) for seed in range(4)]
    for mine, theirs in zip(together(*[lambda seed=seed: train(seed) for seed in range(4)]), alone, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_recording_is_switched_off_for_one_thread_alone():
    x = nn.ones(3, requires_grad=True)

    def on() -> bool:
        return all((x * 2).requires_grad for _ in range(500))

    def off() -> bool:
        with nn.no_grad():
            return not any((x * 2).requires_grad for _ in range(500))

    assert together(on, off, on, off) == [True] * 4


def test_large_results_never_share_memory():
    """The pool of nn.buffers gives a block to one taker at a time."""

    def work(number: int) -> None:
        for _ in range(40):
            held = [buffers.empty((300, 300), np.float64) for _ in range(3)]
            for k, array in enumerate(held):
                array.fill(10 * number + k)
            for k, array in enumerate(held):
                assert (array == 10 * number + k).all()
            del held, array

    together(*[lambda number=number: work(number) for number in range(4)])
