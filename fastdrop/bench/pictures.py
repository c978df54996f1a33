"""The report's pictures: time per element against size, with the copy as the floor; a bar for everyone at one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._extra import extra
from .._reporting import COLOURS, FAINT, INK, STYLE, figures, spread_labels
from .cases import count
from .sweep import Point

__all__ = ["bars", "lines"]

VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY = COLOURS


class _Look(NamedTuple):
    colour: str
    mark: str
    style: str = "-"


_LOOKS = {
    "fastdrop": _Look(VERMILLION, "o"),
    "numpy-naive": _Look(GREEN, "v", "--"),
    "numpy-good": _Look(GREEN, "^"),
    "numba": _Look(PURPLE, "s"),
    "torch": _Look(BLUE, "D"),
    "jax": _Look(SKY, "P"),
    "tensorflow": _Look(ORANGE, "X"),
}


class _Line(NamedTuple):
    label: str
    look: _Look
    points: list[Point]


def _floor(points: Sequence[Point], threads: int = 1) -> dict[int, float]:
    """The fastest copy of each size."""
    floor: dict[int, float] = {}
    for point in points:
        if point.role == "limit" and point.threads == threads:
            floor[point.n] = min(point.nanoseconds, floor.get(point.n, math.inf))
    return floor


def _best_isa(points: Sequence[Point]) -> list[Point]:
    """Of fastdrop's points, those on the widest instruction set: the last one tried."""
    isas = [point.isa for point in points if point.name == "fastdrop"]
    return [point for point in points if point.name != "fastdrop" or point.isa == isas[-1]]


def _lines(points: Sequence[Point]) -> list[_Line]:
    """fastdrop on one thread and on all; the others on one, where they are told."""
    found: dict[tuple[str, int], list[Point]] = {}
    for point in sorted(_best_isa(points), key=lambda p: p.n):
        if point.name in _LOOKS and (point.threads < 2 or point.name == "fastdrop"):
            found.setdefault((point.name, point.threads), []).append(point)
    made = []
    for (name, threads), line in found.items():
        look = _LOOKS[name]
        if threads > 1:
            look = look._replace(style="--", mark="s")
        more = f", {threads} threads" if threads > 1 else ""
        made.append(_Line(line[-1].title + more, look, line))
    return made


def _compared(points: Sequence[Point]) -> int:
    """The size that the title speaks of: the largest that PyTorch, or else fastdrop, ran on."""
    return max([q.n for q in points if q.name == "torch"] or [q.n for q in points])


def _finding(points: Sequence[Point]) -> str:
    """What the picture shows, in a sentence."""
    p, n = max(point.p for point in points), _compared(points)
    there = {q.name: q for q in _best_isa(points) if (q.n, q.p, q.threads) == (n, p, 1)}
    if "fastdrop" not in there:
        return "Dropout, and the copy of the same bytes"
    told = f"fastdrop's dropout takes {figures(there['fastdrop'].ratio.median)} times as long as a copy"
    return told + (f", PyTorch's {figures(there['torch'].ratio.median)} times" if "torch" in there else "")


def lines(points: Sequence[Point], below: str) -> Any:
    """Draw time per element against n, with a panel for each p.

    Parameters
    ----------
    points : sequence of Point
        Of one family and dtype.
    below : str
        What stands under the title: the machine.

    Returns
    -------
    matplotlib.figure.Figure
    """
    matplotlib = extra("matplotlib", "bench")
    panels = sorted({point.p for point in points}, reverse=True)
    # One range for all panels, so that they compare; labels are set apart in its logarithm.
    values = [p.nanoseconds for line in _lines(points) for p in line.points] + list(_floor(points).values())
    low, high = min(values) / 1.8, max(values) * 1.3
    free = dict.fromkeys(point.title for point in points if point.threads == 0)
    own = f"; {' and '.join(free)}: their own choice" if free else ""
    with matplotlib.rc_context(STYLE):
        figure = extra("matplotlib.figure", "bench").Figure(figsize=(12, 5.8), dpi=150, facecolor="white")
        for axis, p in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
            _panel(axis, [point for point in points if point.p == p], low, high)
            axis.set_title(f"p = {p:g}", loc="left", fontweight="bold")
        figure.suptitle(_finding(points), x=0.05, y=0.975, ha="left", fontsize=14, fontweight="bold")
        figure.text(
            0.05, 0.865, f"Forward pass, ns per {points[0].dtype} element. One thread where nothing is said{own}. "
            f"Title: {count(_compared(points))} elements, p = {panels[0]:g}\n{below}",
            ha="left", color=FAINT, linespacing=1.4,
        )  # fmt: skip
        figure.subplots_adjust(left=0.05, right=0.845, top=0.80, bottom=0.095, wspace=0.6)
    return figure


def _panel(axis: Any, points: Sequence[Point], low: float, high: float) -> None:
    floor = _floor(points)
    sizes = sorted(floor)
    axis.set(xscale="log", yscale="log", ylim=(low, high), xlabel="elements")
    axis.fill_between(sizes, [floor[n] for n in sizes], low, color="#e4e4e4", lw=0)
    axis.plot(sizes, [floor[n] for n in sizes], color=FAINT, lw=1.4)
    drawn = _lines(points)
    for line in drawn:
        xs, ys = [p.n for p in line.points], [p.nanoseconds for p in line.points]
        ours = line.points[0].role == "ours"
        axis.plot(
            xs, ys, line.look.style, color=line.look.colour, marker=line.look.mark, ms=5 if ours else 4.2,
            lw=2.4 if ours else 1.4, zorder=4 if ours else 3,
        )  # fmt: skip
    axis.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axis.set_xticks(sizes, [count(n) for n in sizes], rotation=0, fontsize=8)
    axis.minorticks_off()
    ticks = [t for k in range(-3, 4) for t in (10.0**k, 3 * 10.0**k) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.grid(axis="y", color="#dddddd", lw=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    last = [(line.points[-1].n, line.points[-1].nanoseconds, line.label, line.look.colour) for line in drawn]
    ends = [*last, (sizes[-1], floor[sizes[-1]], "the copy", "#555555")]
    height = math.log(high / low)
    places = spread_labels([math.log(y / low) for _, y, _, _ in ends], height * 0.062, 0.0, height)
    for (n, y, text, colour), place in zip(ends, places):
        axis.annotate(
            f"{text}  {figures(y)}", (n, y), (1.035, place / height), textcoords="axes fraction", color=colour,
            va="center", fontsize=8.5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip


def bars(panels: Sequence[tuple[str, Sequence[Point]]], finding: str, below: str) -> Any:
    """Draw a bar for everyone, on a log axis; the copy on one thread is the line to reach.

    Each is labelled with its time and how many copies on as many threads that is.

    Parameters
    ----------
    panels : sequence of (title, points)
        Each of one family, n, dtype and p.
    finding : str
        The picture's title.
    below : str
        What stands under it: the machine.

    Returns
    -------
    matplotlib.figure.Figure
    """
    matplotlib = extra("matplotlib", "bench")
    rows = [sorted((p for p in points if p.role != "limit"), key=lambda p: p.nanoseconds) for _, points in panels]
    tallest = max(map(len, rows))
    height = 1.75 + 0.27 * tallest
    with matplotlib.rc_context(STYLE):
        figure = extra("matplotlib.figure", "bench").Figure(figsize=(12, height), dpi=150, facecolor="white")
        for axis, (title, points), shown in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, rows):
            floor = min(_floor(points).values())
            low, high = floor / 3, max(p.nanoseconds for p in shown)
            for place, point in enumerate(shown):
                ours = point.role == "ours"
                axis.barh(
                    place, point.nanoseconds - low, left=low, height=0.72, color=VERMILLION if ours else "#8fa3b3"
                )
                axis.annotate(
                    f"{figures(point.nanoseconds)} ns, {figures(point.ratio.median)} copies",
                    (max(point.nanoseconds, floor), place), (4, 0), textcoords="offset points", va="center",
                    fontsize=8.5, color=INK, fontweight="bold" if ours else "normal",
                )  # fmt: skip
            axis.axvline(floor, color=INK, lw=1.1, ls=(0, (4, 2)), zorder=4)
            axis.annotate(
                f"the copy, one thread: {figures(floor)} ns", (floor, 1), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", fontsize=8.5, color=INK, va="bottom", ha="left",
            )  # fmt: skip
            axis.set(xscale="log", xlim=(low, high * (high / low) ** 0.55), ylim=(tallest - 0.4, -0.6))
            axis.set_yticks(range(len(shown)), [p.label for p in shown])
            axis.tick_params(axis="y", length=0)
            axis.minorticks_off()
            ticks = [t for k in range(-3, 4) for t in (10.0**k,) if low <= t <= high * 1.5]
            axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.set_xlabel("ns per element")
            axis.set_title(title, loc="left", fontweight="bold", pad=18)
        figure.suptitle(finding, x=0.03, y=1 - 0.14 / height, ha="left", va="top", fontsize=14, fontweight="bold")
        figure.text(0.03, 1 - 0.5 / height, below, ha="left", va="top", color=FAINT)
        figure.subplots_adjust(left=0.185, right=0.985, top=1 - 1.15 / height, bottom=0.5 / height, wspace=0.68)
    return figure
