"""The drop-in runs on PyTorch's threads, as many as torch.set_num_threads says, and gives the same bits on any."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

import fastdrop as fd

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

SHAPE = (1000, 1031)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def drawn():
    # NumPy's ones, since PyTorch fills on threads that a forked child waits for in vain.
    return ft.functional.dropout(torch.from_numpy(np.ones(SHAPE, np.float32)), 0.3, generator=fd.Generator(7))


def test_any_number_of_threads(threads):
    expected = fd.Generator(7).mask(SHAPE, 0.3).apply(np.ones(SHAPE, np.float32))
    for count in (1, 2, 3, 7):
        torch.set_num_threads(count)
        np.testing.assert_array_equal(drawn().numpy(), expected)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="this PyTorch has threads of another kind")
def test_no_threads_beside_pytorchs():
    code = """
import os, torch, fastdrop.torch as ft
x = torch.ones(1 << 22)
for count in (1, 3):
    torch.set_num_threads(count)
    x + x  # starts its threads
    before = len(os.listdir("/proc/self/task"))
    ft.functional.dropout(x, 0.3)
    assert len(os.listdir("/proc/self/task")) == before, count
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _in_child(queue):
    queue.put(drawn().numpy()[:3])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads(threads):
    torch.set_num_threads(2)
    expected = drawn()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        found = queue.get(timeout=60)
    finally:
        child.kill()
    np.testing.assert_array_equal(found, expected.numpy()[:3])
