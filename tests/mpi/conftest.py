"""Jobs of several real MPI processes, in subprocesses that cannot hang.

Where mpi4py or an mpiexec is missing their tests are skipped, or fail where FASTDROP_REQUIRE names "mpi", as it does
in CI.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("program.py")

#: Several processes on few cores, also for root, in the words of Open MPI 4 and 5; one thread each. Open MPI 5 gives
#: time for last words however busy the machine is; 4 would always wait as long.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_odls_base_sigkill_timeout": "30",
    "FASTDROP_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

#: Seconds after which a job hangs.
PATIENCE = 120


class Jobs:
    """Starts programs on several processes, in a folder."""

    def __init__(self, mpiexec: str, folder: Path) -> None:
        self.mpiexec = mpiexec
        self.folder = folder
        home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
        self.environment = {**os.environ, **ENVIRONMENT, **home}
        self.environment.pop("FASTDROP_DATA", None)

    def start(self, size: int, *command: object) -> subprocess.Popen[str]:
        """Start python with this command line on so many processes."""
        return subprocess.Popen(
            [self.mpiexec, "-n", str(size), sys.executable, *map(str, command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, size: int, *command: object) -> tuple[int, str, str]:
        """The same to its end: exit status, standard output, standard error."""
        process = self.start(size, *command)
        try:
            text, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # mpiexec ends the others
            text, errors = process.communicate()
            pytest.fail(f"the job hangs:\n{text}\n{errors}")
        return process.returncode, text, errors

    def program(self, size: int, name: str, *arguments: object) -> list[dict[str, Any]]:
        """What each process has found, by rank; a job of one is started without mpiexec."""
        if size == 1:
            name = f"one-{name}"
            subprocess.run(
                [sys.executable, str(PROGRAM), name, str(self.folder), *map(str, arguments)],
                cwd=self.folder, env=self.environment, check=True, timeout=PATIENCE, capture_output=True,
            )  # fmt: skip
        else:
            code, text, errors = self.run(size, PROGRAM, name, self.folder, *arguments)
            assert code == 0, text + errors
        found = []
        for rank in range(size):
            path = self.folder / f"{name.removeprefix('one-')}-{rank}.json"
            found.append(json.loads(path.read_text(encoding="utf-8")))
            path.unlink()
        return found


def missing() -> str | None:
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    if find_mpiexec() is None:
        return "there is no mpiexec"
    return None


def find_mpiexec() -> str | None:
    """The one beside Python goes with an MPI library there, which mpi4py loads; FASTDROP_MPIEXEC names another."""
    if "FASTDROP_MPIEXEC" in os.environ:
        return os.environ["FASTDROP_MPIEXEC"]
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    why = missing()
    if why:
        if "mpi" in os.environ.get("FASTDROP_REQUIRE", ""):
            pytest.fail(f"{why}, and FASTDROP_REQUIRE asks for MPI")
        pytest.skip(f"{why}: jobs of several processes cannot be started")
    mpiexec = find_mpiexec()
    assert mpiexec is not None
    return Jobs(mpiexec, tmp_path)
