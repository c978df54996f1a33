"""The threads of the BLAS that NumPy calls: NumPy has no word for them, threadpoolctl has."""

from __future__ import annotations

from functools import cache
from typing import Any

from .._extra import extra

__all__ = ["get_threads", "set_threads"]


@cache
def _blas() -> Any:
    """All that threadpoolctl finds: NumPy's, and those of peers that were imported before."""
    return extra("threadpoolctl", "bench").ThreadpoolController().select(user_api="blas")


def get_threads() -> int | None:
    """How many threads BLAS may use; None where it cannot be asked or told, as Apple's Accelerate.

    Examples
    --------
    >>> get_threads() is None or get_threads() >= 1
    True
    """
    return max((library.num_threads for library in _blas().lib_controllers), default=None)


def set_threads(threads: int) -> None:
    """Tell BLAS how many threads it may use, if it can be told and is not using as many."""
    for library in _blas().lib_controllers:
        if library.num_threads != threads:
            library.set_num_threads(threads)
