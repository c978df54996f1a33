"""Masks whose (key, call, block) differ little, and masks of different calls, keys and children as one stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastdrop.reference import threshold

from . import pvalues
from .bits import Bytes, lanes, ones, unpack, words
from .correlations import at_lags, matrix
from .family import Finding, Scale, each, key_of
from .sources import Source


def differences(
    name: str, over: Sequence[object], first: Sequence[Bytes], others: Sequence[Bytes]
) -> Iterator[Finding]:
    """Pairs of masks of p = .5: the xor of a pair has to be as good as a mask itself."""
    xors = [a[: len(a) // 16 * 16] ^ b[: len(a) // 16 * 16] for a, b in zip(first, others, strict=True)]
    n = 8 * len(xors[0])
    yield from each(f"{name} {{}}: equal bits", over, pvalues.binomial([ones(words(x)) for x in xors], n, 0.5))
    counts = np.array([unpack(x).reshape(-1, 128).sum(axis=0, dtype=np.uint32) for x in xors], np.float64)
    z = (counts - n / 256) / np.sqrt(n / 512)
    yield from each(f"{name} {{}}: lanes", over, pvalues.chi_square((z**2).sum(axis=1), 128))
    # All pairs share a mask; their xors with it are independent all the same.
    yield Finding(f"{name}, all together: lanes", float(pvalues.overall(z)))
    cells, parts = (256, xors) if n >= 2**15 else (16, [np.concatenate([x & 15, x >> 4]) for x in xors])
    for what, part in zip(over, parts):
        p = pvalues.fit(np.bincount(part, minlength=cells), np.full(cells, 1 / cells))
        yield Finding(f"{name} {what}: one of {cells} patterns", float(p))


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Neighbours in call, key and block; children; first blocks of many calls and keys."""
    n = 2**scale.pair
    key = key_of(rng)

    def compare(
        name: str, over: Sequence[object], here: tuple[int, int], there: Sequence[tuple[int, int]]
    ) -> Iterator[Finding]:
        first = source.bits(*here, 0.5, n)
        yield from differences(name, over, [first] * len(there), [source.bits(*other, 0.5, n) for other in there])

    bits = range(64)
    yield from compare("call 0 and call", [*range(1, 9)], (key, 0), [(key, c) for c in range(1, 9)])
    yield from compare("call 5, flipped bit", bits, (key, 5), [(key, 5 ^ 1 << k) for k in bits])
    yield from compare("key, plus", [*range(1, 9)], (key, 0), [((key + d) % 2**64, 0) for d in range(1, 9)])
    yield from compare("key, flipped bit", bits, (key, 0), [(key ^ 1 << k, 0) for k in bits])
    call = key_of(rng)
    yield from compare("key 0, flipped bit", bits, (0, call), [(1 << k, call) for k in bits])
    yield from compare("one more key and one less call", [1], (key, 1), [((key + 1) % 2**64, 0)])
    yield from compare("key and call swapped", [7], (key, 7), [(7, key)])

    # Each bit of the block's number, up to the highest there is; a number that overflows its low half.
    first = source.bits(key, 0, 0.5, n)
    blocks = range((n // 128).bit_length() - 1, 56)
    far = [source.bits(key, 0, 0.5, n, 128 << k) for k in blocks]
    yield from differences("block, flipped bit", blocks, [first] * len(far), far)
    across = [source.bits(key, 0, 0.5, n, (128 << k) - n // 2) for k in (32, 33, 40, 55)]
    yield from differences("across block 2^k, k =", (32, 33, 40, 55), [first] * 4, across)

    rare = 0.1
    rate = threshold(rare) / 2**32
    first = source.bits(key, 0, rare, n)
    for name, others in {
        "call, flipped bit": [(key, 1 << k) for k in bits],
        "key, flipped bit": [(key ^ 1 << k, 0) for k in bits],
    }.items():
        differ = [ones(words(first ^ source.bits(*other, rare, n))) for other in others]
        yield from each(f"p={rare}, {name} {{}}: equal bits", bits, pvalues.binomial(differ, n, 2 * rate * (1 - rate)))

    keys = source.children(int(rng.integers(2**32)), 24)
    family = [source.bits(k, 0, 0.5, n // 4) for k in keys.tolist()]
    couples = [(i, j) for i in range(len(family)) for j in range(i)]
    yield from differences("children", couples, [family[i] for i, _ in couples], [family[j] for _, j in couples])

    yield from streams(source, scale, rng)


def streams(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """The first blocks of many calls, keys or children, one after the other, as if they were a mask."""
    m = 2 ** min(scale.calls, 18)
    count, zeros = np.arange(m, dtype=np.uint64), np.zeros(m, np.uint64)
    key, call = (zeros + np.uint64(key_of(rng)) for _ in range(2))
    several = {
        "calls": (key, count),
        "calls 2^32 apart": (key, count << np.uint64(32)),
        "keys": (count, call),
        "keys 2^32 apart": (count << np.uint64(32), call),
        "children's keys": (source.children(int(rng.integers(2**32)), m // 16), zeros[: m // 16 + 1]),
    }
    for name, (keys, calls) in several.items():
        packed = source.first_blocks(keys, calls)
        some = words(packed)
        yield Finding(f"first blocks of {name}: kept", float(pvalues.binomial(ones(some), 64 * len(some), 0.5)))
        lags = [*range(1, 65), *range(128, 128 * 17, 128), *(128 << k for k in range(5, len(keys).bit_length() - 3))]
        yield from at_lags(f"first blocks of {name}", some, 0.5, lags)
        signs = lanes(packed)
        z = signs.sum(axis=0, dtype=np.float64) / np.sqrt(len(signs))
        yield Finding(f"first blocks of {name}: lanes", float(pvalues.overall(z)))
        yield from matrix(f"first blocks of {name}, lanes of one", signs, signs)
        yield from matrix(f"first blocks of {name}, lanes of one and the next", signs[:-1], signs[1:])
