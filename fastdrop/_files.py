"""Files that appear whole or not at all, and folders that can hold them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, beside `path` and with its ending; it becomes `path` when the block ends without an error.

    A reader, or a crash at any moment, sees the old content or the new and never a part.

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
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
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
    except BaseException:
        if handle >= 0:
            os.close(handle)
        part.unlink(missing_ok=True)
        raise


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder and try to write into it: better before long work than after.

    Raises
    ------
    OSError
        Where that cannot be done.
    """
    path = Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path
