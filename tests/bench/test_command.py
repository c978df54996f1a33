"""``python -m bench.paired``: what it prints, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastdrop as fd
from fastdrop.bench import bars, command, paired
from fastdrop.bench.bars import BARS, Bar, Cleared
from fastdrop.bench.cases import Case
from fastdrop.bench.paired import Outcome, Spread
from fastdrop.bench.ready import WrongAnswer

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")

    def call(*argv: str) -> tuple[int, str, str]:
        code = command.main(argv, prog="paired")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_pair(run: Run) -> None:
    code, text, errors = run("fastdrop", "copy", "--n", "4Ki", "--p", ".1", "--rounds", "3", "--dtype", "float64")
    assert (code, errors) == (0, "")
    assert "forward, 4 Ki float64, p = 0.1, threads 1, 3 rounds" in text
    assert text.count("ns per element") == 4 and text.count("*") == 2
    last = text.splitlines()[-1]
    assert last.startswith(f"fastdrop {fd.isa()} / ") and last.count(",") >= 1


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("fastdrip", "copy"), "a contender has to be one of copy, fastdrop, "),
        (("fastdrop", "copy", "--n", "4Kx"), "256, 16Ki or 64Mi, but got '4Kx'"),
        (("fastdrop", "copy", "--n", "0"), "but got '0'"),
        (("fastdrop", "copy", "--p", "2"), "between 0 and 1, but got 2.0"),
        (("fastdrop", "copy", "--threads", "0"), "threads from 1 to 256"),
        (("fastdrop", "copy", "--isa", "mmx"), "this machine or build cannot run mmx"),
        (("fastdrop", "copy", "--family", "up"), "invalid choice: 'up'"),
        (("fastdrop", "copy", "--rounds", "0"), "rounds has to be a number from 1 on, but got '0'"),
        (("fastdrop", "copy", "--family", "spatial-nchw", "--n", "1000"), "power of two"),
        (("fastdrop",), "second"),
        (("bars", "--only", "nothing"), "no bar's key contains nothing"),
    ],
)
def test_bad_input_is_2(run: Run, argv: tuple[str, ...], complaint: str) -> None:
    code, text, errors = run(*argv)
    assert (code, text) == (2, "")
    assert complaint in errors.splitlines()[-1]


def test_help(run: Run) -> None:
    code, text, _ = run("--help")
    assert code == 0 and "examples:" in text and "numpy-good" in text and "forward+backward" in text
    code, text, _ = run("bars", "--help")
    assert code == 0 and "float32-p.5-2t" in text


def outcome(first: float, second: float) -> Outcome:
    return Outcome("a", "b", Case("forward", 1000), {"a": [first] * 3, "b": [second] * 3})


def test_bars_say_pass_and_miss(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"float32-p.5": outcome(1.07, 1.0), "float32-p.1": outcome(1.26, 1.0), "call-us": outcome(0.9e-6, 1e-6)}

    def results(chosen: list[Bar], rounds: int) -> list[Cleared]:
        assert rounds == 15
        cleared = []
        for bar in chosen:
            found = made.get(bar.key)
            if found is None:
                cleared.append(Cleared(bar, None, None, "no avx512 here"))
            else:
                figure = Spread(0.9, 0.9, 0.9) if bar.against is None else found.ratio
                cleared.append(Cleared(bar, figure, found))
        return cleared

    monkeypatch.setattr(command, "run", results)
    code, text, _ = run("bars", "--only", "float32-p", "call-us")
    assert code == 1
    assert "float32-p.5: 1.070 [1.070, 1.070], at most 1.080: pass" in text
    assert "float32-p.1: 1.260 [1.260, 1.260], at most 1.250: MISS" in text
    assert "float32-p.5-2t: skipped: no avx512 here" in text
    assert "call-us: 0.900 µs" in text
    assert text.endswith("1 of 5 missed\n")
    code, text, _ = run("bars", "--only", "call-us")
    assert code == 0


def test_a_bar_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "SAMPLE_SECONDS", 1e-6)
    small = [
        Bar("a", Case("forward", 4096, p=0.1), "copy", 1.0),
        Bar("b", Case("forward", 4096, isa="no"), "copy", 1.0),
        Bar("c", Case("small-calls", 256), None, 1.0),
    ]
    ratio, skipped, call = bars.run(small, rounds=3)
    assert ratio.figure is not None and ratio.passed in (True, False)
    assert skipped.passed is None and skipped.skipped == "fastdrop no: this machine or build cannot run no"
    assert call.figure is not None and 0 < call.figure.median < 1000


def test_the_table_of_bars() -> None:
    assert len({bar.key for bar in BARS}) == len(BARS)
    limits = {bar.key: bar.limit for bar in BARS}
    assert limits["float32-p.5"] == 1.08 and limits["avx2-p.1"] == 1.9 and limits["spatial-nhwc"] == 1.10
    assert limits["torch-16Ki-p.5-1t"] == 1 / 20 and limits["torch-16Ki-p.5-2t"] == 1 / 35
    large = [bar for bar in BARS if bar.key.startswith("float")]
    assert all(bar.case.n == 2**26 and bar.case.isa == "avx512" and bar.against == "copy" for bar in large)


def test_a_wrong_answer_is_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WrongAnswer("kept all")

    monkeypatch.setattr(paired, "check", refuse)
    code, _, errors = run("fastdrop", "memcpy", "--n", "64")
    assert (code, errors) == (1, "paired: not timed, since the answer is wrong: kept all\n")


def test_ctrl_c_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paired, "interleave", stop)
    assert run("fastdrop", "memcpy", "--n", "64") == (130, "", "paired: interrupted\n")


def test_a_missing_package_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.table", None)
    code, _, errors = run("bars", "--only", "call-us")
    assert (code, errors) == (2, 'paired: fastdrop.bench needs rich: pip install "fastdrop[bench]"\n')


def test_from_the_root() -> None:
    environment = {**os.environ, "COLUMNS": "120"}
    line = [sys.executable, "-m", "bench.paired", "memcpy", "memcpy", "--n", "64", "--rounds", "1"]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "memcpy / memcpy, again: " in done.stdout
