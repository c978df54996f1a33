"""Single test digits: how some are read, and which the network is least sure of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._reporting import COLOURS, FAINT, INK
from ..results import Record, Results, names
from ..study import Run
from .look import page
from .scope import CHOICE, about, pair
from .uncertain import Uncertain

__all__ = ["predictions", "uncertain_digits"]

COLUMNS = 10
CROSS = "\N{MULTIPLICATION SIGN}"
RIGHT, WRONG = COLOURS[2], COLOURS[0]

Places = npt.NDArray[np.int64]


def _image(figure: Any, image: npt.NDArray[np.uint8], x: float, y: float, tile: float) -> Any:
    """An image at (x, y) inches from the top left corner."""
    width, height = figure.get_size_inches()
    axis = figure.add_axes((x / width, 1 - (y + tile) / height, tile / width, tile / height))
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    return axis


def _frame(axis: Any, wrong: bool) -> None:
    for spine in axis.spines.values():
        spine.set(color=INK if wrong else "#cccccc", linewidth=1.6 if wrong else 0.6)


def _shared(results: Results) -> tuple[list[Run], list[Record]]:
    """The arms of `pair`, and a record of each: of the first seed that they share, if they share one."""
    arms = pair(results)
    by_seed = [{record.run.seed: record for record in results.of(arm)} for arm in arms]
    common = set.intersection(*(set(each) for each in by_seed)) if by_seed else set()
    if not common:
        arms, by_seed = arms[:1], by_seed[:1]
        common = set(by_seed[0]) if by_seed else set()
    return arms, [each[min(common)] for each in by_seed]


def _sections(results: Results, labels: Sequence[str], records: Sequence[Record]) -> list[tuple[str, Places]]:
    """Choose the digits to show, by rules that favour no arm: the first in file order of each kind."""
    truth = results.dataset.test_labels
    total = len(truth)
    sections = [(f"The first {min(COLUMNS, total)} of the {total:,} test images, as they come", np.arange(total))]
    wrong = [record.predicted != truth for record in records]
    kinds = [(f'Wrong with "{labels[0]}"', wrong[0])]
    if len(records) == 2:
        one, other = wrong
        kinds = [
            (f'Wrong with "{labels[0]}", right with "{labels[1]}"', one & ~other),
            (f'Right with "{labels[0]}", wrong with "{labels[1]}"', ~one & other),
            ("Wrong with both", one & other),
        ]
    for text, chosen in kinds:
        found = np.flatnonzero(chosen)
        shown = f"; the first {COLUMNS} in the test file" if len(found) > COLUMNS else ""
        sections.append((f"{text}: {len(found):,} of {total:,}{shown}", found))
    return [(text, found[:COLUMNS]) for text, found in sections]


def predictions(results: Results) -> Any | None:
    """Draw test digits with the true class and what the first arm and the best read, in one seed.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where all runs diverged.
    """
    arms, records = _shared(results)
    if not records:
        return None
    named = names(results.arms)
    labels = [named[arm].regularizer for arm in arms]
    group = named[arms[0]].group
    sections = _sections(results, labels, records)
    row = 1.42 + 0.17 * (1 + len(arms))
    tile, width = 0.86, 11.0
    left = max(1.15, 0.35 + 0.075 * max(map(len, labels)))
    pitch = (width - left - 0.1) / COLUMNS
    tile = min(tile, pitch - 0.08)
    rows = [row if len(found) else 0.75 for _, found in sections]
    body = sum(rows) + 0.1
    below = (
        f"{about(results, arms)}; shown: seed {records[0].run.seed}{f', {group}' if group else ''}\n"
        f"Misread images are framed, wrong readings bold with a cross.{CHOICE * (len(results.arms) > 2)}"
    )
    with page(width, body, "Test images, and how they are read", below) as (figure, top):
        height = top + body

        def write(x: float, y: float, text: str, **style: Any) -> None:
            figure.text(x / width, 1 - y / height, text, **{"va": "top", "ha": "left", **style})

        for line, (text, found) in enumerate(sections):
            y = top + sum(rows[:line])
            write(0.2, y, text, fontweight="bold")
            y += 0.28
            if not len(found):
                write(0.2, y, "no image", color=FAINT)
                continue
            under = y + tile + 0.06
            write(0.2, under, "true", color=FAINT, fontsize=9)
            for place, label in enumerate(labels):
                write(0.2, under + 0.17 * (place + 1), label, color=COLOURS[place], fontsize=9)
            for column, index in enumerate(found):
                x = left + pitch * column
                axis = _image(figure, results.dataset.test_images[index], x, y, tile)
                truth = int(results.dataset.test_labels[index])
                middle = x + tile / 2
                write(middle, under, str(truth), ha="center", fontsize=9)
                for place, record in enumerate(records):
                    read = int(record.predicted[index])
                    mark: dict[str, Any] = {"fontweight": "bold"} if read != truth else {}
                    write(
                        middle, under + 0.17 * (place + 1), f"{read} {CROSS}" if mark else str(read),
                        ha="center", fontsize=9, color=COLOURS[place], **mark,
                    )  # fmt: skip
                _frame(axis, any(record.predicted[index] != truth for record in records))
    return figure


#: Bars beside a digit: all classes of ten, of more the likeliest.
BARS = 10

ACROSS, DOWN = 4, 3


def uncertain_digits(results: Results, found: Uncertain) -> Any:
    """Draw the test digits of the highest predictive entropy, each with its predicted distribution.

    Parameters
    ----------
    results : Results
    found : Uncertain

    Returns
    -------
    matplotlib.figure.Figure
    """
    label = names(results.arms)[found.record.run.arm].full
    order = np.argsort(-found.entropy, kind="stable")[: ACROSS * DOWN]
    tile, pitch, row = 0.95, 2.7, 1.66
    rows = -(-len(order) // ACROSS)
    width, body = 11.0, row * rows + 0.05
    most = 1.08 * max(float(found.mean[at].max()) for at in order)
    below = (
        f"{about(results, [found.record.run.arm])}; shown: {label}, seed {found.record.run.seed}\n"
        f"{found.passes} passes over {found.which}. {found.sentence}\n"
        "H: entropy of the mean prediction; I: mutual information of prediction and weights; both in nats, at most "
        f"{np.log(results.dataset.classes):.2f}. Bars: the mean prediction, green for the true class. Frame: misread."
    )
    with page(width, body, "The most uncertain test images, by Monte-Carlo dropout", below) as (figure, top):
        height = top + body
        for place, at in enumerate(order):
            x, y = 0.2 + pitch * (place % ACROSS), top + row * (place // ACROSS)
            index, truth, plain = int(found.indices[at]), int(found.truth[at]), int(found.plain[at])
            mean = found.mean[at]
            read = int(mean.argmax())
            axis = _image(figure, results.dataset.test_images[index], x, y, tile)
            _frame(axis, plain != truth or read != truth)
            _bars(figure, mean, truth, most, x + tile + 0.14, y, pitch - tile - 0.4, tile)
            text = (
                f"true {truth}; read {read} ({100 * mean[read]:.0f} %), without noise {plain}\n"
                f"H = {found.entropy[at]:.2f}, I = {found.information[at]:.2f}; test image {index}"
            )
            figure.text(x / width, 1 - (y + tile + 0.24) / height, text, va="top", fontsize=8, linespacing=1.3)
    return figure


def _bars(
    figure: Any, mean: npt.NDArray[np.float64], truth: int, most: float, x: float, y: float, wide: float, high: float
) -> None:
    width, height = figure.get_size_inches()
    classes = np.arange(len(mean))
    if len(mean) > BARS:
        classes = np.sort(np.argsort(-mean, kind="stable")[: BARS - 3])
    axis = figure.add_axes((x / width, 1 - (y + high) / height, wide / width, high / height))
    colours = [RIGHT if each == truth else "#8a8a8a" for each in classes]
    axis.bar(range(len(classes)), mean[classes], color=colours, width=0.8)
    axis.set_xticks(range(len(classes)), [str(each) for each in classes], fontsize=7.5)
    axis.set(ylim=(0, most), yticks=[])
    axis.tick_params(length=0, pad=2)
    axis.spines[["top", "right", "left"]].set_visible(False)
