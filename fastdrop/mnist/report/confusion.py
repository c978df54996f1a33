"""Which class is read as which: confusion matrices, summed over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._extra import extra
from ..._reporting import COLOURS, FAINT, INK
from ..results import Record, Results, names
from .look import page
from .scope import CHOICE, about, pair

__all__ = ["confusion", "count"]

Matrix = npt.NDArray[np.int64]


def count(truth: npt.ArrayLike, records: Sequence[Record], classes: int) -> Matrix:
    """Count readings, summed over runs.

    Parameters
    ----------
    truth : array_like of int, shape (N,)
    records : sequence of Record
    classes : int

    Returns
    -------
    ndarray of int64, shape (classes, classes)
        True classes down, classes read across.
    """
    found: Matrix = np.zeros((classes, classes), np.int64)
    for record in records:
        np.add.at(found, (np.asarray(truth, np.int64), record.predicted), 1)
    return found


def confusion(results: Results) -> Any | None:
    """Draw the confusion matrices of the first arm and the best.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where all runs diverged.
    """
    arms = pair(results)
    if not arms:
        return None
    named = names(results.arms)
    classes = results.dataset.classes
    matrices = [count(results.dataset.test_labels, results.of(arm), classes) for arm in arms]
    # Cells as large as a number needs; many classes stand below each other.
    cell = 0.4 if classes <= 12 else max(0.16, min(0.3, 9.6 / classes))
    side = cell * classes
    beside = 2 * side < 9.5
    columns, rows = (len(arms), 1) if beside else (1, len(arms))
    pitch_x, pitch_y = side + 1.0, side + 1.15
    width, body = max(7.5, 0.2 + pitch_x * columns + 0.2), pitch_y * rows
    top = max(1, *(int((m - np.diag(np.diag(m))).max()) for m in matrices))
    below = (
        f"{about(results, arms)}\nTest images, summed over seeds: true class down, class read across. Grey: read "
        f"right; colour: errors, darker for more.{CHOICE * (len(results.arms) > 2)}"
    )
    with page(width, body, "Which class is read as which", below) as (figure, head):
        height = head + body
        shades = extra("matplotlib.colors").LinearSegmentedColormap.from_list("errors", ["#ffffff", COLOURS[0]])
        for place, (arm, matrix) in enumerate(zip(arms, matrices, strict=True)):
            x = 0.65 + pitch_x * (place if beside else 0)
            y = head + 0.55 + pitch_y * (0 if beside else place)
            axis = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
            _matrix(axis, matrix, top, shades, cell)
            errors = int(matrix.sum() - np.trace(matrix))
            axis.set_title(
                f"{named[arm].full}\n{errors:,} errors in {int(matrix.sum()):,} readings ({len(results.of(arm))} "
                f"seed{'s' * (len(results.of(arm)) > 1)})",
                loc="left", fontsize=10, fontweight="bold", linespacing=1.25,
            )  # fmt: skip
    return figure


def _matrix(axis: Any, matrix: Matrix, top: int, shades: Any, cell: float) -> None:
    classes = len(matrix)
    # The square root, so that single errors still show beside the common ones.
    share = np.sqrt(matrix / top)
    colours = shades(np.clip(share, 0, 1))
    diagonal = np.arange(classes)
    colours[diagonal, diagonal] = (0.88, 0.88, 0.88, 1.0)
    axis.imshow(colours, interpolation="nearest")
    axis.set_xticks(diagonal, [str(i) for i in diagonal], fontsize=9 if cell > 0.35 else 6.5)
    axis.set_yticks(diagonal, [str(i) for i in diagonal], fontsize=9 if cell > 0.35 else 6.5)
    axis.set_xlabel("read")
    axis.set_ylabel("true")
    axis.tick_params(length=0)
    axis.set_xticks(diagonal[:-1] + 0.5, minor=True)
    axis.set_yticks(diagonal[:-1] + 0.5, minor=True)
    axis.grid(which="minor", color="#e2e2e2", lw=0.5)
    axis.tick_params(which="minor", length=0)
    for true, read in np.ndindex(*matrix.shape):
        value = int(matrix[true, read])
        if value:
            right = true == read
            # 0.6 of an em is the width of a digit; four fifths of the cell are for the number.
            size = min(9.0, 0.8 * cell * 72 / (0.64 * len(str(value))))
            axis.text(
                read, true, str(value), ha="center", va="center", fontsize=size, color=FAINT if right else INK,
                fontweight="normal" if right else "bold",
            )  # fmt: skip
