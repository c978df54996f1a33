"""A short slice of the sweep of wrong calls; `make sweep` runs the whole of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import fastdrop
from fastdrop import nn
from trust.sweep import __main__ as command
from trust.sweep import evil, judge, watch
from trust.sweep.context import Context
from trust.sweep.report import figures
from trust.sweep.target import Target
from trust.sweep.targets import TARGETS

#: Of the API's names, those that are not swept: they take nothing, or are swept by what they are made for.
TAKES_NOTHING = {
    "__version__",
    "available_isas",
    "default_generator",
    "get_include",
    "get_num_threads",
    "isa",
    "enable_grad",
    "no_grad",
    "is_grad_enabled",
    "Callback",
    "MCPrediction",
    "Module",
    "functional",
    "init",
    "relu",
}


@pytest.mark.skipif(sys.platform == "win32", reason="workers are stopped by signals, which Windows has not")
def test_a_slice() -> None:
    found = command.sweep(7, 3000, progress=False)
    assert found.calls == 3000
    assert not found.faults, "\n".join(json.dumps(fault)[:600] for fault in found.faults)
    assert found.verdicts["refused"] > 2000 and found.verdicts["returned"] > 200


@pytest.mark.parametrize(
    ("prefix", "names"),
    [("fd.", fastdrop.__all__), ("nn.", nn.__all__), ("F.", nn.functional.__all__), ("init.", nn.init.__all__)],
)
def test_all_of_the_api_is_swept(prefix: str, names: list[str]) -> None:
    swept = {target.name for target in TARGETS}
    assert not {name for name in names if prefix + name not in swept} - TAKES_NOTHING


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_calls_are_right_before_something_wrong_is_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write
    missing = {
        "nn.load_weights",
        "cli.main",
        "_core.conv",
        "_core.conv_weights",
    }  # no file, and no such kernels for 2 x 2
    for target in TARGETS:
        context = Context(0, 0)
        if target.name not in missing:
            target.call({name: make(context) for name, make in target.good.items()})


def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Let the sweep run another worker than its own."""
    script = tmp_path / "worker.py"
    script.write_text(f"import json, os, signal, sys\nseed, start, stop = map(int, sys.argv[1:])\n{body}\n")
    monkeypatch.setattr(command, "WORKER", (str(script),))


@pytest.mark.skipif(sys.platform == "win32", reason="workers are stopped by signals, which Windows has not")
def test_a_crash_and_a_hang_are_told_and_the_sweep_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(
        monkeypatch,
        tmp_path,
        "for i in range(start, stop):\n"
        "    print(i, flush=True)\n"
        "    if i == 3: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if i == 5: os.kill(os.getpid(), signal.SIGALRM)\n"
        "    print(json.dumps({'index': i, 'verdict': 'refused', 'raised': 'TypeError'}))\n",
    )
    found = command.sweep(0, 8, progress=False)
    assert dict(found.verdicts) == {"refused": 6, "crash": 1, "hang": 1}
    assert [(fault["index"], fault["status"]) for fault in found.faults] == [(3, -signal.SIGSEGV), (5, -signal.SIGALRM)]
    told = figures({0: found}, 200)
    assert (told["crashes"], told["hangs"], told["refused"]) == (1, 1, 6)


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, tmp_path, "raise OSError('no memory')")
    with pytest.raises(RuntimeError, match="no memory"):
        command.sweep(0, 3, progress=False)


TARGET = Target("fd.test", lambda x: None, {})


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TypeError("x has to be an array"), None),
        (TypeError("'int' object is not iterable"), "message"),
        (ValueError("max has to be 3"), "message"),
        (evil.Evil("anything"), None),
        (MemoryError(), None),
        (SystemError("x"), "type"),
        (RecursionError("x"), "type"),
        (AttributeError("x"), "type"),
        (KeyError("x"), "type"),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "x"), "type"),
    ],
)
def test_verdicts(error: BaseException, verdict: str | None) -> None:
    assert judge.complaint(TARGET, {"x": 3}, {"x": "3"}, error) == verdict


def changing(value: Any) -> Any:
    """Ways to change a thing that is watched."""
    import numpy as np

    if isinstance(value, np.ndarray):
        value[..., 0] += 1
    elif isinstance(value, fastdrop.Generator):
        value.mask(1)
    elif isinstance(value, nn.Module):
        next(iter(value.parameters())).array[...] += 1
    else:
        value.step()
    return value


def test_what_changes_is_seen() -> None:
    from trust.sweep.target import floats
    from trust.sweep.training import _optimizer

    context = Context(0, 0)
    array = floats(4, 6)(context)
    for watched, changed in (
        (array, array),
        (array[::2], array),
        (fastdrop.Generator(0),) * 2,
        (nn.Linear(2, 2),) * 2,
        (_optimizer(context),) * 2,
    ):
        before = watch.state_of(watched)
        assert watch.state_of(watched) == before
        changing(changed)
        assert watch.state_of(watched) != before
    folder = watch.settings()
    assert folder == watch.settings() and os.getcwd()
