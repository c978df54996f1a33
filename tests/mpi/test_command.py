"""``mpiexec -n N fastdrop mnist`` from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdrop import cli
from fastdrop._launch import launched
from fastdrop.mnist import together

from .conftest import Jobs

STUDY = ("--offline", "--model", "mlp-selu", "--train-size", 60, "--validation-size", 50, "--epochs", 3, "--seeds", 1)


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def records(out: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("runs/*/record.json")}


def test_two_processes_write_what_one_writes(jobs: Jobs) -> None:
    code, text, errors = jobs.run(1, "-m", "fastdrop", "mnist", *STUDY, "--out", "one", "--jobs", 1)
    assert code == 0, errors
    code, text, errors = jobs.run(2, "-m", "fastdrop", "mnist", *STUDY, "--out", "two")
    assert code == 0, errors
    one, two = jobs.folder / "one", jobs.folder / "two"
    assert files(one) == files(two)
    assert records(one).keys() == records(two).keys()
    for key, record in records(one).items():
        other = records(two)[key]
        for name, values in record["history"].items():
            if name != "seconds":
                np.testing.assert_allclose(other["history"][name], values, rtol=1e-5)
        assert np.mean(np.array(other["predicted"].split()) == np.array(record["predicted"].split())) > 0.99
    # Only rank 0 speaks, and no bars, since an mpiexec makes what looks like a terminal.
    assert text.count("2 runs, each on 2 processes: none; alpha; seeds 0\n") == 1
    assert text.count("1/2  none, seed 0: ") == 1
    assert not {"\x1b", "\r"} & set(text)
    assert errors.count("scikit-learn's bundled 8x8 digits") == 1
    found = json.loads((two / "results.json").read_text(encoding="utf-8"))
    assert found["command"].startswith("mpiexec -n 2 fastdrop mnist --offline")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (
            ("--offline", "--jobs", 2),
            "fastdrop: under mpiexec all processes do one run after the other together:",
        ),
        (("--offline", "--epochs", 0), "fastdrop: epochs has to be at least 1, but got 0"),
        (("--epochs", "many"), "usage: fastdrop"),
    ],
)
def test_a_wrong_call_is_told_once(jobs: Jobs, argv: tuple[object, ...], complaint: str) -> None:
    code, text, errors = jobs.run(2, "-m", "fastdrop", "mnist", *argv)
    assert (code, text) == (2, "")
    assert errors.count(complaint) == 1
    assert "Traceback" not in errors


def test_help_is_told_once(jobs: Jobs) -> None:
    code, text, _ = jobs.run(2, "-m", "fastdrop", "mnist", "--help")
    assert code == 0
    assert text.count("mpiexec -n 4 fastdrop mnist --full") == 1


def test_what_one_process_can_do_is_done_once(jobs: Jobs) -> None:
    code, text, _ = jobs.run(2, "-m", "fastdrop", "info")
    assert code == 0 and text.count("instruction set") == 1


def test_a_launcher_of_another_library_is_named(jobs: Jobs) -> None:
    """As where one library's mpiexec has started processes that load another's: each is alone."""
    code, _, errors = jobs.run(1, "-c", ALONE, "mnist", "--offline")
    assert code == 2
    assert "fastdrop: mpiexec has started 3 processes, but " in errors
    assert "knows of 1: mpiexec has to be of the same MPI" in errors


ALONE = """
import os, sys
os.environ.update(OMPI_COMM_WORLD_SIZE="3", OMPI_COMM_WORLD_RANK="0")
import mpi4py.MPI
from fastdrop.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("rank", "told"),
    [
        (0, 'fastdrop: fastdrop.mpi needs mpi4py: pip install "fastdrop[mpi]"\n'),
        # The others let rank 0 speak first.
        (1, 'fastdrop: rank 1: fastdrop.mpi needs mpi4py: pip install "fastdrop[mpi]"\n'),
    ],
)
def test_without_mpi4py_it_says_what_to_install(
    rank: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(rank))
    waited: list[float] = []
    monkeypatch.setattr(together.time, "sleep", waited.append)
    assert launched() == (rank, 2)
    assert cli.main(["mnist", "--offline"]) == 2
    assert capsys.readouterr().err == told
    assert len(waited) == rank
