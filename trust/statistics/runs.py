"""How long runs of kept and of dropped elements are: geometric, each independent of the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastdrop.reference import threshold

from . import pvalues
from .bits import unpack
from .family import Finding, Scale, key_of
from .sources import Source

P = (0.5, 0.1, 0.9, 0.25)


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """For each p and both kinds: lengths (chi-square), the longest (exactly), the next one's length against it."""
    n = 2 ** min(scale.stream, 25)
    for p in P:
        bits = unpack(source.bits(key_of(rng), 0, p, n))
        edges = np.flatnonzero(bits[1:] != bits[:-1])
        lengths = np.diff(edges)
        rate = threshold(p) / 2**32
        for kind, name, stays in ((1, "kept", rate), (0, "dropped", 1 - rate)):
            some = lengths[int(bits[edges[0] + 1] != kind) :: 2] if len(edges) else lengths
            # A fixed number of runs, which there are but for a chance of 1e-9: how many there are depends on how long.
            expected = n * rate * (1 - rate)
            m = int(expected - 6 * np.sqrt(expected))
            title = f"runs of {name}, p={p}"
            if len(some) < m:
                yield from (Finding(f"{title}: {what}", 0.0) for what in ("lengths", "longest", "neighbours"))
                continue
            some = some[:m]
            top = int(np.log(100 / m) / np.log(stays)) + 1
            odds = (1 - stays) * stays ** np.arange(top)
            odds[-1] = stays ** (top - 1)
            table = np.bincount(np.minimum(some, top) - 1, minlength=top)
            yield Finding(f"{title}: lengths", float(pvalues.fit(table, odds)))
            # The chance that the longest of m is at most k, and at least k.
            k = int(some.max())
            below, least = (1 - stays**k) ** m, 1 - (1 - stays ** (k - 1)) ** m
            yield Finding(f"{title}: longest", min(1.0, 2 * min(below, least)))
            from_mean = some - 1 / (1 - stays)
            z = (from_mean[1:] @ from_mean[:-1]) / (np.sqrt(m - 1) * stays / (1 - stays) ** 2)
            yield Finding(f"{title}: neighbours", float(pvalues.normal(z)))
