"""The normals of rng.noise: their distribution, their independence, and that masks do not tell of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from . import pvalues
from .bits import lanes
from .correlations import matrix
from .family import Finding, Scale, each, key_of
from .sources import Source

# A power of a normal, its mean and variance, and of how many the sum is normal enough.
MOMENTS = ((1, 0, 1, 1), (2, 1, 2, 1), (3, 0, 15, 1), (4, 3, 96, 2**20), (6, 15, 10170, 2**24))
TAILS = (2.0, 3.0, 4.0, 5.0)
LAGS = (1, 2, 3, 4, 8, 16, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 192, 256, 512, 1024)
CELLS = 256
PIECE = 2**21


def scores(z: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """What correlations are made of: uniform numbers of mean 0 and variance 1, of the normals and of their sizes.

    They are bounded, since sums of products of squares are far from normal where p-values are small.
    """
    level = 2 * ndtr(z.astype(np.float64)) - 1
    return {"value": np.sqrt(3) * level, "size": np.sqrt(3) * (2 * np.abs(level) - 1)}


def tests(source: Source, scale: Scale, rng: np.random.Generator) -> Iterator[Finding]:
    """Moments, tails, cells and the largest distance (Kolmogorov-Smirnov); lags, lanes, pairs, calls; masks."""
    n = 2**scale.normals
    yield from distribution(source, key_of(rng), n)

    m = min(n, PIECE)
    key = key_of(rng)
    z = source.normals(key, 0, m)
    mine = scores(z)
    for name, x in mine.items():
        found = [(x[lag:] @ x[:-lag]) / np.sqrt(m - lag) for lag in LAGS]
        yield from each(f"{name}, lag {{}}", LAGS, pvalues.normal(found))
    others = {f"call {call}": (key, call) for call in (1, 2, 3, 2**32)}
    others |= {f"key flipped at bit {k}": (key ^ 1 << k, 0) for k in (0, 31, 32, 63)}
    for other, (its_key, call) in others.items():
        for name, y in scores(source.normals(its_key, call, m)).items():
            yield Finding(f"{name}, and {other}", float(pvalues.normal(mine[name] @ y / np.sqrt(m))))

    # What the two of a Box-Muller pair are made of: a radius and an angle.
    blocks = z[: m // 128 * 128].reshape(-1, 2, 64).astype(np.float64)
    angle = np.arctan2(blocks[:, 1], blocks[:, 0]).ravel() / (2 * np.pi) % 1
    radius = np.exp(-(blocks**2).sum(axis=1).ravel() / 2)
    yield Finding("pairs: angle", float(stats.kstest(angle, "uniform").pvalue))
    yield Finding("pairs: radius", float(stats.kstest(radius, "uniform").pvalue))
    table = np.histogram2d(angle, radius, bins=16, range=((0, 1), (0, 1)))[0]
    yield Finding("pairs: angle and radius", float(pvalues.fit(table, np.full(256, 1 / 256))))

    for name, x in mine.items():
        rows = x.astype(np.float32).reshape(-1, 128)
        yield from matrix(f"{name}, lanes of a block", rows, rows)
        for p in (0.5, 0.1):
            # Keep bits as numbers of mean 0.
            kept = lanes(source.bits(key, 0, p, rows.size)) + np.float32(2 * p - 1)
            yield from matrix(f"{name}, and the mask of p={p} of the same call, lanes", rows, kept)


def distribution(source: Source, key: int, n: int) -> Iterator[Finding]:
    """Of one long sequence."""
    piece = min(n, PIECE)
    sums = np.zeros(len(MOMENTS))
    tails = {(sign, at): 0 for at in TAILS for sign in (-1, 1)}
    table = np.zeros(CELLS, np.int64)
    for at in range(0, n, piece):
        z = source.normals(key, 1, piece, at).astype(np.float64)
        if at == 0:
            yield Finding("distance of the first ones' distribution", float(stats.kstest(z, "norm").pvalue))
        square, cube = z * z, z * z * z
        sums += [z.sum(), square.sum(), cube.sum(), square @ square, cube @ cube]
        for sign, far in tails:
            tails[sign, far] += int((z > far if sign > 0 else z < -far).sum())
        table += np.bincount((ndtr(z) * CELLS).astype(np.intp), minlength=CELLS)
    for total, (power, mean, variance, least) in zip(sums.tolist(), MOMENTS):
        if n >= least:
            off = (total - n * mean) / np.sqrt(n * variance)
            yield Finding(f"mean of power {power}", float(pvalues.normal(off)))
    odds = [stats.norm.sf(far) for _, far in tails]
    yield from each(
        "beyond {}", (f"{sign * far:g}" for sign, far in tails), pvalues.binomial([*tails.values()], n, odds)
    )
    yield Finding("cells", float(pvalues.fit(table, np.full(CELLS, 1 / CELLS))))
