"""The look that the report's pictures share: who has which colour, titles, panels, labels at the ends of lines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..._extra import extra
from ..._reporting import COLOURS, FAINT, STYLE, spread_labels

__all__ = ["Look", "broken", "end_labels", "looks", "page", "plain", "written"]

DOTS = 150


class Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    mark: str
    dash: Any


def written(colour: str) -> str:
    """A colour for letters: darker, since thin strokes look paler than areas, on paper above all.

    Examples
    --------
    >>> written("#E69F00")
    '#a67200'
    """
    return "#" + "".join(f"{round(0.72 * int(colour[i : i + 2], 16)):02x}" for i in (1, 3, 5))


def looks(kinds: Sequence[str]) -> dict[str, Look]:
    """Give each kind of line a look, the same in all pictures that name the kinds in this order.

    Examples
    --------
    >>> looks(["none", "dropout"])["dropout"]
    Look(colour='#0072B2', mark='s', dash='-')
    """
    marks, dashes = "osD^vP", ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
    found: dict[str, Look] = {}
    for kind in dict.fromkeys(kinds):
        turn, place = divmod(len(found), len(COLOURS))
        found[kind] = Look(COLOURS[place], marks[(place + turn) % len(marks)], dashes[turn % len(dashes)])
    return found


@contextmanager
def page(width: float, body: float, title: str, below: str) -> Iterator[tuple[Any, float]]:
    """A figure with its title and, under it, what it is of: lines are broken to the width.

    Parameters
    ----------
    width, body : float
        Inches: of the whole, and the height of what stands under these texts.
    title, below : str

    Yields
    ------
    Figure, float
        And how many inches the texts take.
    """
    lines = [piece for line in below.splitlines() for piece in textwrap.wrap(line, int(width * 13.6))]
    top = 0.68 + 0.18 * len(lines)
    height = top + body
    with extra("matplotlib").rc_context(STYLE):
        figure = extra("matplotlib.figure").Figure(figsize=(width, height), dpi=DOTS, facecolor="white")
        figure.text(0.2 / width, 1 - 0.16 / height, title, va="top", fontsize=14, fontweight="bold")
        figure.text(0.2 / width, 1 - 0.5 / height, "\n".join(lines), va="top", color=FAINT, linespacing=1.35)
        yield figure, top


def plain(axis: Any, grid: str = "y") -> None:
    """Take away what is no data."""
    axis.grid(axis=grid, color="#dddddd", lw=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def broken(label: str) -> str:
    """A label for the end of a line, on two lines where it is long.

    Examples
    --------
    >>> broken("dropout + l2"), broken("dropout + early-stopping")
    ('dropout + l2', 'dropout +\\nearly-stopping')
    """
    return label.replace(" + ", " +\n", 1) if len(label) > 15 else label


def end_labels(axis: Any, ends: Sequence[tuple[float, float, str, str]], inch: float, size: float = 8.5) -> None:
    """Write texts right of an axis, each with a thread to the end of its line, none over another.

    Parameters
    ----------
    axis : Axes
        With its limits set.
    ends : sequence of (x, y, text, colour)
    inch : float
        The axis' height.
    size : float
        Of the letters, in points.
    """
    scale = axis.yaxis.get_transform().transform
    bottom, top = axis.get_ylim()
    low, high = scale(bottom), scale(top)
    drawn = [(x, min(max(y, bottom), top), text, colour) for x, y, text, colour in ends if math.isfinite(y)]
    lines = max((text.count("\n") + 1 for _, _, text, _ in drawn), default=1)
    apart = (high - low) * (size * 1.3 * lines + 1.5) / 72 / inch
    room = max(0.0, apart * (len(drawn) - 1) - (high - low)) / 2
    places = spread_labels([float(scale(y)) for _, y, _, _ in drawn], apart, low - room, high + room)
    for (x, y, text, colour), place in zip(drawn, places, strict=True):
        axis.annotate(
            text, (x, y), (1.045, (place - low) / (high - low)), textcoords="axes fraction",
            color=written(colour), va="center", fontsize=size, annotation_clip=False, linespacing=1.15,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip
