"""A process that dies ends the job; from the checkpoint any number of processes goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdrop import mnist
from fastdrop.mnist.together import alive
from fastdrop.nn.state_file import read_state

from .conftest import PATIENCE, PROGRAM, Jobs
from .test_training import TOLERANCE, losses

STUDY = ("mnist", "--offline", "--model", "mlp-selu", "--regularizer", "alpha", "--train-size", 60, "--seeds", 1,
         "--validation-size", 50)  # fmt: skip


@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_goes_on_with_any_number_of_processes(jobs: Jobs, victim: int) -> None:
    (alone,) = jobs.program(1, "resumed", "alone.st")
    two = jobs.program(2, "resumed", "two.st")
    path = jobs.folder / "killed.st"
    code, text, errors = jobs.run(2, PROGRAM, "killed", jobs.folder, path, victim, 3)
    assert code != 0
    assert re.search("signal:? 9", text + errors, re.IGNORECASE)  # mpiexec's own words
    assert read_state(path)["epoch"] == 2
    held = path.read_bytes()
    # The same number gives the same bits, in weights, history and generators; another the same numbers.
    for size in (2, 1, 3) if victim else (2,):
        path.write_bytes(held)
        found = jobs.program(size, "resumed", path)
        if size == 2:
            assert found == two
        np.testing.assert_allclose(losses(found[0]), losses(alone), rtol=TOLERANCE)
        assert found[0]["generator"] == alone["generator"]
        assert read_state(path)["epoch"] == 4


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_on_one_process_ends_the_job(jobs: Jobs, rank: int) -> None:
    code, _, errors = jobs.run(2, PROGRAM, "raising", jobs.folder, rank)
    assert code != 0
    assert f'fastdrop: rank {rank} of 2 failed, which ends the job: KeyError: "a callback\'s own"' in errors
    assert "Traceback" in errors


def ranks_of(job: int) -> dict[int, int]:
    """The processes of a job by their rank: those below mpiexec that know theirs."""
    found: dict[int, int] = {}
    waiting = [job]
    while waiting:
        process = waiting.pop()
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
            environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        waiting += map(int, children)
        for entry in environment:
            if entry.startswith((b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")) and not children:
                found[int(entry.partition(b"=")[2])] = process
    return found


def wait_for_a_checkpoint(process: Any, folder: Path) -> Path:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        for path in folder.glob("runs/*/checkpoint.safetensors"):
            return path
        time.sleep(0.02)
    process.terminate()
    pytest.fail(f"no checkpoint:\n{process.communicate()}")


linux = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="finds the processes of a job as Linux shows them"
)


@linux
@pytest.mark.parametrize("victim", [0, 1])
def test_the_command_says_how_to_go_on(jobs: Jobs, victim: int) -> None:
    version = subprocess.run([jobs.mpiexec, "--version"], capture_output=True, text=True, check=False).stdout
    if "HYDRA" in version:
        pytest.skip("MPICH's mpiexec kills the others at once, and no one can speak")
    process = jobs.start(2, "-m", "fastdrop", *STUDY, "--epochs", 5000, "--out", "my out")
    path = wait_for_a_checkpoint(process, jobs.folder / "my out")
    ranks = ranks_of(process.pid)
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[victim], signal.SIGKILL)
    text, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert (
        "fastdrop: SIGTERM ends the job: a process of it has died, or it was told to stop; what is done is kept for "
        "any number of processes to go on with: mpiexec -n 2 fastdrop mnist --resume --out 'my out'\n" in errors
    )
    epoch = read_state(path)["epoch"]
    assert f"fastdrop: {path.parent.name}: its checkpoint is of epoch {epoch} of 5000\n" in errors
    assert "each on 2 processes: alpha" in text
    # It was told before, too, for an mpiexec that passes on no last words.
    assert "whenever this ends early, what is done is kept for any number of processes to go on with: " in text


@linux
def test_an_mpiexec_that_is_told_to_stop_leaves_nothing_but_a_whole_checkpoint(jobs: Jobs) -> None:
    """Whether the last words come through is its own affair; they were told at the beginning."""
    process = jobs.start(2, "-m", "fastdrop", *STUDY, "--epochs", 5000, "--out", "o")
    path = wait_for_a_checkpoint(process, jobs.folder / "o")
    ranks = ranks_of(process.pid)
    process.terminate()
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "go on with: mpiexec -n 2 fastdrop mnist --resume --out o\n" in text
    assert read_state(path)["epoch"] >= 1
    end = time.monotonic() + PATIENCE
    while any(alive(rank) for rank in ranks.values()):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.02)


@linux
def test_a_study_goes_on_with_another_number(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What two processes have begun, one ends, to the numbers of one alone."""
    process = jobs.start(2, "-m", "fastdrop", *STUDY, "--epochs", 80, "--out", "o")
    wait_for_a_checkpoint(process, jobs.folder / "o")
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    code, _, errors = jobs.run(1, "-m", "fastdrop", "mnist", "--resume", "--offline", "--out", "o")
    assert code == 0, errors
    (path,) = jobs.folder.glob("o/runs/*/record.json")
    resumed = json.loads(path.read_text(encoding="utf-8"))
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(jobs.folder))
    whole, _ = mnist.train(mnist.Run(**resumed["run"]), mnist.load(download=False, say=lambda line: None))
    # Adam makes more of the rounding than SGD.
    np.testing.assert_allclose(
        resumed["history"]["train_loss"][:20], whole.history["train_loss"][:20], rtol=100 * TOLERANCE
    )
