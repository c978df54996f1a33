"""Downloads: what is kept, what is refused, and what is left when one breaks off."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist import data
from fastdrop.mnist.data import DataError, load

from .conftest import idx

Put = Callable[..., Path]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a dictionary of answers: bytes in full, or not quite."""

    answers: dict[str, bytes]
    cut: dict[str, str]
    asked: list[str]
    go_on: threading.Event

    def do_GET(self) -> None:
        """Answer one request."""
        name = self.path.rpartition("/")[2]
        self.asked.append(self.path)
        if name not in self.answers:
            self.send_error(404)
            return
        body, how = self.answers[name], self.cut.get(name, "")
        self.send_response(200)
        if how != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if how else body)
        if how == "stall":
            self.go_on.wait(20)
            self.wfile.write(body[len(body) // 2 :])
        elif how == "reset":
            # The server is killed: its system says so to the other side.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif how == "endless":
            try:
                while True:
                    self.wfile.write(bytes(100_000))
            except OSError:
                self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def mirror(contents: dict[str, bytes]) -> Iterator[tuple[str, type[Handler]]]:
    answers = {name + ".gz": gzip.compress(raw, 1) for name, raw in contents.items()}
    handler = type("Fresh", (Handler,), {"answers": answers, "cut": {}, "asked": [], "go_on": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/mnist/", handler
    handler.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_a_download_is_kept(sums: None, alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    url, handler = mirror
    said: list[str] = []
    got = load(mirrors=[url], say=said.append)
    assert (got.name, got.source) == ("MNIST", str(alone / "mnist"))
    assert len(handler.asked) == 4
    assert len(said) == 1
    assert "downloading" in said[0]
    assert load(mirrors=[url]).name == "MNIST"
    assert len(handler.asked) == 4


def test_the_second_mirror_steps_in(sums: None, alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    said: list[str] = []
    assert load(mirrors=[closed_port(), mirror[0]], say=said.append).name == "MNIST"
    assert len(mirror[1].asked) == 4
    # A mirror that failed is not asked again, and that is told once.
    assert len(said) == 2
    assert re.search(r"train-images-idx3-ubyte.gz: no connection; asking 127.0.0.1:\d+$", said[1])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cut", "broke off"),
        ("reset", "broke off"),
        ("stall", "timed out"),
        ("endless", "too long: more than 200,000 bytes"),
        ("short file", "truncated: the gzip stream ends early"),
        ("wrong content", "not MNIST: sha256"),
        ("another file", "it holds train-images-idx3-ubyte"),
        ("nothing", "empty: 0 bytes"),
        ("web page", "it is a web page"),
        ("bomb", "too large: its header says 300x28x28 = 235200 bytes, expected at most 200000"),
        ("missing", "HTTP status 404"),
    ],
)
def test_a_download_that_fails_leaves_nothing_behind(
    sums: None, alone: Path, mirror: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    monkeypatch.setattr(data, "LARGEST", 200_000)
    url, handler = mirror
    bad = "t10k-images-idx3-ubyte.gz"
    good = handler.answers[bad]
    if how in ("cut", "reset", "stall", "endless"):
        handler.cut[bad] = how
    elif how == "missing":
        del handler.answers[bad]
    else:
        handler.answers[bad] = {
            "short file": good[: len(good) // 2],
            "wrong content": gzip.compress(idx(np.zeros((40, 28, 28), np.uint8))),
            "another file": handler.answers["train-images-idx3-ubyte.gz"],
            "nothing": b"",
            "web page": b"<html>please log in</html>",
            "bomb": gzip.compress(idx(np.zeros((300, 28, 28), np.uint8))),
        }[how]
    said: list[str] = []
    assert load(mirrors=[url], say=said.append).name == "scikit-learn digits"
    assert re.search(f"not downloaded .127.0.0.1:\\d+: {bad}: .*({told}).*scikit-learn", said[-1])
    assert len(said) == 2
    left = sorted(path.name for path in (alone / "mnist").iterdir())
    assert left == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]

    handler.cut.clear()
    handler.go_on.set()
    handler.answers[bad] = good
    asked = len(handler.asked)
    assert load(mirrors=[url], say=said.append).name == "MNIST"
    assert len(handler.asked) == asked + 2


def test_what_each_mirror_did_is_told(sums: None, alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    url, handler = mirror
    handler.answers["train-labels-idx1-ubyte.gz"] = b"<!DOCTYPE html>"
    said: list[str] = []
    assert load(mirrors=[url, closed_port()], say=said.append).name == "scikit-learn digits"
    assert re.search(
        "train-labels-idx1-ubyte.gz: magic number .* web page.*; .*train-labels-idx1-ubyte.gz: no connection", said[-1]
    )


def test_a_full_disk_is_not_the_mirrors_fault(
    sums: None, alone: Path, mirror: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data._Bounded, "write", full)
    said: list[str] = []
    assert load(mirrors=[mirror[0], mirror[0]], say=said.append).name == "scikit-learn digits"
    assert "mnist cannot be written: No space left on device" in said[-1]
    assert len(mirror[1].asked) == 1
    assert list((alone / "mnist").iterdir()) == []


CHILD = """
import json, signal, sys
from fastdrop.mnist import data
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background are born deaf to it
data.SHA256 = json.loads(sys.argv[1])
print(data.load(mirrors=[sys.argv[2]]).name)
"""


@pytest.fixture
def child(
    contents: dict[str, bytes], sums: None, alone: Path, mirror: tuple[str, type[Handler]]
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Give a function that starts a process which loads with an empty cache and the mirror."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        keys = ("LOCALAPPDATA", "XDG_CACHE_HOME", "HOME")
        environment = os.environ | dict.fromkeys(keys, str(alone))
        argv = [sys.executable, "-c", CHILD, json.dumps(data.SHA256), mirror[0]]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="the cache is elsewhere, and so are signals")
@pytest.mark.parametrize("by", ["SIGINT", "SIGKILL"])
def test_a_download_that_is_stopped(
    alone: Path, mirror: tuple[str, type[Handler]], child: Callable[[], subprocess.Popen[str]], by: str
) -> None:
    folder = alone / "fastdrop" / "mnist"
    handler = mirror[1]
    handler.cut["train-labels-idx1-ubyte.gz"] = "stall"
    process = child()
    wait_for(lambda: len(handler.asked) == 2, process)
    process.send_signal(getattr(signal, by))
    process.communicate(timeout=60)
    assert process.returncode
    left = sorted(path.name for path in folder.iterdir())
    if by == "SIGKILL":
        # Nobody could tidy up: a part is left, under a name that no run takes.
        part = folder / left.pop(0)
        assert part.name.startswith(".train-labels-idx1-ubyte.part-")
        os.utime(part, (0, 0))
    assert left == ["train-images-idx3-ubyte.gz"]

    handler.cut.clear()
    handler.go_on.set()
    later = child()
    assert later.communicate(timeout=60)[0] == "MNIST\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted(handler.answers)
    assert len(handler.asked) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="the cache is elsewhere")
def test_two_processes_download_at_once(
    contents: dict[str, bytes],
    alone: Path,
    mirror: tuple[str, type[Handler]],
    child: Callable[[], subprocess.Popen[str]],
) -> None:
    folder = alone / "fastdrop" / "mnist"
    handler = mirror[1]
    # A bad file in the place of a good one: neither may take the other's away.
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"bad")
    handler.cut["train-images-idx3-ubyte.gz"] = "stall"
    both = [child(), child()]
    wait_for(lambda: len(handler.asked) == 2, both[0])
    handler.go_on.set()
    for process in both:
        out, err = process.communicate(timeout=60)
        assert out == "MNIST\n", err
    assert sorted(path.name for path in folder.iterdir()) == sorted(handler.answers)
    for path in folder.iterdir():
        assert gzip.decompress(path.read_bytes()) == contents[path.stem]


def test_only_old_parts_are_swept(put: Put, alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    folder = put(alone / "mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    for name, age in (
        (".t10k-labels-idx1-ubyte.part-aaaaaaaa.gz", 4000),
        (".t10k-labels-idx1-ubyte.part-bbbbbbbb.gz", 100),
        (".mine.gz", 4000),
    ):
        (folder / name).touch()
        os.utime(folder / name, times=(time.time() - age,) * 2)
    assert load(mirrors=[mirror[0]], say=lambda _: None).name == "MNIST"
    assert sorted(p.name for p in folder.glob(".*")) == [".mine.gz", ".t10k-labels-idx1-ubyte.part-bbbbbbbb.gz"]


def test_a_bad_file_in_the_cache_is_replaced(put: Put, alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    path = put(alone / "mnist") / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    said: list[str] = []
    with pytest.raises(DataError, match="truncated"):
        load(download=False)
    assert load(mirrors=[mirror[0]], say=said.append).name == "MNIST"
    assert len(mirror[1].asked) == 1
    assert "downloading it again" in said[0]


def test_a_bad_file_in_the_cache_that_we_did_not_put_there(put: Put, alone: Path) -> None:
    path = put(alone / "mnist", packed=False) / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"truncated.*delete it"):
        load(mirrors=[])
    assert path.exists()


def test_without_network_the_digits_of_scikit_learn(alone: Path) -> None:
    said: list[str] = []
    got = load(mirrors=[closed_port(), closed_port()], say=said.append)
    assert got.name == "scikit-learn digits"
    assert "not MNIST" in got.source
    assert got.size == (8, 8)
    assert got.train_images.shape == (1347, 8, 8)
    assert got.test_images.shape == (450, 8, 8)
    assert got.train_images.dtype == got.test_labels.dtype == np.uint8
    assert got.train_images.max() == 255
    assert set(got.test_labels.tolist()) == set(range(10))
    assert said[-1].count("no connection") == 2
    assert "\n" not in said[-1]


def test_downloading_can_be_off(alone: Path, mirror: tuple[str, type[Handler]]) -> None:
    said: list[str] = []
    assert load(download=False, mirrors=[mirror[0]], say=said.append).name == "scikit-learn digits"
    assert mirror[1].asked == []
    assert "downloading is off" in said[0]


def test_a_missing_package_is_named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'needs pooch: pip install "fastdrop\[mnist\]"'):
        load()


def test_a_cache_that_cannot_be_written_is_blamed_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    told: list[str] = []
    assert load(mirrors=("http://127.0.0.1:9/",), say=told.append).name == "scikit-learn digits"
    assert len(told) == 1 and "cannot be written" in told[0] and "127.0.0.1" not in told[0]
