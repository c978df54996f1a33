"""What a call's values may know of the call: its own random numbers, and the other arguments."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop.nn import Tensor


class Context:
    """Of one call; the same seed and index give the same call.

    Attributes
    ----------
    source : random.Random
        Of this call alone.
    arguments : dict
        What the call is made with, by name; values may look at it, and change it, while the call runs.
    cleanup : list of callables
        To be called when the call has ended.
    """

    def __init__(self, seed: int, index: int) -> None:
        self.source = random.Random(f"{seed}/{index}")
        self.arguments: dict[str, Any] = {}
        self.cleanup: list[Callable[[], None]] = []

    def arrays(self) -> list[Any]:
        """The arrays among the arguments, those of tensors too."""
        found = [value.array if isinstance(value, Tensor) else value for value in self.arguments.values()]
        return [value for value in found if isinstance(value, np.ndarray)]

    def other(self) -> Any:
        """Another argument itself."""
        return self.source.choice([*self.arguments.values()] or [None])

    def overlapping(self) -> Any:
        """An array that shares memory with another argument, and is not it."""
        arrays = self.arrays()
        if not arrays:
            return None
        a = self.source.choice(arrays)
        views: list[Callable[[], Any]] = [
            lambda: a[::-1],
            lambda: a[..., ::-1],
            lambda: a.T,
            lambda: a[1:],
            lambda: a.reshape(-1)[: a.size // 2],
            lambda: a.view(np.uint8),
            lambda: a[None],
            lambda: a.view(),
            lambda: np.broadcast_to(a[:1], a.shape),
        ]
        try:
            return self.source.choice(views)()
        except Exception:  # a may be of the evil ones
            return a

    def close(self) -> None:
        """End what the values have started."""
        for end in self.cleanup:
            end()
