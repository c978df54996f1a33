"""What a family of tests is, and how much it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .sources import Source


class Finding(NamedTuple):
    """One test's p-value."""

    test: str
    p: float


@dataclass(frozen=True)
class Scale:
    """How much is looked at: the logarithms to base 2 of numbers of elements."""

    name: str
    rate: int  # elements for each p
    stream: int  # elements of a long mask
    pair: int  # elements of each of two masks that are compared
    calls: int  # calls, or keys, of which the first block is taken
    normals: int


FULL = Scale("full", rate=33, stream=27, pair=20, calls=20, normals=26)
QUICK = Scale("quick", rate=22, stream=22, pair=16, calls=14, normals=18)
TINY = Scale("tiny", rate=17, stream=17, pair=13, calls=10, normals=14)


@dataclass(frozen=True)
class Family:
    """Tests that look for one kind of fault."""

    name: str
    detects: str
    tests: Callable[[Source, Scale, np.random.Generator], Iterator[Finding]]


def key_of(rng: np.random.Generator) -> int:
    """Any key."""
    return int(rng.integers(2**64, dtype=np.uint64))


def each(name: str, over: Iterable[object], p: ArrayLike) -> Iterator[Finding]:
    """A finding for each of many p-values; `name` has a place for what they are over."""
    for what, value in zip(over, np.asarray(p).tolist(), strict=True):
        yield Finding(name.format(what), value)
