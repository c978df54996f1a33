"""Ranks that torchrun starts, over gloo on this machine alone, against one process: the checks are in the files beside.

One start does many checks, each of which is a test here. FASTDROP_REQUIRE=torchrun makes what would be skipped fail.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[2] / "examples" / "torch_distributed.py"
TIMEOUT = 300
#: How many ranks there are, and which checks they make.
RUNS = {
    "data": (2, ("checks_data", "checks_recipes")), "tensor": (2, ("checks_tensor",)), "mesh": (4, ("checks_mesh",)),
}  # fmt: skip
CHECKS = [
    pytest.param(run, f"{module}.{name}", id=f"{module}-{name}".replace("check_", "").replace("checks_", ""))
    for run, (_, modules) in RUNS.items()
    for module in modules
    for name in re.findall(r"^def (check_\w+)", (HERE / f"{module}.py").read_text(), re.MULTILINE)
]


def _missing() -> str:
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        return "this PyTorch has no torch.distributed with gloo"
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 6):
        return f"fully_shard and DTensor are where they are since PyTorch 2.6, but this is {torch.__version__}"
    return ""


def skip_or_fail(missing: str) -> None:
    if missing and "torchrun" in os.environ.get("FASTDROP_REQUIRE", ""):
        pytest.fail(f"FASTDROP_REQUIRE asks for torchrun, but {missing}")
    if missing:
        pytest.skip(missing)


@pytest.fixture(autouse=True, scope="module")
def torchrun() -> None:
    skip_or_fail(_missing())


def test_what_is_asked_for_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDROP_REQUIRE", "mpi,torchrun")
    skip_or_fail("")
    with pytest.raises(pytest.fail.Exception, match="asks for torchrun, but there is none"):
        skip_or_fail("there is none")
    monkeypatch.setenv("FASTDROP_REQUIRE", "mpi")
    with pytest.raises(pytest.skip.Exception, match="there is none"):
        skip_or_fail("there is none")


def launch(ranks: int, *script: str) -> tuple[int | None, str]:
    """Run a script on that many ranks, and return how they end, and what they print."""
    # Everything stays on the loopback interface, at ports that the system chooses.
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--local-addr", "127.0.0.1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *script,
    ]  # fmt: skip
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        printed = process.communicate(timeout=TIMEOUT)[0]
        return process.returncode, printed
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun takes its ranks with it
        return None, f"not done after {TIMEOUT} s\n{process.communicate(timeout=60)[0]}"


@lru_cache
def started(run: str) -> tuple[list[dict[str, Any]], str]:
    """What the checks of each rank said, and what was printed."""
    count, modules = RUNS[run]
    with TemporaryDirectory() as folder:
        _, printed = launch(count, str(HERE / "ranks.py"), folder, *modules)
        files = [Path(folder, f"{rank}.json") for rank in range(count)]
        return [json.loads(file.read_text()) if file.exists() else {} for file in files], printed


def outcome(run: str, name: str) -> list[dict[str, Any]]:
    """What a check wrote down, on each rank."""
    ranks, printed = started(run)
    for number, done in enumerate(ranks):
        found = done.get(name)
        assert found is not None, f"rank {number} did not come to it:\n{printed[-4000:]}"
        assert "error" not in found, f"rank {number}:\n{found['error']}"
    return [done[name]["out"] for done in ranks]


@pytest.mark.parametrize("run, name", CHECKS)
def test_ranks_against_one_process(run: str, name: str) -> None:
    outcome(run, name)


def test_masks_are_fastdrops() -> None:
    """Drawn by ranks, and compared here with masks of a process that knows nothing of them."""
    ranks = outcome("data", "checks_data.check_ddp_masks_of_a_generator")
    rng = fd.Generator(7)
    for call, parts in enumerate(zip(*(out["kept"] for out in ranks))):
        mask = fd.Mask(rng.key, call, 0.4, (6, 5))
        np.testing.assert_array_equal(np.concatenate(parts), np.asarray(mask))


def test_losses_are_those_of_one_process() -> None:
    """30 steps in float64: sums in another order, and nothing else."""
    for out in outcome("data", "checks_data.check_ddp_consecutive"):
        np.testing.assert_allclose(out["losses"], out["alone"], rtol=1e-12)
        assert len(out["losses"]) == 30


@pytest.mark.parametrize("dropout", ["fastdrop", "pytorch"])
def test_the_example(dropout: str) -> None:
    """With fastdrop's dropout two workers print what one does, but for rounding; with PyTorch's they do not."""
    code, printed = launch(2, str(EXAMPLE), "--steps", "30", "--dropout", dropout)
    assert code == 0, printed
    rows = re.findall(r"^ +(\d+) +(\S+) +(\S+) +(\S+)$", printed, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [1, 10, 20, 30], printed
    apart = max(float(row[3]) for row in rows)
    assert apart < 1e-5 if dropout == "fastdrop" else apart > 1e-3
