"""How often each byte and each word of bits comes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastdrop.reference import threshold

from . import pvalues
from .bits import Bytes, unpack
from .family import Finding, Scale, key_of
from .sources import Source

OTHER_P = (0.1, 0.25, 1 / 3, 0.9)


def pattern_odds(width: int, rate: float) -> np.ndarray:
    """The probability of each pattern of `width` bits, each set with probability `rate`."""
    set_ = np.bitwise_count(np.arange(2**width, dtype=np.uint32)).astype(np.float64)
    odds: np.ndarray = rate**set_ * (1 - rate) ** (width - set_)
    return odds


def overlapping(packed: Bytes, width: int) -> np.ndarray:
    """How often each pattern of `width` bits comes at any place of the bits, which are taken for a circle."""
    bits = unpack(packed)
    circle = np.concatenate([bits, bits[: width - 1]])
    counts = np.zeros(2**width, np.int64)
    piece = 2**20
    for at in range(0, len(bits), piece):
        part = circle[at : at + piece + width - 1].astype(np.uint16)
        pattern = np.zeros(len(part) - width + 1, np.uint16)
        for k in range(width):
            pattern |= part[k : k + len(pattern)] << np.uint16(k)
        counts += np.bincount(pattern, minlength=2**width)
    return counts


def serial(packed: Bytes, width: int) -> Iterator[Finding]:
    """Good's serial test: differences of psi-square of neighbouring widths are chi-square, though patterns overlap."""
    counts = overlapping(packed, width)
    n = counts.sum()
    psi = {0: 0.0, -1: 0.0}
    for w in range(width, 0, -1):
        psi[w] = float(((counts - n / 2**w) ** 2).sum() * 2**w / n)
        counts = counts.reshape(2, -1).sum(axis=0)
    for w in range(2, width + 1):
        yield Finding(
            f"serial test, {w} bits: first difference", float(pvalues.chi_square(psi[w] - psi[w - 1], 2 ** (w - 1)))
        )
        second = psi[w] - 2 * psi[w - 1] + psi[w - 2]
        yield Finding(f"serial test, {w} bits: second difference", float(pvalues.chi_square(second, 2 ** (w - 2))))


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Bytes by their place in the block and 16-bit words, of p = .5 and others; overlapping patterns."""
    n = 2**scale.stream
    for p, shorter in ((0.5, 0), *((p, 2) for p in OTHER_P)):
        rate = threshold(p) / 2**32
        packed = source.bits(key_of(rng), 0, p, n >> shorter)
        places = 16 if len(packed) >= 2**17 else 1
        place = np.tile(np.arange(places, dtype=np.int32) * 256, len(packed) // places)
        table = np.bincount(place + packed, minlength=256 * places)
        odds = np.tile(pattern_odds(8, rate), places) / places
        yield Finding(f"bytes, in each of {places} places, p={p:.3g}", float(pvalues.fit(table, odds)))
        if scale.stream >= 24:
            table = np.bincount(packed.view("<u2"), minlength=2**16)
            yield Finding(f"16-bit words, p={p:.3g}", float(pvalues.fit(table, pattern_odds(16, rate))))
        if p == 0.5:
            yield from serial(packed[: 2**21], 16 if scale.stream >= 21 else 8)
