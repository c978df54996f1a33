"""Signals during long calls: what a handler raises ends the call, what it does not leaves no trace."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

import fastdrop as fd
from trust.long_calls import CALLS, ONE, SPARSE, Alarm

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that signal")


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
    out = np.zeros(SPARSE.size, np.float16)
    with Alarm(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        SPARSE.apply(ONE, out=out)
    assert out[:64].any() and not out[-64:].any()


@pytest.mark.parametrize("count", [1, 2])
def test_a_handler_that_returns_changes_nothing(count, threads):
    """Not even where it calls the library itself, on more elements than a look at the clock is worth."""
    fd.set_num_threads(count)
    mask = SPARSE[: 2**22]
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
