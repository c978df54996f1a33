"""The digits: MNIST from its four IDX files, or scikit-learn's small ones, named as such.

A file counts as MNIST by the SHA-256 of what it holds *unpacked*: archives made by different tools differ, their
contents do not. No pickle is read or written here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from .._extra import extra
from .._files import check_folder

__all__ = ["MIRRORS", "SHA256", "DataError", "Dataset", "Splits", "cache_dir", "load", "parse_idx", "split"]

Bytes = npt.NDArray[np.uint8]
Say = Callable[[str], None]

#: SHA-256 of the unpacked files.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

#: Where the archives are published; tried in this order.
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

#: Seconds to connect and seconds between two packets: whoever is offline should not wait to be told so.
TIMEOUT = (4.0, 15.0)

#: Bytes of the largest of the files, unpacked: no more is ever unpacked, whatever an archive holds.
LARGEST = 16 + 60_000 * 28 * 28

#: scikit-learn's digits come without a test split: these many, the last in file order, become one.
DIGITS_TEST = 450

_UBYTE = 0x08
_KINDS = {0x0801: "labels", 0x0803: "images"}


class DataError(ValueError):
    """A data file that is not what it should be; the message names the file, what is wrong and what would be right."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels, as the files hold them.

    Attributes
    ----------
    name : str
        ``"MNIST"``, or ``"scikit-learn digits"`` for the second choice.
    source : str
        Where the data came from.
    train_images, test_images : ndarray of uint8, shape (N, side, side)
        0 is background, 255 is ink; side is 28, or 8 for scikit-learn's digits.
    train_labels, test_labels : ndarray of uint8, shape (N,)
        The digits 0 to 9.
    """

    name: str
    source: str
    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes

    @property
    def side(self) -> int:
        """Pixels along one side of an image."""
        return int(self.train_images.shape[1])


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets: (images, labels) for training, validation and test.

    Training and validation come from the training file, test is the whole test file.
    """

    train: tuple[Bytes, Bytes]
    validation: tuple[Bytes, Bytes]
    test: tuple[Bytes, Bytes]

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images in each."""
        return {"train": len(self.train[1]), "validation": len(self.validation[1]), "test": len(self.test[1])}


def parse_idx(content: bytes, kind: str, name: str = "<bytes>") -> Bytes:
    """Read the IDX format: two zero bytes, the type, the number of dimensions, big-endian sizes, the data.

    Parameters
    ----------
    content : bytes
        The unpacked file.
    kind : {"images", "labels"}
        What it should hold: 3 or 1 dimensions of unsigned bytes.
    name : str
        How messages call the file.

    Returns
    -------
    ndarray of uint8
        Read-only, over `content`.

    Raises
    ------
    DataError
        Where the magic number, the sizes, the length or a label is wrong.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), "labels")
    array([7, 2, 1], dtype=uint8)
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2]), "labels", "train-labels")
    Traceback (most recent call last):
    fastdrop.mnist.data.DataError: train-labels: truncated: 2 bytes of data, but its header says 3 = 3
    """
    ndim = {"images": 3, "labels": 1}[kind]
    right = (_UBYTE << 8) | ndim
    header = 4 + 4 * ndim
    if len(content) < 4:
        raise DataError(f"{name}: truncated: {len(content)} bytes, too short for the 4 bytes of IDX's magic number")
    magic = int.from_bytes(content[:4], "big")
    if magic != right:
        holds = _KINDS.get(magic)
        hint = f"; it holds {holds}: are two files swapped?" if holds else ": not an IDX file of MNIST"
        raise DataError(f"{name}: magic number 0x{magic:08x}, expected 0x{right:08x} ({kind}){hint}")
    if len(content) < header:
        raise DataError(f"{name}: truncated: {len(content)} bytes, expected a header of {header}")
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    length = 1
    for size in shape:
        length *= size
    if length == 0:
        raise DataError(f"{name}: empty: its header says {'x'.join(map(str, shape))}")
    found = len(content) - header
    if found != length:
        wrong = "truncated" if found < length else "too long"
        raise DataError(
            f"{name}: {wrong}: {found} bytes of data, but its header says {'x'.join(map(str, shape))} = {length}"
        )
    values = np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    if kind == "labels" and values.max() > 9:
        at = int(np.argmax(values > 9))
        raise DataError(f"{name}: label {int(values[at])} at index {at}, expected 0 to 9")
    if kind == "images" and shape[1] != shape[2]:
        raise DataError(f"{name}: images of {shape[1]}x{shape[2]} pixels, expected square ones")
    return values


def _unpack(path: Path) -> bytes:
    raw = path.read_bytes()
    # By content, not by name: browsers unpack in passing and keep the name, or the other way round.
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            content = file.read(LARGEST + 1)
    except EOFError:
        raise DataError(f"{path}: truncated: the gzip stream ends early ({len(raw)} bytes); fetch it again") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip file ({error}); fetch it again") from None
    if len(content) > LARGEST:
        raise DataError(f"{path}: not MNIST: it unpacks to more than {LARGEST:,} bytes")
    return content


def _read(path: Path, name: str) -> Bytes:
    content = _unpack(path)
    values = parse_idx(content, "images" if "images" in name else "labels", str(path))
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        twin = next((other for other, known in SHA256.items() if known == digest), None)
        hint = f"; it is {twin}: are two files swapped?" if twin else ""
        raise DataError(f"{path}: not MNIST: sha256 of its content is {digest}, expected {SHA256[name]}{hint}")
    return values


def _find(folder: Path) -> dict[str, Path]:
    """Find which of the four files lie in the folder or in its ``mnist`` subfolder, packed or not."""
    for place in (folder, folder / "mnist"):
        found = {}
        for name in SHA256:
            for spelling in (name, name + ".gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"):
                if (place / spelling).is_file():
                    found[name] = place / spelling
                    break
        if found:
            return found
    return {}


def _load_files(files: dict[str, Path], source: str) -> Dataset:
    missing = [name for name in SHA256 if name not in files]
    if missing:
        folder = next(iter(files.values())).parent
        raise DataError(f"{folder}: {len(files)} of MNIST's 4 files; missing: {', '.join(missing)} (.gz or unpacked)")
    arrays = {name: _read(path, name) for name, path in files.items()}
    parts = []
    for part in ("train", "t10k"):
        images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        if len(images) != len(labels):
            where = files[f"{part}-labels-idx1-ubyte"]
            raise DataError(f"{where}: {len(labels)} labels for {len(images)} images, expected as many as images")
        parts += [images, labels]
    return Dataset("MNIST", source, *parts)


def cache_dir() -> Path:
    """Return the folder that downloads are kept in: ``fastdrop`` in the user's cache folder."""
    if sys.platform == "win32":  # pragma: no cover
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":  # pragma: no cover
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastdrop"


def _reason(error: Exception) -> str:
    """Say in a few words what an exception of requests' says in three lines."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    names = {cls.__name__ for cls in type(error).__mro__}
    if "Timeout" in names:
        return "timed out"
    if "ChunkedEncodingError" in names:
        return "broke off"
    if "ConnectionError" in names:
        return "no connection"
    return str(error) or type(error).__name__


def _download(folder: Path, mirrors: Sequence[str], say: Say) -> dict[str, Path]:
    """Fetch the missing files into `folder`; a file is moved there only once its content has been checked."""
    try:
        check_folder(folder)
    except OSError as error:
        # Found out before any mirror is asked, or blamed.
        raise OSError(f"the cache {folder} cannot be written: {error.strerror or error}") from None
    pooch = extra("pooch")
    pooch.get_logger().setLevel("ERROR")
    http = pooch.HTTPDownloader(timeout=TIMEOUT)
    files = {}
    said = False
    # A mirror that failed is not asked again for the next file.
    alive = list(mirrors)
    for name in SHA256:
        archive = name + ".gz"
        path = folder / archive
        if path.is_file():
            try:
                _read(path, name)
                files[name] = path
                continue
            except DataError as error:
                say(f"{error}; downloading it again")
                path.unlink()

        def fetch(url: str, output: str, _: Any, name: str = name) -> None:
            http(url, output, None)
            _read(Path(output), name)

        reasons = []
        while alive and name not in files:
            if not said:
                say(f"downloading MNIST (11 MB) to {folder}")
                said = True
            pup = pooch.create(path=folder, base_url=alive[0], registry={archive: None}, retry_if_failed=0)
            try:
                files[name] = Path(pup.fetch(archive, downloader=fetch))
            except DataError as error:
                reasons.append(f"{urlsplit(alive.pop(0)).netloc}: {archive}: {str(error).partition(': ')[2]}")
            except (OSError, ValueError) as error:
                reasons.append(f"{urlsplit(alive.pop(0)).netloc}: {_reason(error)}")
        if name not in files:
            raise ConnectionError("; ".join(reasons) or "no mirror to ask")
    return files


def _digits() -> Dataset:
    bunch = extra("sklearn.datasets").load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    return Dataset(
        "scikit-learn digits",
        f"bundled with scikit-learn {extra('sklearn').__version__}: 1,797 images of 8x8 pixels, not MNIST",
        images[:-DIGITS_TEST],
        labels[:-DIGITS_TEST],
        images[-DIGITS_TEST:],
        labels[-DIGITS_TEST:],
    )


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def load(
    data: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    mirrors: Sequence[str] = MIRRORS,
    say: Say = _to_stderr,
) -> Dataset:
    """Load MNIST, or scikit-learn's digits where it cannot be had.

    Looked for in `data`, in the folder that the environment variable ``FASTDROP_DATA`` names, in the cache; then
    downloaded to the cache. Each folder may hold the four IDX files, packed (.gz) or not, or have them in a subfolder
    ``mnist``. With no data and no network it says so and gives scikit-learn's bundled digits.

    Parameters
    ----------
    data : path, optional
        A folder with the four files. It is an error if they are not there: what was asked for is not replaced by
        something else.
    download : bool
        Whether to ask the network.
    mirrors : sequence of str
        Addresses of folders that hold the four archives, tried in order.
    say : callable
        Takes one line of text where something is worth telling; writes to stderr by default.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        A ValueError: a file was found and is not what it should be.
    FileNotFoundError
        `data` holds none of the four files.
    ImportError
        A package of ``fastdrop[mnist]`` is needed and missing.

    Examples
    --------
    >>> load("no/such/folder")
    Traceback (most recent call last):
    FileNotFoundError: no/such/folder: no such folder
    """
    if data is not None:
        folder = Path(data).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        files = _find(folder)
        if not files:
            raise FileNotFoundError(
                f"{folder}: none of MNIST's 4 files (such as {next(iter(SHA256))}.gz), nor in mnist/"
            )
        return _load_files(files, str(next(iter(files.values())).parent))

    named = os.environ.get("FASTDROP_DATA")
    if named:
        files = _find(Path(named).expanduser())
        if files:
            return _load_files(files, str(next(iter(files.values())).parent))
        say(f"FASTDROP_DATA={named}: none of MNIST's 4 files there; looking further")

    cache = cache_dir() / "mnist"
    files = _find(cache)
    if len(files) == len(SHA256):
        try:
            return _load_files(files, str(cache))
        except DataError as error:
            if not download:
                raise
            # A bad file of the user's is the user's to judge; one in our own cache is ours to replace, and
            # _download does so.
            if any(path.name != name + ".gz" for name, path in files.items()):
                raise DataError(f"{error}; delete it to have it downloaded again") from None
    if not download:
        say("no MNIST found and downloading is off: using scikit-learn's bundled 8x8 digits instead")
        return _digits()
    try:
        return _load_files(_download(cache, mirrors, say), str(cache))
    except OSError as error:
        say(f"no MNIST: not found here, not downloaded ({error}): using scikit-learn's bundled 8x8 digits instead")
        return _digits()


def split(dataset: Dataset, train: int | None, validation: int, seed: int) -> Splits:
    """Take the training and the validation set from the training file, by a seeded permutation.

    The validation set comes first in the permutation, so that it stays the same whatever the training size.

    Parameters
    ----------
    dataset : Dataset
    train : int or None
        Images to train on; None takes all that validation leaves.
    validation : int
        Images to validate on.
    seed : int
        Equal seeds give equal sets.

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        Where the training file holds too few images, or a size is below 1.
    """
    have = len(dataset.train_labels)
    if train is None:
        train = have - validation
    if validation < 1 or train < 1:
        raise ValueError(f"{train} training and {validation} validation images: at least 1 of each is needed")
    if train + validation > have:
        raise ValueError(
            f"{train} training and {validation} validation images, but {dataset.name}'s training file holds {have}"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(have)
    chosen = order[validation : validation + train]
    held = order[:validation]
    return Splits(
        (dataset.train_images[chosen], dataset.train_labels[chosen]),
        (dataset.train_images[held], dataset.train_labels[held]),
        (dataset.test_images, dataset.test_labels),
    )
