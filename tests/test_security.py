"""What SECURITY.md says of loading: no pickle, nothing is run, nothing is asked of the network.

That a download of another content is never used is in mnist/test_download.py, what unpacking is limited to in
mnist/test_idx.py.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd

PACKAGE = Path(fd.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: Modules that run what they read, or start programs and connections; and who may use one, for what.
MODULES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "dbm", "yaml", "code",
    "runpy", "subprocess", "socket", "http", "ftplib", "urllib.request", "ctypes", "requests", "pooch",
    "multiprocessing",
}  # fmt: skip
ALLOWED = {
    ("bench/imports.py", "subprocess"),  # times fresh processes of this Python
    ("torch/ops.py", "ctypes"),  # finds PyTorch's team of threads in the library that is loaded already
    ("mnist/data.py", "pooch"),  # downloads MNIST
    ("mnist/data.py", "requests"),  # the errors of doing so
    ("mnist/runner.py", "multiprocessing"),  # runs of a study in processes of its own
}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "execv", "execve", "startfile", "load_module"}


def uses(source: str) -> set[str]:
    """What of the above a source does, by name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = node.func
            names = [
                str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)
            ]  # extra("pooch"), import_module
            plain = called.id if isinstance(called, ast.Name) else ""
            owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
            member = called.attr if isinstance(called, ast.Attribute) else ""
            names = names if plain in ("extra", "__import__") or member == "import_module" else []
            if plain in CALLS or (owner in ("os", "builtins") and member in CALLS):
                found.add(plain or f"{owner}.{member}")
            if (owner, member) in {("np", "load"), ("numpy", "load"), ("torch", "load"), ("torch", "save")}:
                found.add(f"{owner}.{member}")
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle") and getattr(keyword.value, "value", True):
                    found.add(keyword.arg)
        else:
            continue
        found |= {module for module in MODULES for name in names if name == module or name.startswith(module + ".")}
    return found


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import os, shelve as s", "shelve"),
        ("from urllib import request", "urllib.request"),
        ("importlib.import_module('marshal')", "marshal"),
        ("extra('requests.exceptions')", "requests"),
        ("eval(x)", "eval"),
        ("os.system(x)", "os.system"),
        ("np.load(x, allow_pickle=True)", "allow_pickle"),
        ("np.load(x)", "np.load"),
        ("torch.load(x)", "torch.load"),
        ("run(x, shell=True)", "shell"),
        ("run(x, shell=flag)", "shell"),
    ],
)
def test_the_search_finds(source: str, what: str) -> None:
    assert what in uses(source)


def test_the_search_leaves_alone() -> None:
    assert uses("import re\nre.compile('a')\nmodel.eval()\nfrom .pickle_free import x\nrun(x, shell=False)") == set()


def test_no_source_unpickles_or_runs_what_it_reads() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in SOURCES
        for what in uses(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


def test_nor_does_the_compiled_module() -> None:
    sources = [path for kind in ("*.pyx", "*.pxi") for path in PACKAGE.rglob(kind)]
    if not sources:
        pytest.skip("an installed package has no Cython sources")
    for path in sources:
        imported = re.findall(r"^\s*(?:from\s+(\S+)\s+)?c?import\s+(\S+)", path.read_text(encoding="utf-8"), re.M)
        assert not {name for pair in imported for name in pair} & MODULES, path
        assert not re.search(r"(?<![\w.])(eval|exec)\(", path.read_text(encoding="utf-8")), path


#: Raised by what runs code, starts programs, loads libraries or opens connections.
EVENTS = ("pickle.", "marshal.", "exec", "compile", "import", "code.", "socket.", "subprocess.", "os.system", "os.exec",
          "os.posix_spawn", "os.fork", "ctypes.", "urllib.", "http.", "builtins.input")  # fmt: skip

LOAD = """
import json, sys
from fastdrop import Generator, nn
from fastdrop.mnist import data, idx
from fastdrop.mnist.results import read_record
from fastdrop.nn.state_file import read_state

folder = sys.argv[1]

def load():
    read_state(folder + "/state.safetensors")
    nn.load_weights(nn.Linear(3, 2), folder + "/weights.safetensors")
    idx.read_idx(folder + "/labels.gz", "labels")
    data.load(folder + "/set", say=lambda line: None)
    rng = Generator(0)
    rng.state = json.load(open(folder + "/rng.json"))

load()  # what is imported on first use is not the file's doing
events = []
sys.addaudithook(lambda event, args: events.append(event))
load()
print(json.dumps(sorted(set(events))))
"""


def test_loading_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from fastdrop import nn
    from fastdrop.nn.state_file import write_state

    write_state(tmp_path / "state.safetensors", {"a": np.ones(3), "b": [1, "two", (3.0, None)], "c": {1: True}})
    nn.save_weights(nn.Linear(3, 2), tmp_path / "weights.safetensors")
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 2, 1])
    (tmp_path / "labels.gz").write_bytes(gzip.compress(labels))
    (tmp_path / "set").mkdir()
    for part in ("train", "t10k"):
        images = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(12))
        (tmp_path / "set" / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / "set" / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    (tmp_path / "rng.json").write_text(json.dumps(fd.Generator(5).state))

    out = subprocess.run([sys.executable, "-c", LOAD, tmp_path], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    events = json.loads(out.stdout)
    assert "open" in events  # the hook was at work
    assert [event for event in events if event.startswith(EVENTS)] == []


def test_a_pickle_in_a_checkpoints_place_is_refused(tmp_path: Path) -> None:
    import pickle

    from fastdrop import nn
    from fastdrop.nn.state_file import read_state

    pytest.importorskip("safetensors")
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(ran), "w")

    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="no checkpoint"):
        read_state(path)
    with pytest.raises(Exception, match=r"(?i)header|deserializ|safetensors"):
        nn.load_weights(nn.Linear(3, 2), path)
    assert not ran.exists()
    pickle.loads(path.read_bytes()).close()  # it would have
    assert ran.exists()


def test_what_is_pickled_is_plain() -> None:
    """A user's own pickles of masks, noise and generators hold a function of _core and numbers, strings and None."""

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        return (
            plain_all(value) if isinstance(value, (list, tuple)) else value is None or type(value) in (int, float, str)
        )

    def plain_all(values: list[object] | tuple[object, ...]) -> bool:
        return all(map(plain, values))

    for thing in (fd.Mask(1, 2, 0.5, (3, 4))[1:], fd.Noise(1, 2, (3, 4)).T, fd.Generator(5)):
        make, arguments = thing.__reduce__()
        assert make.__module__ == "fastdrop._core" and plain_all(arguments)
        assert make(*arguments) == thing
