"""The command line, the environment and MNIST's files: each is refused in one line that names what is wrong."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastdrop import cli
from fastdrop.mnist.idx import DataError, parse_idx, read_idx

from .check import Row, refuses, refuses_row

Command = Any  # the fixture `run` of conftest.py

#: Words after ``fastdrop``, and what the line has to say: the flag or its name, the value, and what would be right.
COMMANDS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ("required", "command")),
    (("train",), ("'train'", "mnist", "bench", "info")),
    (("--quick",), ("required: command|unrecognized arguments",)),
    (("info", "--all"), ("unrecognized arguments", "--all")),
    (("mnist", "--epochs"), ("--epochs", "expected one argument")),
    (("mnist", "--epochs", "many"), ("--epochs", "'many'", "int")),
    (("mnist", "--epochs", "1.5"), ("--epochs", "'1.5'", "int")),
    (("mnist", "--offline", "--epochs", "-1"), ("epochs", "-1", "at least 1")),
    (("mnist", "--batch-size", "x"), ("--batch-size", "'x'", "int")),
    (("mnist", "--offline", "--batch-size", "0"), ("batch.size", "0", "at least 1")),
    (("mnist", "--lr", "fast"), ("--lr", "'fast'", "float")),
    (("mnist", "--offline", "--lr", "-1"), ("lr", "-1", "above 0")),
    (("mnist", "--offline", "--lr", "inf"), ("lr", "inf", "above 0")),
    (("mnist", "--p", "half"), ("--p", "'half'", "float")),
    (("mnist", "--offline", "--p", "-0.5"), (r"\bp\b|probability", "-0.5", "0 and 1|between|from 0")),
    (("mnist", "--offline", "--p", "nan"), (r"\bp\b|probability", "nan", "0 and 1|between|from 0")),
    (("mnist", "--train-size", "most"), ("--train-size", "'most'", "number of images")),
    (("mnist", "--offline", "--train-size", "0"), ("train.size", "0", "at least|from 1")),
    (("mnist", "--validation-size", "x"), ("--validation-size", "'x'", "int")),
    (("mnist", "--seeds", "x"), ("--seeds", "'x'", "int")),
    (("mnist", "--offline", "--seeds", "-3"), ("seeds", "-3", "from 1 on")),
    (("mnist", "--seed", "x"), ("--seed", "'x'", "int")),
    (("mnist", "--jobs", "x"), ("--jobs", "'x'", "int")),
    (("mnist", "--offline", "--jobs", "9999"), ("jobs", "9999", "between 1 and 1024")),
    (("mnist", "--optimizer", "lbfgs"), ("--optimizer", "'lbfgs'", "sgd")),
    (("mnist", "--schedule", "steep"), ("--schedule", "'steep'", "cosine|constant")),
    (("mnist", "--quick", "--full"), ("--full", "--quick", "not allowed with")),
    (("mnist", "--resume", "--overwrite"), ("--overwrite", "--resume", "not allowed with")),
    (("mnist", "--offline", "--model", ""), ("model", "''", "none of that name")),
    (("mnist", "--offline", "--regularizer", "dropout=2"), ("dropout", "2", "0 and 1|between|from 0")),
    (("mnist", "--offline", "--regularizer", "l2=x"), ("l2", "x", "number")),
    (("mnist", "--offline", "--regularizer", "none+none"), ("none",)),
    (("mnist", "--config", "none.toml"), ("none.toml", "No such file")),
    (("mnist", "--config", "."), (r"\.", "directory|folder|permission")),
    (("mnist", "--data", "nowhere"), ("nowhere", "no such folder")),
    (("mnist", "--offline", "--out", ""), ("--out", "empty string", "path")),
    (("bench", "--n", "0"), ("'0'", "16Ki or 64Mi")),
    (("bench", "--n", "1e9"), ("'1e9'", "16Ki or 64Mi")),
    (("bench", "--n"), ("--n", "expected at least one argument")),
    (("bench", "--family", "backwards"), ("'backwards'|backwards", "one of forward")),
    (("bench", "--only", "tpu"), ("'tpu'|tpu", "one of fastdrop")),
    (("bench", "--out", ""), ("--out", "empty string", "folder")),
    (("bench", "--seeds", "3"), ("unrecognized arguments", "--seeds")),
)


@pytest.mark.parametrize(("words", "says"), [pytest.param(w, s, id=" ".join(w) or "nothing") for w, s in COMMANDS])
def test_a_wrong_command(words: tuple[str, ...], says: tuple[str, ...], run: Command, tmp_path: Path) -> None:
    status, told, errors = run(*words)
    assert status == 2 and not told
    assert "Traceback" not in errors
    for pattern in says:
        assert re.search(pattern, errors), f"no {pattern!r} in {errors!r}"
    assert not list(tmp_path.rglob("*.html"))


ARGV = (
    Row("a number for the words", {}, lambda: cli.main(3), TypeError, ("argv", "3", "sequence of strings")),
    Row("one string for the words", {}, lambda: cli.main("info"), TypeError, ("argv", "'info'", "sequence of strings")),
    Row("numbers for words", {}, lambda: cli.main(["mnist", 3]), TypeError, ("argv", "3", "sequence of strings")),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ARGV])
def test_wrong_words(row: Row) -> None:
    refuses_row(row)


ENVIRONMENT = (
    ("FASTDROP_ISA", "sse9", ("FASTDROP_ISA", "'sse9'", "one of portable")),
    ("FASTDROP_ISA", "AVX2", ("FASTDROP_ISA", "'AVX2'", "one of portable")),
    ("FASTDROP_NUM_THREADS", "0", ("FASTDROP_NUM_THREADS", "'0'", "from 1 to 256")),
    ("FASTDROP_NUM_THREADS", "all", ("FASTDROP_NUM_THREADS", "'all'", "from 1 to 256")),
    ("FASTDROP_NUM_THREADS", "1.5", ("FASTDROP_NUM_THREADS", r"'1\.5'", "from 1 to 256")),
)


@pytest.mark.parametrize(("name", "value", "says"), ENVIRONMENT)
def test_a_wrong_environment(name: str, value: str, says: tuple[str, ...]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import fastdrop"],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1
    for pattern in says:
        assert re.search(pattern, found.stderr.splitlines()[-1])


def header(magic: int, *sizes: int) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes)


LABELS = header(0x801, 3) + b"\1\2\3"
FILES: tuple[tuple[str, bytes, str, tuple[str, ...]], ...] = (
    ("nothing", b"", "labels", ("0 bytes", "IDX file of labels")),
    ("a cut header", LABELS[:5], "labels", ("truncated: 5 bytes", "header of 8")),
    ("a cut file", LABELS[:-1], "labels", ("truncated: 2 bytes", "says 3")),
    ("a byte more", LABELS + b"\0", "labels", ("too long: 4 bytes", "says 3|expected 3")),
    ("labels for images", LABELS, "images", ("0x00000801", "expected 0x00000803")),
    ("another type", header(0xD01, 3) + bytes(12), "labels", ("0x00000d01", "expected")),
    (
        "a size beyond memory",
        header(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "images",
        ("too large", "expected at most|bytes"),
    ),
    ("no images", header(0x803, 0, 28, 28), "images", ("0x28x28|says 0",)),
    ("a web page", b"<html></html>", "labels", ("web page", "expected 0x00000801")),
    ("gzip", gzip.compress(LABELS), "labels", ("gzip", "unpacked")),
)


@pytest.mark.parametrize(("content", "kind", "says"), [pytest.param(*rest, id=name) for name, *rest in FILES])
def test_a_damaged_idx_file(content: bytes, kind: str, says: tuple[str, ...], tmp_path: Path) -> None:
    refuses(lambda: parse_idx(content, kind), {}, DataError, says)
    path = tmp_path / "file-idx1-ubyte"
    path.write_bytes(content)
    if content[:2] != b"\x1f\x8b":  # packed ones are read by their name
        refuses(lambda: read_idx(path, kind), {}, DataError, (path.name, *says))
    assert path.read_bytes() == content


def test_an_idx_file_that_is_not_there(tmp_path: Path) -> None:
    def read(name: Any) -> Any:
        return lambda: read_idx(tmp_path / name, "labels")

    refuses(read("none"), {}, (DataError, OSError), ("none",))
    refuses(read("."), {}, (DataError, OSError), (tmp_path.name,))
