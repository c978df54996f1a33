"""The loader: what it finds, what it refuses and what it says."""

from __future__ import annotations

import gzip
import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist import data
from fastdrop.mnist.data import DataError, load, parse_idx, split

from .conftest import digits, idx

Put = Callable[..., Path]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a dictionary of answers: bytes in full, or cut short, or a status."""

    answers: dict[str, bytes]
    cut: set[str]
    asked: list[str]

    def do_GET(self) -> None:
        """Answer one request."""
        name = self.path.rpartition("/")[2]
        self.asked.append(self.path)
        if name not in self.answers:
            self.send_error(404)
            return
        body = self.answers[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name in self.cut else body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def mirror(contents: dict[str, bytes]) -> Iterator[tuple[str, type[Handler]]]:
    answers = {name + ".gz": gzip.compress(raw, 1) for name, raw in contents.items()}
    handler = type("Fresh", (Handler,), {"answers": answers, "cut": set(), "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/mnist/", handler
    server.shutdown()
    thread.join()
    server.server_close()


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


# --- The format


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 28, 28), (2, 8, 8)])
def test_images_come_back(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    back = parse_idx(idx(values), "images")
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, values)


LABELS = idx(np.array([1, 2, 3], np.uint8))
IMAGES = idx(np.zeros((2, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "kind", "complaint"),
    [
        (b"", "labels", "truncated: 0 bytes"),
        (LABELS[:3], "labels", "truncated: 3 bytes"),
        (LABELS[:6], "labels", "truncated: 6 bytes, expected a header of 8"),
        (IMAGES[:15], "images", "truncated: 15 bytes, expected a header of 16"),
        (LABELS[:-1], "labels", "truncated: 2 bytes of data, but its header says 3"),
        (IMAGES[:-5], "images", "truncated: 27 bytes of data, but its header says 2x4x4 = 32"),
        (LABELS + b"\0", "labels", "too long: 4 bytes"),
        (LABELS, "images", "magic number 0x00000801, expected 0x00000803 .images.; it holds labels"),
        (IMAGES, "labels", "magic number 0x00000803, expected 0x00000801 .labels.; it holds images"),
        (b"\0\0\x0d\x01" + LABELS[4:], "labels", "0x00000d01, expected 0x00000801"),
        (b"<html>404</html>", "images", "magic number 0x3c68746d.* not an IDX file"),
        (idx(np.array([0, 10], np.uint8)), "labels", "label 10 at index 1, expected 0 to 9"),
        (idx(np.zeros((0,), np.uint8)), "labels", "empty"),
        (idx(np.zeros((2, 3, 4), np.uint8)), "images", "3x4 pixels, expected square"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "images", "truncated: 0 bytes of data"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(content: bytes, kind: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"^some-file: .*{complaint}"):
        parse_idx(content, kind, "some-file")


# --- Files


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sub", ["", "mnist"])
def test_the_folder_or_its_subfolder_packed_or_not(
    tmp_path: Path, put: Put, alone: Path, packed: bool, sub: str
) -> None:
    put(tmp_path / "here" / sub, packed=packed)
    got = load(tmp_path / "here")
    assert got.name == "MNIST"
    assert got.source == str(tmp_path / "here" / sub)
    for part, images, labels in (("train", *digits(120, 1)), ("test", *digits(40, 2))):
        np.testing.assert_array_equal(getattr(got, f"{part}_images"), images)
        np.testing.assert_array_equal(getattr(got, f"{part}_labels"), labels)


def test_other_spellings_and_unpacked_files_that_kept_their_name(
    tmp_path: Path, put: Put, contents: dict[str, bytes]
) -> None:
    put(tmp_path)
    name = "train-images-idx3-ubyte"
    (tmp_path / f"{name}.gz").unlink()
    (tmp_path / "train-images.idx3-ubyte").write_bytes(contents[name])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(contents["t10k-labels-idx1-ubyte"])
    assert load(tmp_path).train_images.shape == (120, 28, 28)


def test_data_of_the_user_goes_before_the_environment_and_that_before_the_cache(
    tmp_path: Path, put: Put, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(alone / "mnist")
    assert load().source == str(alone / "mnist")
    monkeypatch.setenv("FASTDROP_DATA", str(put(tmp_path / "env")))
    assert load().source == str(tmp_path / "env")
    assert load(put(tmp_path / "given")).source == str(tmp_path / "given")


def test_given_data_that_is_not_there_is_an_error(tmp_path: Path, put: Put, alone: Path) -> None:
    put(alone / "mnist")
    with pytest.raises(FileNotFoundError, match="none of MNIST's 4 files"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="not a folder"):
        load(tmp_path / "file")


def test_an_environment_that_leads_nowhere_is_told_and_passed_over(
    tmp_path: Path, put: Put, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(alone / "mnist")
    monkeypatch.setenv("FASTDROP_DATA", str(tmp_path / "nowhere"))
    said: list[str] = []
    assert load(say=said.append).source == str(alone / "mnist")
    assert len(said) == 1
    assert "FASTDROP_DATA" in said[0]


def test_a_missing_file_is_named(tmp_path: Path, put: Put) -> None:
    with pytest.raises(DataError, match="3 of MNIST's 4 files; missing: t10k-labels-idx1-ubyte"):
        load(put(tmp_path, t10k_labels=None))


def test_another_content_is_not_mnist(tmp_path: Path, put: Put) -> None:
    put(tmp_path, t10k_labels=idx(np.zeros(40, np.uint8)))
    with pytest.raises(
        DataError, match=r"t10k-labels-idx1-ubyte.gz: not MNIST: sha256 of its content is \w{64}, expected \w{64}"
    ):
        load(tmp_path)


def test_swapped_parts_are_told(tmp_path: Path, put: Put, contents: dict[str, bytes]) -> None:
    put(tmp_path, train_images=contents["t10k-images-idx3-ubyte"])
    with pytest.raises(
        DataError, match=r"train-images.*not MNIST.*it is t10k-images-idx3-ubyte: are two files swapped"
    ):
        load(tmp_path)


def test_swapped_kinds_are_told(tmp_path: Path, put: Put, contents: dict[str, bytes]) -> None:
    put(tmp_path, train_images=contents["train-labels-idx1-ubyte"])
    with pytest.raises(DataError, match=r"train-images.*magic number.*it holds labels"):
        load(tmp_path)


def test_as_many_labels_as_images(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    short = idx(np.zeros(39, np.uint8))
    put(tmp_path, t10k_labels=short)
    monkeypatch.setitem(data.SHA256, "t10k-labels-idx1-ubyte", hashlib.sha256(short).hexdigest())
    with pytest.raises(DataError, match="39 labels for 40 images"):
        load(tmp_path)


@pytest.mark.parametrize("cut", [5, 40, -9, -1])
def test_a_gzip_file_that_ends_early(tmp_path: Path, put: Put, cut: int) -> None:
    path = put(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: truncated: the gzip stream ends early"):
        load(tmp_path)


def test_a_corrupt_gzip_file(tmp_path: Path, put: Put) -> None:
    path = put(tmp_path) / "train-labels-idx1-ubyte.gz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz"):
        load(tmp_path)


def test_the_sums_are_those_of_the_real_files() -> None:
    # Four sums of 256 bits that start as MNIST's do: a slip of the fingers would show.
    assert {name: digest[:8] for name, digest in data.SHA256.items()} == {
        "train-images-idx3-ubyte": "ba891046",
        "train-labels-idx1-ubyte": "65a50cbb",
        "t10k-images-idx3-ubyte": "0fa7898d",
        "t10k-labels-idx1-ubyte": "ff7bcfd4",
    }
    assert {len(bytes.fromhex(digest)) for digest in data.SHA256.values()} == {32}


# --- The network


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
    assert load(mirrors=[closed_port(), mirror[0]], say=lambda _: None).name == "MNIST"
    assert len(mirror[1].asked) == 4


@pytest.mark.parametrize("how", ["connection cut", "short file", "wrong content", "no gzip", "missing"])
def test_a_download_that_fails_leaves_nothing_behind(
    sums: None, alone: Path, mirror: tuple[str, type[Handler]], how: str
) -> None:
    url, handler = mirror
    bad = "t10k-images-idx3-ubyte.gz"
    good = handler.answers[bad]
    if how == "connection cut":
        handler.cut.add(bad)
    elif how == "missing":
        del handler.answers[bad]
    else:
        handler.answers[bad] = {
            "short file": good[: len(good) // 2],
            "wrong content": gzip.compress(idx(np.zeros((40, 28, 28), np.uint8))),
            "no gzip": b"<html>please log in</html>",
        }[how]
    said: list[str] = []
    assert load(mirrors=[url], say=said.append).name == "scikit-learn digits"
    assert "not downloaded" in said[-1]
    assert "scikit-learn" in said[-1]
    assert len(said) == 2
    left = sorted(path.name for path in (alone / "mnist").iterdir())
    assert left == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]

    handler.cut.clear()
    handler.answers[bad] = good
    asked = len(handler.asked)
    assert load(mirrors=[url], say=said.append).name == "MNIST"
    assert len(handler.asked) == asked + 2


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
    assert got.side == 8
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


# --- The split


def test_the_sets_are_disjoint_and_seeded() -> None:
    images = np.arange(100, dtype=np.uint8)[:, None, None]
    whole = data.Dataset("MNIST", "", images, images[:, 0, 0] % 10, images[:7], images[:7, 0, 0])
    first = split(whole, 60, 30, seed=3)
    assert first.sizes == {"train": 60, "validation": 30, "test": 7}
    chosen = {int(v) for v in first.train[0].ravel()}
    held = {int(v) for v in first.validation[0].ravel()}
    assert len(chosen) == 60
    assert len(held) == 30
    assert not chosen & held
    for pixels, labels in (first.train, first.validation):
        np.testing.assert_array_equal(pixels[:, 0, 0] % 10, labels)
    np.testing.assert_array_equal(split(whole, 60, 30, seed=3).train[0], first.train[0])
    assert (split(whole, 60, 30, seed=4).validation[0] != first.validation[0]).any()
    # Another training size leaves the validation set as it is.
    np.testing.assert_array_equal(split(whole, 20, 30, seed=3).validation[0], first.validation[0])
    assert split(whole, None, 30, seed=3).sizes["train"] == 70


@pytest.mark.parametrize(("train", "validation"), [(71, 30), (0, 30), (-1, 30), (10, 0), (None, 100)])
def test_sizes_that_do_not_fit(train: int | None, validation: int) -> None:
    images = np.zeros((100, 2, 2), np.uint8)
    whole = data.Dataset("MNIST", "", images, images[:, 0, 0], images, images[:, 0, 0])
    with pytest.raises(ValueError, match=r"training and .* validation images"):
        split(whole, train, validation, seed=0)


def test_a_cache_that_cannot_be_written_is_blamed_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    told: list[str] = []
    assert load(mirrors=("http://127.0.0.1:9/",), say=told.append).name == "scikit-learn digits"
    assert len(told) == 1 and "cannot be written" in told[0] and "127.0.0.1" not in told[0]
