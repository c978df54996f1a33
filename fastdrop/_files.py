"""Files that appear whole or not at all, and folders that can hold them."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, beside `path` and with its ending; it becomes `path` when the block ends without an error.

    A reader, or a crash at any moment, sees the old content or the new and never a part. When the block has ended, the
    new content is on the disk, and so is its name where the system can flush a folder.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> with whole_file(os.path.join(folder, "a.txt")) as part:
    ...     _ = part.write_text("hello")
    >>> os.listdir(folder)
    ['a.txt']
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder, to write {target.name} to")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder, and has to be a file")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_part_prefix(target), suffix=target.suffix)
    part = Path(name)
    try:
        # mkstemp makes files for the owner's eyes only; this one gets the mode of any new file.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        yield part
        os.fsync(handle)
        os.close(handle)
        handle = -1
        os.replace(part, target)
        _flush_folder(target.parent)
    except BaseException:
        if handle >= 0:
            os.close(handle)
        part.unlink(missing_ok=True)
        raise


def _part_prefix(target: Path) -> str:
    return f".{target.stem}.part-"


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk; Windows, and some file systems, know no such thing."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM):
            raise
    finally:
        os.close(handle)


def remove_parts(path: str | os.PathLike[str], older: float = 0.0) -> None:
    """Remove what `whole_file` left beside `path` when its process was killed.

    Parameters
    ----------
    path : path
    older : float
        Leave alone what was written to in the last so many seconds: where another process may be at work on `path`.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> _ = Path(folder, ".a.part-0123abc_.txt").write_text("hal")
    >>> remove_parts(os.path.join(folder, "a.txt"))
    >>> os.listdir(folder)
    []
    """
    target = Path(path)
    # The name of mkstemp, and no more: "a.txt" leaves the parts of its neighbours alone.
    name = re.compile(re.escape(_part_prefix(target)) + r"[a-z0-9_]{8}" + re.escape(target.suffix))
    with suppress(OSError):  # litter is no reason not to work
        for entry in filter(name.fullmatch, os.listdir(target.parent)):
            part = target.parent / entry
            if not older or time.time() - part.stat().st_mtime > older:
                part.unlink()


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder and try to write into it: better before long work than after.

    Raises
    ------
    OSError
        Where that cannot be done.
    ValueError
        Where its name has bytes that are no UTF-8: reports hold it.
    """
    path = Path(folder).expanduser()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!a} has bytes that are no UTF-8: name another folder") from None
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path
