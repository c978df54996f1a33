"""What a report is about: groups of arms that may be compared, and the line every picture carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from ..results import Results
from ..study import Run

__all__ = ["CHOICE", "about", "best", "first", "groups", "joined", "pair", "span"]


#: Said where a study has more arms than a picture shows.
CHOICE = " Shown: the first arm, and the best by validation accuracy."


def groups(results: Results) -> dict[Run, list[Run]]:
    """Arms that differ by the regularizer alone: the settings they share, and the arms.

    Examples
    --------
    >>> from ..results import Record
    >>> records = [Record(run, (), 0, {}, {}, None) for run in (Run(), Run(regularizer="l2"), Run(epochs=3))]
    >>> [len(arms) for arms in groups(Results(None, tuple(records))).values()]
    [2, 1]
    """
    found: dict[Run, list[Run]] = {}
    for arm in results.arms:
        found.setdefault(dataclasses.replace(arm, regularizer="none"), []).append(arm)
    return found


def first(arms: Sequence[Run]) -> Run:
    """The arm that others of its group are measured against: the one without a regularizer, or the first."""
    return next((arm for arm in arms if arm.regularizer == "none"), arms[0])


def best(results: Results, arms: Iterable[Run]) -> Run | None:
    """The arm of the highest mean validation accuracy, of equal ones the lowest mean loss; None where all diverged.

    The test images are not asked: to choose by them would flatter what is chosen.
    """

    def merit(arm: Run) -> tuple[float, float]:
        finals = [record.final for record in results.of(arm)]
        accuracy, loss = (float(np.mean([f[f"validation_{m}"] for f in finals])) for m in ("accuracy", "loss"))
        return accuracy, -loss

    return max((arm for arm in arms if results.of(arm)), key=merit, default=None)


def pair(results: Results) -> list[Run]:
    """The arms that pictures of single digits compare: the first of a group, and the best beside it.

    The group is that of the best arm of all. Where the first is the best itself, the best of the others stands beside.
    """
    winner = best(results, results.arms)
    if winner is None:
        return []
    arms = groups(results)[dataclasses.replace(winner, regularizer="none")]
    there = [arm for arm in arms if results.of(arm)]
    one = first(there)
    other = best(results, [arm for arm in there if arm != one])
    return [one] if other is None else [one, other]


def joined(words: Sequence[str], last: str = "and") -> str:
    """Write a list.

    Examples
    --------
    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def span(values: Iterable[int]) -> str:
    """Write whole numbers, those in a row as a range.

    Examples
    --------
    >>> span([2, 0, 1]), span([0, 1]), span([7, 3])
    ('0 to 2', '0 and 1', '3 and 7')
    """
    told = sorted(set(values))
    if len(told) > 2 and told[-1] - told[0] == len(told) - 1:
        return f"{told[0]} to {told[-1]}"
    return joined([str(value) for value in told])


def about(results: Results, arms: Iterable[Run] | None = None) -> str:
    """Say which data, how many images and which seeds: the whole study's, or those of some arms."""
    chosen = set(results.arms if arms is None else arms)
    runs = [record.run for record in results.records if record.run.arm in chosen]
    train, validation = (
        joined([f"{value:,}" for value in sorted({getattr(run, name) for run in runs})], "or")
        for name in ("train_size", "validation_size")
    )
    seeds = {run.seed for run in runs}
    return (
        f"{results.dataset.name}: {train} training, {validation} validation, {len(results.dataset.test_labels):,} test "
        f"images; seed{'s' * (len(seeds) > 1)} {span(seeds)}"
    )
