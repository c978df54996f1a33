"""Generators, masks and threads in other processes: forked, at any moment, and spawned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastdrop as fd

N = 500_000  # enough for the pool's threads to be woken

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


#: A program, since a child that is spawned imports what it runs by name.
CHILDREN = """
import multiprocessing, sys
import numpy as np, fastdrop as fd

N = 500_000

def total(mask):
    return float(mask.apply(np.ones(mask.shape, np.float32)).sum())

def in_child(queue, rng, mask, children):
    drawn = rng.mask(N, 0.3)
    queue.put((total(mask), drawn, total(drawn), [child.mask(8) for child in children]))

if __name__ == "__main__":
    fd.set_num_threads(4)
    rng = fd.Generator(seed=5)
    mask, children = rng.mask(N, 0.3), rng.spawn(2)
    want = fd.Mask(rng.key, rng.call, 0.3, N)
    sums = total(mask), total(want)  # the pool's threads are at hand, and not in the child
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    started = [context.Process(target=in_child, args=(queue, rng, mask, children)) for _ in range(2)]
    for child in started:
        child.start()
    for _ in started:
        assert queue.get(timeout=50) == (sums[0], want, sums[1], [fd.Mask(c.key, 0, 0.5, 8) for c in children])
    for child in started:
        child.join(timeout=50)
        assert child.exitcode == 0
    assert rng.call == 1, "a child's draws are its own"
    print("same bits")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_see_the_same_bits(method, tmp_path):
    """Whether their generators came by fork or by pickle."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot start processes by {method}")
    (tmp_path / "children.py").write_text(CHILDREN)
    out = subprocess.run(
        [sys.executable, "children.py", method], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert out.stdout.strip() == "same bits", out.stderr


def total(mask):
    return float(mask.apply(np.ones(mask.shape, np.float32)).sum())


def wait_for(pid):
    """The exit status of a child that has a minute."""
    alarm = threading.Timer(60, os.kill, (pid, signal.SIGKILL))
    alarm.start()
    status = os.waitpid(pid, 0)[1]
    alarm.cancel()
    return os.waitstatus_to_exitcode(status)


@forks
def test_fork_while_other_threads_are_in_calls(threads):
    """Whatever the pool's locks are at that moment, the child has a pool of its own, and the parent goes on."""
    fd.set_num_threads(3)
    mask = fd.Mask(1, 2, 0.3, N)
    want, done, wrong = total(mask), threading.Event(), []

    def work():
        while not done.is_set():
            if total(mask) != want:
                wrong.append(mask)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if total(mask) == want == total(mask) else 1)
            assert wait_for(pid) == 0
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert not wrong and total(mask) == want


@forks
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS' own libraries may not be used after a fork in a thread")
def test_fork_in_a_thread(threads):
    fd.set_num_threads(3)
    mask, found = fd.Mask(1, 2, 0.3, N), []
    want = total(mask)

    def work():
        pid = os.fork()
        if pid == 0:
            os._exit(0 if total(mask) == want else 1)
        found.append(wait_for(pid))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert found == [0]
