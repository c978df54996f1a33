"""Where bits and normals come from: the library, a generator known to be good, and (broken.py) ones known to be bad."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

import fastdrop as fd
from fastdrop import reference

from .bits import Bytes, Words, unpack


class Source(ABC):
    """What the suite asks of a generator: masks and normals at any (key, call) and start."""

    name: str

    @abstractmethod
    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        """The packed keep bits of elements start .. start+n-1."""

    @abstractmethod
    def plane(self, key: int, call: int, j: int, first: int, count: int) -> Bytes:
        """The packed bits of plane j, 0 .. 63, of `count` blocks."""

    @abstractmethod
    def normals(self, key: int, call: int, n: int, start: int = 0) -> NDArray[np.float32]:
        """The normals of elements start .. start+n-1."""

    def transposed(self, key: int, call: int, p: float, rows: int, columns: int) -> Bytes:
        """A mask of (rows, columns), packed column by column."""
        lying = unpack(self.bits(key, call, p, rows * columns))[: rows * columns]
        return np.packbits(lying.reshape(rows, columns).T, bitorder="little")

    def first_blocks(self, keys: Words, calls: Words) -> Bytes:
        """Each (key, call)'s first 128 bits of p = .5, one after the other."""
        return np.concatenate([self.bits(k, c, 0.5, 128) for k, c in zip(keys.tolist(), calls.tolist())])

    def children(self, seed: int, n: int) -> Words:
        """The keys of a generator and of n that it spawns."""
        parent = fd.Generator(seed)
        return np.array([parent.key, *(child.key for child in parent.spawn(n))], np.uint64)


class Law(Source):
    """The library itself: masks packed, normals as arrays.

    Single planes are not to be had from it beyond the first few (`planes.py` makes those of masks); `plane` is the
    reference's, with which the tests compare the library bit for bit.
    """

    name = "fastdrop"

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        return fd.Mask(key, call, p, n, start).packbits()

    def plane(self, key: int, call: int, j: int, first: int, count: int) -> Bytes:
        words = reference.plane_words(key, call, np.arange(first, first + count, dtype=np.uint64), j)
        return np.ascontiguousarray(words.T.astype("<u4")).view(np.uint8).ravel()

    def normals(self, key: int, call: int, n: int, start: int = 0) -> NDArray[np.float32]:
        return np.asarray(fd.Noise(key, call, n, start))

    def first_blocks(self, keys: Words, calls: Words) -> Bytes:
        if (keys != keys[0]).any() or (np.diff(calls) != 1).any():
            return super().first_blocks(keys, calls)
        # As programs draw them, and quicker: of a generator that counts the calls.
        rng = fd.Generator(0)
        rng.state = {"key": int(keys[0]), "call": int(calls[0])}
        return np.concatenate([rng.mask(128, 0.5).packbits() for _ in range(len(calls))])

    def transposed(self, key: int, call: int, p: float, rows: int, columns: int) -> Bytes:
        return fd.Mask(key, call, p, (rows, columns)).T.packbits()


class Trusted(Source):
    """NumPy's PCG64DXSM, a stream for each (key, call): on it every p-value has to be as good as uniform."""

    name = "NumPy's PCG64DXSM"

    def _raw(self, seed: list[int], n: int, start: int) -> Words:
        generator = np.random.PCG64DXSM(np.random.SeedSequence(seed))
        return np.asarray(generator.advance(start).random_raw(n), np.uint64)

    def bits(self, key: int, call: int, p: float, n: int, start: int = 0) -> Bytes:
        u = self._raw([key, call], n, start) >> np.uint64(32)
        return np.packbits(u < np.uint64(reference.threshold(p)), bitorder="little")

    def plane(self, key: int, call: int, j: int, first: int, count: int) -> Bytes:
        return self._raw([key, call, j], 2 * count, 2 * first).astype("<u8").view(np.uint8)

    def normals(self, key: int, call: int, n: int, start: int = 0) -> NDArray[np.float32]:
        u = (self._raw([key, call, 64], n, start) >> np.uint64(11)).astype(np.float64)
        z: NDArray[np.float64] = ndtri((u + 0.5) * 2.0**-53)
        return z.astype(np.float32)
