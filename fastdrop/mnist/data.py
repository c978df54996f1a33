"""The images: MNIST or another set in four IDX files, or scikit-learn's small digits, named as such.

A file counts as MNIST by the SHA-256 of what it holds *unpacked*: archives made by different tools differ, their
contents do not. No pickle is read or written here.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from .._extra import extra
from .._files import check_folder, remove_parts, whole_file
from .idx import NAMES, DataError, find_sets, parse_idx, read_idx

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

#: Bytes of the largest of the files, unpacked: a download that goes on beyond, packed or unpacked, is none of them.
LARGEST = 16 + 60_000 * 28 * 28

#: Seconds after which a part of a download that nobody writes to any more is swept away.
STALE = 3600.0

#: scikit-learn's digits come without a test split: these many, the last in file order, become one.
DIGITS_TEST = 450


@dataclass(frozen=True)
class Dataset:
    """Images and labels, as the files hold them.

    Attributes
    ----------
    name : str
        ``"MNIST"`` where the files are MNIST's; the name in front of the files' names, or else the folder's, for
        another set; ``"scikit-learn digits"`` for the second choice.
    source : str
        Where the data came from.
    train_images, test_images : ndarray of uint8, shape (N, height, width)
        0 is background, 255 is ink. Images are as they lie in the file: EMNIST's are transposed, next to MNIST's.
    train_labels, test_labels : ndarray of uint8, shape (N,)
        The classes, counted from 0 (EMNIST's letters from 1).

    Examples
    --------
    >>> images = np.zeros((4, 5, 3), np.uint8)
    >>> small = Dataset("small", "", images, np.uint8([0, 1, 2, 1]), images[:2], np.uint8([2, 0]))
    >>> small.size, small.classes, small.digest[:8]
    ((5, 3), 3, '6fcd18a0')
    """

    name: str
    source: str
    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.train_images.shape[1:]
        return int(height), int(width)

    @cached_property
    def classes(self) -> int:
        """The number of classes: the largest label in training or test, and one."""
        return 1 + int(max(self.train_labels.max(), self.test_labels.max()))

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over shapes and bytes of the four arrays: what a run's data are known by.

        Over the images and labels of training, then of test, each as a line of text with its shape, such as
        ``60000x28x28``, and its bytes. It is computed once: the arrays are not to be written to.
        """
        sha = hashlib.sha256()
        for values in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            sha.update(("x".join(map(str, values.shape)) + "\n").encode())
            sha.update(np.ascontiguousarray(values).data)
        return sha.hexdigest()


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


def _find(data: Path) -> tuple[str, dict[str, Path]]:
    """Find a set's name, "" where its files have none in front, and the files of it that are there.

    `data` is a folder, with the files in it or in its subfolder ``mnist``, or a folder and the name of one set in it.
    """
    if data.is_dir():
        for place in (data, data / "mnist"):
            sets = find_sets(place) if place.is_dir() else {}
            if "" in sets:
                return "", sets[""]
            if len(sets) > 1:
                raise DataError(f"{place}: holds {len(sets)} sets, expected one to be named: {_choices(place, sets)}")
            if sets:
                return sets.popitem()
        raise FileNotFoundError(f"{data}: none of MNIST's 4 files (such as {NAMES[0]}.gz), nor in mnist/")
    if data.exists():
        raise FileNotFoundError(f"{data}: not a folder")
    sets = find_sets(data.parent) if data.parent.is_dir() else {}
    sets.pop("", None)
    if data.name in sets:
        return data.name, sets[data.name]
    raise FileNotFoundError(
        f"{data}: no such folder"
        + (f", and no set of that name; there are: {_choices(data.parent, sets)}" * bool(sets))
    )


def _choices(folder: Path, sets: dict[str, dict[str, Path]]) -> str:
    return ", ".join(str(folder / name) for name in sets)


def _load_files(files: dict[str, Path], prefix: str = "", say: Say | None = None) -> Dataset:
    """Read and check a set's four files. Without `say` only MNIST will do."""
    folder = next(iter(files.values())).parent
    missing = [name for name in NAMES if name not in files]
    if missing:
        if prefix:
            missing = [f"{prefix}-{name.replace('t10k', 'test')}" for name in missing]
        raise DataError(f"{folder}: {len(files)} of the 4 files; missing: {', '.join(missing)} (.gz or unpacked)")
    arrays, sums = [], {}
    for name in NAMES:
        values, sums[name] = read_idx(files[name], _kind(name))
        arrays.append(values)
    mnist = say is None or not set(SHA256.values()).isdisjoint(sums.values())
    if mnist:
        for name in NAMES:
            _check_sum(sums[name], name, str(files[name]))
    _check_together(files, arrays)
    if say is None or mnist:
        return Dataset("MNIST", str(folder), *arrays)

    place = folder.resolve()
    # torchvision keeps FashionMNIST/raw.
    place = place.parent if place.name == "raw" else place
    name = prefix or (place.name if place.name.lower() not in ("", "mnist") else f"unknown set in {place}")
    dataset = Dataset(name, str(folder), *arrays)
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    height, width = dataset.size
    say(
        f"{name}: not MNIST, but {train:,} + {test:,} images of {height}x{width} pixels in {dataset.classes} classes"
        + "; are training and test swapped?" * (test > train)
    )
    return dataset


def _kind(name: str) -> str:
    return "images" if "images" in name else "labels"


def _check_sum(digest: str, name: str, path: str) -> None:
    """Refuse a content that is not that of MNIST's file of this name."""
    if digest != SHA256[name]:
        twin = next((other for other, known in SHA256.items() if known == digest), None)
        hint = f"it holds {twin}: are two files swapped?" if twin else "it is damaged, or of another set"
        raise DataError(f"{path}: not MNIST: sha256 of its content is {digest}, expected {SHA256[name]}; {hint}")


def _check_together(files: dict[str, Path], arrays: Sequence[Bytes]) -> None:
    """Refuse files that are each well formed and do not belong together."""
    train_images, train_labels, test_images, test_labels = arrays
    paths = [files[name] for name in NAMES]
    crossed = len(train_images) == len(test_labels) and len(test_images) == len(train_labels)
    hint = ": are training and test swapped?" if crossed else ""
    for at, (images, labels) in enumerate(((train_images, train_labels), (test_images, test_labels))):
        if len(images) != len(labels):
            raise DataError(
                f"{paths[2 * at + 1]}: {len(labels)} labels for {len(images)} images in {paths[2 * at].name}, "
                f"expected as many as images{hint}"
            )
    if train_images.shape[1:] != test_images.shape[1:]:
        found, right = ("x".join(map(str, images.shape[1:])) for images in (test_images, train_images))
        raise DataError(f"{paths[2]}: images of {found} pixels, expected {right} as in {paths[0].name}")
    # A net could only ever get these wrong.
    unseen = np.setdiff1d(test_labels, train_labels)
    if len(unseen):
        listed = ", ".join(map(str, unseen[:5])) + ", ..." * (len(unseen) > 5)
        raise DataError(
            f"{paths[3]}: {'labels' if len(unseen) > 1 else 'label'} {listed}, expected only labels that "
            f"{paths[1].name} has ({train_labels.min()} to {train_labels.max()}): are the files of one set?"
        )


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
    # What stops in the middle is a connection's error for requests; the cause is in its arguments.
    names = {cls.__name__ for each in (error, *error.args) for cls in type(each).__mro__}
    if names & {"Timeout", "ReadTimeoutError"}:
        return "timed out"
    if "ChunkedEncodingError" in names:
        return "broke off"
    if "ConnectionError" in names:
        return "no connection"
    return str(error) or type(error).__name__


class _Bounded:
    """A file that takes no more than the largest of the archives could hold."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.flush = file.flush

    def write(self, piece: bytes) -> None:
        if self.file.tell() + len(piece) > LARGEST:
            raise DataError(f"too long: more than {LARGEST:,} bytes")
        self.file.write(piece)


def _download(folder: Path, mirrors: Sequence[str], say: Say) -> dict[str, Path]:
    """Fetch the missing files into `folder`; a file gets its name there only once its content has been checked."""

    def unwritable(error: OSError) -> OSError:
        return OSError(f"the cache {folder} cannot be written: {error.strerror or error}")

    try:
        check_folder(folder)
    except OSError as error:
        # Found out before any mirror is asked, or blamed.
        raise unwritable(error) from None
    for name in SHA256:
        remove_parts(folder / f"{name}.gz", older=STALE)
    http = extra("pooch").HTTPDownloader(timeout=TIMEOUT)
    failures = extra("requests.exceptions").RequestException
    files = {}
    said = False
    # A mirror that failed is not asked again for the next file.
    alive = list(mirrors)
    reasons: list[str] = []
    for name in NAMES:
        archive = name + ".gz"
        path = folder / archive
        if os.path.lexists(path):
            try:
                _check_sum(read_idx(path, _kind(name), limit=LARGEST)[1], name, str(path))
                files[name] = path
                continue
            except DataError as error:
                # It stays until a good one takes its place: another process may be about to read what it has put there.
                say(f"{error}; downloading it again")
        while alive and name not in files:
            if not said:
                say(f"downloading MNIST (11 MB) to {folder}")
                said = True
            try:
                with whole_file(path) as part:
                    with part.open("wb") as file:
                        http(alive[0].rstrip("/") + "/" + archive, _Bounded(file), None)
                    _check_sum(read_idx(part, _kind(name), archive, limit=LARGEST)[1], name, archive)
                files[name] = path
            except (DataError, failures) as error:
                reason = _reason(error)
                where = urlsplit(alive.pop(0)).netloc
            except OSError as error:
                raise unwritable(error) from None
            else:
                continue
            reasons.append(f"{where}: {reason}" if reason.startswith(archive) else f"{where}: {archive}: {reason}")
            if alive:
                say(f"{reasons[-1]}; asking {urlsplit(alive[0]).netloc}")
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
    """Load MNIST, another set in its format, or scikit-learn's digits where there is neither.

    Looked for in `data`, in the folder that the environment variable ``FASTDROP_DATA`` names, in the cache; then
    downloaded to the cache. Each folder may hold the four IDX files, packed (.gz) or not, or have them in a subfolder
    ``mnist``. With no data and no network it says so and gives scikit-learn's bundled digits.

    The files are MNIST where the SHA-256 of what they hold says so; where that is true of some and not of all, the
    others are damaged or swapped, which is an error. Where it is true of none they are another set, such as
    Fashion-MNIST or one of EMNIST's, of any image size and up to 256 classes, and named as such. The cache takes
    nothing but MNIST. Images are taken as they lie in the files: EMNIST's are transposed, next to MNIST's.

    Parameters
    ----------
    data : path, optional
        A folder with the four files, or where it holds several sets the folder and the name in front of the files of
        one, such as ``gzip/emnist-digits``. Where a folder holds files with no name in front, they are taken. It is
        an error if there are none: what was asked for is not replaced by something else.
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
        A ValueError: a file was found and is not what it should be, files do not belong together, or there are
        several sets to choose from.
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
        prefix, files = _find(Path(data).expanduser())
        return _load_files(files, prefix, say)

    named = os.environ.get("FASTDROP_DATA")
    if named:
        try:
            prefix, files = _find(Path(named).expanduser())
        except FileNotFoundError as error:
            say(f"FASTDROP_DATA={named}: {str(error).removeprefix(f'{named}: ')}; looking further")
        else:
            return _load_files(files, prefix, say)

    cache = cache_dir() / "mnist"
    files = find_sets(cache).get("", {}) if cache.is_dir() else {}
    if len(files) == len(NAMES):
        try:
            return _load_files(files)
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
        return _load_files(_download(cache, mirrors, say))
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
