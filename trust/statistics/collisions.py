"""First blocks of many calls and keys that are equal, in whole or in part: as often as birthdays are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import pvalues
from .bits import Words
from .family import Finding, Scale, key_of
from .sources import Source


def equal_pairs(some: Words) -> int:
    """How many pairs are equal."""
    counts = np.unique(some, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Equal words, whole and cut to where some are expected; equal gaps between words (birthday spacings)."""
    m = 2**scale.calls
    count, zeros = np.arange(m, dtype=np.uint64), np.zeros(m, np.uint64)
    key = np.uint64(key_of(rng))
    several = {
        "calls": (zeros + key, count),
        "keys": (key + count, zeros),
        "calls and keys": (key + (count & np.uint64(31)), count >> np.uint64(5)),
        "key bits": (key ^ count << np.uint64(64 - scale.calls), zeros),
    }
    for name, (keys, calls) in several.items():
        if name != "calls":
            keys, calls = keys[: 2 ** min(scale.calls, 18)], calls[: 2 ** min(scale.calls, 18)]
        m = len(keys)
        blocks = source.first_blocks(keys, calls).view("<u8").reshape(m, 2)
        couples = m * (m - 1) / 2
        # Half of what stands for 128 equal bits: none is expected, and one is a p-value of 2^-62 or so.
        for half in (0, 1):
            equal = equal_pairs(blocks[:, half])
            yield Finding(f"equal words {half} of {name}", float(pvalues.poisson(equal, couples / 2**64)))
        # Cut to a width at which about 128 pairs are equal: from the bottom, from the top, in the middle.
        width = 2 * scale.calls - 8 if name == "calls" else 2 * min(scale.calls, 18) - 8
        for low in (0, 64 - width, 32 - width // 2):
            for half in (0, 1):
                part = blocks[:, half] >> np.uint64(low) & np.uint64(2**width - 1)
                p = pvalues.poisson(equal_pairs(part), couples / 2.0**width)
                yield Finding(f"equal words of {name}: word {half}, {width} bits from {low}", float(p))
        yield from spacings(name, blocks)


def spacings(name: str, blocks: Words) -> Iterator[Finding]:
    """Marsaglia's birthday spacings: 512 birthdays in a year of 2^24 days, two equal gaps among them twice in a row."""
    days, birthdays = 24, 512
    for half in (0, 1):
        for low in (0, 20, 40):
            dates = blocks[: len(blocks) // birthdays * birthdays, half] >> np.uint64(low) & np.uint64(2**days - 1)
            gaps = np.sort(np.diff(np.sort(dates.reshape(-1, birthdays), axis=1), axis=1), axis=1)
            equal = int((gaps[:, 1:] == gaps[:, :-1]).sum())
            mean = len(gaps) * birthdays**3 / (4 * 2**days)
            yield Finding(f"equal gaps of {name}: word {half}, from bit {low}", float(pvalues.poisson(equal, mean)))
