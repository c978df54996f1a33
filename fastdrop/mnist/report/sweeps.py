"""What a study says along an axis: the gap against the size of the training set, the accuracy against p."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..regularizers import Plan, parse
from ..results import Record, Results, names
from ..statistics import Estimate, estimate
from ..study import Run
from .look import Look, broken, end_labels, looks, page, plain
from .scope import about, groups

__all__ = ["against_p", "against_size"]


@dataclass(frozen=True)
class _Line:
    label: str
    arms: tuple[Run, ...]
    places: tuple[float, ...]


def _estimates(results: Results, arms: Sequence[Run], of: Callable[[Record], float]) -> list[Estimate]:
    return [estimate([of(record) for record in results.of(arm)]) for arm in arms]


def _aside(lines: Sequence[_Line], unit: float) -> list[float]:
    """How far to move each line, so that intervals at one place stand beside each other."""
    step = unit / max(len(lines) - 1, 1)
    return [step * (place - (len(lines) - 1) / 2) for place in range(len(lines))]


def _draw(axis: Any, places: Sequence[float], found: Sequence[Estimate], look: Look) -> None:
    half = [each.half or 0.0 for each in found]
    axis.errorbar(
        places, [each.mean for each in found], yerr=half if any(half) else None, color=look.colour,
        marker=look.mark, ls=look.dash, ms=5.5, lw=1.8, elinewidth=1.1, capsize=3,
    )  # fmt: skip


def _limits(found: Sequence[Estimate], least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    """Room for the means and, up to their own range again, for the intervals: those of two seeds have no end."""
    low, high = min(each.mean for each in found), max(each.mean for each in found)
    reach = (high - low) or 0.1 * abs(high) or 1.0
    bottom = max(low - reach, min(each.mean - (each.half or 0) for each in found))
    top = min(high + reach, max(each.mean + (each.half or 0) for each in found))
    return max(bottom, least) - 0.06 * reach, min(top, most) + 0.06 * reach


def _logarithmic(axis: Any, found: Sequence[Estimate]) -> None:
    low = min(max(each.mean - (each.half or 0), each.mean / 2) for each in found) / 1.15
    high = max(min(each.mean + (each.half or 0), each.mean * 2) for each in found) * 1.15
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    ticks = [t * 10.0**k for k in range(-3, 3) for t in (1, 2, 5)]
    axis.set_yticks([t for t in ticks if low <= t <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    axis.minorticks_off()


def _gap(record: Record) -> float:
    return record.gap


def _error(record: Record) -> float:
    return 100 * (1 - record.final["test_accuracy"])


def _accuracy(record: Record) -> float:
    return 100 * record.final["test_accuracy"]


def against_size(results: Results) -> Any | None:
    """Draw the generalisation gap, and the test error, against the number of training images.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where no arm was trained with two sizes.
    """
    series: dict[Run, list[Run]] = {}
    for arm in results.arms:
        if results.of(arm):
            series.setdefault(dataclasses.replace(arm, train_size=1), []).append(arm)
    series = {kind: sorted(arms, key=lambda a: a.train_size) for kind, arms in series.items() if len(arms) > 1}
    if not series:
        return None
    panels: dict[Run, list[_Line]] = {}
    named = names(list(series))
    look = looks([arm.regularizer for arm in results.arms])
    for kind, arms in series.items():
        line = _Line(named[kind].regularizer, tuple(arms), tuple(float(arm.train_size) for arm in arms))
        panels.setdefault(dataclasses.replace(kind, regularizer="none"), []).append(line)
    inch = max(2.5, 0.19 * max(map(len, panels.values())))
    pitch = inch + 0.85
    body = pitch * len(panels) + 0.05
    below = (
        f"{about(results, [arm for arms in series.values() for arm in arms])}\nMean over seeds, and its 95 % interval"
    )
    with page(11, body, "Generalisation gap and test error against the size of the training set", below) as (
        figure,
        top,
    ):
        height = top + body
        axes = figure.subplots(len(panels), 2, squeeze=False)
        figure.subplots_adjust(
            left=0.065, right=0.86, top=(body - 0.4) / height, bottom=0.5 / height, wspace=0.56, hspace=0.85 / inch
        )
        for row, (group, lines) in zip(axes, panels.items(), strict=True):
            model = named[next(kind for kind in series if dataclasses.replace(kind, regularizer="none") == group)].group
            heads = ("Gap: validation loss less training loss", "Test error (%)")
            for axis, of, head in zip(row, (_gap, _error), heads, strict=True):
                found = [_estimates(results, line.arms, of) for line in lines]
                for line, values, aside in zip(lines, found, _aside(lines, 0.1), strict=True):
                    places = [place * 2**aside for place in line.places]
                    _draw(axis, places, values, look[line.arms[0].regularizer])
                every = [each for values in found for each in values]
                least, most = min(each.mean for each in every), max(each.mean for each in every)
                if of is _error and 0 < 4 * least < most:
                    _logarithmic(axis, every)
                else:
                    axis.set_ylim(*(_limits(every) if of is _gap else _limits(every, 0, 100)))
                ticks = sorted({place for line in lines for place in line.places})
                axis.set_xscale("log")
                axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
                axis.minorticks_off()
                axis.set_xlim(ticks[0] / 1.12, ticks[-1] * 1.12)
                axis.set_xlabel("training images")
                axis.set_title(f"{model}: {head}" if model else head, loc="left", fontweight="bold", fontsize=10)
                plain(axis)
                ends = [
                    (line.places[-1], values[-1].mean, broken(line.label), look[line.arms[0].regularizer].colour)
                    for line, values in zip(lines, found, strict=True)
                ]
                end_labels(axis, ends, inch)
    return figure


def _without(plan: Plan) -> Plan:
    return dataclasses.replace(plan, noise=None, p=0.0)


def _p_lines(results: Results, arms: Sequence[Run]) -> list[_Line]:
    families: dict[Plan, list[Run]] = {}
    for arm in arms:
        plan = parse(arm.regularizer)
        if plan.noise is not None and results.of(arm):
            families.setdefault(dataclasses.replace(plan, p=0.0), []).append(arm)
    made = []
    for plan, those in families.items():
        if len(those) > 1:
            those.sort(key=lambda arm: parse(arm.regularizer).p)
            rest = _without(plan)
            label = plan.noise or ""
            label += f" +\n{rest.label}" if rest.parts else ""
            made.append(_Line(label, tuple(those), tuple(parse(arm.regularizer).p for arm in those)))
    return made


def against_p(results: Results) -> Any | None:
    """Draw the test accuracy against the probability to drop; a band is the same without dropping.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where no regularizer was tried with two p at otherwise equal settings.
    """
    panels = [(arms, _p_lines(results, arms)) for arms in groups(results).values()]
    panels = [(arms, lines) for arms, lines in panels if lines]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    inch = max(2.7, 0.3 * max(len(lines) + 1 for _, lines in panels))
    pitch = inch + 0.85
    body, width = pitch * rows + 0.05, 5.5 * columns + (1.5 if columns == 1 else 0)
    named = names(results.arms)
    look = looks([line.label for _, lines in panels for line in lines])
    shown = [arm for _, lines in panels for line in lines for arm in line.arms]
    below = f"{about(results, shown)}\nMean over seeds, and its 95 % interval; grey band: the same without dropping"
    with page(width, body, "Test accuracy (%) against p, the probability to drop", below) as (figure, top):
        height = top + body
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(
            left=0.7 / width, right=1 - 1.4 / width, top=(body - 0.4) / height, bottom=0.5 / height, wspace=0.58,
            hspace=0.85 / inch,
        )  # fmt: skip
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (arms, lines) in zip(axes.flat, panels):
            _p_panel(axis, results, arms, lines, look, inch)
            group = named[arms[0]].group
            axis.set_title(group or arms[0].model, loc="left", fontweight="bold", fontsize=10)
    return figure


def _p_panel(
    axis: Any, results: Results, arms: Sequence[Run], lines: Sequence[_Line], look: dict[str, Look], inch: float
) -> None:
    found = [_estimates(results, line.arms, _accuracy) for line in lines]
    ends = [
        (line.places[-1], values[-1].mean, line.label, look[line.label].colour)
        for line, values in zip(lines, found, strict=True)
    ]
    last = max(line.places[-1] for line in lines)
    plans = {parse(arm.regularizer): arm for arm in arms if results.of(arm)}
    wanted = dict.fromkeys(_without(parse(line.arms[0].regularizer)) for line in lines)
    bases = [(plan, plans[plan]) for plan in wanted if plan in plans]
    everything = [each for values in found for each in values]
    for plan, arm in bases:
        (base,) = _estimates(results, [arm], _accuracy)
        half = base.half or 0.0
        axis.axhspan(base.mean - half, base.mean + half, color="#888888", alpha=0.22, lw=0)
        axis.axhline(base.mean, color="#555555", lw=1.2, ls=(0, (4, 2)))
        ends.append((last, base.mean, plan.label, "#555555"))
        everything.append(base)
    apart = min(b - a for line in lines for a, b in itertools.pairwise(line.places))
    for line, values, aside in zip(lines, found, _aside(lines, apart / 6), strict=True):
        _draw(axis, [place + aside for place in line.places], values, look[line.label])
    ticks = sorted({place for line in lines for place in line.places})
    if len(ticks) <= 9:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ylim(*_limits(everything, 0, 100))
    axis.set_xlabel("p")
    plain(axis)
    end_labels(axis, ends, inch)
