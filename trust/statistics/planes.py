"""The planes that a comparison with q is made of: bit j of U, for each element."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import pvalues
from .bits import Bytes, lanes, ones, words
from .correlations import matrix
from .family import Finding, Scale, key_of
from .sources import Source

SEEN = 5


def seen(source: Source, key: int, call: int, n: int) -> list[Bytes]:
    """Planes 0 .. SEEN-1, made of masks alone.

    Bit j of U is the parity of floor(U 2^(j+1)), and that is the number of k in 1 .. 2^(j+1)-1 with U >= k / 2^(j+1):
    the xor of what masks of p = 1 - k / 2^(j+1) drop.
    """
    size = 2**SEEN
    dropped = {k: ~source.bits(key, call, 1 - k / size, n) for k in range(1, size)}
    planes = []
    for j in range(SEEN):
        step = size >> (j + 1)
        plane = dropped[step].copy()
        for k in range(2 * step, size, step):
            plane ^= dropped[k]
        planes.append(plane)
    return planes


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Planes made of masks, one by one and in pairs; all 64 planes that the law has, in pairs."""
    n = 2 ** min(scale.stream, 24)
    planes = seen(source, key_of(rng), 0, n)
    for j, plane in enumerate(planes):
        yield Finding(f"plane {j} of masks: ones", float(pvalues.binomial(ones(words(plane)), n, 0.5)))
        for i, other in enumerate(planes[:j]):
            differ = ones(words(plane ^ other))
            yield Finding(f"planes {i} and {j} of masks: equal bits", float(pvalues.binomial(differ, n, 0.5)))
            shared = lanes(other[: n // 64])
            yield from matrix(f"planes {i} and {j} of masks, lanes", shared, lanes(plane[: n // 64]))

    key, call, count = key_of(rng), 1, 2 ** min(scale.pair, 20) // 128
    stack = np.stack([source.plane(key, call, j, 0, count) for j in range(64)])
    signs = np.stack([lanes(plane).ravel() for plane in stack])
    z = (signs @ signs.T)[np.triu_indices(64, 1)] / np.sqrt(128 * count)
    yield Finding("64 planes: all pairs", float(pvalues.overall(z)))
    yield Finding("64 planes: the worst pair", float(pvalues.largest(z)))
    z = signs.sum(axis=1) / np.sqrt(128 * count)
    yield Finding("64 planes: ones", float(pvalues.overall(z)))
    z = (signs[:, :-1] @ signs[:, 1:].T) / np.sqrt(128 * count - 1)
    yield Finding("64 planes, lag 1: all pairs", float(pvalues.overall(z)))
    yield Finding("64 planes, lag 1: the worst pair", float(pvalues.largest(z)))
