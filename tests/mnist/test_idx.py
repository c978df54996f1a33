"""The format: what comes back, and what is said of a file that is not what it should be."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastdrop.mnist.idx import LIMIT, NAMES, DataError, find_sets, parse_idx, read_idx

from .conftest import Bytes, idx

LABELS = idx(np.array([1, 2, 3], np.uint8))
IMAGES = idx(np.zeros((2, 4, 5), np.uint8))


def header(*sizes: int) -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


# --- Content


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_images_come_back(values: Bytes) -> None:
    back = parse_idx(idx(values), "images")
    assert back.dtype == np.uint8
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, values)


@given(hnp.arrays(np.uint8, st.integers(1, 50)))
def test_labels_come_back(values: Bytes) -> None:
    np.testing.assert_array_equal(parse_idx(bytearray(idx(values)), "labels"), values)


sizes = st.one_of(st.integers(0, 4), st.integers(0, 2**32 - 1))
heads = st.one_of(
    st.binary(max_size=20),
    st.builds(lambda s, rest: header(*s) + rest, st.lists(sizes, max_size=4), st.binary(max_size=70)),
)


@given(heads, st.sampled_from(["images", "labels"]))
def test_any_bytes_are_read_or_refused(content: bytes, kind: str) -> None:
    try:
        values = parse_idx(content, kind)
    except DataError as error:
        assert str(error).startswith("<bytes>: ")
    else:
        assert idx(values) == content


@pytest.mark.parametrize(
    ("content", "kind", "complaint"),
    [
        (b"", "labels", "empty: 0 bytes, expected an IDX file of labels"),
        (LABELS[:3], "labels", "truncated: 3 bytes"),
        (LABELS[:6], "labels", "truncated: 6 bytes, expected a header of 8"),
        (IMAGES[:15], "images", "truncated: 15 bytes, expected a header of 16"),
        (LABELS[:-1], "labels", "truncated: 2 bytes of data, but its header says 3"),
        (IMAGES[:-5], "images", "truncated: 35 bytes of data, but its header says 2x4x5 = 40"),
        (LABELS + b"\0", "labels", "too long: 4 bytes"),
        (LABELS, "images", "magic number 0x00000801, expected 0x00000803 .images.; it holds labels: are two files sw"),
        (IMAGES, "labels", "magic number 0x00000803, expected 0x00000801 .labels.; it holds images: are two files sw"),
        (b"\0\0\x0d\x01" + LABELS[4:], "labels", "0x00000d01, .*1 dimensions of float32, expected 1 of uint8"),
        (b"\0\0\x08\x02" + LABELS[4:], "images", "0x00000802, .*2 dimensions of uint8, expected 3 of uint8"),
        (b"<html>404</html>", "images", "magic number 0x3c68746d.* a web page"),
        (b"version https://git-lfs", "images", "Git LFS"),
        (b"PK\3\4....", "labels", "zip archive, and has to be unpacked"),
        (gzip.compress(LABELS), "labels", "gzip file, and has to be unpacked"),
        (b"hello world", "labels", "0x68656c6c, expected 0x00000801 .labels.; not an IDX file"),
        (header(0), "labels", "empty: its header says 0,"),
        (header(2, 0, 28), "images", "empty: its header says 2x0x28,"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "images", "too large: .* = 79228162458924105385300197375 bytes"),
        # The products of these are 0 and 4 in 32 bits.
        (header(2**16, 2**8, 2**8), "images", "too large"),
        (header(2**30 + 1, 2, 2) + bytes(4), "images", f"too large: .*, expected at most {LIMIT}"),
    ],
)
def test_bad_content_is_refused_with_its_name(content: bytes, kind: str, complaint: str) -> None:
    with pytest.raises(DataError, match=f"^some-file: .*{complaint}"):
        parse_idx(content, kind, "some-file")


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind has to be 'images' or 'labels', but got 'pixels'"):
        parse_idx(LABELS, "pixels")


# --- Files


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_and_the_sum_of_what_it_holds(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(IMAGES) if packed else IMAGES)
    values, digest = read_idx(path, "images")
    assert values.shape == (2, 4, 5)
    assert not values.flags.writeable
    assert digest == hashlib.sha256(IMAGES).hexdigest()


def test_a_gzip_file_of_several_members(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(IMAGES[:20]) + gzip.compress(IMAGES[20:]))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", "images")[0], np.zeros((2, 4, 5)))


PACKED = gzip.compress(IMAGES)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty: 0 bytes"),
        (IMAGES[:-1], "truncated: 39 bytes of data, but its header says 2x4x5 = 40"),
        (IMAGES + b"garbage", "too long: 47 bytes of data"),
        (gzip.compress(b""), "empty: 0 bytes"),
        (gzip.compress(IMAGES[:9]), "truncated: 9 bytes, expected a header of 16"),
        (gzip.compress(IMAGES[:-1]), "truncated: 39 bytes of data"),
        (gzip.compress(IMAGES + b"garbage"), "too long: at least 41 bytes of data"),
        (gzip.compress(LABELS), "it holds labels"),
        (gzip.compress(gzip.compress(IMAGES)), "gzip file, and has to be unpacked"),
        (PACKED[:2], "truncated: the gzip stream ends early"),
        (PACKED[:12], "truncated: the gzip stream ends early"),
        (PACKED[:-9], "truncated: the gzip stream ends early"),
        (PACKED[:-1], "truncated: the gzip stream ends early"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "corrupt gzip file .CRC check failed"),
        (PACKED[:-4] + b"\0\0\0\1", "corrupt gzip file .Incorrect length"),
        (PACKED[:10] + b"\xff" * 8 + PACKED[18:], "corrupt gzip file"),
        (PACKED[:2] + b"\7" + PACKED[3:], "corrupt gzip file .Unknown compression method"),
        (PACKED + b"garbage", "too long: other bytes follow the end of the gzip stream"),
    ],
)
def test_a_bad_file_is_refused_with_its_path(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{complaint}"):
        read_idx(path, "images")


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_or_harmless(tmp_path_factory: pytest.TempPathFactory, at: int, change: int) -> None:
    raw = bytearray(PACKED)
    raw[at] ^= change
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(raw)
    try:
        values, _ = read_idx(path, "images")
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        # Time, name and other marks of the archive itself.
        np.testing.assert_array_equal(values, np.zeros((2, 4, 5)))


def test_no_more_is_unpacked_than_the_header_declares(tmp_path: Path) -> None:
    bomb, claim, short = (tmp_path / name for name in ("bomb", "claim", "short"))
    bomb.write_bytes(gzip.compress(IMAGES + bytes(50_000_000)))
    claim.write_bytes(gzip.compress(header(2**11, 2**10, 2**10) + b"few"))
    short.write_bytes(header(2**11, 2**10, 2**10) + b"few")
    tracemalloc.start()
    try:
        for path, complaint in (
            (bomb, "at least 41 bytes"),
            (claim, "truncated: 3 bytes"),
            (short, "truncated: 3 bytes"),
        ):
            with pytest.raises(DataError, match=complaint):
                read_idx(path, "images")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path))}: a folder, expected a file of images"):
        read_idx(tmp_path, "images")
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "nothing", "images")
    with pytest.raises(DataError, match="it: no such file"):
        read_idx(tmp_path / "nothing", "images", "it")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need a POSIX system")
def test_links_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(IMAGES)
    (tmp_path / "link").symlink_to("good")
    assert read_idx(tmp_path / "link", "images")[0].shape == (2, 4, 5)
    (tmp_path / "good").unlink()
    with pytest.raises(DataError, match="link: a link to good, which is not there"):
        read_idx(tmp_path / "link", "images")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop: cannot be read: "):
        read_idx(tmp_path / "loop", "images")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: a device or a pipe, expected a file of images"):
        read_idx(tmp_path / "pipe", "images")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "secret"
    path.write_bytes(IMAGES)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cannot be read: Permission denied"):
        read_idx(path, "images")


# --- Names


def test_sets_are_told_apart_by_the_names_in_front(tmp_path: Path) -> None:
    digits = [f"emnist-digits-{p}-{k}-ubyte.gz" for p in ("train", "test") for k in ("images-idx3", "labels-idx1")]
    for name in (*NAMES, *digits, "emnist-mnist-train-images-idx3-ubyte", "emnist-digits-mapping.txt"):
        (tmp_path / name).touch()
    # A part of a download, and what macOS puts beside files.
    for name in (".train-images-idx3-ubyte-x1.gz", "._train-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz.part"):
        (tmp_path / name).touch()
    assert find_sets(tmp_path) == {
        "": {name: tmp_path / name for name in NAMES},
        "emnist-digits": {name: tmp_path / digit for name, digit in zip(NAMES, digits, strict=True)},
        "emnist-mnist": {NAMES[0]: tmp_path / "emnist-mnist-train-images-idx3-ubyte"},
    }


def test_of_several_spellings_a_file_and_the_unpacked_one(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte.gz", "train-images.idx3-ubyte", "train-labels.idx1-ubyte.gz"):
        (tmp_path / name).touch()
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    (tmp_path / "t10k-images-idx3-ubyte").mkdir()
    found = {name: path.name for name, path in find_sets(tmp_path)[""].items()}
    assert found == {
        "train-images-idx3-ubyte": "train-images.idx3-ubyte",
        "train-labels-idx1-ubyte": "train-labels.idx1-ubyte.gz",
        "t10k-images-idx3-ubyte": "t10k-images-idx3-ubyte",
    }


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: cannot be listed: "):
        find_sets(tmp_path / "nowhere")
