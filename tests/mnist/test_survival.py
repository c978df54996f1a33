"""A study that is killed again and again ends with the bits of one that was left alone.

FASTDROP_KILLS says how often (6 here, since each costs seconds; 20 and more by hand).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastdrop.mnist.training import WEIGHTS

KILLS = int(os.environ.get("FASTDROP_KILLS", "6"))
STUDY = ("--offline", "--model", "mlp-selu", "lstm", "--regularizer", "none", "dropout+early-stopping=3+max-norm=2")
SIZES = ("--train-size", "300", "--epochs", "12", "--seeds", "2", "--jobs", "2", "--out", "o")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL to send")


def alone(folder: Path) -> dict[str, str]:
    """An environment that knows of no data."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    environment.pop("FASTDROP_DATA", None)
    return environment


def start(folder: Path, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastdrop", "mnist", *argv],
        cwd=folder,
        env=alone(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Find the processes that a study has started; empty where the system does not tell."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(child) for child in children.split()]


def outcome(folder: Path) -> dict[str, Any]:
    """All that a study leaves of its runs, but for times."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "o" / "runs").iterdir()):
        assert sorted(each.name for each in path.iterdir()) == ["record.json", WEIGHTS], path
        record = json.loads((path / "record.json").read_text(encoding="utf-8"))
        del record["history"]["seconds"]
        found[path.name] = record, (path / WEIGHTS).read_bytes()
    return found


def test_killed_at_any_moment(tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    began = time.monotonic()
    finish(start(calm, *STUDY, *SIZES))
    lasted = time.monotonic() - began
    expected = outcome(calm)
    assert len(expected) == 8

    rng = random.Random(0)
    kills = studies = 0
    while kills < KILLS:
        studies += 1
        folder = tmp_path / str(studies)
        folder.mkdir()
        process = start(folder, *STUDY, *SIZES)
        while kills < KILLS:
            try:
                # Short ones first: starting up, and the first files, take their share too.
                process.wait(timeout=lasted * rng.uniform(0.1, 0.6))
                break
            except subprocess.TimeoutExpired:
                pass
            victims = workers(process)
            kind = rng.randrange(3)
            if kind == 0 and victims:  # one worker: the others and the command end by themselves, with a word
                os.kill(rng.choice(victims), signal.SIGKILL)
                process.communicate(timeout=60)
                assert process.returncode in (0, 1)
            elif kind == 1:  # the command alone: its workers find out
                process.kill()
            else:  # all at once, as when the machine goes
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            process = (
                start(folder, "--offline", "--resume", "--out", "o")
                if (folder / "o" / "study.json").exists()
                else start(folder, *STUDY, *SIZES)
            )
        finish(process)
        assert outcome(folder) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="how large a file may be is limited as Linux does it")
def test_a_full_disk_ends_it_cleanly(tmp_path: Path) -> None:
    """What limits the size of a file makes writing fail as a full disk does; then there is room again."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY));"
        "from fastdrop.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "mnist", *STUDY, *SIZES],
        cwd=tmp_path,
        env=alone(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "File too large; what is done is kept: fastdrop mnist --resume --out o" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [path for path in (tmp_path / "o").rglob("*") if path.is_file() and path.name.startswith(".check")]
    finish(start(tmp_path, "--offline", "--resume", "--out", "o"))
    assert len(outcome(tmp_path)) == 8
