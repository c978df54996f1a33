"""Runs in processes that are killed, or run out of disk: started again they end with the same bits."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastdrop.nn.state_file import read_state

from .runs import Run, assert_same

pytest.importorskip("safetensors")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of Unix")

SCRIPT = """
import sys
sys.path[:0] = [sys.argv[1]]
import runs
getattr(runs, sys.argv[2])(*sys.argv[3:])
"""


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(Path(__file__).parent), *map(str, arguments)], **options)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "run.safetensors"
    assert start("with_a_small_disk", path).wait() == 0
    assert_same(Run().go(path).everything(), Run().go().everything())


def test_killed_while_it_writes(tmp_path):
    path = tmp_path / "run.safetensors"
    for where, count, reached in [("half", 2, 1), ("before", 2, 2), ("after", 1, 3), ("half", 1, 3)]:
        assert start("killed_while_writing", path, where, count).wait() == -signal.SIGKILL
        assert read_state(path)["epoch"] == reached
        assert len(list(tmp_path.iterdir())) == (1 if where == "after" else 2)
    assert_same(Run().go(path).everything(), Run().go().everything())
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def test_killed_at_random_moments(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, resumed = tmp_path / "whole.st", tmp_path / "resumed.st"
    assert start("trained", "", whole).wait() == 0
    rng = random.Random(4)
    killed = 0
    while killed < 5:
        before = modified(path)
        process = start("trained", path, resumed)
        # Only when the file is new does it train: from there on a delay of milliseconds hits an epoch, or a writing.
        while process.poll() is None and modified(path) == before:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.kill()
        if process.wait() == 0:  # it was quicker
            break
        assert process.returncode == -signal.SIGKILL
        killed += 1
    else:
        assert start("trained", path, resumed).wait() == 0
    assert killed
    assert_same(read_state(resumed), read_state(whole))
    assert not [entry.name for entry in tmp_path.iterdir() if ".part-" in entry.name]
