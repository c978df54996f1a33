"""Loss and accuracy after each epoch: means over seeds with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..._extra import extra
from ..._reporting import FAINT
from ..results import Record, Results, names
from ..statistics import estimate
from ..study import Run
from .look import Look, end_labels, looks, page, plain, written
from .scope import about, first, groups

__all__ = ["curves"]

#: More arms than this have a panel each.
TOGETHER = 4

WIDE = 5

PARTS = (("validation", "-", 2.0), ("train", "--", 1.4))


@dataclass(frozen=True)
class _Curve:
    """A mean over seeds, as far as all seeds were trained; `alone`: each seed's curve from there on."""

    mean: list[float]
    low: list[float]
    high: list[float]
    alone: list[list[float]]

    @property
    def longest(self) -> int:
        return len(self.mean) - 1 + max((len(values) for values in self.alone), default=1)


def _curve(records: Sequence[Record], name: str) -> _Curve:
    scale = 100 if name.endswith("accuracy") else 1
    runs = [[scale * value for value in record.history[name]] for record in records]
    shared = min(map(len, runs))
    found = [estimate(values) for values in zip(*(run[:shared] for run in runs), strict=True)]
    halves = [each.half or 0.0 for each in found]
    mean = [each.mean for each in found]
    return _Curve(
        mean,
        [m - h for m, h in zip(mean, halves, strict=True)],
        [m + h for m, h in zip(mean, halves, strict=True)],
        [run[shared - 1 :] for run in runs if len(run) > shared],
    )


def _draw(axis: Any, curve: _Curve, colour: str, style: str, width: float) -> None:
    epochs = range(1, len(curve.mean) + 1)
    axis.fill_between(epochs, curve.low, curve.high, color=colour, alpha=0.16, lw=0)
    axis.plot(epochs, curve.mean, style, color=colour, lw=width, marker="." if len(curve.mean) == 1 else None)
    for values in curve.alone:
        start = len(curve.mean)
        axis.plot(range(start, start + len(values)), values, style, color=colour, lw=0.6, alpha=0.8)


def _range(curves: Sequence[_Curve], metric: str) -> tuple[float, float]:
    """What follows the first epochs: these would squeeze everything else."""
    late = [v for c in curves for v in c.mean[len(c.mean) // 5 :] if math.isfinite(v)]
    low, high = (min(late), max(late)) if late else (0.0, 1.0)
    if metric == "loss":  # from 0, with room for a mark at the top
        return 0.0, 1.08 * high or 0.05
    room = 0.08 * (high - low) or 0.05
    return low - room, min(high + room, 100 + room)


def _whole_epochs(axis: Any, longest: int) -> None:
    axis.xaxis.set_major_locator(extra("matplotlib.ticker").MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axis.set_xlim(0.5 if longest < 5 else 1 - 0.02 * longest, longest * 1.02)


def _below(results: Results, shown: Sequence[Run], metric: str = "both") -> str:
    many = any(len(results.of(arm)) > 1 for arm in shown)
    uneven = any(len({record.epochs for record in results.of(arm)}) > 1 for arm in shown)
    return (
        f"{about(results, shown)}\n"
        + ("Mean over seeds, and its 95 % interval. " if many else "")
        + "Solid: validation, dashed: training, after each epoch, dropout off."
        + ("" if metric == "accuracy" else " Circle: lowest validation loss.")
        + (" Thin, in colour: single runs, after the first seed of their arm stopped early." if uneven else "")
    )


def curves(results: Results) -> dict[str, Any]:
    """Draw training and validation curves.

    Up to four arms that differ by the regularizer alone share two panels, loss and accuracy. Otherwise each arm has a
    panel, and loss and accuracy a picture each; a row is of arms that differ by the regularizer alone, with the
    validation curve of the first in grey in all of them.

    Returns
    -------
    dict
        File name -> matplotlib.figure.Figure; empty where all runs diverged.
    """
    shown = [arm for arm in results.arms if results.of(arm)]
    if not shown:
        return {}
    look = looks([arm.regularizer for arm in results.arms])
    if len(groups(results)) == 1 and len(shown) <= TOGETHER:
        return {"curves.png": _together(results, shown, look)}
    return {
        "curves-loss.png": _apart(results, "loss", look),
        "curves-accuracy.png": _apart(results, "accuracy", look),
    }


def _together(results: Results, shown: Sequence[Run], look: dict[str, Look]) -> Any:
    named = names(results.arms)
    lines = len(shown) * len(PARTS)
    inch = max(3.6, 0.34 * lines)
    with page(11, inch + 0.8, "Training and validation curves", _below(results, shown)) as (figure, top):
        height = top + inch + 0.8
        axes = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.055, right=0.86, top=(inch + 0.5) / height, bottom=0.5 / height, wspace=0.56)
        for axis, metric, title in zip(
            axes, ("loss", "accuracy"), ("Loss (cross-entropy)", "Accuracy (%)"), strict=True
        ):
            drawn, ends, longest = [], [], 1
            for arm in shown:
                colour = look[arm.regularizer].colour
                for part, style, width in PARTS:
                    curve = _curve(results.of(arm), f"{part}_{metric}")
                    _draw(axis, curve, colour, style, width)
                    drawn.append(curve)
                    longest = max(longest, curve.longest)
                    last = curve.mean[-1]
                    number = f"{last:.2f} %" if metric == "accuracy" else f"{last:.3f}"
                    word = "training" if part == "train" else part
                    ends.append((len(curve.mean), last, f"{named[arm].regularizer},\n{word} {number}", colour))
                if metric == "loss":
                    _circle(axis, _curve(results.of(arm), "validation_loss").mean, colour)
            axis.set_ylim(*_range(drawn, metric))
            axis.set_xlabel("epoch")
            axis.set_title(title, loc="left", fontweight="bold")
            plain(axis)
            _whole_epochs(axis, longest)
            end_labels(axis, ends, inch)
    return figure


def _circle(axis: Any, losses: Sequence[float], colour: str, size: float = 8) -> None:
    best = min(range(len(losses)), key=lambda i: (not math.isfinite(losses[i]), losses[i]))
    axis.plot([best + 1], [losses[best]], "o", ms=size, mfc="white", mec=colour, mew=size / 4, zorder=5)


def _apart(results: Results, metric: str, look: dict[str, Look]) -> Any:
    named = names(results.arms)
    found = {
        arm: [_curve(results.of(arm), f"{part}_{metric}") for part, _, _ in PARTS]
        for arm in results.arms
        if results.of(arm)
    }
    rows: list[tuple[list[Run], list[Run]]] = []  # a group, and those of it that stand in a row
    for arms in groups(results).values():
        there = [arm for arm in arms if arm in found]
        rows += [(there, there[start : start + WIDE]) for start in range(0, len(there), WIDE)]
    shown = [arm for _, arms in rows for arm in arms]
    columns = max(len(arms) for _, arms in rows)
    body = 0.25 + 2.05 * len(rows)
    width = max(7.5, 0.75 + 2.15 * columns)
    title = "Loss (cross-entropy)" if metric == "loss" else "Accuracy (%)"
    below = (
        _below(results, shown, metric)
        + " Thin grey: validation of the first arm of the same settings, whose panels share a scale."
    )
    with page(width, body, f"{title}, training and validation", below) as (figure, top):
        height = top + body
        axes = figure.subplots(len(rows), columns, squeeze=False)
        figure.subplots_adjust(
            left=0.55 / width, right=1 - 0.15 / width, top=(body - 0.4) / height, bottom=0.4 / height, wspace=0.1,
            hspace=0.55,
        )  # fmt: skip
        for line, (group, arms) in zip(axes, rows, strict=True):
            one = first(group)
            behind = found[one][0]
            drawn = [curve for arm in group for curve in found[arm]]
            longest = max(curve.longest for curve in drawn)
            for place, axis in enumerate(line):
                if place >= len(arms):
                    axis.set_axis_off()
                    continue
                arm = arms[place]
                if arm != one:
                    axis.plot(range(1, len(behind.mean) + 1), behind.mean, color=FAINT, lw=1.0)
                colour = look[arm.regularizer].colour
                for curve, (_, style, thick) in zip(found[arm], PARTS, strict=True):
                    _draw(axis, curve, colour, style, thick)
                if metric == "loss":
                    _circle(axis, found[arm][0].mean, colour, 6)
                axis.set_ylim(*_range(drawn, metric))
                plain(axis)
                _whole_epochs(axis, longest)
                axis.tick_params(labelleft=not place, labelsize=8)
                # In the row below a name of its own: two lines, the regularizer and what it was tried on.
                text = "\n".join(filter(None, (named[arm].group, named[arm].regularizer.replace(" + ", " +\n", 1))))
                axis.set_title(
                    text, loc="left", fontsize=8.5, fontweight="bold", color=written(colour), linespacing=1.1
                )
        for axis in axes[-1]:
            axis.set_xlabel("epoch", fontsize=8.5)
    return figure
