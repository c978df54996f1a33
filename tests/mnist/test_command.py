"""The command ``fastdrop mnist``: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop.mnist import command, data, models, regularizers, runner

Command = Callable[..., tuple[int, str, str]]

#: A study of a few seconds.
SMALL = ("--model", "mlp-selu", "--train-size", 40, "--epochs", 2, "--seeds", 2)


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


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """In the place of training: notes what would have been run, and interrupts."""
    asked: list[Any] = []

    def execute(runs: list[Any], *_: object, **options: object) -> None:
        asked.append((runs, options))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", execute)
    return asked


def held(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found


def test_a_study_from_end_to_end(run: Command, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    code, text, errors = run("mnist", "--data", files, "--out", out, *SMALL, "--seed", 5)
    assert code == 0, errors
    assert not {"\x1b", "\r"} & set(text)
    assert "40 training and 2,000 validation images, of the 5,050 in the training file; all 30 test images" in text
    assert "4 runs, " in text and "none; alpha; seeds 5 and 6" in text
    assert "4/4  " in text
    assert (out / "report.html").is_file()
    assert str(out / "report.html") in text
    found = held(out)
    assert found["command"].startswith("fastdrop mnist --data ")
    assert found["dataset"]["name"] == "MNIST"
    assert found["dataset"]["source"] == str(files / "mnist")
    assert found["environment"]["isa"] == fastdrop.isa()
    assert found["environment"]["fastdrop"] == fastdrop.__version__
    assert len(list((out / "runs").glob("*/record.json"))) == 4


def test_the_second_choice_is_named_everywhere(run: Command, tmp_path: Path) -> None:
    code, text, errors = run("mnist", "--offline", *SMALL)
    assert code == 0
    assert "scikit-learn's bundled 8x8 digits" in errors.splitlines()[0]
    assert "scikit-learn digits" in text
    found = held(tmp_path / "fastdrop-mnist")
    assert found["dataset"]["name"] == "scikit-learn digits"
    assert "not MNIST" in found["dataset"]["source"]


def test_a_study_is_not_overwritten_by_chance(run: Command, files: Path, tmp_path: Path) -> None:
    study = ("mnist", "--data", files, "--out", "o", *SMALL)
    assert run(*study)[0] == 0
    records = {path: path.read_bytes() for path in (tmp_path / "o" / "runs").glob("*/record.json")}
    code, text, errors = run(*study)
    assert (code, text) == (2, "")
    assert errors == (
        "fastdrop: o holds a study: --resume goes on with it (or draws its report again), --overwrite forgets it, "
        "--out DIR leaves it alone\n"
    )
    # Without a word about the study or its data --resume finds both.
    (tmp_path / "o" / "report.html").unlink()
    code, text, _ = run("mnist", "--resume", "--out", "o")
    assert code == 0
    assert "all were finished before" in text
    assert (tmp_path / "o" / "report.html").is_file()
    # More of it adds to what is there.
    code, text, _ = run("mnist", "--resume", "--out", "o", *SMALL[:-1], 3)
    assert code == 0
    assert "finished runs are not repeated" in text and "6/6  " in text
    assert all(path.read_bytes() == content for path, content in records.items())
    assert len(held(tmp_path / "o")["runs"]) == 6
    code, text, _ = run(*study, "--overwrite")
    assert code == 0
    assert "finished before" not in text
    assert len(list((tmp_path / "o" / "runs").iterdir())) == 4


def test_a_study_is_resumed_from_another_folder(
    run: Command, files: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run("mnist", "--data", os.path.relpath(files), "--out", "o", *SMALL)[0] == 130
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, errors = run("mnist", "--resume", "--out", "../o")
    assert (code, len(fake)) == (130, 2), errors


def test_overwriting_forgets_the_report_too(run: Command, fake: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "o"
    assert run("mnist", "--offline", "--out", "o")[0] == 130
    for name in ("report.html", "results.json", "gap.png", "notes.txt"):
        (out / name).write_text("old", encoding="utf-8")
    assert run("mnist", "--offline", "--out", "o", "--overwrite", "--epochs", 0)[0] == 2
    assert (out / "report.html").exists()  # what is refused changes nothing
    assert run("mnist", "--offline", "--out", "o", "--overwrite")[0] == 130
    assert {path.name for path in out.iterdir()} == {".lock", "notes.txt", "study.json"}


def test_what_is_resumed_has_to_be_there_and_whole(run: Command, files: Path, tmp_path: Path) -> None:
    code, _, errors = run("mnist", "--resume", "--out", "o")
    assert (code, errors) == (
        2,
        "fastdrop: o holds no study.json to go on with: leave out --resume, or say what to run\n",
    )
    for content in (
        "",
        "{}",
        '{"runs": [{"model": "x"}], "data": null, "digest": ""}',
        '{"runs": [], "data": null, "digest": ""}',
        '{"runs": [{}], "data": 3, "digest": ""}',
    ):
        (tmp_path / "o" / "study.json").write_text(content, encoding="utf-8")
        code, _, errors = run("mnist", "--resume", "--out", "o")
        assert code == 2
        assert errors.startswith(f"fastdrop: {Path('o', 'study.json')}: damaged (")


def test_a_study_of_other_data_is_not_resumed(run: Command, files: Path, fake: list[Any]) -> None:
    assert run("mnist", "--data", files, "--out", "o", *SMALL)[0] == 130
    code, _, errors = run("mnist", "--offline", "--data", "", "--resume", "--out", "o")
    assert code == 2 and "--data has to be a path, but got an empty string" in errors
    labels = files / "mnist" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x01")
    data.SHA256[labels.name] = hashlib.sha256(labels.read_bytes()).hexdigest()
    code, _, errors = run("mnist", "--resume", "--out", "o")
    assert code == 2
    assert errors == "fastdrop: the study in o is of other data; give --data, or another --out\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_two_at_once_are_kept_apart(run: Command, files: Path) -> None:
    with command._locked(files):
        code, text, errors = run("mnist", "--data", files, "--out", files, *SMALL)
    assert (code, text) == (2, "")
    assert errors == f"fastdrop: another fastdrop mnist is at work in {files}: wait for it, or take another --out\n"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--data", "nowhere"), "nowhere: no such folder"),
        (("--offline", "--epochs", "0"), "epochs has to be at least 1, but got 0"),
        (("--offline", "--lr", "nan"), "lr has to be above 0"),
        (("--offline", "--train-size", "5000"), "training file holds 1347"),
        (("--offline", "--seeds", "0"), "seeds has to be a number from 1 on"),
        (("--offline", "--seed", "-1"), "seed has to be at least 0, but got -1"),
        (("--offline", "--jobs", "0"), "jobs has to be between 1 and 1024, but got 0"),
        (("--offline", "--model", "resnet"), "model 'resnet': there is none of that name"),
        (("--offline", "--regularizer", "droput"), "regularizer 'droput': there is none of that name"),
        (("--offline", "--model", "mlp", "--regularizer", "spatial"), "model 'mlp' takes no 'spatial'"),
        (("--offline", "--p", "1.5"), "but got 1.5"),
        (("--config", "none.toml"), "none.toml: No such file or directory"),
        (("--offline", "--config", "file"), "epochs has to be a whole number, but got 'x'"),
        (("--offline", "--out", "file"), "file"),
        (("--offline", "--out", "file/below"), "file"),
        (("--out", ""), "--out has to be a path, but got an empty string"),
        (("--config", ""), "--config has to be a path, but got an empty string"),
    ],
)
def test_bad_input_is_one_line_and_2(run: Command, tmp_path: Path, argv: tuple[str, ...], complaint: str) -> None:
    (tmp_path / "file").write_text("epochs = 'x'", encoding="utf-8")
    code, text, errors = run("mnist", *argv)
    assert (code, text) == (2, "")
    told = [line for line in errors.splitlines() if "bundled" not in line]
    assert len(told) == 1
    assert told[0].startswith("fastdrop: ")
    assert complaint in told[0]


def test_a_corrupt_file_is_one_line_and_2(run: Command, files: Path) -> None:
    path = files / "mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    code, text, errors = run("mnist", "--data", files)
    assert (code, text) == (2, "")
    assert errors.startswith(f"fastdrop: {path}: truncated: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "package"),
    [("matplotlib.figure", "matplotlib"), ("scipy.stats", "scipy"), ("threadpoolctl", "threadpoolctl")],
)
def test_a_missing_package_is_one_line_and_2(
    run: Command, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, errors = run("mnist", "--offline")
    assert code == 2
    assert errors == f'fastdrop: fastdrop.mnist needs {package}: pip install "fastdrop[mnist]"\n'


def test_options_go_before_a_file(run: Command, fake: list[Any], tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'epochs = 3\nseeds = 2\n[[grid]]\nmodels = ["lstm"]\n[[grid]]\nregularizers = ["l2"]\n', encoding="utf-8"
    )
    code, _, _ = run("mnist", "--offline", "--config", "study.toml", "--epochs", 4, "--seed", 10, "--jobs", 3)
    assert code == 130
    ((runs, options),) = fake
    assert [(r.model, r.regularizer, r.epochs, r.seed) for r in runs] == [
        (model, regularizer, 4, seed)
        for seed in (10, 11)
        for model, regularizer in (("lstm", "none"), ("lstm", "variational=0.25"), ("cnn", "l2=0.0001"))
    ]
    assert options["jobs"] == 3


def test_presets_and_sizes(run: Command, fake: list[Any]) -> None:
    run("mnist", "--offline", "--full", "--train-size", "all", 100, "--p", ".2", "--overwrite")
    run("mnist", "--offline", "--quick", "--overwrite")
    (full, _), (quick, _) = fake
    assert {r.train_size for r in full} == {947, 100}
    assert {r.regularizer for r in full} == {"none", "dropout=0.2"}
    assert {r.train_size for r in quick} == {500}


def test_a_disk_without_room_is_found_before_training(
    run: Command, files: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10_000_000})()
    monkeypatch.setattr(command.shutil, "disk_usage", lambda path: usage)
    code, _, errors = run("mnist", "--data", files, "--out", "o", *SMALL)
    assert (code, fake) == (2, [])
    assert errors.startswith("fastdrop: o: 10 MB are free there, but the study needs about ")


def test_divergence_is_told_and_1(run: Command, files: Path) -> None:
    code, text, errors = run("mnist", "--data", files, *SMALL, "--lr", "1e30", "--jobs", 1)
    assert code == 1
    assert "diverged" in text
    assert "fastdrop: training diverged in 4 of 4 runs: the loss is " in errors


def test_ctrl_c_is_one_line_and_130(run: Command, fake: list[Any], tmp_path: Path) -> None:
    code, _, errors = run("mnist", "--offline", "--out", "my out")
    assert code == 130
    assert errors.splitlines()[1:] == [
        "fastdrop: interrupted; what is done is kept: fastdrop mnist --resume --out 'my out'"
    ]
    assert (tmp_path / "my out" / "study.json").is_file()


def test_ctrl_c_during_the_report_says_what_is_kept(
    run: Command, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command.report, "write", write)
        code, _, errors = run("mnist", "--data", files, "--out", "o", *SMALL)
    assert code == 130
    assert errors.endswith("fastdrop: interrupted; what is done is kept: fastdrop mnist --resume --out o\n")
    code, text, _ = run("mnist", "--resume", "--out", "o")
    assert code == 0 and "all were finished before" in text


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "o/runs/x"), runner.WorkerDied("it died"), MemoryError("too much")]
)
def test_what_ends_a_study_early_is_told_and_1(run: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def execute(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runner, "execute", execute)
    code, _, errors = run("mnist", "--offline", "--out", "o")
    assert code == 1
    assert errors.splitlines()[-1].endswith("; what is done is kept: fastdrop mnist --resume --out o")
    assert ("No space left on device" in errors) == isinstance(error, OSError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_from_outside(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("FASTDROP_DATA", None)
    # A job in the background inherits an ignored SIGINT, under which nothing would be tested.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from fastdrop.mnist import progress; progress.SILENCE = 0; import sys; from fastdrop.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", start, "mnist", "--offline", "--epochs", "100000", "--jobs", "2", "--out", "o"]
    with subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 1/100000" in line:
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == ("fastdrop: interrupted; what is done is kept: fastdrop mnist --resume --out o")
    assert "Traceback" not in errors


def test_the_list_names_all_there_is(run: Command) -> None:
    code, text, errors = run("mnist", "--list")
    assert (code, errors) == (0, "")
    for name in (*models.MODELS, *regularizers.REGULARIZERS, "quick", "default", "full"):
        assert name in text


def test_help(run: Command) -> None:
    code, text, _ = run("mnist", "--help")
    assert code == 0
    for word in ("examples:", "--data", "--full", "--resume", "--config", "--out", "FASTDROP_DATA", "scikit-learn"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    "argv", [("--full", "--quick"), ("--epochs", "many"), ("--resume", "--overwrite"), ("--train-size", "half")]
)
def test_wrong_usage_is_2(run: Command, argv: tuple[str, ...]) -> None:
    code, text, errors = run("mnist", *argv)
    assert (code, text) == (2, "")
    assert "usage: fastdrop" in errors


@pytest.mark.parametrize("content", [None, "{"])
def test_a_study_is_made_again_from_its_options(run: Command, files: Path, tmp_path: Path, content: str | None) -> None:
    study = ("mnist", "--data", files, "--out", "o", *SMALL)
    assert run(*study)[0] == 0
    path = tmp_path / "o" / "study.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")
    assert run("mnist", "--resume", "--out", "o")[0] == 2
    code, text, errors = run(*study, "--resume")
    assert code == 0, errors
    assert "all were finished before" in text
    assert len(json.loads(path.read_text(encoding="utf-8"))["runs"]) == 4


def test_how_runs_are_trained(run: Command, fake: list[Any]) -> None:
    run("mnist", "--offline", "--optimizer", "sgd", "--schedule", "cosine", "--validation-size", 100, "--lr", 0.5)
    ((runs, _),) = fake
    assert {(r.optimizer, r.schedule, r.validation_size, r.lr) for r in runs} == {("sgd", "cosine", 100, 0.5)}
