"""IDX, the format of MNIST's files and of the sets made after it: read, checked, and found by name in a folder.

A file is two zero bytes, a byte for the type, one for the number of dimensions, big-endian sizes of four bytes each,
and the data. Nothing is believed: what a header says is checked before memory is taken, and against what follows.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import stat
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["LIMIT", "NAMES", "DataError", "find_sets", "parse_idx", "read_idx"]

Bytes = npt.NDArray[np.uint8]

#: MNIST's names of the four files, which stand here for the four places that files of any set have.
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

#: The most bytes of data that a header may declare: 2 GiB, four times the largest of EMNIST's files.
LIMIT = 2 << 30

_NDIM = {"images": 3, "labels": 1}
_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_GZIP = b"\x1f\x8b"
#: How other things begin that are found under these names.
_OTHERS = (
    (_GZIP, "a gzip file, and has to be unpacked first"),
    (b"PK\x03\x04", "a zip archive, and has to be unpacked first"),
    (b"<", "a web page: a login or an error page, perhaps"),
    (b"vers", "text: a pointer of Git LFS, perhaps, and not the file itself"),
)
_CHUNK = 1 << 20

# The set's name, then the part, as in "train-images-idx3-ubyte", "t10k-labels.idx1-ubyte.gz" and
# "emnist-digits-test-images-idx3-ubyte.gz".
_FILE = re.compile(r"(?:([^.].*)[-_.])?(train|t10k|test)-(images|labels)([-.])idx[13]-ubyte(\.gz)?")


class DataError(ValueError):
    """A data file that is not what it should be; the message names the file, what is wrong and what would be right."""


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _header(content: bytes | bytearray, kind: str, name: str, limit: int = LIMIT) -> tuple[int, ...]:
    """Read the sizes that a file's first bytes declare."""
    ndim = _NDIM[kind]
    right = 0x0800 | ndim
    size = 4 + 4 * ndim
    if not content:
        raise DataError(f"{name}: empty: 0 bytes, expected an IDX file of {kind}")
    if len(content) < 4:
        raise DataError(f"{name}: truncated: {len(content)} bytes, too short for the 4 bytes of IDX's magic number")
    magic = int.from_bytes(content[:4], "big")
    if magic != right:
        start = bytes(content[:4])
        if magic in (0x0801, 0x0803):
            hint = f"it holds {'labels' if magic == 0x0801 else 'images'}: are two files swapped?"
        elif start[:2] == b"\0\0" and start[2] in _TYPES:
            hint = f"it holds {start[3]} dimensions of {_TYPES[start[2]]}, expected {ndim} of uint8"
        else:
            other = next((what for head, what in _OTHERS if start.startswith(head)), None)
            hint = f"it is {other}" if other else "not an IDX file"
        raise DataError(f"{name}: magic number 0x{magic:08x}, expected 0x{right:08x} ({kind}); {hint}")
    if len(content) < size:
        raise DataError(f"{name}: truncated: {len(content)} bytes, expected a header of {size}")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, size, 4))
    length = math.prod(shape)
    if length == 0:
        raise DataError(f"{name}: empty: its header says {_times(shape)}, expected at least 1 of each")
    if length > limit:
        raise DataError(
            f"{name}: too large: its header says {_times(shape)} = {length} bytes, expected at most {limit}"
        )
    return shape


def _check_length(found: int, shape: tuple[int, ...], name: str, least: str = "") -> None:
    length = math.prod(shape)
    if found != length:
        wrong = "truncated" if found < length else "too long"
        raise DataError(
            f"{name}: {wrong}: {least}{found} bytes of data, but its header says {_times(shape)} = {length}"
        )


def parse_idx(content: bytes | bytearray, kind: str, name: str = "<bytes>") -> Bytes:
    """Read the content of an IDX file: images or labels, as unsigned bytes.

    Images need not be square, and are taken as they lie in the file: row by row where the file holds rows, as MNIST
    and Fashion-MNIST do, column by column where it holds columns, as EMNIST does.

    Parameters
    ----------
    content : bytes or bytearray
        The unpacked file.
    kind : {"images", "labels"}
        What it should hold: 3 or 1 dimensions of unsigned bytes.
    name : str
        How messages call the file.

    Returns
    -------
    ndarray of uint8, shape (N, height, width) or (N,)
        Read-only, over `content`.

    Raises
    ------
    DataError
        Where the magic number, the sizes or the length is wrong, or the header declares nothing or more than 2 GiB.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), "labels")
    array([7, 2, 1], dtype=uint8)
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2]), "labels", "train-labels")
    Traceback (most recent call last):
    fastdrop.mnist.idx.DataError: train-labels: truncated: 2 bytes of data, but its header says 3 = 3
    """
    if kind not in _NDIM:
        raise ValueError(f"kind has to be 'images' or 'labels', but got {kind!r}")
    shape = _header(content, kind, name)
    start = 4 + 4 * len(shape)
    _check_length(len(content) - start, shape, name)
    values = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    values.flags.writeable = False
    return values


def _unpack(file: gzip.GzipFile, kind: str, name: str, limit: int) -> bytearray:
    """Unpack as much as the header of the content declares, and no more whatever the archive holds."""
    content = bytearray()
    wanted = start = 4 + 4 * _NDIM[kind]
    try:
        content += file.read(start)
        shape = _header(content, kind, name, limit)
        wanted += math.prod(shape)
        # In pieces: memory follows what is really there.
        while len(content) < wanted and (piece := file.read(min(_CHUNK, wanted - len(content)))):
            content += piece
        # The byte beyond the end makes gzip check its sum, and tells of more.
        beyond = file.read(1)
    except EOFError:
        raise DataError(f"{name}: truncated: the gzip stream ends early; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        if len(content) == wanted and "Not a gzipped file" in str(error):
            raise DataError(
                f"{name}: too long: other bytes follow the end of the gzip stream; fetch it again"
            ) from None
        raise DataError(f"{name}: corrupt gzip file ({error}); fetch it again") from None
    _check_length(len(content) - start + len(beyond), shape, name, "at least " if beyond else "")
    return content


def _read(path: Path, kind: str, name: str, limit: int) -> bytes | bytearray:
    # Before it is opened: to open a pipe is to wait for a writer.
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise DataError(f"{name}: a folder, expected a file of {kind}")
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{name}: a device or a pipe, expected a file of {kind}")
    with path.open("rb") as file:
        # By content, not by name: browsers unpack in passing and keep the name, or the other way round.
        start = file.read(16)
        file.seek(0)
        if start.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file, mode="rb") as archive:
                return _unpack(archive, kind, name, limit)
        shape = _header(start, kind, name, limit)
        header = 4 + 4 * len(shape)
        _check_length(state.st_size - header, shape, name)
        return file.read(header + math.prod(shape))


def read_idx(
    path: str | os.PathLike[str], kind: str, name: str | None = None, *, limit: int = LIMIT
) -> tuple[Bytes, str]:
    """Read an IDX file, packed by gzip or not.

    Whether it is packed is told by its content, not by its name. A packed file is never unpacked beyond what the
    header within declares.

    Parameters
    ----------
    path : path
        The file.
    kind : {"images", "labels"}
        What it should hold.
    name : str, optional
        How messages call the file; its path where not given.
    limit : int
        The most bytes of data that the header may declare. No more is unpacked of a file that claims more.

    Returns
    -------
    values : ndarray of uint8, shape (N, height, width) or (N,)
        Read-only; see `parse_idx`.
    digest : str
        SHA-256, in hexadecimal, of the unpacked content, header and all.

    Raises
    ------
    DataError
        Where the file cannot be read, is no file, or does not hold what it should.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.gz"
    >>> _ = path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])))
    >>> values, digest = read_idx(path, "labels")
    >>> values, digest[:8]
    (array([7, 2, 1], dtype=uint8), 'e10ef624')
    """
    path = Path(path)
    name = str(path) if name is None else name
    try:
        content = _read(path, kind, name, limit)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            reason = f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() else "no such file"
        else:
            reason = f"cannot be read: {error.strerror or error}"
        raise DataError(f"{name}: {reason}") from None
    return parse_idx(content, kind, name), hashlib.sha256(content).hexdigest()


def find_sets(folder: str | os.PathLike[str]) -> dict[str, dict[str, Path]]:
    """Find the sets of IDX files in a folder, by the names of the files.

    Known are MNIST's names, the same with a dot in the place of the second hyphen, ``test`` for ``t10k``, each with or
    without ``.gz``, and all of them with the name of a set in front, as EMNIST has.

    Parameters
    ----------
    folder : path
        The folder; its subfolders are not looked into.

    Returns
    -------
    dict
        For each name of a set, in order, the files of it that are there, by MNIST's names for them. The set whose
        files have no name in front is ``""``. A file that is there in several spellings is taken unpacked, and
        something that is no file only where there is no file.

    Raises
    ------
    DataError
        Where the folder cannot be listed.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("t10k-labels.idx1-ubyte", "emnist-digits-test-labels-idx1-ubyte.gz", "README"):
    ...     (folder / name).touch()
    >>> {name: list(files) for name, files in find_sets(folder).items()}
    {'': ['t10k-labels-idx1-ubyte'], 'emnist-digits': ['t10k-labels-idx1-ubyte']}
    """
    folder = Path(folder)
    try:
        matches = [match for name in os.listdir(folder) if (match := _FILE.fullmatch(name))]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from None

    def rank(match: re.Match[str]) -> tuple[bool, bool, bool, str]:
        # Some archives unpack to a folder of each file's name, with the file inside: a file goes before it.
        return not os.path.isfile(folder / match[0]), match[5] is not None, match[4] != "-", match[0]

    sets: dict[str, dict[str, Path]] = {}
    for match in sorted(matches, key=rank):
        part = "train" if match[2] == "train" else "t10k"
        place = f"{part}-{match[3]}-idx{_NDIM[match[3]]}-ubyte"
        sets.setdefault(match[1] or "", {}).setdefault(place, folder / match[0])
    return {name: {place: sets[name][place] for place in NAMES if place in sets[name]} for name in sorted(sets)}
