"""Generators with a fault each, which the suite has to catch: a test of the tests.

Those of `Wrapped` are the library with something done to what it is asked for or to what it gives; those of `Computed`
make the law in NumPy, from Philox with fewer rounds or from other counters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastdrop import reference

from .bits import Bytes, Words, cut, unpack
from .sources import Law, Source

# Blocks that are computed at once, so that what is made of them stays in the cache.
CHUNK = 2**13


class Wrapped(Law):
    """The library, asked for another (key, call, start)."""

    def address(self, key: int, call: int) -> tuple[int, int]:
        return key, call

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        return super().bits(*self.address(key, call), p, n, start)

    def plane(self, key: int, call: int, j: int, first: int, count: int) -> Bytes:
        return super().plane(*self.address(key, call), j, first, count)

    def normals(self, key: int, call: int, n: int, start: int = 0) -> NDArray[np.float32]:
        return super().normals(*self.address(key, call), n, start)

    # Both made of `bits`, whatever the library has to offer.
    transposed = Source.transposed
    first_blocks = Source.first_blocks


class KeyBitsIgnored(Wrapped):
    """Keys that differ in their high bits alone are the same key."""

    def __init__(self, low: int) -> None:
        self.name = f"key bits {low} to 63 ignored"
        self._kept = 2**low - 1

    def address(self, key: int, call: int) -> tuple[int, int]:
        return key & self._kept, call


class CallIgnored(Wrapped):
    """Every mask of a key is the same mask: a counter that is stuck."""

    name = "call counter stuck"

    def address(self, key: int, call: int) -> tuple[int, int]:
        return key, 0


class CallHalved(Wrapped):
    """Each mask is given twice: a counter that two threads read before one of them has counted."""

    name = "each call given twice"

    def address(self, key: int, call: int) -> tuple[int, int]:
        return key, call // 2


class KeyPlusCall(Wrapped):
    """Call c + 1 of key k is call c of key k + 1: seeds made by addition."""

    name = "key and call added"

    def address(self, key: int, call: int) -> tuple[int, int]:
        return (key + call) % 2**64, 0


class NarrowBlocks(Wrapped):
    """A block counter with too few bits: the sequence repeats."""

    def __init__(self, width: int) -> None:
        self.name = f"block counter of {width} bits"
        self._period = 128 << width

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        at, parts = start % self._period, []
        if at + n <= self._period:
            return super().bits(key, call, p, n, at)
        while n:
            length = min(n, self._period - at)
            parts.append(unpack(super().bits(key, call, p, length, at))[:length])
            at, n = 0, n - length
        return np.packbits(np.concatenate(parts), bitorder="little")


class Threshold(Wrapped):
    """Numbers of a few bits compared with a rounded p, as FlashAttention-2 and Transformer Engine do with 8."""

    def __init__(self, width: int) -> None:
        self.name = f"comparison of {width} bits"
        self._scale = 2**width

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        return super().bits(key, call, round(p * self._scale) / self._scale, n, start)


class Copied(Wrapped):
    """A share of the elements has the neighbour's bit."""

    def __init__(self, share: float) -> None:
        self.name = f"{share:.2%} copied from the neighbour"
        self._share = share

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        both = unpack(super().bits(key, call, p, n + 1, start))
        copied = unpack(super().bits(key ^ 0x5851F42D4C957F2D, call, 1 - self._share, n, start))[:n]
        return np.packbits(np.where(copied, both[1 : n + 1], both[:n]), bitorder="little")


class Split(Wrapped):
    """The parts that threads fill are the same bits (PyTorch's issue 132395)."""

    def __init__(self, threads: int) -> None:
        self.name = f"the same bits for {threads} threads"
        self._threads = threads

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        if n < 2**15:
            return super().bits(key, call, p, n, start)
        part = -(-n // self._threads // 128) * 128
        return np.tile(super().bits(key, call, p, part, start), self._threads)[: (n + 7) // 8]


class Computed(Source):
    """The law in NumPy: Philox of `rounds` rounds, and what `plane_of` makes of a plane's number."""

    rounds = 10

    def plane_of(self, j: int) -> int:
        return j

    def _words(self, keys: Words | int, calls: Words | int, blocks: Words, j: int) -> Words:
        """The 32-bit words of a plane: shape (4, len(blocks))."""
        low, high = np.uint64(2**32 - 1), np.uint64(32)
        keys, calls = np.asarray(keys, np.uint64), np.asarray(calls, np.uint64)
        j = self.plane_of(j)
        parts = (blocks & low, blocks >> high | np.uint64(j << 24), calls & low, calls >> high)
        counter = np.stack([np.broadcast_to(part, blocks.shape) for part in parts])
        # The reference takes a key's halves as numbers, and as arrays just as well.
        return reference.philox4x32(counter, (keys & low, keys >> high), self.rounds)

    def _lanes(self, keys: Words | int, calls: Words | int, blocks: Words, j: int) -> Words:
        """The 128 bits of a plane as two words: shape (len(blocks), 2)."""
        w = self._words(keys, calls, blocks, j)
        return np.stack([w[0] | w[1] << np.uint64(32), w[2] | w[3] << np.uint64(32)], axis=1)

    def _keep(self, key: int, call: int, q: int, blocks: Words) -> Words:
        less = np.zeros((len(blocks), 2), np.uint64)
        open_ = np.full((len(blocks), 2), 2**64 - 1, np.uint64)
        some = np.arange(len(blocks))
        for j in range(32):
            if not q << j & 2**32 - 1 or not len(some):
                break
            plane = self._lanes(key, call, blocks[some], j)
            if q >> (31 - j) & 1:
                less[some] |= open_[some] & ~plane
                open_[some] &= plane
            else:
                open_[some] &= ~plane
            some = some[open_[some].any(axis=1)]
        return less

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        q = reference.threshold(p)
        first, last = start // 128, (start + n + 127) // 128
        parts = [
            self._keep(key, call, q, np.arange(at, min(at + CHUNK, last), dtype=np.uint64))
            for at in range(first, last, CHUNK)
        ]
        return cut(np.concatenate(parts).astype("<u8").view(np.uint8).ravel(), start - 128 * first, n)

    def first_blocks(self, keys: Words, calls: Words) -> Bytes:
        # Keep where plane 0 is 0: U < 1/2.
        parts = [
            ~self._lanes(keys[at : at + CHUNK], calls[at : at + CHUNK], np.zeros_like(keys[at : at + CHUNK]), 0)
            for at in range(0, len(keys), CHUNK)
        ]
        return np.concatenate(parts).astype("<u8").view(np.uint8).ravel()

    def plane(self, key: int, call: int, j: int, first: int, count: int) -> Bytes:
        blocks = np.arange(first, first + count, dtype=np.uint64)
        return self._lanes(key, call, blocks, j).astype("<u8").view(np.uint8).ravel()

    def normals(self, key: int, call: int, n: int, start: int = 0) -> NDArray[np.float32]:
        first, last = start // 128, (start + n + 127) // 128
        parts = []
        for at in range(first, last, CHUNK):
            blocks = np.arange(at, min(at + CHUNK, last), dtype=np.uint64)
            words = np.stack([self._words(key, call, blocks, 32 + j) for j in range(32)])
            u = (words.transpose(2, 1, 0).reshape(len(blocks), 128) + 0.5) / 2**32
            radius, angle = np.sqrt(-2 * np.log(u[:, :64])), 2 * np.pi * u[:, 64:]
            parts.append(np.hstack([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32).ravel())
        return np.concatenate(parts)[start - 128 * first :][:n]


class Rounds(Computed):
    """Philox with fewer rounds than the law's ten."""

    def __init__(self, rounds: int) -> None:
        self.name = f"Philox of {rounds} round{'s' * (rounds > 1)}"
        self.rounds = rounds


class PlanesReused(Computed):
    """Planes that differ only beyond a few bits of their number are the same plane."""

    def __init__(self, width: int) -> None:
        self.name = f"plane number of {width} bits"
        self._kept: int = 2**width - 1

    def plane_of(self, j: int) -> int:
        return j & self._kept


def broken() -> list[Source]:
    """All of them."""
    return [
        KeyBitsIgnored(32),
        KeyBitsIgnored(63),
        CallIgnored(),
        CallHalved(),
        KeyPlusCall(),
        NarrowBlocks(16),
        NarrowBlocks(32),
        Threshold(8),
        Copied(0.01),
        Split(2),
        Split(4),
        PlanesReused(1),
        PlanesReused(5),
        *map(Rounds, range(1, 9)),
    ]


#: With 7 rounds and more Philox's authors found no fault either: these are tried, and not expected to be caught.
MUST_BE_CAUGHT = [source.name for source in broken() if not isinstance(source, Rounds) or source.rounds <= 6]
