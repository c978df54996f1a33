"""p-values, always two-sided: counts too even are as wrong as counts too uneven.

Those of counts are exact, and on the safe side: the chance of a p-value of at most a is at most a.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


def _two_sided(lower: Any, upper: Any) -> Floats:
    p: Floats = np.minimum(1.0, 2 * np.minimum(lower, upper))
    return p


def binomial(k: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """Of k successes in n independent trials, exactly.

    Examples
    --------
    >>> float(binomial(0, 4, 0.5)), float(binomial(2, 4, 0.5))
    (0.125, 1.0)
    """
    k = np.asarray(k)
    return _two_sided(stats.binom.cdf(k, n, rate), stats.binom.sf(k - 1, n, rate))


def poisson(k: ArrayLike, mean: ArrayLike) -> Floats:
    """Of k rare events where `mean` are expected, exactly."""
    k = np.asarray(k)
    return _two_sided(stats.poisson.cdf(k, mean), stats.poisson.sf(k - 1, mean))


def normal(z: ArrayLike) -> Floats:
    """Of standard normals."""
    p: Floats = 2 * stats.norm.sf(np.abs(z))
    return p


def chi_square(statistic: ArrayLike, freedom: ArrayLike) -> Floats:
    """Of chi-square statistics.

    With few degrees of freedom only large ones count: counts that are just what is expected, and so a statistic of 0,
    are then nothing rare.
    """
    upper = stats.chi2.sf(statistic, freedom)
    found: Floats = np.where(np.asarray(freedom) < 10, upper, _two_sided(stats.chi2.cdf(statistic, freedom), upper))
    return found


def fit(counts: ArrayLike, probabilities: ArrayLike, least: float = 10.0) -> Floats:
    """Of counts in cells of known probabilities, by chi-square; cells that expect fewer than `least` are made one."""
    counts, probabilities = np.ravel(counts), np.ravel(probabilities)
    expected = counts.sum() * probabilities
    few = expected < least
    if few.any():
        # The cell that all of them make, with the rarest of the others if it is still too small.
        order = np.argsort(expected, kind="stable")
        enough = np.searchsorted(np.cumsum(expected[order]), least) + 1
        taken = max(int(few.sum()), int(enough))
        counts = np.append(counts[order[taken:]], counts[order[:taken]].sum())
        expected = np.append(expected[order[taken:]], expected[order[:taken]].sum())
    return chi_square(((counts - expected) ** 2 / expected).sum(), len(counts) - 1)


def overall(z: ArrayLike) -> Floats:
    """Of many uncorrelated standard normals together: the sum of their squares."""
    z = np.ravel(z)
    return chi_square(z @ z, len(z))


def largest(z: ArrayLike) -> Floats:
    """Of the one farthest out among many standard normals, correlated or not."""
    z = np.ravel(z)
    p: Floats = np.minimum(1.0, len(z) * normal(np.abs(z).max()))
    return p
