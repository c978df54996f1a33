"""Bits of one mask against bits of the same mask further on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastdrop.reference import threshold

from . import pvalues
from .bits import Words, lanes, ones, pairs_at, words
from .family import Finding, Scale, each, key_of
from .sources import Source

SPLITS = (2, 3, 4, 5, 6, 7, 8, 12, 16)


def lag_list(n: int) -> list[int]:
    """1 to 512, powers of two, and multiples of a block's 128 bits."""
    far = (2**k for k in range(10, n.bit_length() - 2))
    return sorted(lag for lag in {*range(1, 513), *range(640, 128 * 64 + 1, 128), *far} if lag < n // 4)


def at_lags(name: str, some: Words, p: float, lags: list[int]) -> Iterator[Finding]:
    """Each lag, and all of them together."""
    pairs = pairs_at(some, lags)
    # The sum of (x - rate) (y - rate) over pairs; its terms are uncorrelated.
    rate = threshold(p) / 2**32
    sums = pairs.both - rate * (pairs.first + pairs.second) + rate**2 * pairs.number
    z = sums / (rate * (1 - rate) * np.sqrt(pairs.number))
    if p == 0.5:
        # Whether neighbours are equal is a fair coin, tossed again for each pair.
        equal = pairs.number - pairs.first - pairs.second + 2 * pairs.both
        yield from each(f"{name}, lag {{}}", lags, pvalues.binomial(equal, pairs.number, 0.5))
    else:
        yield from each(f"{name}, lag {{}}", lags, pvalues.normal(z))
    yield Finding(f"{name}, all lags", float(pvalues.overall(z)))


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Along a row, along columns of a matrix, within blocks, and between the parts that threads would fill."""
    for p, shorter in ((0.5, 0), (0.1, 2), (0.75, 2)):
        n = 2 ** (scale.stream - shorter)
        some = words(source.bits(key_of(rng), 0, p, n))
        yield from at_lags(f"along a row, p={p}", some, p, lag_list(n))

    for rows, columns in ((2 ** (scale.pair // 2), 1000), (2 ** (scale.pair - 8), 128), (999, 2 ** (scale.pair // 2))):
        some = words(source.transposed(key_of(rng), 1, 0.5, rows, columns))
        yield from at_lags(
            f"down the columns of {rows}x{columns}", some, 0.5, [1, 2, 3, 4, 8, rows, 2 * rows, 3 * rows]
        )

    signs = lanes(source.bits(key_of(rng), 2, 0.5, 2 ** min(scale.stream, 25)))
    yield from matrix("lanes of a block", signs, signs)
    yield from matrix("lanes of a block and the next", signs[:-1], signs[1:])

    n = 2**scale.stream
    for call, parts in enumerate(SPLITS, 3):
        some = words(source.bits(key_of(rng), call, 0.5, n))
        length = len(some) // parts // 2 * 2
        segments = some[: parts * length].reshape(parts, length)
        differ = [ones(segments[0] ^ other) for other in segments[1:]]
        yield from each(f"part 1 and {{}} of {parts}", range(2, parts + 1), pvalues.binomial(differ, 64 * length, 0.5))


def matrix(name: str, left: np.ndarray, right: np.ndarray) -> Iterator[Finding]:
    """Every lane of one against every lane of another, or of itself."""
    # Over the lanes' own lengths: for signs these are what is expected, for normals it makes the products uncorrelated.
    sizes = [np.sqrt((side**2).sum(axis=0, dtype=np.float64)) for side in (left, right)]
    products = (left.T @ right) * np.sqrt(len(left)) / np.outer(*sizes)
    z = products[np.triu_indices(128, 1)] if left is right else products
    yield Finding(f"{name}: all pairs", float(pvalues.overall(z)))
    yield Finding(f"{name}: the worst pair", float(pvalues.largest(z)))
