"""The command: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
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
from fastdrop.bench.contenders import CONTENDERS, COPIES
from fastdrop.mnist import data, experiment

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    monkeypatch.setattr(data, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "100")

    def call(*argv: object) -> tuple[int, str, str]:
        code = cli.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with four tiny IDX files that pass for MNIST."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    sums = {}
    for part, count in (("train", 5050), ("t10k", 30)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 12, 12)).astype(np.uint8)
        images[np.arange(count), labels] = 255
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            raw = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
            name = f"{part}-{kind}-ubyte"
            (folder / name).write_bytes(raw)
            sums[name] = hashlib.sha256(raw).hexdigest()
    monkeypatch.setattr(data, "SHA256", sums)
    return folder.parent


def test_a_run_from_end_to_end(run: Run, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    code, text, errors = run("mnist", "--data", files, "--out", out, "--train-size", 40, "--epochs", 2, "--seed", 5)
    assert (code, errors) == (0, "")
    assert not {"\x1b", "\r"} & set(text)
    assert "40 training and 5,000 validation images, of the 5,050 in the training file; all 30 test images" in text
    assert text.count(" epoch ") >= 4
    assert "MNIST: 40 training, 5,000 validation, 30 test images; seed 5" in text
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "predictions.png", "results.json"]
    for name in ("curves.png", "predictions.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert str(out / name) in text
    held = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert held["command"].startswith("fastdrop mnist --data ")
    assert held["dataset"]["name"] == "MNIST"
    assert held["dataset"]["source"] == str(files / "mnist")
    assert held["config"]["seed"] == 5
    assert held["sizes"] == {"train": 40, "validation": 5000, "test": 30}
    assert held["environment"]["isa"] == fastdrop.isa()
    assert held["environment"]["fastdrop"] == fastdrop.__version__
    assert held["seconds"] > 0
    for net in held["nets"]:
        assert len(net["history"]["validation_loss"]) == 2
        shown = next(line.split() for line in text.splitlines() if line.strip().startswith(net["name"] + " "))
        assert shown[: len(net["name"].split())] == net["name"].split()
        assert f"{net['final']['test_loss']:.4f}" in text


def test_the_second_choice_is_named_everywhere(run: Run, tmp_path: Path) -> None:
    code, text, errors = run("mnist", "--offline", "--quick", "--epochs", 1)
    assert code == 0
    assert errors.count("\n") == 1
    assert "scikit-learn's bundled 8x8 digits" in errors
    assert "scikit-learn digits: 500 training" in text
    held = json.loads((tmp_path / "fastdrop-mnist" / "results.json").read_text(encoding="utf-8"))
    assert held["dataset"]["name"] == "scikit-learn digits"
    assert "not MNIST" in held["dataset"]["source"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--data", "nowhere"), "nowhere: no such folder"),
        (("--offline", "--epochs", "0"), "epochs has to be at least 1, but got 0"),
        (("--offline", "--lr", "nan"), "lr has to be above 0"),
        (("--offline", "--train-size", "5000"), "training file holds 1347"),
        (("--offline", "--out", "file"), "file"),
        (("--offline", "--out", "file/below"), "file"),
    ],
)
def test_bad_input_is_one_line_and_2(run: Run, tmp_path: Path, argv: tuple[str, ...], complaint: str) -> None:
    (tmp_path / "file").touch()
    code, text, errors = run("mnist", *argv)
    assert (code, text) == (2, "")
    told = [line for line in errors.splitlines() if "bundled" not in line]
    assert len(told) == 1
    assert told[0].startswith("fastdrop: ")
    assert complaint in told[0]


def test_a_corrupt_file_is_one_line_and_2(run: Run, files: Path) -> None:
    path = files / "mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    code, text, errors = run("mnist", "--data", files)
    assert (code, text) == (2, "")
    assert errors == f"fastdrop: {path}: truncated: 29 bytes of data, but its header says 30 = 30\n"


def test_a_missing_package_is_one_line_and_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, errors = run("mnist", "--offline")
    assert code == 2
    assert errors == 'fastdrop: fastdrop.mnist needs matplotlib: pip install "fastdrop[mnist]"\n'


def test_divergence_is_one_line_and_1(run: Run, files: Path) -> None:
    with np.errstate(all="ignore"):
        code, _, errors = run("mnist", "--data", files, "--train-size", 40, "--epochs", 3, "--lr", "1e30")
    assert code == 1
    assert errors.startswith("fastdrop: training diverged: ")
    assert errors.count("\n") == 1


def test_ctrl_c_is_one_line_and_130(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", stop)
    code, _, errors = run("mnist", "--offline")
    assert code == 130
    assert errors.splitlines()[1:] == ["fastdrop: interrupted; no results, or not all of them, were written"]
    assert list((tmp_path / "fastdrop-mnist").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_from_outside(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    environment.pop("FASTDROP_DATA", None)
    # A job in the background inherits an ignored SIGINT, under which nothing would be tested.
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('fastdrop', run_name='__main__')"
    )
    command = [
        sys.executable,
        "-c",
        start,
        "mnist",
        "--offline",
        "--epochs",
        "100000",
        "--out",
        str(tmp_path / "o"),
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch" in line and "1/100000" in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "fastdrop: interrupted; no results, or not all of them, were written"
    assert "Traceback" not in errors


def test_info(run: Run) -> None:
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


@pytest.mark.parametrize("option", ["--data", "--out"])
def test_an_empty_folder_name(run: Run, option: str) -> None:
    code, _, errors = run("mnist", option, "")
    assert code == 2 and f"{option} has to be a folder" in errors


def test_info_without_an_optional_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "OPTIONAL", (("no_such_module", "no-such", "nothing"),))
    code, text, _ = run("info")
    assert code == 0
    assert "not installed" in text


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"fastdrop {fastdrop.__version__}\n", "")
    code, text, _ = run("mnist", "--help")
    assert code == 0
    for word in ("examples:", "--data", "--full", "--quick", "--out", "FASTDROP_DATA", "scikit-learn"):
        assert word in text
    code, text, _ = run("--help")
    assert code == 0
    assert "mnist" in text
    assert "info" in text


@pytest.mark.parametrize("argv", [(), ("dance",), ("mnist", "--full", "--quick"), ("mnist", "--epochs", "many")])
def test_wrong_usage_is_2(run: Run, argv: tuple[str, ...]) -> None:
    code, text, errors = run(*argv)
    assert (code, text) == (2, "")
    assert "usage: fastdrop" in errors


def test_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastdrop", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"fastdrop {fastdrop.__version__}\n")


TINY = ("bench", "--quick", "--family", "small-calls", "forward", "--n", "256", "--only", "fastdrop", "numpy-good")


def test_a_report_from_end_to_end(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_report_of_bad_input(run: Run, tmp_path: Path, argv: tuple[str, ...], complaint: str) -> None:
    (tmp_path / "file").touch()
    code, text, errors = run("bench", *argv)
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1 and errors.startswith("fastdrop: ") and complaint in errors


@pytest.mark.parametrize("module", ["matplotlib.figure", "rich.console"])
def test_a_report_without_its_packages(run: Run, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, errors = run("bench")
    name = module.partition(".")[0]
    assert (code, errors) == (2, f'fastdrop: fastdrop.bench needs {name}: pip install "fastdrop[bench]"\n')


def test_a_report_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run", stop)
    code, _, errors = run("bench")
    assert (code, errors) == (130, "fastdrop: interrupted; no results, or not all of them, were written\n")
    assert list((tmp_path / "bench-report").iterdir()) == []


def test_a_report_of_a_wrong_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    points = sweep.run(sweep.Plan(small(True, ["small-calls"], (), ["fastdrop"]).groups, 3, 0.01)).points
    monkeypatch.setattr(sweep, "run", lambda *_: sweep.Result(points, {}, {"somebody": "kept all"}))
    code, _, errors = run("bench")
    assert (code, errors) == (1, "fastdrop: not timed, since the answer is wrong: somebody: kept all\n")


def test_help_of_the_report(run: Run) -> None:
    code, text, _ = run("bench", "--help")
    assert code == 0
    for word in ("examples:", "--quick", "--out", "numpy-good", "spatial-nchw", "64Mi"):
        assert word in text


def test_help_names_everybody() -> None:
    for name in (*FAMILIES, *CONTENDERS):
        assert name in cli.BENCH_EXAMPLES or name in COPIES
