"""The limits as contenders: copies of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from . import _limits
from .cases import FAMILIES, Arrays, Case
from .ready import Answer, Ready

__all__ = ["prepare_memcpy", "prepare_stream", "prepare_stream4"]

Copy = Callable[[NDArray[Any], NDArray[Any], int], None]


def _prepare(copy: Copy, case: Case, arrays: Arrays) -> Ready:
    x, y, threads = arrays.x, arrays.y, case.threads
    if FAMILIES[case.family].inputs == 2:
        half, onto = arrays.dy.reshape(-1)[: case.n // 2], arrays.dx.reshape(-1)[: case.n // 2]

        def more() -> None:
            copy(y, x, threads)
            copy(onto, half, threads)

        return Ready(more, lambda _: Answer((y,)), copies=True)
    if case.family != "forward+backward":
        return Ready(lambda: copy(y, x, threads), lambda _: Answer((y,)), copies=True)
    dy, dx = arrays.dy, arrays.dx

    def both() -> None:
        copy(y, x, threads)
        copy(dx, dy, threads)

    return Ready(both, lambda _: Answer((y, dx)), copies=True)


def prepare_memcpy(case: Case, arrays: Arrays) -> Ready:
    """The C library's memcpy."""
    return _prepare(_limits.memcpy, case, arrays)


def prepare_stream(case: Case, arrays: Arrays) -> Ready:
    """Streaming stores, one page after the other."""
    return _prepare(_limits.stream, case, arrays)


def prepare_stream4(case: Case, arrays: Arrays) -> Ready:
    """Streaming stores, four pages at once."""
    return _prepare(_limits.stream4, case, arrays)
