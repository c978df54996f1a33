"""All families on a source, with one bound for the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import collisions, correlations, normals, pairs, patterns, planes, rates, runs, starts
from .family import Family, Finding, Scale
from .sources import Source

#: The chance that a run says of a perfect generator that it is broken is at most this.
ALPHA = 1e-3

FAMILIES = (
    Family("rates", "a wrong p: rounded thresholds, comparisons of few bits, masks too even over calls", rates.tests),
    Family(
        "correlations",
        "serial dependence at any lag, along rows and columns and in a block; parts that threads fill alike",
        correlations.tests,
    ),
    Family(
        "pairs",
        "masks of neighbouring calls, keys, blocks or children that share bits: Philox with few rounds, ignored bits",
        pairs.tests,
    ),
    Family("planes", "planes of the comparison that depend on each other, or are the same", planes.tests),
    Family("patterns", "bytes, words or overlapping patterns that come too often, seldom or regularly", patterns.tests),
    Family("runs", "runs too long or short, or that tell the next one's length", runs.tests),
    Family("starts", "masks that depend on where they start, or sequences that repeat far out", starts.tests),
    Family("collisions", "calls or keys that give the same bits, or bits too different by chance", collisions.tests),
    Family(
        "normals",
        "wrong moments, tails or shape of the normals; normals that depend on each other or on masks",
        normals.tests,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a run found: p-values by family."""

    findings: dict[str, list[Finding]]
    seconds: dict[str, float]
    alpha: float = ALPHA

    @property
    def number(self) -> int:
        """Of tests."""
        return sum(map(len, self.findings.values()))

    @property
    def bound(self) -> float:
        """Each test's false-positive rate: alpha over the number of tests (Bonferroni)."""
        return self.alpha / self.number

    @property
    def caught(self) -> list[tuple[str, Finding]]:
        """Findings below the bound, by p-value."""
        found = [(name, f) for name, some in self.findings.items() for f in some if f.p < self.bound]
        return sorted(found, key=lambda pair: pair[1].p)


def run(
    source: Source,
    scale: Scale,
    seed: int,
    families: Sequence[Family] = FAMILIES,
    watch: Callable[[Family, Finding], object] = lambda family, finding: None,
) -> Outcome:
    """Run families on a source; `watch` is told of each finding as it comes.

    Parameters
    ----------
    source : Source
    scale : Scale
    seed : int
        Gives the keys: the same whatever the source, and whichever families are run.
    families : sequence of Family
    watch : callable

    Returns
    -------
    Outcome
    """
    findings: dict[str, list[Finding]] = {}
    seconds: dict[str, float] = {}
    for family in families:
        began = time.perf_counter()
        findings[family.name] = []
        rng = np.random.default_rng([seed, *family.name.encode()])
        for finding in family.tests(source, scale, rng):
            if not 0 <= finding.p <= 1:
                raise ArithmeticError(f"{family.name}, {finding.test}: {finding.p} is no p-value")
            findings[family.name].append(finding)
            watch(family, finding)
        seconds[family.name] = time.perf_counter() - began
    return Outcome(findings, seconds)
