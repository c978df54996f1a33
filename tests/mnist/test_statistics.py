"""Estimates and tests, against SciPy and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fastdrop.mnist.statistics import Estimate, estimate, holm, paired


def test_an_estimate_against_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    found = estimate(values.tolist())
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert found.half is not None
    assert (found.n, found.mean) == (7, pytest.approx(values.mean()))
    assert (found.mean - found.half, found.mean + found.half) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    # 4,000 intervals, binomial standard deviation .0034: beyond four of them once in 16,000 seeds.
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(4000):
        found = estimate(rng.normal(0, 1, 3).tolist())
        assert found.half is not None
        inside += abs(found.mean) <= found.half
    assert abs(inside / 4000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_value_has_no_spread() -> None:
    assert estimate([2.5]) == Estimate(1, 2.5, None, None)


def test_no_value() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_a_pair_against_scipy() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 1, (2, 6))
    found = paired(dict(enumerate(first)), dict(enumerate(second)))
    assert found is not None
    assert found.p_value == pytest.approx(stats.ttest_rel(second, first).pvalue)
    assert found.difference.mean == pytest.approx((second - first).mean())


def test_only_shared_seeds_count() -> None:
    found = paired({0: 1.0, 1: 2.0, 5: 9.0}, {1: 2.5, 0: 1.25, 7: 0.0})
    assert found is not None
    assert (found.difference.n, found.difference.mean) == (2, 0.375)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_one_shared_seed_has_no_test() -> None:
    found = paired({0: 1.0}, {0: 3.0})
    assert found is not None and found.p_value is None and found.difference.mean == 2.0


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.5, 0.0)])
def test_differences_that_are_all_equal(shift: float, p: float) -> None:
    found = paired({0: 1.0, 1: 2.0}, {0: 1.0 + shift, 1: 2.0 + shift})
    assert found is not None and found.p_value == p


def test_holm() -> None:
    # .005 x 4; .011 x 3; .02 x 2; .5 x 1.
    assert holm([0.02, 0.5, 0.005, 0.011]) == pytest.approx([0.04, 0.5, 0.02, 0.033])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_order_and_never_lowers() -> None:
    values = np.random.default_rng(3).uniform(0, 0.2, 20).tolist()
    corrected = holm(values)
    ranks = sorted(range(20), key=values.__getitem__)
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(ranks))
    assert all(after >= before for before, after in zip(values, corrected, strict=True))
