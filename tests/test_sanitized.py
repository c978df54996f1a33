"""Under `make test-asan`: that the module that is tested is instrumented, and that what the sanitizers find fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastdrop import _core

LIB = os.environ.get("FASTDROP_SANITIZED")
pytestmark = pytest.mark.skipif(LIB is None, reason="runs under make test-asan, which builds the module for it")

# The C API through its table, whose members are pointers behind `abi`: bits(law, start, n, out) is the second.
CALL = """
import ctypes, sys
import fastdrop
from fastdrop._core import _C_API
pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
table = ctypes.cast(pointer(_C_API, b"fastdrop._core._C_API"), ctypes.POINTER(ctypes.c_void_p))
bits = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)(table[2])
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
law, out = (ctypes.c_uint64 * 3)(1, 2, 2**31), libc.malloc(ctypes.c_size_t(100))
"""


def call(last: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CALL + last], capture_output=True, text=True, timeout=120)


def test_the_module_that_is_tested_is_the_instrumented_one():
    assert LIB is not None and _core.__file__.startswith(LIB)


def test_a_byte_too_many_is_found():
    assert call("bits(ctypes.addressof(law), 0, 800, out); print('fine')").stdout == "fine\n"
    found = call("bits(ctypes.addressof(law), 0, 801, out)")
    assert found.returncode != 0 and "heap-buffer-overflow" in found.stderr, found.stderr


def test_undefined_behaviour_is_found():
    """A law that is not aligned, which no caller of ours has."""
    found = call("bits(ctypes.addressof((ctypes.c_char * 40)()) // 8 * 8 + 9, 0, 800, out)")
    assert found.returncode != 0 and "misaligned address" in found.stderr, found.stderr
