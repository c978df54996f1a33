"""Files that appear whole or not at all."""

import errno
import os
import stat
import sys

import pytest

from fastdrop._files import check_folder, remove_parts, whole_file


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    done = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *paths: (replace(*paths), done.append("rename")))
    monkeypatch.setattr(
        os, "fsync", lambda handle: (fsync(handle), done.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    )
    with whole_file(tmp_path / "a") as part:
        part.write_text("x")
    assert done == [False, "rename", True] or sys.platform == "win32"


def test_folders_that_cannot_be_flushed(tmp_path, monkeypatch):
    fsync = os.fsync

    def fail(number):
        def flush(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(handle)

        return flush

    monkeypatch.setattr(os, "fsync", fail(errno.EINVAL))  # a file system that knows no such thing
    with whole_file(tmp_path / "a") as part:
        part.write_text("x")
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))  # a broken disk
    with pytest.raises(OSError, match="Input/output error"), whole_file(tmp_path / "a") as part:
        part.write_text("y")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_the_parts_of_neighbours_stay(tmp_path):
    names = [".a.part-01234567.b", ".a.part-x.part-01234567.b", ".a.part-01234567.c", ".b.part-01234567.b", "a.b"]
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path / "a.b")
    assert {entry.name for entry in tmp_path.iterdir()} == set(names[1:])
    remove_parts(tmp_path / "no" / "folder")


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    with pytest.raises(ValueError, match=r"o\\udce9' has bytes that are no UTF-8"):
        check_folder(tmp_path / "o\udce9")
    assert not list(tmp_path.iterdir())
