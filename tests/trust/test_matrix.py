"""The table of a matrix: what passed, what failed, what broke off, what was not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trust import matrix

SUITE = '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="4.5"/></testsuites>'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix.rows, "__defaults__", (tmp_path,))
    return tmp_path


def leave(folder: Path, name: str, python: str, results: str | None) -> None:
    who = {"python": python, "numpy": "2.0.0", "free_threaded": False, "part": "core"}
    (folder / f"{name}.json").write_text(json.dumps(who))
    if results:
        (folder / f"{name}.xml").write_text(results)


def test_all_passed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PYTHONS", "3.9 3.10 /a/path")
    leave(folder, "3.10-oldest", "3.10.1", SUITE.replace('errors="1" failures="2"', 'errors="0" failures="0"'))
    assert matrix.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Python 3.10.1, NumPy 2.0.0, core: 7 passed, 0 failed, 3 skipped in 4 s",
        "Python 3.9: not here, so not run",
    ]


@pytest.mark.parametrize("results", [SUITE, None, SUITE.replace('tests="10"', 'tests="6"')])
def test_failures_errors_and_broken_runs_fail(folder: Path, results: str | None) -> None:
    leave(folder, "3.9-oldest", "3.9.1", SUITE.replace('errors="1" failures="2"', 'errors="0" failures="0"'))
    leave(folder, "3.10-oldest", "3.10.1", results)
    assert [row.python for row in sorted(matrix.rows(), key=matrix._order)] == ["3.9.1", "3.10.1"]
    assert matrix.main([]) == 1


def test_nothing_run_is_a_failure(folder: Path) -> None:
    assert matrix.main([]) == 1
