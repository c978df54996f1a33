"""Whether the tests' own p-values can be believed: the suite on a generator known to be good, with many seeds.

A test that errs on the safe side has too few small p-values, one that cries wolf too many. The second
is judged, and of tests whose p-values take many values the whole distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .family import TINY, Scale
from .sources import Source, Trusted
from .suite import ALPHA, run

LEVELS = (0.1, 0.01)


@dataclass(frozen=True)
class Share:
    """Of a family's p-values those up to a level: what is found, its error over runs, and the chance of so many."""

    family: str
    level: float
    found: float
    error: float
    p: float


@dataclass(frozen=True)
class Calibration:
    """What many runs on a good generator gave."""

    runs: int
    tests: int
    shares: list[Share]
    distances: dict[str, float]  # Kolmogorov-Smirnov p-values by test
    smallest: float
    smallest_of: str

    @property
    def honest(self) -> bool:
        """No share, no distribution and no smallest p-value is off, each at ALPHA for all of them together."""
        return (
            min(share.p for share in self.shares) >= ALPHA / len(self.shares)
            and min(self.distances.values()) >= ALPHA / len(self.distances)
            and self.smallest >= ALPHA / (self.tests * self.runs)
        )


def shares_of(family: str, p: NDArray[np.float64]) -> list[Share]:
    """Of one family's p-values, (runs, tests); runs are independent, tests need not be."""
    found = []
    for level in LEVELS:
        each = (p <= level).mean(axis=1)
        error = each.std(ddof=1) / np.sqrt(len(each))
        chance = float(stats.t.sf((each.mean() - level) / error, len(each) - 1)) if error else 1.0
        found.append(Share(family, level, float(each.mean()), float(error), chance))
    return found


def distances(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely the p-values of each test, (runs, tests), are if they are uniform, by Kolmogorov and Smirnov.

    Of a test with many equal p-values only the side counts on which small ones are too many.
    """
    p = np.sort(p, axis=0)
    runs = len(p)
    step = np.arange(1, runs + 1)[:, None] / runs
    above, below = (step - p).max(axis=0), (p - step).max(axis=0) + 1 / runs
    many = (p[1:] != p[:-1]).mean(axis=0) > 0.9
    found: NDArray[np.float64] = stats.ksone.sf(above, runs)
    found[many] = stats.kstwo.sf(np.maximum(above, below)[many], runs)
    return found


def calibrate(
    runs: int,
    seed: int = 0,
    source: Source | None = None,
    scale: Scale = TINY,
    watch: Callable[[int], object] = lambda run: None,
) -> Calibration:
    """Run the suite on a good generator with many seeds; `watch` is told how many are done."""
    by_test: dict[tuple[str, str], list[float]] = {}
    for number in range(runs):
        outcome = run(source or Trusted(), scale, seed + number)
        for family, findings in outcome.findings.items():
            for finding in findings:
                by_test.setdefault((family, finding.test), []).append(finding.p)
        watch(number + 1)
    # Overlaps are right or wrong: they have no distribution.
    table = {name: np.array(p) for name, p in by_test.items() if not name[1].startswith("overlap")}
    families = dict.fromkeys(family for family, _ in table)
    shares = []
    for family in families:
        shares += shares_of(family, np.stack([p for (of, _), p in table.items() if of == family], axis=1))
    smallest, name = min((float(p.min()), name) for name, p in table.items())
    return Calibration(
        runs=runs,
        tests=len(table),
        shares=shares,
        distances={
            f"{family}, {test}": p
            for (family, test), p in zip(table, distances(np.stack([*table.values()], axis=1)).tolist())
        },
        smallest=smallest,
        smallest_of=", ".join(name),
    )
