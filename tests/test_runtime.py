"""Instruction sets and threads: forced, reported, never visible in a result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest

import fastdrop as fd


def run(code, **environment):
    # Away from the repository's folder: python -c looks there first, and would find the sources without the kernels.
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tempfile.gettempdir(), capture_output=True, text=True, timeout=60
    )


def test_a_forced_isa_is_the_one_that_runs(isa):
    out = run(
        "import fastdrop as fd; print(fd.isa(), fd.Mask(3, 5, 0.1, 50).packbits().tobytes().hex())", FASTDROP_ISA=isa
    )
    assert out.stdout.split() == [isa, fd.Mask(3, 5, 0.1, 50).packbits().tobytes().hex()], out.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FASTDROP_ISA", "sse9", "FASTDROP_ISA: isa has to be one of portable, avx2, avx512, neon, but got 'sse9'"),
        ("FASTDROP_NUM_THREADS", "many", "FASTDROP_NUM_THREADS has to be from 1 to 256, but got 'many'"),
        ("FASTDROP_NUM_THREADS", "0", "FASTDROP_NUM_THREADS has to be from 1 to 256, but got '0'"),
    ],
)
def test_a_bad_environment_is_an_error(name, value, words):
    out = run("import fastdrop", **{name: value})
    assert out.returncode != 0 and f"ValueError: environment variable {words}" in out.stderr


def test_environment():
    assert run("import fastdrop as fd; print(fd.get_num_threads())", FASTDROP_NUM_THREADS="3").stdout.strip() == "3"
    assert run("import fastdrop", FASTDROP_NUM_THREADS="", FASTDROP_ISA="").returncode == 0


def test_set_isa():
    missing = [n for n in ("portable", "avx2", "avx512", "neon") if n not in fd.available_isas()]
    for bad, error in ((3, TypeError), ("", ValueError), *((n, ValueError) for n in missing)):
        with pytest.raises(error, match=r"isa has to be|cannot run"):
            fd.set_isa(bad)
    assert fd.isa() in fd.available_isas()


def test_set_num_threads(threads):
    for n in (1, 5, 256):
        fd.set_num_threads(n)
        assert fd.get_num_threads() == n
    for bad, error in ((0, ValueError), (-1, ValueError), (257, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="number of threads"):
            fd.set_num_threads(bad)
    assert fd.get_num_threads() == 256


def test_many_python_threads_at_once(threads):
    """Calls that find the pool busy run on their own thread, with the same results."""
    fd.set_num_threads(4)
    x = np.ones(500_000, np.float32)
    masks = [fd.Mask(k, 0, 0.3, x.shape) for k in range(6)]
    want = [m.apply(x) for m in masks]
    bad = []

    def work(k):
        for _ in range(10):
            if not np.array_equal(masks[k].apply(x), want[k]):
                bad.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not bad
