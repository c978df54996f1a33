"""The threads of the BLAS that NumPy calls: NumPy has no word for them, so they are told to OpenBLAS itself."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

__all__ = ["get_threads", "set_threads"]

#: As NumPy's wheels call them, with 64-bit and with 32-bit sizes; and as others do.
_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


@cache
def _functions() -> tuple[Any, Any] | None:
    """What tells and asks for the threads, or None."""
    try:
        umath: Any = np.linalg._umath_linalg
        library = ctypes.CDLL(umath.__file__)  # a look-up goes on in the libraries that it was linked with
    except (AttributeError, OSError):
        return None
    for name in _NAMES:
        if hasattr(library, name.format("set")):
            return getattr(library, name.format("set")), getattr(library, name.format("get"))
    return None


def get_threads() -> int | None:
    """How many threads BLAS may use; None where it cannot be asked or told.

    Examples
    --------
    >>> get_threads() is None or get_threads() >= 1
    True
    """
    found = _functions()
    return None if found is None else int(found[1]())


def set_threads(threads: int) -> None:
    """Tell BLAS how many threads it may use.

    Raises
    ------
    RuntimeError
        If it is no OpenBLAS.
    """
    found = _functions()
    if found is None:
        raise RuntimeError("the threads of NumPy's BLAS cannot be told: it is no OpenBLAS")
    found[0](threads)
