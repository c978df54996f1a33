"""What seeds allow to say: means with intervals, and paired differences with a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._extra import extra

__all__ = ["CONFIDENCE", "Estimate", "Paired", "estimate", "holm", "paired"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes
    ----------
    n : int
        Seeds.
    mean : float
    std : float or None
        Standard deviation over seeds, with n - 1; None for one seed.
    half : float or None
        Half the width of the 95 % interval of the mean: Student's t with n - 1 degrees of freedom times std / sqrt(n).
    """

    n: int
    mean: float
    std: float | None
    half: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate a mean from independent values, one per seed.

    Raises
    ------
    ValueError
        Where there are none.

    Examples
    --------
    >>> found = estimate([1.0, 2.0, 3.0])
    >>> found.mean, found.std, round(found.half, 3)
    (2.0, 1.0, 2.484)
    """
    if not len(values):
        raise ValueError("no values to estimate a mean from")
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None)
    std = float(np.std(values, ddof=1))
    half = float(extra("scipy.stats").t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / n**0.5
    return Estimate(n, mean, std, half)


@dataclass(frozen=True)
class Paired:
    """A difference between two arms on the same seeds.

    Attributes
    ----------
    difference : Estimate
        Of the second less the first, seed by seed.
    p_value : float or None
        Two-sided paired t-test; None for fewer than two seeds. Where all differences are equal it is 1 if they are 0,
        and 0 otherwise: the test's limit.
    """

    difference: Estimate
    p_value: float | None


def paired(first: dict[int, float], second: dict[int, float]) -> Paired | None:
    """Compare two arms on the seeds that both have.

    Parameters
    ----------
    first, second : dict
        A value for each seed.

    Returns
    -------
    Paired or None
        None where they share no seed.

    Examples
    --------
    >>> found = paired({0: 1.0, 1: 2.0, 2: 4.0}, {0: 2.0, 1: 4.0, 2: 5.0})
    >>> round(found.difference.mean, 3), round(found.p_value, 3)
    (1.333, 0.057)
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = [second[seed] - first[seed] for seed in shared]
    found = estimate(differences)
    if found.std is None:
        return Paired(found, None)
    if not found.std:
        return Paired(found, 0.0 if found.mean else 1.0)
    return Paired(found, float(extra("scipy.stats").ttest_1samp(differences, 0.0).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, as Holm (1979): bounds the chance of any false finding among them.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
