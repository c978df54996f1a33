"""Which arm is better, and what that is worth: paired differences over seeds, and the study in two sentences."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..results import Results, names
from ..statistics import CONFIDENCE, Paired, estimate, holm, paired
from ..study import Run
from .scope import first, groups, joined, span

__all__ = ["FEW", "Comparison", "compare", "in_words", "p_text", "summary"]

#: Up to as many arms of a group are all compared with each other; of more, each with the first alone.
FEW = 4

#: The p-value, corrected, below which two arms count as told apart.
LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Comparison:
    """Two arms that differ by the regularizer alone.

    Attributes
    ----------
    first, second : Run
        The arms.
    baseline : bool
        Whether `first` is what its group is measured against.
    accuracy, loss : Paired or None
        On the test images, of the second less the first; None where they share no seed that ended well.
    accuracy_p, loss_p : float or None
        The p-values corrected for the number of all tests in the study (Holm).
    """

    first: Run
    second: Run
    baseline: bool
    accuracy: Paired | None
    loss: Paired | None
    accuracy_p: float | None = None
    loss_p: float | None = None

    @property
    def verdict(self) -> int | None:
        """1 where the second's test accuracy is told to be higher, -1 lower, 0 neither; None without a test."""
        if self.accuracy is None or self.accuracy_p is None:
            return None
        return 0 if self.accuracy_p >= LEVEL else int(math.copysign(1, self.accuracy.difference.mean))

    @property
    def loss_verdict(self) -> int | None:
        """The same of the test loss: 1 where the second's is told to be lower, which is better."""
        if self.loss is None or self.loss_p is None:
            return None
        return 0 if self.loss_p >= LEVEL else -int(math.copysign(1, self.loss.difference.mean))


def _measured(results: Results, arm: Run, name: str) -> dict[int, float]:
    values = {record.run.seed: record.final[name] for record in results.of(arm)}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def compare(results: Results) -> list[Comparison]:
    """Compare the arms of each group on their common seeds, all p-values corrected together."""
    made = []
    for arms in groups(results).values():
        one = first(arms)
        order = [one, *(arm for arm in arms if arm != one)]
        pairs = itertools.combinations(order, 2) if len(order) <= FEW else ((one, arm) for arm in order[1:])
        for a, b in pairs:
            accuracy, loss = (
                paired(_measured(results, a, name), _measured(results, b, name))
                for name in ("test_accuracy", "test_loss")
            )
            made.append(Comparison(a, b, a == one, accuracy, loss))
    tests = [
        (index, each is comparison.accuracy, each.p_value)
        for index, comparison in enumerate(made)
        for each in (comparison.accuracy, comparison.loss)
        if each is not None and each.p_value is not None
    ]
    for (index, of_accuracy, _), corrected in zip(tests, holm([p for _, _, p in tests]), strict=True):
        if of_accuracy:
            made[index] = dataclasses.replace(made[index], accuracy_p=corrected)
        else:
            made[index] = dataclasses.replace(made[index], loss_p=corrected)
    return made


def p_text(p: float) -> str:
    """Write a p-value.

    Examples
    --------
    >>> p_text(0.0042), p_text(0.00042), p_text(0.312), p_text(1.0)
    ('.004', '< .001', '.31', '1')
    """
    if p < 0.001:
        return "< .001"
    text = f"{p:.{3 if p < 0.0995 else 2}f}"
    return "1" if text == "1.00" else text.lstrip("0")


def _is(p: float) -> str:
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _measure(comparison: Comparison) -> str:
    """The interval, the p-value and the seeds."""
    found = comparison.accuracy
    if found is None or found.difference.half is None or comparison.accuracy_p is None:
        return "one seed: no interval, no test"
    mean, half, n = found.difference.mean, found.difference.half, found.difference.n
    low, high = 100 * (mean - half), 100 * (mean + half)
    if mean < 0 and comparison.verdict:
        low, high = -high, -low
    return f"95 % interval {_number(low)} to {_number(high)}, {_is(comparison.accuracy_p)}, {n} seeds"


def _number(value: float) -> str:
    """With a true minus, and no zero that has a sign."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def in_words(comparison: Comparison, a: str, b: str) -> str:
    """Say what a comparison found.

    Parameters
    ----------
    comparison : Comparison
    a, b : str
        What its arms are called.
    """
    if comparison.accuracy is None:
        return f"{a} and {b} have no seed in common on which both ended well."
    points = 100 * comparison.accuracy.difference.mean
    what = _measure(comparison)
    if comparison.verdict is None:
        way = "above" if points > 0 else "below"
        return f"{b} came out {_number(abs(points))} points {way} {a} ({what})."
    if comparison.accuracy.difference.std == 0 and points == 0:
        return f"{b} and {a} read equally many images right in every seed ({comparison.accuracy.difference.n} seeds)."
    if comparison.verdict == 0:
        return f"These seeds do not tell {b} and {a} apart (difference {_number(points)} points, {what})."
    return f"{b} is {'better' if points > 0 else 'worse'} than {a} by {_number(abs(points))} points ({what})."


def _kinds(told: Sequence[tuple[Comparison, str, str]], verdicts: Sequence[int | None]) -> list[str]:
    """Which arms came out better than what they are measured against, and which worse."""
    starts = {a for _, a, _ in told}
    start = starts.pop() if len(starts) == 1 else "the first arm of the same group"
    parts = []
    for verdict, words in ((1, "better than"), (-1, "worse than")):
        those = [b for (_, _, b), found in zip(told, verdicts, strict=True) if found == verdict]
        if those:
            what = joined(those) if len(those) <= 6 else f"{len(those)} of {len(told)} arms"
            parts.append(f"{what} {'is' if len(those) == 1 else 'are'} {words} {start}")
    return parts


def _listed(told: Sequence[tuple[Comparison, str, str]]) -> str:
    """Each result against the first of a group, or only how many there are of each kind."""
    if len(told) <= 3:
        parts = [in_words(c, a, b).rstrip(".") for c, a, b in told]
        parts = [part[0].lower() + part[1:] if part.startswith("These") else part for part in parts]
    else:
        parts = _kinds(told, [c.verdict for c, _, _ in told])
        open_ = sum(c.verdict == 0 for c, _, _ in told)
        if open_:
            none = f"none of {len(told)} comparisons tells two arms apart"
            parts.append(f"{open_} of {len(told)} comparisons do not tell two arms apart" if parts else none)
    losses = _kinds(told, [c.loss_verdict for c, _, _ in told])
    return "; ".join([*parts, f"in test loss {', '.join(losses)}"] if losses else parts)


def summary(results: Results, comparisons: Sequence[Comparison] | None = None) -> str:
    """Say in two sentences what the results support and what they do not. A rule writes them, not a person.

    Parameters
    ----------
    results : Results
    comparisons : sequence of Comparison, optional
        As `compare` gives them.

    Returns
    -------
    str
    """
    made = compare(results) if comparisons is None else comparisons
    full = {arm: name.full for arm, name in names(results.arms).items()}
    against = [(c, full[c.first], full[c.second]) for c in made if c.baseline and c.accuracy is not None]
    tested = [(c, a, b) for c, a, b in against if c.verdict is not None]
    seeds = f"seed{'s' * (len({r.run.seed for r in results.records}) > 1)} {span(r.run.seed for r in results.records)}"
    data = results.dataset.name
    unknown = joined(["other data sets", "networks", "training lengths", "settings"], "or")
    if not any(results.of(arm) for arm in results.arms):
        return f"Training diverged in every run, so the results support nothing. They say nothing about {unknown}."
    if not against:
        said = "; ".join(_alone(results, arm, full[arm]) for arm in results.arms[:3] if results.of(arm))
        return (
            f"The results say how well single arms read the test images of {data} ({seeds}): {said}. "
            f"They compare nothing that differs by the regularizer alone, and say nothing about {unknown}."
        )
    if not tested:
        return (
            f"With one seed for each arm the results on {data} support no claim about which is better: what one run "
            f"gains, the next may lose. They say nothing about other seeds, {unknown}."
        )
    level = f"{LEVEL:.2f}".lstrip("0")
    few = len(tested) > 3
    given = f", at a level of {level} after correction" if few else ""
    open_ = (
        "which of the arms that are not told apart is better, nor " if any(not c.verdict for c, _, _ in tested) else ""
    )
    return (
        f"In test accuracy on {data} ({seeds}{given}), {_listed(tested)}. "
        f"The results do not say {open_}what {unknown} would give: all runs read the same test images, and no arm was "
        "tuned."
    )  # fmt: skip


def _alone(results: Results, arm: Run, name: str) -> str:
    found = estimate([100 * record.final["test_accuracy"] for record in results.of(arm)])
    if found.half is None:
        return f"{name} reads {found.mean:.2f} % right, in one run"
    return f"{name} reads {found.mean:.2f} ± {found.half:.2f} % right"
