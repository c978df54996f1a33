"""The programs in examples/ run, and show what they say they show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mc_regression_is_unsure_where_there_are_no_data(tmp_path, capsys):
    """One run, seeded: the spread was 2.1 to 2.5 times as wide in the gap and 3.7 to 4.3 times outside for seeds 0 to
    3."""
    pytest.importorskip("matplotlib")
    example = load("mc_regression")
    found = example.main(["--out", str(tmp_path / "a.png"), "--passes", "200"])
    assert found["in the gap"] > 1.5 * found["on the data"]
    assert found["outside"] > 2.5 * found["on the data"]
    assert found["out"].read_bytes().startswith(b"\x89PNG")
    assert "in the gap" in capsys.readouterr().out
def test_small_transformer_learns_to_sort(capsys):
    """One run, seeded: for seeds 0 to 3, 99.1 to 99.8 % of places were right. By chance it would be a tenth."""
    found = load("small_transformer").main(["--length", "6", "--steps", "200"])
    assert found["places"] > 0.9 and found["sequences"] > 0.5
    assert "of whole sequences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "Monte-Carlo dropout"),
        (["--passes", "1"], 2, "at least 2 points and 2 passes"),
        (["--out", "no/such/folder/a.png"], 2, "there is no folder"),
    ],
)
def test_mc_regression_says_what_it_takes(capsys, arguments, code, words):
    with pytest.raises(SystemExit) as stopped:
        load("mc_regression").main(arguments)
    [(["--help"], 0, "learns to sort"), (["--steps", "0"], 2, "must be at least 1"), (["--dropout", "x"], 2, "float")],
def test_small_transformer_says_what_it_takes(capsys, arguments, code, words):
        load("small_transformer").main(arguments)
    shown = capsys.readouterr()
    assert stopped.value.code == code and words in shown.out + shown.err
