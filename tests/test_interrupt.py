"""Signals during long calls: what a handler raises ends the call, what it does not leaves no trace.

Each call would take minutes to the end of its output, most of which is never touched: memory is taken as it is written.
"""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import _core

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that signal")

N = 2**31
#: Each element has a block of its own.
SPARSE = fd.Mask(key=1, call=2, p=0.1, shape=(N,), strides=(1000,))
MASK3 = fd.Mask(1, 2, 0.1, (2**18, 900, 900))
ONE = np.broadcast_to(np.float16(1), (N,))


def wide(*shape):
    return np.broadcast_to(np.float32(1), shape)


def blocks():
    out = np.empty((N // 2**14, 128, 128), np.float16)
    fd.drop_block2d(np.broadcast_to(np.float16(1), out.shape), 0.1, 7, rng=fd.Generator(0), out=out)


CALLS = {
    "packbits": lambda: SPARSE.packbits(),
    "booleans": lambda: np.asarray(SPARSE),
    "apply": lambda: SPARSE.apply(ONE, out=np.empty(N, np.float16)),
    "dropout": lambda: [fd.dropout(wide(N), 0.1, rng=fd.Generator(0), out=np.empty(N, np.float32)) for _ in range(99)],
    "fused": lambda: fd.dropout_add(ONE, ONE, 0.1, mask=SPARSE, out=np.empty(N, np.float16)),
    "noise": lambda: fd.Noise(1, 2, (N,), strides=(1000,)).apply(ONE, sigma=0.1, out=np.empty(N, np.float16)),
    "normals": lambda: np.asarray(fd.Noise(1, 2, (N,), strides=(1000,))),
    "many": lambda: fd.apply_masks([SPARSE[: N // 8]] * 8, ONE[: N // 8], out=np.empty((8, N // 8), np.float16)),
    "block": lambda: [blocks() for _ in range(99)],
    "softmax": lambda: fd.softmax_dropout(wide(2**21, 1000), 0.1, rng=fd.Generator(0)),
    "dropconnect": lambda: _core.dropconnect_forward(MASK3, wide(2**18, 900), wide(900, 900), 1.0),
    "dropconnect_dx": lambda: _core.dropconnect_dx(MASK3, wide(2**18, 900), wide(900, 900), 1.0),
    "dropconnect_dw": lambda: _core.dropconnect_dw(MASK3, wide(2**18, 900), wide(2**18, 900), 1.0),
}


class Alarm:
    """A handler that is called `after` some seconds, and counts."""

    def __init__(self, action, after=0.05):
        self.action, self.after, self.calls = action, after, 0

    def __call__(self, number, frame):
        self.calls += 1
        self.action(number, frame)

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, self.after)
        return self

    def __exit__(self, *error):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_the_call(name, count, threads):
    fd.set_num_threads(count)
    with Alarm(signal.default_int_handler) as alarm, pytest.raises(KeyboardInterrupt):
        CALLS[name]()
    assert alarm.calls == 1
    x = np.ones(100_000, np.float32)  # and the next one is none the worse for it
    mask = fd.Mask(3, 4, 0.5, x.shape)
    assert np.array_equal(mask.apply(x), np.where(np.unpackbits(mask.packbits(), bitorder="little"), x * 2, 0))


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_not_reached_is_left_alone(count, threads):
    fd.set_num_threads(count)
    out = np.zeros(N, np.float16)
    with Alarm(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        SPARSE.apply(ONE, out=out)
    assert out[:64].any() and not out[-64:].any()


@pytest.mark.parametrize("count", [1, 2])
def test_a_handler_that_returns_changes_nothing(count, threads):
    """Not even where it calls the library itself, on more elements than a look at the clock is worth."""
    fd.set_num_threads(count)
    mask = SPARSE[: 2**23]
    want, inner = mask.packbits(), []

    def work(number, frame):
        inner.append(fd.Mask(1, 2, 0.5, (2**22,)).apply(np.ones(2**22, np.float32)).sum())
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    with Alarm(work) as alarm:
        found = mask.packbits()
        while alarm.calls < 2:  # where that was too quick to be disturbed
            found = mask.packbits()
    assert np.array_equal(found, want)
    assert set(inner) == {fd.Mask(1, 2, 0.5, (2**22,)).apply(np.ones(2**22, np.float32)).sum()}


def test_other_threads_finish_their_calls(threads):
    """Handlers run in the main thread, and end its calls alone."""
    fd.set_num_threads(1)
    mask, found = SPARSE[: 2**22], []
    other = threading.Thread(target=lambda: found.append(mask.packbits()))
    other.start()
    with Alarm(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        SPARSE.packbits()
    other.join()
    assert np.array_equal(found[0], mask.packbits())


def test_an_interrupt_of_another_thread_waits_for_nobody(threads):
    """The main thread sleeps meanwhile, and is woken as ever: nothing of ours holds the signal back."""
    mask = SPARSE[: 2**23]
    other = threading.Thread(target=mask.packbits)
    with Alarm(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        other.start()
        time.sleep(30)
    other.join()
