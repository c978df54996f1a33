"""The law, bit for bit: vectors, and agreement with the reference on every instruction set."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference

VECTORS = Path(__file__).parent / "vectors"
CASES = json.loads((VECTORS / "mask_law.json").read_text())
SIZES = (0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 4097)
P = (0.5, 0.25, 0.75, 0.1, 1 / 3, 0.9, 2.0**-32, 2.0**-20, 1 - 2.0**-32, 0.0, 1.0)


def packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, bitorder="little")


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"p={c['p']:.3g}")
def test_vectors(isa, case):
    mask = fd.Mask(int(case["seed"]), int(case["call"]), case["p"], case["count"], int(case["start"]))
    assert mask.packbits().tobytes().hex() == case["bits_lsb_first_hex"]
    assert int(np.asarray(mask).sum()) == case["kept"]


def test_the_vectors_are_what_the_reference_gives():
    script = runpy.run_path(str(VECTORS / "regenerate.py"))
    assert script["vectors"]() == (VECTORS / "mask_law.json").read_text()


def known_answers():
    """(counter, key, output) of each of Random123's published lines."""
    for line in (VECTORS / "philox4x32_10.txt").read_text().splitlines():
        if not line.startswith("#"):
            words = [int(w, 16) for w in line.split()]
            yield words[:4], (words[4], words[5]), words[6:]


def philox(counter, key):
    return reference.philox4x32(np.array(counter, np.uint64)[:, None], key)[:, 0].tolist()


def test_philox_known_answers():
    answers = list(known_answers())
    assert len(answers) == 3
    for counter, key, words in answers:
        assert philox(counter, key) == words


def test_philox_known_answers_in_masks(isa):
    """At p = 1/2 a mask is the inverted first plane of its blocks: Philox' words. A block's number has 56 bits, so of a
    counter's second word the upper 8 are the plane's; tests/c gives the kernels all of it."""
    for counter, (low, high), words in known_answers():
        counter[1] &= 0xFFFFFF
        if counter == [0, 0, 0, 0]:
            assert philox(counter, (low, high)) == words
        start = (counter[0] | counter[1] << 32) * 128
        for before in (0, 1, 7, 40):  # blocks in front of it, so that it stands at any lane of a vector
            first = max(start - 128 * before, 0)
            mask = fd.Mask(low | high << 32, counter[2] | counter[3] << 32, 0.5, start + 128 - first, first)
            assert (~mask.packbits()[-16:]).view("<u4").tolist() == philox(counter, (low, high))


@pytest.mark.parametrize("p", P)
def test_every_size(isa, p):
    longest = reference.keep(3, 5, p, 0, (max(SIZES),), (1,))
    for n in SIZES:
        mask = fd.Mask(3, 5, p, n)
        assert np.array_equal(np.asarray(mask), longest[:n]), n
        assert np.array_equal(mask.packbits(), packed(longest[:n])), n


@pytest.mark.parametrize("p", (0.5, 0.3))
@pytest.mark.parametrize("start", (1, 7, 64, 127, 128, 129, 2**32 - 200, 2**32 * 128 - 300, 2**56 + 77, 2**63 - 600))
def test_every_start(isa, p, start):
    key, call, n = 2**63 + 11, 2**33 + 1, 600
    want = reference.keep(key, call, p, start, (n,), (1,))
    mask = fd.Mask(key, call, p, n, start)
    assert np.array_equal(np.asarray(mask), want)
    assert np.array_equal(mask.packbits(), packed(want))


def test_isas_threads_and_alignments_agree(threads):
    """Random keys, calls, starts and p; a million elements; 1, 2 and 5 threads; aligned or not."""
    rng = np.random.default_rng(20261120)
    before = fd.isa()
    n = 10**6
    room = np.empty(4 * n + 64, np.uint8)
    try:
        for p in (0.5, 0.1, *rng.random(2)):
            key, call, start = (int(v) for v in rng.integers(0, 2**62, 3))
            mask = fd.Mask(key, call, float(p), n, start)
            want = np.asarray(mask)
            # The reference is slow: its share is two stretches; elsewhere the instruction sets answer for each other.
            for at in (0, n - 5000):
                some = reference.keep(key, call, float(p), start + at, (5000,), (1,))
                assert np.array_equal(want[at : at + 5000], some)
            x = rng.standard_normal(n).astype(np.float32)
            y = np.where(want, x * np.float32(1 / (1 - p)), np.float32(0))
            for isa in fd.available_isas():
                fd.set_isa(isa)
                for count in (1, 2, 5):
                    fd.set_num_threads(count)
                    assert np.array_equal(np.asarray(mask), want)
                    assert np.array_equal(mask.packbits(), packed(want))
                    for shift in (0, 4, 1):
                        out = room[shift : shift + 4 * n].view(np.float32)
                        out[:] = np.nan
                        mask.apply(x, out=out)
                        assert np.array_equal(out.view(np.uint32), y.view(np.uint32)), (isa, count, shift)
    finally:
        fd.set_isa(before)


def test_rate():
    """Keeps at rate 1 - p: a z-test of 2^22 elements each, wrong by chance once in 10^5 runs of the eight together."""
    n = 2**22
    for k, p in enumerate((0.5, 0.25, 0.1, 0.9, 0.01, 0.99, 1 / 3, 0.0625)):
        kept = int(np.asarray(fd.Mask(99, k, p, n)).sum())
        z = (kept - n * (1 - p)) / np.sqrt(n * p * (1 - p))
        assert abs(z) < 4.85, (p, z)
