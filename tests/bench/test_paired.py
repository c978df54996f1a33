"""Turns, ratios and quartiles, by a clock that only moves when told to."""

from __future__ import annotations

import gc

import pytest

import fastdrop as fd
from fastdrop.bench import paired
from fastdrop.bench.cases import Case
from fastdrop.bench.paired import Outcome, Skipped, Timer, compare, interleave, spread
from fastdrop.bench.ready import Ready, WrongAnswer


class Clock:
    """Time, who spent it, and who waited."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self.waited = 0.0

    def timer(self) -> Timer:
        return Timer(lambda: self.now, self.wait)

    def wait(self, seconds: float) -> None:
        self.log.append("wait")
        self.waited += seconds
        self.now += seconds

    def ready(self, name: str, seconds: float, drift: float = 0.0, **more: object) -> Ready:
        def call() -> None:
            self.log.append(name)
            self.now += seconds * (1 + drift * self.now)

        def outside() -> None:
            self.now += 1000.0

        return Ready(call, enter=outside, refill=outside, **more)  # type: ignore[arg-type]


def test_only_the_calls_are_timed() -> None:
    clock = Clock()
    times = interleave({"a": clock.ready("a", 1.0), "b": clock.ready("b", 0.25)}, 5, seconds=1.0, timer=clock.timer())
    assert times == {"a": [1.0] * 5, "b": [0.25] * 5}


def test_a_sample_is_long_enough() -> None:
    clock = Clock()
    times = interleave({"a": clock.ready("a", 0.001)}, 4, seconds=0.5, timer=clock.timer())
    assert times["a"] == pytest.approx([0.001] * 4)
    # The last four samples: each with as many calls as half a second takes, and one untimed.
    assert len(clock.log) >= 4 * 501
    clock.log.clear()
    interleave({"a": clock.ready("a", 1.0)}, 4, seconds=0.5, timer=clock.timer())
    assert len(clock.log) == 2 + 4  # a call this long is not made untimed before each sample


def test_a_round_is_everybody_once_and_the_next_is_its_reverse() -> None:
    clock = Clock()
    names = "abcd"
    interleave({n: clock.ready(n, 1.0) for n in names}, 6, seconds=0.5, timer=clock.timer())
    turns = clock.log[2 * len(names) :]
    rounds = [turns[4 * k : 4 * k + 4] for k in range(6)]
    assert all(sorted(r) == list(names) for r in rounds)
    assert [r[::-1] for r in rounds[::2]] == rounds[1::2]
    assert len({tuple(r) for r in rounds[::2]}) > 1


def test_drift_leaves_the_ratio() -> None:
    """The clock slows down all the while, by far more than the difference; round by round the ratio is still right."""
    clock = Clock()

    def inside(name: str, seconds: float) -> Ready:
        ready = clock.ready(name, seconds, drift=0.001)
        return Ready(ready.call)

    times = interleave({"a": inside("a", 1.1), "b": inside("b", 1.0)}, 40, seconds=0.5, timer=clock.timer())
    assert times["a"][-1] > 1.05 * times["a"][0]
    ratios = [a / b for a, b in zip(times["a"], times["b"])]
    assert spread(ratios).median == pytest.approx(1.1, rel=2e-3)


def test_whoever_spins_is_waited_for() -> None:
    clock = Clock()
    times = interleave(
        {"a": clock.ready("a", 1.0, spins=True), "b": clock.ready("b", 1.0)}, 3, seconds=0.5, timer=clock.timer()
    )
    assert times == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert clock.waited > 0
    assert all(clock.log[k + 1] == "wait" for k, who in enumerate(clock.log) if who == "a" and clock.log[k + 1] != "a")


@pytest.mark.parametrize(("budget", "rounds"), [(1e9, 9), (10.0, 5), (0.1, 3)])
def test_a_budget_cuts_rounds_down_to_three(budget: float, rounds: int) -> None:
    clock = Clock()
    times = interleave({n: clock.ready(n, 1.0) for n in "ab"}, 9, budget=budget, seconds=0.5, timer=clock.timer())
    assert len(times["a"]) == len(times["b"]) == rounds


def test_the_garbage_collector_is_given_back() -> None:
    clock = Clock()

    def fail() -> None:
        if len(clock.log) > 4:
            raise RuntimeError("enough")
        clock.log.append("x")
        clock.now += 1

    assert gc.isenabled()
    with pytest.raises(RuntimeError):
        interleave({"a": Ready(fail)}, 9, timer=clock.timer())
    assert gc.isenabled()


def test_quartiles() -> None:
    assert spread([5.0]) == (5.0, 5.0, 5.0)
    outcome = Outcome("a", "b", Case("forward", 1000), {"a": [2e-6, 4e-6, 6e-6], "b": [1e-6, 1e-6, 4e-6]})
    assert outcome.ratios == pytest.approx([2.0, 4.0, 1.5])
    assert outcome.ratio.median == pytest.approx(2.0)
    assert outcome.nanoseconds("a") == pytest.approx(4.0)


CASE = Case("forward", 2**12)


def quick(first: str, second: str, case: Case = CASE) -> Outcome:
    return compare(first, second, case, 3, seconds=1e-6)


def test_a_comparison() -> None:
    before = fd.isa(), fd.get_num_threads()
    outcome = quick("fastdrop@portable", "numpy-naive")
    assert outcome.first == "fastdrop portable" and outcome.second == "NumPy, naive"
    assert len(outcome.ratios) == 3 and all(r > 0 for r in outcome.ratios)
    assert (fd.isa(), fd.get_num_threads()) == before


def test_the_copy_is_the_fastest_of_them() -> None:
    outcome = quick("fastdrop", "copy")
    medians = {name: spread(times).median for name, times in outcome.times.items()}
    assert len(medians) == 4
    assert outcome.second == min((name for name in medians if "fastdrop" not in name), key=medians.__getitem__)


def test_somebody_with_himself() -> None:
    assert len(quick("fastdrop", "fastdrop").times) == 2
    assert len(quick("copy", "copy").times) == 6
    assert len(quick("fastdrop", f"fastdrop@{fd.isa()}").times) == 2
    assert len(quick("numpy-good:1", "numpy-good:2").times) == 2
    assert len(quick("copy", "memcpy").times) == 4


def test_instruction_sets_and_threads_of_one_side() -> None:
    assert len(quick("fastdrop@portable", "fastdrop:2").times) == 2


def test_a_wrong_answer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WrongAnswer("no")

    monkeypatch.setattr(paired, "check", refuse)
    monkeypatch.setattr(paired, "interleave", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(WrongAnswer):
        quick("fastdrop", "memcpy")


def test_who_cannot_run_is_named() -> None:
    missing = next(isa for isa in ("neon", "avx2") if isa not in fd.available_isas())
    with pytest.raises(Skipped, match=f"fastdrop {missing}: this machine or build cannot run {missing}"):
        quick(f"fastdrop@{missing}", "memcpy")
    with pytest.raises(Skipped, match="does not compete in training-step"):
        quick("numpy-good", "memcpy", Case("training-step", 512))


@pytest.mark.parametrize("spec", ["", "fastdrip", "fastdrop@", "fastdrop:", "fastdrop:x", "FASTDROP", "torch@avx2"])
def test_nobody_of_that_name(spec: str) -> None:
    with pytest.raises(ValueError, match="but got"):
        quick(spec, "memcpy")


def test_no_threads() -> None:
    with pytest.raises(ValueError, match="threads has to be from 1 to 256"):
        quick("fastdrop:0", "memcpy")
