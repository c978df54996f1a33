"""The model of steps on several ranks, and the page that is made of it."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")

from trust import record
from trust.scale import measured, page
from trust.scale.model import Network, Step, buckets, closed_form, simulate

STEP = Step(1.0, 2.0, 0.25, tuple((2.0**20, share / 8) for share in range(1, 9)))
QUICK = Network("quick", 1e-6, 1e9)
SLOW = Network("slow", 1e-3, 1e6)


@pytest.mark.parametrize("network", [QUICK, SLOW, dataclasses.replace(SLOW, beside=False)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 16])
@pytest.mark.parametrize("bucket", [1.0, 2.0**20 + 1, 2.0**30])
def test_the_formula_is_the_simulation_where_all_are_alike(network, ranks, bucket):
    assert simulate(STEP, network, ranks, bucket, steps=3) == pytest.approx(closed_form(STEP, network, ranks, bucket))


@pytest.mark.parametrize("network", [QUICK, SLOW])
@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_the_formula_is_near_the_simulation_where_they_are_not(network, ranks):
    step = dataclasses.replace(STEP, spread=0.05)
    assert simulate(step, network, ranks, 2.0**20, steps=2000) == pytest.approx(
        closed_form(step, network, ranks, 2.0**20), rel=0.02
    )
    assert simulate(step, network, ranks, 2.0**20) > simulate(STEP, network, ranks, 2.0**20)


def test_one_rank_sums_nothing():
    assert closed_form(STEP, SLOW, 1, 1.0) == simulate(STEP, SLOW, 1, 1.0) == STEP.alone == 3.25


def test_a_quick_network_hides_all_but_the_last_sum():
    parts = buckets(STEP.gradients, 1.0)
    assert len(parts) == 8
    assert closed_form(STEP, QUICK, 4, 1.0) == pytest.approx(STEP.alone + QUICK.all_reduce(parts[-1][0], 4))


def test_a_slow_network_takes_all_but_the_first_share():
    sums = 8 * SLOW.all_reduce(2.0**20, 4)
    assert closed_form(STEP, SLOW, 4, 1.0) == pytest.approx(1.0 + 2.0 / 8 + sums + 0.25)


def test_buckets_are_those_of_pytorch():
    """What its own log said of the MLP: 2,595,240 and 2,512,000 bytes."""
    sizes = [4 * n for n in (10, 8000, 800, 640_000, 800, 627_200)]  # biases and weights, from the last layer on
    parts = buckets([(float(size), 1.0) for size in sizes], 25.0 * 2**20)
    assert [many for many, _ in parts] == [2_595_240, 2_512_000]


def test_buckets_hold_all():
    for size in (1.0, 3e6, 1e9):
        parts = buckets(STEP.gradients, size)
        assert sum(many for many, _ in parts) == 8 * 2.0**20 and parts[-1][1] == 1.0
        assert all(many >= size for many, _ in parts[1:-1]) and parts[0][0] == 2.0**20


def test_sums_are_what_was_measured():
    two = measured.network_here({"sums": {"1048576": 0.002, "65536": 0.001, "67108864": 0.05}})
    assert two.all_reduce(1.0, 2) == two.all_reduce(65536.0, 2) == 0.001
    assert two.all_reduce(2.0**20, 2) == pytest.approx(0.002) and two.all_reduce(2.0**27, 2) == pytest.approx(0.1)
    assert not two.beside and two.all_reduce(1e6, 1) == 0.0


def test_the_page_says_what_was_measured():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(record.read("measured", measured.FOLDER)), (
        "docs/scale.md is not what its record says: python -m trust.scale page"
    )
