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
        (("fastdrop", "copy", "--n", "2048Gi"), "n has to be from 1 to 1099511627776"),
        (("fastdrop", "copy", "--p", "2"), "between 0 and 1, but got 2.0"),
        (("fastdrop", "copy", "--threads", "0"), "threads has to be from 1 to 256, but got 0"),
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


def test_a_bar_is_cleared_by_the_median() -> None:
    bar = BARS[0]
    made = [Cleared(bar, Spread(*figure), None).passed for figure in ((0.9, bar.limit, 2.0), (0.9, 1.081, 1.2))]
    assert made == [True, False]


def test_the_table_of_bars() -> None:
    assert len({bar.key for bar in BARS}) == len(BARS)
    limits = {bar.key: bar.limit for bar in BARS if not bar.key.startswith("torch-")}
    assert limits == {
        "float32-p.5": 1.08, "float32-p.1": 1.25, "float32-p.5-2t": 1.10, "float32-p.1-2t": 1.15, "float64-p.5": 1.05,
        "float64-p.1": 1.05, "bfloat16-p.1": 1.35, "float16-p.1": 1.35, "cache-p.5": 1.5, "cache-p.1": 2.5,
        "spatial-nchw": 1.05, "spatial-nhwc": 1.10, "avx2-p.5": 1.25, "avx2-p.1": 1.9, "call-us": 1.0,
        "call-torch": 0.1, "dropconnect-p.5": 3, "dropconnect-dx": 3.5, "dropconnect-dw": 3.5, "dropconnect-p.1": 9,
        "dropconnect-both-2t": 0.6, "dropconnect-einsum": 1 / 150, "cnn-step": 1.3, "mlp-step": 0.8,
        "drop-in-1Mi": 0.05, "drop-in-64Mi": 0.05, "drop-in-transformer": 1.053, "drop-in-mlp": 1.064,
    }  # fmt: skip
    torch = [bar for bar in BARS if bar.key.startswith("torch-")]
    assert len(torch) == 16 and all(bar.limit == {1: 1 / 20, 2: 1 / 35}[bar.case.threads] for bar in torch)
    products = [bar for bar in BARS if bar.key.startswith("dropconnect")]
    assert all(bar.case.shape == (128, 800, 800) and bar.case.isa == "avx512" for bar in products)
    large = [bar for bar in BARS if bar.key.startswith("float")]
    assert all(bar.case.n == 2**26 and bar.case.isa == "avx512" and bar.against == "copy" for bar in large)


def test_a_narrow_terminal_loses_no_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(
        command, "run", lambda chosen, rounds: [Cleared(chosen[0], Spread(1.0, 1.07, 1.1), outcome(1, 1))]
    )
    _, text, _ = run("bars", "--only", "float32-p.5")
    row = next(line for line in text.splitlines() if line.startswith(" float32-p.5"))
    assert row.split()[-1] == "pass" and "1.070" in row and "\N{HORIZONTAL ELLIPSIS}" not in text


def test_no_memory_is_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("unable to allocate")

    monkeypatch.setattr(paired, "Arrays", refuse)
    assert run("fastdrop", "memcpy") == (2, "", "paired: unable to allocate\n")


def test_a_closed_pipe_is_quiet() -> None:
    line = [sys.executable, "-m", "bench.paired", "memcpy", "memcpy", "--n", "64", "--rounds", "1"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


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
