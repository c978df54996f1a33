"""Which kernels run, on how many threads. None of it ever changes a result."""

from __future__ import annotations

import os

from . import _core
from ._checks import check_int, shown

MAX_THREADS = 256


def isa() -> str:
    """The instruction set whose kernels are in use: "portable", "avx2", "avx512" or "neon".

    It is the widest the machine has, unless the environment variable ``FASTDROP_ISA`` or `set_isa` says otherwise.

    Examples
    --------
    >>> isa() in available_isas()
    True
    """
    name: str = _core.isa_in_use()
    return name


def available_isas() -> list[str]:
    """The instruction sets this machine and build can run, from the narrowest to the widest.

    Examples
    --------
    >>> available_isas()[0]
    'portable'
    """
    return [name for name, usable in _core.isas() if usable]


def set_isa(name: str) -> None:
    """Use the kernels of another instruction set. Results stay the same, bit for bit.

    Raises
    ------
    TypeError, ValueError
        If there is none of that name, or this machine cannot run it.
    """
    if not isinstance(name, str):
        raise TypeError(f"isa has to be a string, but got {shown(name)}")
    known = [n for n, _ in _core.isas()]
    if name not in known:
        raise ValueError(f"isa has to be one of {', '.join(known)}, but got {shown(name)}")
    if _core.use_isa(name) != 0:
        raise ValueError(f"this machine or build cannot run {name!r}, only {', '.join(available_isas())}")


def get_num_threads() -> int:
    """How many threads one call may use, the caller's own included."""
    n: int = _core.threads()
    return n


def set_num_threads(n: int) -> None:
    """Let one call use up to `n` threads, 1 to 256. Results never depend on it; small arrays stay on one thread.

    The default is the number of cores the process may use, or the environment variable ``FASTDROP_NUM_THREADS``.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or outside 1 to 256.
    """
    _core.use_threads(check_int("number of threads", n, 1, MAX_THREADS))


def _from_environment() -> None:
    name = os.environ.get("FASTDROP_ISA")
    if name:
        try:
            set_isa(name)
        except ValueError as error:
            raise ValueError(f"environment variable FASTDROP_ISA: {error}") from None
    threads = os.environ.get("FASTDROP_NUM_THREADS")
    if threads:
        try:
            set_num_threads(int(threads))
        except ValueError:
            raise ValueError(
                f"environment variable FASTDROP_NUM_THREADS has to be from 1 to {MAX_THREADS}, but got {shown(threads)}"
            ) from None


_from_environment()
