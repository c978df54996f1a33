"""The table, the pictures and the file of numbers, from made-up results."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fastdrop.mnist import report
from fastdrop.mnist.data import Dataset
from fastdrop.mnist.experiment import Config, Net, Result

from .conftest import digits

PNG = b"\x89PNG\r\n\x1a\n"


def net(name: str, predicted: list[int], validation: list[float]) -> Net:
    history = {
        "train_loss": [0.5, 0.25],
        "train_accuracy": [0.9, 0.975],
        "validation_loss": validation,
        "validation_accuracy": [0.8, 0.925],
        "seconds": [1.0, 1.0],
    }
    return Net(name, ("Conv2d",), 7, history, {"loss": 0.625, "accuracy": 0.875}, np.array(predicted))


@pytest.fixture
def result() -> Result:
    images, _ = digits(6, 0)
    truth = np.array([0, 1, 2, 3, 4, 5], np.uint8)
    dataset = Dataset("some digits", "a shelf", images, truth, images, truth)
    nets = (net("plain", [0, 1, 9, 9, 9, 5], [0.5, 0.75]), net("other", [0, 1, 2, 3, 8, 8], [0.5, 0.375]))
    return Result(Config(epochs=2, seed=11), dataset, {"train": 60, "validation": 50, "test": 6}, nets, 2.0)


def printed(result: Result) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(report.table(result))
    return stream.getvalue()


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def test_the_table_has_every_number_in_80_columns(result: Result) -> None:
    lines = printed(result).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {
        line.split()[0]: line.split()[1:] for line in lines if line.split() and line.split()[0] in ("plain", "other")
    }
    assert rows["plain"] == ["0.2500", "97.50", "0.7500", "92.50", "0.6250", "87.50", "1", "0.5000"]
    assert rows["other"] == ["0.2500", "97.50", "0.3750", "92.50", "0.6250", "87.50", "2", "0.1250"]
    assert "some digits: 60 training, 50 validation, 6 test images; seed 11" in printed(result)
    assert "final epoch (2)" in report.notes(result)


def test_the_curves_name_what_they_show(result: Result) -> None:
    shown = texts(report.curves(result))
    for word in (
        "some digits",
        "60 training",
        "seed 11",
        "plain",
        "other",
        "validation 0.750",
        "training 97.5 %",
        "epoch",
    ):
        assert word in shown


def test_the_curves_hold_the_numbers(result: Result) -> None:
    loss, accuracy = report.curves(result).axes
    drawn = [line.get_ydata().tolist() for line in loss.lines if len(line.get_ydata()) == 2]
    assert drawn == [[0.5, 0.75], [0.5, 0.25], [0.5, 0.375], [0.5, 0.25]]
    assert next(line.get_ydata().tolist() for line in accuracy.lines) == [80.0, 92.5]


def test_the_predictions_say_how_they_were_chosen(result: Result) -> None:
    shown = texts(report.predictions(result))
    assert "some digits" in shown
    assert 'Wrong with "plain", right with "other": 2 of 6' in shown
    assert 'Right with "plain", wrong with "other": 1 of 6' in shown
    assert "Wrong with both: 1 of 6" in shown
    # Each wrong reading carries a cross: 2 + 1 + 2 in the sections of errors, and those 5 among the first digits.
    assert shown.count("\N{MULTIPLICATION SIGN}") == 10


def test_a_section_without_digits_says_none(result: Result) -> None:
    right = [0, 1, 2, 3, 4, 5]
    nets = (net("plain", right, [0.5, 0.5]), net("other", right, [0.5, 0.5]))
    shown = texts(report.predictions(Result(result.config, result.dataset, result.sizes, nets, 1.0)))
    assert shown.count("none") == 3


def test_the_files(result: Result, tmp_path: Path) -> None:
    paths = report.write(result, tmp_path / "a" / "b", command="fastdrop mnist")
    assert [path.name for path in paths] == ["curves.png", "predictions.png", "results.json"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(report.FILES)
    for path in paths[:2]:
        assert path.read_bytes().startswith(PNG)
    held = json.loads(paths[2].read_text(encoding="utf-8"))
    assert held["schema"] == 1
    assert held["command"] == "fastdrop mnist"
    assert held["dataset"] == {"name": "some digits", "source": "a shelf", "side": 28}
    assert held["sizes"] == {"train": 60, "validation": 50, "test": 6}
    assert held["config"]["seed"] == 11
    first = held["nets"][0]
    assert first["final"]["test_accuracy"] == 0.875
    assert first["best_epoch"] == {
        "epoch": 1,
        "train_loss": 0.5,
        "train_accuracy": 0.9,
        "validation_loss": 0.5,
        "validation_accuracy": 0.8,
    }
    assert first["history"]["validation_loss"] == [0.5, 0.75]


def test_no_nan_gets_into_json(result: Result, tmp_path: Path) -> None:
    nets = (net("plain", [0] * 6, [math.nan, math.inf]), result.nets[1])
    odd = Result(result.config, result.dataset, result.sizes, nets, 1.0)
    report.write(odd, tmp_path)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    held = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert held["nets"][0]["history"]["validation_loss"] == [None, None]


def test_a_write_that_fails_leaves_the_old_file(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write(result, tmp_path)
    before = (tmp_path / "results.json").read_bytes()

    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:10].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(result, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(report.FILES)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_the_files_get_the_usual_rights(result: Result, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        paths = report.write(result, tmp_path)
    finally:
        os.umask(old)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o644] * 3


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            report.check_folder(bad)
    assert list(report.check_folder(tmp_path / "new").iterdir()) == []


def test_without_matplotlib(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install \"fastdrop\[mnist\]\""):
        report.curves(result)
