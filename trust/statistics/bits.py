"""Packed bits, as masks give them: least significant bit first, in bytes or 64-bit words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

# Words that are worked on at once, so that what is made of them stays in the cache.
CHUNK = 2**15


def words(packed: Bytes) -> Words:
    """Whole 64-bit words; bits past the last are left out."""
    return packed[: len(packed) // 8 * 8].view("<u8")


def ones(some: Words) -> int:
    """How many bits are set."""
    return sum(int(np.bitwise_count(some[at : at + CHUNK]).sum(dtype=np.uint64)) for at in range(0, len(some), CHUNK))


def unpack(packed: Bytes) -> Bytes:
    """One byte per bit."""
    return np.unpackbits(packed, bitorder="little")


def cut(packed: Bytes, start: int, n: int) -> Bytes:
    """Bits start .. start+n-1, packed from bit 0; bits past the last are 0."""
    if start % 8 or n % 8:
        part = np.unpackbits(packed[start // 8 :], bitorder="little", count=start % 8 + n)
        return np.packbits(part[start % 8 :], bitorder="little")
    return packed[start // 8 : (start + n) // 8]


def lanes(packed: Bytes) -> NDArray[np.float32]:
    """Whole blocks of 128 bits as rows of -1 and 1."""
    return unpack(packed[: len(packed) // 16 * 16]).reshape(-1, 128).astype(np.float32) * 2 - 1


class Pairs(NamedTuple):
    """Of pairs of bits, for each lag: how many, how many first ones and second ones are set, and how many both."""

    number: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    both: NDArray[np.int64]


def pairs_at(some: Words, lags: Sequence[int]) -> Pairs:
    """Count pairs of bits that are `lag` apart, less a few whose first bit is in one of the last words."""
    found = Pairs(*(np.zeros(len(lags), np.int64) for _ in Pairs._fields))
    for at in range(0, len(some), CHUNK):
        for i, lag in enumerate(lags):
            skip, shift = divmod(lag, 64)
            length = min(CHUNK, len(some) - at - skip - (shift > 0))
            if length <= 0:
                continue
            here = some[at : at + length]
            there = some[at + skip : at + skip + length]
            if shift:
                after = some[at + skip + 1 : at + skip + 1 + length]
                there = there >> np.uint64(shift) | after << np.uint64(64 - shift)
            found.number[i] += 64 * length
            found.first[i] += ones(here)
            found.second[i] += ones(there)
            found.both[i] += ones(here & there)
    return found
