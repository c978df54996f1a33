"""The loader: what it finds, what it refuses and what it says."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist import data
from fastdrop.mnist.data import DataError, Dataset, load, split

from .conftest import Bytes, digits, idx

Put = Callable[..., Path]


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
    with pytest.raises(DataError, match="3 of the 4 files; missing: t10k-labels-idx1-ubyte"):
        load(put(tmp_path, t10k_labels=None))


def test_another_content_among_mnists_is_damage(tmp_path: Path, put: Put) -> None:
    put(tmp_path, t10k_labels=idx(np.zeros(40, np.uint8)))
    with pytest.raises(
        DataError,
        match=r"t10k-labels-idx1-ubyte.gz: not MNIST: sha256 of its content is \w{64}, expected \w{64}; it is damaged",
    ):
        load(tmp_path)


@pytest.mark.parametrize("pairs", [("images",), ("labels",), ("images", "labels")])
def test_swapped_parts_are_told(tmp_path: Path, put: Put, contents: dict[str, bytes], pairs: tuple[str, ...]) -> None:
    changes = {}
    for kind, dims in (("images", 3), ("labels", 1)):
        if kind in pairs:
            changes[f"train_{kind}"] = contents[f"t10k-{kind}-idx{dims}-ubyte"]
            changes[f"t10k_{kind}"] = contents[f"train-{kind}-idx{dims}-ubyte"]
    put(tmp_path, **changes)
    with pytest.raises(
        DataError, match=rf"train-{pairs[0]}.*not MNIST.*it holds t10k-{pairs[0]}.*are two files swapped"
    ):
        load(tmp_path)


def test_swapped_kinds_are_told(tmp_path: Path, put: Put, contents: dict[str, bytes]) -> None:
    put(tmp_path, train_images=contents["train-labels-idx1-ubyte"])
    with pytest.raises(DataError, match=r"train-images.*magic number.*it holds labels"):
        load(tmp_path)


def test_as_many_labels_as_images(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    short = idx(np.zeros(39, np.uint8))
    put(tmp_path, t10k_labels=short)
    monkeypatch.setitem(data.SHA256, "t10k-labels-idx1-ubyte", hashlib.sha256(short).hexdigest())
    with pytest.raises(DataError, match="39 labels for 40 images"):
        load(tmp_path)


def test_a_corrupt_file_is_named(tmp_path: Path, put: Put) -> None:
    path = put(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: truncated: the gzip stream ends early"):
        load(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: a folder, expected a file of images"):
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


# --- Other sets


def other(
    folder: Path, prefix: str = "", size: tuple[int, int] = (28, 28), classes: int = 10, **changes: Bytes
) -> dict[str, Bytes]:
    """Write the four files of another set, under names such as EMNIST's if there is a prefix."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in (("train", 3 * classes), ("test", 2 * classes)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, *size)).astype(np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % classes).astype(np.uint8)
    arrays |= changes
    for name, values in arrays.items():
        part, kind = name.split("_")
        file = f"{prefix}-{part}" if prefix else part.replace("test", "t10k")
        (folder / f"{file}-{kind}-idx{values.ndim}-ubyte.gz").write_bytes(gzip.compress(idx(values), 1))
    return arrays


@pytest.mark.parametrize("prefix", ["", "emnist-byclass"])
@pytest.mark.parametrize(("size", "classes"), [((28, 28), 10), ((20, 31), 62), ((1, 1), 256)])
def test_another_set_is_taken_and_named(tmp_path: Path, prefix: str, size: tuple[int, int], classes: int) -> None:
    folder = tmp_path / "fashion-mnist"
    arrays = other(folder, prefix, size, classes)
    said: list[str] = []
    got = load(folder, say=said.append)
    assert got.name == (prefix or "fashion-mnist")
    assert got.source == str(folder)
    assert (got.size, got.classes) == (size, classes)
    for name, values in arrays.items():
        np.testing.assert_array_equal(getattr(got, name), values)
    pixels = f"{size[0]}x{size[1]} pixels in {classes} classes"
    assert said == [f"{got.name}: not MNIST, but {3 * classes} + {2 * classes} images of {pixels}"]


def test_the_environment_may_name_another_set(tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other(tmp_path, "emnist-digits")
    monkeypatch.setenv("FASTDROP_DATA", str(tmp_path / "emnist-digits"))
    assert load(say=lambda _: None).name == "emnist-digits"


@pytest.mark.parametrize(
    ("folder", "name"), [("FashionMNIST/raw", "FashionMNIST"), ("kuzushiji", "kuzushiji"), ("mnist", "unknown set in ")]
)
def test_no_other_set_is_called_mnist(tmp_path: Path, folder: str, name: str) -> None:
    other(tmp_path / folder)
    assert load(tmp_path / folder, say=lambda _: None).name.startswith(name)


def test_of_several_sets_one_has_to_be_named(tmp_path: Path, put: Put) -> None:
    for prefix, classes in (("emnist-digits", 10), ("emnist-letters", 27), ("emnist-byclass", 62)):
        other(tmp_path, prefix, classes=classes)
    listed = ", ".join(str(tmp_path / f"emnist-{name}") for name in ("byclass", "digits", "letters"))
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: holds 3 sets, expected one to be named: {listed}")):
        load(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"no such folder, and no set of that name; there are: {listed}")
    ):
        load(tmp_path / "emnist")
    assert load(tmp_path / "emnist-letters", say=lambda _: None).classes == 27
    # With no name in front: what the folder itself stands for.
    assert load(put(tmp_path)).name == "MNIST"


def test_a_missing_file_of_another_set_is_named_as_its_others_are(tmp_path: Path) -> None:
    other(tmp_path, "emnist-digits")
    (tmp_path / "emnist-digits-test-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"3 of the 4 files; missing: emnist-digits-test-labels-idx1-ubyte \(.gz or"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"train_labels": 29},
            "train-labels.*: 29 labels for 30 images in train-images-.*, expected as many as images$",
        ),
        ({"test_labels": 21}, "t10k-labels.*: 21 labels for 20 images"),
        ({"train_labels": 20, "test_labels": 30}, "20 labels for 30 images.*: are training and test swapped"),
        ({"test_images": (20, 14, 28)}, "t10k-images.*: images of 14x28 pixels, expected 28x28 as in train-images"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, changes: dict[str, int], complaint: str) -> None:
    other(tmp_path, **{name: np.zeros(shape, np.uint8) for name, shape in changes.items()})
    with pytest.raises(DataError, match=complaint):
        load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "listed"), [((3, 12), "label 12,"), (tuple(range(5, 25)), "labels 10, 11, 12, 13, 14, ...,")]
)
def test_labels_that_training_lacks(tmp_path: Path, labels: tuple[int, ...], listed: str) -> None:
    other(tmp_path, test_labels=np.resize(np.array(labels, np.uint8), 20))
    with pytest.raises(DataError, match=f"t10k-labels.*: {listed} expected only labels that train-labels.* .0 to 9"):
        load(tmp_path)


def test_more_test_than_training_images_is_told(tmp_path: Path) -> None:
    arrays = other(tmp_path)
    other(
        tmp_path,
        **{
            f"{b}_{kind}": arrays[f"{a}_{kind}"]
            for a, b in (("train", "test"), ("test", "train"))
            for kind in ("images", "labels")
        },
    )
    said: list[str] = []
    load(tmp_path, say=said.append)
    assert said[0].endswith("20 + 30 images of 28x28 pixels in 10 classes; are training and test swapped?")


def test_the_cache_takes_nothing_but_mnist(alone: Path) -> None:
    other(alone / "mnist")
    with pytest.raises(DataError, match="not MNIST: sha256"):
        load(download=False)


def test_the_digest_is_that_of_shapes_and_bytes(tmp_path: Path) -> None:
    arrays = other(tmp_path, size=(2, 3))
    got = load(tmp_path, say=lambda _: None)
    expected = b"30x2x3\n" + arrays["train_images"].tobytes() + b"30\n" + arrays["train_labels"].tobytes()
    expected += b"20x2x3\n" + arrays["test_images"].tobytes() + b"20\n" + arrays["test_labels"].tobytes()
    assert got.digest == hashlib.sha256(expected).hexdigest()
    turned = got.train_images.reshape(-1, 3, 2)
    assert Dataset(got.name, "", turned, got.train_labels, got.test_images, got.test_labels).digest != got.digest
    # Strides do not matter, nor does where the data came from.
    strided = np.asfortranarray(got.train_images)
    assert Dataset("x", "y", strided, got.train_labels, got.test_images, got.test_labels).digest == got.digest


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
