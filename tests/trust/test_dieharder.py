"""dieharder's pipe, with a stand-in that prints a table: what is fed, what is run again, what is kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from trust import dieharder

TABLE = {
    "first": "diehard_sums,14,0,100,100,0.20,PASSED\n sts_serial,102, 7,100000,100,0.001,  WEAK\n",
    "again": "sts_serial,102,7,100000,200,0.4,PASSED\nsts_serial,102,8,100000,100,0.9,PASSED\n",
}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `dieharder` that keeps its options and its first input, and closes the pipe while there is more."""
    if shutil.which("stdbuf") is None:
        pytest.skip("there is no stdbuf here")
    (tmp_path / "first").write_text("#==#\n" + TABLE["first"])
    (tmp_path / "again").write_text(TABLE["again"])
    script = f"""#!/bin/sh
echo "$@" >> {tmp_path}/options
head -c 1000 > {tmp_path}/input
case "$*" in *-Y*) cat {tmp_path}/again;; *) cat {tmp_path}/first;; esac
"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dieharder").write_text(script)
    (tmp_path / "bin" / "dieharder").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_run(stand_in, capsys):
    assert dieharder.main(["--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert "diehard_sums" in said and "Do Not Use" in said and "again: sts_serial" in said
    assert said.count("again") == 1
    first, again = (stand_in / "options").read_text().splitlines()
    assert first.startswith("-g 200") and first.endswith("-a")
    assert again.endswith("-d 102 -Y 1 -k 2 -n 7")
    want = fd.Mask(fd.Generator(6).key, 0, 0.5, 8000).packbits().tobytes()
    assert (stand_in / "input").read_bytes() == want


def test_failures_are_failures(stand_in):
    (stand_in / "again").write_text("sts_serial,102,7,100000,200,0.00000001,FAILED\n")
    assert dieharder.main([]) == 1


def test_the_stream_goes_on_with_the_next_part_and_the_next_call(monkeypatch):
    monkeypatch.setattr(dieharder, "PIECE", 1024)
    monkeypatch.setattr(dieharder, "PIECES_OF_A_CALL", 3)
    got = [part for part, _ in zip(dieharder.stream(9), range(4))]
    key = fd.Generator(9).key
    assert np.array_equal(np.concatenate(got[:3]), fd.Mask(key, 0, 0.5, 3072).packbits())
    assert np.array_equal(got[3], fd.Mask(key, 1, 0.5, 1024).packbits())


def test_without_dieharder(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert dieharder.main([]) == 2
    assert "there is no dieharder here; on Debian: apt-get install dieharder" in capsys.readouterr().err


def test_what_is_kept(tmp_path):
    results = [dieharder.parse(line) for line in TABLE["first"].splitlines()]
    reruns = [dieharder.parse(TABLE["again"].splitlines()[0])]
    dieharder.keep(results, reruns, 5, 12.0, tmp_path)
    figures = json.loads((tmp_path / "dieharder.json").read_text())["figures"]
    assert (figures["results"], figures["passed"], figures["weak"], figures["failed"]) == (2, 1, 1, 0)
    assert figures["not_passed"] == ["sts_serial 7: 0.00100000 WEAK (100 psamples)"]
    assert figures["run_again"] == ["sts_serial 7: 0.40000000 PASSED (200 psamples)"]
    page = (tmp_path / "dieharder.txt").read_text()
    assert "2 results, 1 PASSED, 1 WEAK, 0 FAILED" in page and "seed 6" in page
