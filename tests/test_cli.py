"""The command: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop import cli
from fastdrop.bench import sweep
from fastdrop.bench.cases import FAMILIES
from fastdrop.bench.contenders import CONTENDERS

Command = Callable[..., tuple[int, str, str]]


def test_info(run: Command) -> None:
    code, text, errors = run("info")
    assert (code, errors) == (0, "")
    lines = dict(line.split(None, 1) for line in text.splitlines() if line and not line.startswith("optional"))
    assert lines["fastdrop"] == fastdrop.__version__
    assert lines["instruction"].split()[1] == fastdrop.isa()
    for name in fastdrop.available_isas():
        assert name in lines["instruction"]
    assert lines["threads"] == str(fastdrop.get_num_threads())
    assert "float32" in lines["dtypes"]
    assert lines["matplotlib"].startswith("3")


def test_info_without_an_optional_package(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "OPTIONAL", (("no_such_module", "no-such", "nothing"),))
    code, text, _ = run("info")
    assert code == 0
    assert "not installed" in text


def test_version_and_help(run: Command) -> None:
    assert run("--version") == (0, f"fastdrop {fastdrop.__version__}\n", "")
    code, text, _ = run("--help")
    assert code == 0
    assert "mnist" in text
    assert "info" in text


@pytest.mark.parametrize("argv", [(), ("dance",), ("info", "--more")])
def test_wrong_usage_is_2(run: Command, argv: tuple[str, ...]) -> None:
    code, text, errors = run(*argv)
    assert (code, text) == (2, "")
    assert "usage: fastdrop" in errors


def test_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastdrop", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"fastdrop {fastdrop.__version__}\n")


TINY = ("bench", "--quick", "--family", "small-calls", "forward", "--n", "256", "--only", "fastdrop", "numpy-good")


def test_a_report_from_end_to_end(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdrop.bench.paired.SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(sweep, "plan", lambda *args, **more: small(*args, **more))
    code, text, errors = run(*TINY, "--out", tmp_path / "deep" / "out")
    assert (code, errors) == (0, "")
    assert not {"\x1b", "\r"} & set(text)
    assert "small-calls, 256 float32, p = 0.5" in text and "minutes; wrote " in text
    names = ["forward.png", "peers.png", "report.md", "results.json"]
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == names
    held = json.loads((tmp_path / "deep" / "out" / "results.json").read_text(encoding="utf-8"))
    assert held["command"].startswith("fastdrop bench --quick")
    assert held["environment"]["compiler"] and held["machine"]["cpu"] and held["versions"]["numpy"] == np.__version__
    assert {point["name"] for point in held["points"]} >= {"fastdrop", "numpy-good", "memcpy", "stream"}


plan = sweep.plan


def small(*args: object, **more: object) -> sweep.Plan:
    """The plan without the dtypes' million elements."""
    made = plan(*args, **more)  # type: ignore[arg-type]
    return sweep.Plan(tuple(group for group in made.groups if group.case.n == 256), 3, 0.01)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--out", "file"), "file"),
        (("--out", "file/below"), "file"),
        (("--out", ""), "--out has to be a folder"),
        (("--n", "16Kx"), "16Ki or 64Mi, but got '16Kx'"),
        (("--n", "0"), "but got '0'"),
        (("--family", "sideways"), "a family has to be one of forward, "),
        (("--only", "tork"), "a contender has to be one of fastdrop, "),
    ],
)
def test_a_report_of_bad_input(run: Command, tmp_path: Path, argv: tuple[str, ...], complaint: str) -> None:
    (tmp_path / "file").touch()
    code, text, errors = run("bench", *argv)
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1 and errors.startswith("fastdrop: ") and complaint in errors


@pytest.mark.parametrize("module", ["matplotlib.figure", "rich.console"])
def test_a_report_without_its_packages(run: Command, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, errors = run("bench")
    name = module.partition(".")[0]
    assert (code, errors) == (2, f'fastdrop: fastdrop.bench needs {name}: pip install "fastdrop[bench]"\n')


def test_a_report_interrupted(run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run", stop)
    code, _, errors = run("bench")
    assert (code, errors) == (130, "fastdrop: interrupted; no results, or not all of them, were written\n")
    assert list((tmp_path / "bench-report").iterdir()) == []


def test_a_report_of_a_wrong_answer(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    points = sweep.run(sweep.Plan(small(True, ["small-calls"], (), ["fastdrop"]).groups, 3, 0.01)).points
    monkeypatch.setattr(sweep, "run", lambda *_: sweep.Result(points, {}, {"somebody": "kept all"}))
    code, _, errors = run("bench")
    assert (code, errors) == (1, "fastdrop: not timed, since the answer is wrong: somebody: kept all\n")


def test_help_of_the_report(run: Command) -> None:
    code, text, _ = run("bench", "--help")
    assert code == 0
    for word in ("examples:", "--quick", "--out", "numpy-good", "spatial-nchw", "64Mi"):
        assert word in text


def test_help_names_everybody() -> None:
    for name in (*FAMILIES, *CONTENDERS):
        assert name in cli.BENCH_EXAMPLES or CONTENDERS[name].role == "limit"
