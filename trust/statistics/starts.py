"""Masks that start elsewhere in the same sequence: equal where they overlap, and independent place by place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import pvalues
from .bits import cut, ones, words
from .family import Finding, Scale, key_of
from .sources import Source

SHIFTS = (1, 7, 63, 64, 65, 127, 128, 129, 1000, 4096)
STARTS = (0, 1, 2**32 * 128 - 9000, 2**40, 2**62)


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Pairs of masks at shifted starts."""
    n = 2**scale.pair
    for p in (0.5, 0.1):
        for start in STARTS:
            key = key_of(rng)
            whole = source.bits(key, 3, p, n + max(SHIFTS), start)
            for shift in SHIFTS:
                later = source.bits(key, 3, p, n, start + shift)
                # Not a matter of chance: 1 or 0.
                same = np.array_equal(cut(whole, shift, n), later)
                yield Finding(f"overlap, p={p}, start {start} and {shift} on", float(same))
                if p == 0.5:
                    differ = ones(words(whole[: n // 8] ^ later))
                    name = f"place by place, start {start} and {shift} on"
                    yield Finding(name, float(pvalues.binomial(differ, n, 0.5)))
