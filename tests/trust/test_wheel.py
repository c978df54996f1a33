"""The check of a wheel finds what it is for: files and binaries that should not be."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fastdrop as fd
from trust import wheel

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
MODULES = [f"fastdrop/_core{SUFFIX}", f"fastdrop/bench/_limits{SUFFIX}"]
INFO = [f"fastdrop-1.0.dist-info/{name}" for name in wheel.DIST_INFO]
EXPECTED = wheel.expected_files()
BUILT = Path(fd._core.__file__)


def test_what_is_meant_passes() -> None:
    assert {
        "fastdrop/__init__.py",
        "fastdrop/_core.pyi",
        "fastdrop/_core.pxd",
        "fastdrop/include/fastdrop.h",
    } <= EXPECTED
    assert wheel.check_names([*EXPECTED, *MODULES, *INFO], EXPECTED) == MODULES


@pytest.mark.parametrize(
    "more", ["tests/test_mask.py", "fastdrop/_core.pyx", "fastdrop/bench/copies.c", "fastdrop.libs/x.so.1"]
)
def test_more_is_refused(more: str) -> None:
    with pytest.raises(wheel.Wrong, match="not meant to be in the wheel"):
        wheel.check_names([*EXPECTED, *MODULES, *INFO, more], EXPECTED)


@pytest.mark.parametrize("less", ["fastdrop/py.typed", "fastdrop/include/fastdrop.h", INFO[0], MODULES[1]])
def test_less_is_refused(less: str) -> None:
    names = [name for name in (*EXPECTED, *MODULES, *INFO) if name != less]
    with pytest.raises(wheel.Wrong, match=r"missing from the wheel|extension modules have to be"):
        wheel.check_names(names, EXPECTED)


GOOD = wheel.Binary(("libc.so.6", "libm.so.6"), ("PyInit__core",), False, False, False, False)


def test_a_binary_as_it_should_be() -> None:
    wheel.check_binary("fastdrop/_core.so", GOOD, b"fastdrop/_core.pyx", ["/home/somebody"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"libraries": ("libc.so.6", "libgomp.so.1")}, r"linked with libgomp\.so\.1"),
        ({"exported": ("PyInit__core", "fd_bits")}, "exports PyInit__core, fd_bits"),
        ({"exported": ()}, "not its PyInit alone"),
        ({"debugging": True}, "debugging information"),
        ({"search_path": True}, "a search path"),
        ({"text_relocations": True}, "relocations in its code"),
        ({"executable_stack": True}, "an executable stack"),
    ],
)
def test_a_binary_that_does_more_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(wheel.Wrong, match=complaint):
        wheel.check_binary("fastdrop/_core.so", replace(GOOD, **changes), b"", [])


def test_a_binary_that_tells_a_path_is_refused() -> None:
    with pytest.raises(wheel.Wrong, match="tells paths of the machine that built it: /home/somebody"):
        wheel.check_binary("fastdrop/_core.so", GOOD, b"..../home/somebody/fastdrop/csrc", ["/home/somebody"])


@pytest.mark.skipif(BUILT.read_bytes()[:4] != b"\x7fELF", reason="not an ELF file")
def test_a_binary_is_read() -> None:
    pytest.importorskip("elftools", reason="comes with auditwheel, of the wheel extra")
    binary = wheel.read_binary(BUILT.read_bytes())
    assert binary.exported == ("PyInit__core",) and "libc.so.6" in binary.libraries
    assert not binary.executable_stack and not binary.text_relocations
