"""How many elements are kept, against q / 2^32 exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastdrop.reference import threshold

from . import pvalues
from .bits import ones, words
from .family import Finding, Scale, key_of
from .sources import Source

P = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 0.99, 0.999, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6)
PARTS = 64


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """For each p: the number kept (exact binomial), and how it varies over parts in several calls (chi-square)."""
    n = 2**scale.rate // PARTS
    for p in P:
        rate = threshold(p) / 2**32
        key = key_of(rng)
        kept = np.array([ones(words(source.bits(key, part // 4, p, n, part % 4 * n))) for part in range(PARTS)])
        yield Finding(f"kept, p={p:.7g}", float(pvalues.binomial(kept.sum(), PARTS * n, rate)))
        # Below some tens of rare elements a part, the statistic is not chi-square's.
        if n * min(rate, 1 - rate) >= 50:
            parts = ((kept - n * rate) ** 2).sum() / (n * rate * (1 - rate))
            yield Finding(f"spread of the number kept, p={p:.7g}", float(pvalues.chi_square(parts, PARTS)))
