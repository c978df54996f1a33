"""The statistical suite in small: the library passes, every broken generator is caught, p-values are honest."""

from __future__ import annotations

import itertools
import json
from math import lgamma, log

import numpy as np
import pytest
from scipy import stats

from fastdrop import reference
from trust.statistics import bits, broken, calibration, command, picture, planes, pvalues, suite
from trust.statistics.family import QUICK, TINY
from trust.statistics.sources import Law, Trusted

KEY, CALL = 2**63 + 12345, 2**33 + 7


# ---- the library, and generators that are not ----


def test_the_library_passes():
    """False by chance with a probability of suite.ALPHA over seeds; this seed is one of them."""
    outcome = suite.run(Law(), QUICK, seed=1)
    assert outcome.caught == []
    assert outcome.number > 4000
    assert outcome.bound == suite.ALPHA / outcome.number
    assert list(outcome.findings) == [family.name for family in suite.FAMILIES]


@pytest.mark.parametrize(
    "source", [s for s in broken.broken() if s.name in broken.MUST_BE_CAUGHT], ids=lambda s: s.name
)
def test_broken_generators_are_caught(source):
    """By a family that, run alone, is judged by the bound of a run of 10,000 tests."""
    for scale, family in itertools.product((TINY, QUICK), suite.FAMILIES):
        findings = suite.run(source, scale, seed=1, families=[family]).findings[family.name]
        if min(finding.p for finding in findings) < suite.ALPHA / 10_000:
            return
    pytest.fail(f"{source.name} was not caught")


def test_what_computed_generators_are_broken_from_is_the_law():
    whole, law = broken.Computed(), Law()
    for p, n, start in itertools.product((0.5, 0.25, 0.1, 1 - 1e-6), (1, 8, 1000), (0, 5, 128 * 2**32 - 300)):
        assert np.array_equal(whole.bits(KEY, CALL, p, n, start), law.bits(KEY, CALL, p, n, start)), (p, n, start)
    assert np.array_equal(whole.plane(KEY, CALL, 33, 7, 5), law.plane(KEY, CALL, 33, 7, 5))
    assert np.allclose(whole.normals(KEY, CALL, 500, 70), law.normals(KEY, CALL, 500, 70), rtol=1e-5, atol=1e-6)
    keys, calls = np.array([3, KEY, 5], np.uint64), np.array([CALL, 0, 1], np.uint64)
    assert np.array_equal(whole.first_blocks(keys, calls), law.first_blocks(keys, calls))
    assert np.array_equal(whole.transposed(KEY, CALL, 0.3, 7, 13), law.transposed(KEY, CALL, 0.3, 7, 13))


def test_first_blocks_of_counted_calls_are_those_of_masks():
    calls = np.arange(2**32 - 3, 2**32 + 4, dtype=np.uint64)
    keys = np.full_like(calls, KEY)
    assert np.array_equal(Law().first_blocks(keys, calls), super(Law, Law()).first_blocks(keys, calls))


def test_planes_made_of_masks_are_the_laws():
    for j, plane in enumerate(planes.seen(Law(), KEY, CALL, 1280)):
        want = reference.plane_bits(KEY, CALL, np.arange(10, dtype=np.uint64), j)
        assert np.array_equal(bits.unpack(plane).reshape(10, 128), want), j


def test_narrow_counters_repeat():
    narrow = broken.NarrowBlocks(2)
    period = bits.unpack(Law().bits(KEY, CALL, 0.3, 512))
    got = bits.unpack(narrow.bits(KEY, CALL, 0.3, 2000, 100))
    assert np.array_equal(got, np.tile(period, 5)[100:2100])


# ---- the tests' own arithmetic ----


def test_pairs_at_every_lag():
    rng = np.random.default_rng(5)
    packed = rng.integers(256, size=8 * (bits.CHUNK + 70), dtype=np.uint8)
    x = bits.unpack(packed).astype(np.int64)
    lags = [1, 5, 63, 64, 65, 128, 4000, 64 * bits.CHUNK, 64 * bits.CHUNK + 3]
    found = bits.pairs_at(bits.words(packed), lags)
    for i, lag in enumerate(lags):
        n = found.number[i]
        assert len(x) - lag - 64 < n <= len(x) - lag
        first, second = x[:n], x[lag : lag + n]
        want = (first.sum(), second.sum(), first @ second)
        assert (found.first[i], found.second[i], found.both[i]) == want, lag


@pytest.mark.parametrize("start", (0, 1, 8, 13))
@pytest.mark.parametrize("n", (1, 7, 8, 40, 43))
def test_cut(start, n):
    packed = np.random.default_rng(6).integers(256, size=16, dtype=np.uint8)
    want = np.packbits(bits.unpack(packed)[start : start + n], bitorder="little")
    assert np.array_equal(bits.cut(packed, start, n), want)


@pytest.mark.parametrize(("n", "rate"), ((40, 0.5), (40, 0.03), (1000, 0.1)))
def test_binomial_p_values_are_on_the_safe_side(n, rate):
    """The chance of a p-value of at most a is at most a, and more than a third of it where values are close enough."""
    k = np.arange(n + 1)
    p, odds = pvalues.binomial(k, n, rate), np.exp(np.array([_log_odds(i, n, rate) for i in k]))
    assert odds.sum() == pytest.approx(1)
    for level in (0.5, 0.1, 0.01, 1e-4):
        chance = odds[p <= level].sum()
        assert chance <= level * (1 + 1e-9)
        if n == 1000:
            assert chance > level / 3


def _log_odds(k: int, n: int, rate: float) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(rate) + (n - k) * log(1 - rate)


def test_fit_joins_rare_cells():
    odds = np.array([0.5, 0.4, 0.05, 0.03, 0.02])
    counts = np.array([52, 40, 4, 3, 1])
    # 100 draws: the last three expect 5, 3 and 2, and are one cell of 10.
    want = (52 - 50) ** 2 / 50 + 0 + (8 - 10) ** 2 / 10
    assert pvalues.fit(counts, odds) == pytest.approx(pvalues.chi_square(want, 2))


def test_both_ends_count():
    """What fits too well is as suspicious as what does not fit."""
    perfect = np.full(256, 1000)
    assert pvalues.fit(perfect, np.full(256, 1 / 256)) < 1e-9
    assert pvalues.binomial(500_000, 10**6, 0.5) == 1
    assert pvalues.overall(np.zeros(100)) < 1e-9


def test_few_cells_may_fit_perfectly():
    assert pvalues.fit([500, 500], [0.5, 0.5]) == 1
    assert pvalues.fit([600, 400], [0.5, 0.5]) < 1e-9


def test_a_p_value_has_to_be_one():
    bad = suite.Family("rates", "", lambda source, scale, rng: iter([suite.Finding("odd", float("nan"))]))
    with pytest.raises(ArithmeticError, match="rates, odd: nan"):
        suite.run(Law(), TINY, 0, families=[bad])


def test_calibration():
    """On a good generator p-values are as good as uniform; it sees where they are not."""
    good = calibration.calibrate(5, seed=5)
    assert good.honest
    assert good.tests > 4000
    assert not calibration.calibrate(3, seed=5, source=broken.Copied(0.02)).honest


def test_distance_is_two_sided_only_where_it_can_be():
    rng = np.random.default_rng(3)
    spread, coarse = rng.random(100), rng.choice([0.5, 1.0], 100)
    tests = np.stack([spread, spread**3, spread ** (1 / 3), coarse], axis=1)
    good, small, large, discrete = calibration.distances(tests)
    assert good > 0.01
    assert good == pytest.approx(stats.kstest(spread, "uniform").pvalue)
    assert small < 1e-6 and large < 1e-6
    assert discrete > 0.01  # on the safe side


def test_the_good_generator_is_one_sequence():
    """Masks of all starts and p agree, as the law's do."""
    source = Trusted()
    whole = bits.unpack(source.bits(1, 2, 0.3, 1000))
    assert np.array_equal(bits.unpack(source.bits(1, 2, 0.3, 400, 77))[:400], whole[77:477])
    assert not (whole & ~bits.unpack(source.bits(1, 2, 0.2, 1000)) & 1).any()
    assert np.array_equal(source.normals(1, 2, 100, 33), source.normals(1, 2, 133)[33:])


# ---- the command ----


def test_command(capsys):
    assert (
        command.main(["--quick", "--only", "runs", "starts", "--no-broken", "--calibrate", "2", "--seed", "1", "2"])
        == 0
    )
    said = capsys.readouterr().out
    assert "fastdrop, seed 2" in said and "passed" in said and "All as it has to be." in said


def test_command_fails_where_the_library_is_broken(capsys, monkeypatch):
    monkeypatch.setattr(command, "Law", lambda: broken.Copied(0.05))
    assert command.main(["--quick", "--only", "runs", "--no-broken", "--calibrate", "0"]) == 1
    assert "caught runs, runs of kept, p=0.5: lengths" in capsys.readouterr().out


def test_command_fails_where_the_suite_is_blind(capsys, monkeypatch):
    blind = [suite.Family("rates", "nothing", lambda source, scale, rng: iter([suite.Finding("none", 1.0)]))]
    monkeypatch.setattr(command, "FAMILIES", blind)
    monkeypatch.setattr(suite, "FAMILIES", blind)
    monkeypatch.setattr(command, "broken", lambda: [broken.CallIgnored()])
    monkeypatch.setattr(command, "MUST_BE_CAUGHT", [broken.CallIgnored.name])
    assert command.main(["--quick", "--calibrate", "0"]) == 1
    assert "not caught" in capsys.readouterr().out


@pytest.mark.parametrize("more", (["--quick"], ["--only", "runs"], ["--no-broken"], ["--calibrate", "0"]))
def test_command_records_whole_runs_only(more, capsys):
    with pytest.raises(SystemExit):
        command.main(["--record", *more])
    assert "--record keeps a whole run" in capsys.readouterr().err


def test_record_and_picture(tmp_path):
    families = [family for family in suite.FAMILIES if family.name in ("runs", "starts")]
    ours = {1: suite.run(Law(), TINY, 1, families)}
    names = [broken.Copied(0.05).name, broken.Rounds(2).name]
    worse = {name: suite.run(s, TINY, 1, families) for name, s in zip(names, (broken.Copied(0.05), broken.Rounds(2)))}
    figures = command.figures_of(ours, worse, calibration.calibrate(2), TINY)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["families"]["runs"]["tests"] == 24
    assert figures["most_rounds_of_philox_caught"] == 2
    picture.draw(ours, worse, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
