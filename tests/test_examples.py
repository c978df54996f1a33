"""The programs in examples/ run, and show what they say they show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_selu_net_keeps_its_moments_under_alpha_dropout_alone(capsys):
    """Seeded. For seeds 0 to 4 the last variance was 0.83 to 1.07, 1.37 to 1.60 and 0.98 to 1.02, in this order."""
    pytest.importorskip("sklearn")
    figures = load("selu_net").main("--epochs 12 --seeds 1 --train 600".split())
    none, plain, alpha = (figure["moments"][-1] for figure in figures.values())
    assert abs(alpha[0]) < 0.03 and 0.9 < alpha[1] < 1.1
    assert 0.75 < none[1] < 1.25 and plain[1] > 1.3 and abs(plain[0]) > 0.03
    assert all(len(f["moments"]) == 8 and f["accuracy"] > 0.85 for f in figures.values())
    printed = capsys.readouterr().out
    assert all(f"{name} " in printed and f"{100 * f['accuracy']:.1f} %" in printed for name, f in figures.items())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "alpha dropout"),
        (["--depth", "0"], 2, "has to be a number from 1 on, but got 0"),
        (["--p", "1.5"], 2, "between 0 and 1"),
        (["--train", "1797"], 2, "--train has to leave some"),
    ],
)
def test_selu_net_says_what_it_takes(capsys, arguments, code, words):
    with pytest.raises(SystemExit) as stopped:
        load("selu_net").main(arguments)
    shown = capsys.readouterr()
    assert stopped.value.code == code and words in shown.out + shown.err
