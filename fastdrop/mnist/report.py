"""What a comparison shows: the table, ``curves.png``, ``predictions.png`` and ``results.json``."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from .._extra import extra
from .._files import check_folder, whole_file
from .._reporting import COLOURS, FAINT, INK, STYLE, spread_labels, write_json
from .experiment import Result

__all__ = ["FILES", "check_folder", "curves", "notes", "predictions", "table", "write"]

#: What `write` leaves in the folder.
FILES = ("curves.png", "predictions.png", "results.json")

COLUMNS = 10


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}"


def _sizes(result: Result) -> str:
    sizes = result.sizes
    return f"{sizes['train']:,} training, {sizes['validation']:,} validation, {sizes['test']:,} test images"


def table(result: Result) -> Any:
    """Make the table of results, as something `rich` prints; `notes` says what its numbers are.

    Parameters
    ----------
    result : Result

    Returns
    -------
    rich.table.Table
    """
    box = extra("rich.box")
    made = extra("rich.table").Table(
        title=f"{result.dataset.name}: {_sizes(result)}; seed {result.config.seed}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_style="bold",
    )
    made.add_column("net", no_wrap=True)
    for part in ("train", "valid.", "test"):
        made.add_column(f"{part}\nloss", justify="right", no_wrap=True)
        made.add_column("\nacc", justify="right", no_wrap=True)
    made.add_column("best\nepoch", justify="right", no_wrap=True)
    made.add_column("gap\n(loss)", justify="right", no_wrap=True)
    for net in result.nets:
        cells = []
        for part in ("train", "validation"):
            cells += [f"{net.history[f'{part}_loss'][-1]:.4f}", _percent(net.history[f"{part}_accuracy"][-1])]
        cells += [f"{net.test['loss']:.4f}", _percent(net.test["accuracy"]), str(net.best_epoch), f"{net.gap:.4f}"]
        made.add_row(net.name, *cells)
    return made


def notes(result: Result) -> str:
    """Say what the numbers of the table are, in lines that stand under it."""
    return (
        f"Loss and accuracy (%) with the weights of the final epoch ({result.config.epochs}), dropout off.\n"
        "Best epoch: the lowest validation loss. Gap: validation loss less training loss.\n"
        "The nets start from the same weights and see the images in the same order."
    )


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def curves(result: Result) -> Any:
    """Draw loss and accuracy per epoch, training and validation, for each net.

    Parameters
    ----------
    result : Result

    Returns
    -------
    matplotlib.figure.Figure
    """
    matplotlib = extra("matplotlib")
    ticker = extra("matplotlib.ticker")
    with matplotlib.rc_context(STYLE):
        figure = extra("matplotlib.figure").Figure(figsize=(11, 5.2), dpi=150, facecolor="white")
        axes = figure.subplots(1, 2)
        for axis, metric in zip(axes, ("loss", "accuracy"), strict=True):
            _panel(axis, result, metric)
            axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes[0].set_title("Loss (cross-entropy)", loc="left", fontweight="bold")
        axes[1].set_title("Accuracy (%)", loc="left", fontweight="bold")
        figure.suptitle(
            f"{result.dataset.name}: a CNN without and with dropout", x=0.045, y=0.975, ha="left", fontsize=14,
            fontweight="bold",
        )  # fmt: skip
        figure.text(
            0.045, 0.895, f"{_sizes(result)}; seed {result.config.seed}; measured after each epoch with dropout off; "
            "circle: lowest validation loss", ha="left", color=FAINT,
        )  # fmt: skip
        figure.subplots_adjust(left=0.055, right=0.875, top=0.80, bottom=0.1, wspace=0.52)
    return figure


def _panel(axis: Any, result: Result, metric: str) -> None:
    scale = 100 if metric == "accuracy" else 1
    labels: list[tuple[float, str, str]] = []
    late: list[float] = []
    for net, colour in zip(result.nets, COLOURS, strict=False):
        epochs = np.arange(1, len(net.history["train_loss"]) + 1)
        for part, style in (("validation", "-"), ("train", "--")):
            values = scale * np.array(net.history[f"{part}_{metric}"])
            axis.plot(epochs, values, style, color=colour, lw=2.2 if part == "validation" else 1.5)
            # The first epochs would squeeze everything else: the range is that of what follows.
            late += _finite(values[len(values) // 4 :].tolist())
            number = f"{values[-1]:.1f} %" if metric == "accuracy" else f"{values[-1]:.3f}"
            word = "training" if part == "train" else part
            labels.append((float(values[-1]), f"{net.name},\n{word} {number}", colour))
            if part == "validation" and metric == "loss":
                best = net.best_epoch
                axis.plot([best], [values[best - 1]], "o", ms=8, mfc="white", mec=colour, mew=2, zorder=5)
    low, high = (min(late), max(late)) if late else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.05
    low = 0 if metric == "loss" else low - room
    high = min(high + room, 100 + room) if metric == "accuracy" else high + room
    axis.set_ylim(low, high)
    axis.set_xlabel("epoch")
    axis.grid(axis="y", color="#dddddd", lw=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.02)
    drawn = [entry for entry in labels if math.isfinite(entry[0])]
    spread = spread_labels([value for value, _, _ in drawn], (high - low) * 0.105, low, high)
    end = len(result.nets[0].history["train_loss"])
    for (value, text, colour), place in zip(drawn, spread, strict=True):
        axis.annotate(
            text, (end, value), (1.04, (place - low) / (high - low)), textcoords="axes fraction", color=colour,
            va="center", fontsize=8.5, annotation_clip=False, linespacing=1.15,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)},
        )  # fmt: skip


def _sections(result: Result) -> list[tuple[str, np.ndarray[Any, np.dtype[np.int64]]]]:
    """Choose the digits to show, by rules that favour neither net: the first in file order of each kind."""
    truth = result.dataset.test_labels
    total = len(truth)
    sections = [(f"The first {min(COLUMNS, total)} of the {total:,} test images, as they come", np.arange(total))]
    if len(result.nets) == 2:
        one, other = (net.predicted != truth for net in result.nets)
        names = [net.name for net in result.nets]
        for text, chosen in (
            (f'Wrong with "{names[0]}", right with "{names[1]}"', one & ~other),
            (f'Right with "{names[0]}", wrong with "{names[1]}"', ~one & other),
            ("Wrong with both", one & other),
        ):
            found = np.flatnonzero(chosen)
            shown = f"; the first {COLUMNS} in the test file" if len(found) > COLUMNS else ""
            sections.append((f"{text}: {len(found):,} of {total:,}{shown}", found))
    return [(text, found[:COLUMNS]) for text, found in sections]


def predictions(result: Result) -> Any:
    """Draw test digits with the true label and what each net reads, wrong readings marked.

    Parameters
    ----------
    result : Result

    Returns
    -------
    matplotlib.figure.Figure
    """
    matplotlib = extra("matplotlib")
    sections = _sections(result)
    lines = 1 + len(result.nets)
    row = 1.0 + 0.17 * lines + 0.42
    top = 0.95
    height = top + row * len(sections) + 0.1
    width = 11.0
    tile = 0.86
    left = 1.15
    pitch = (width - left - 0.1) / COLUMNS
    with matplotlib.rc_context(STYLE):
        figure = extra("matplotlib.figure").Figure(figsize=(width, height), dpi=150, facecolor="white")

        def write(x: float, y: float, text: str, **style: Any) -> None:
            figure.text(x / width, 1 - y / height, text, **{"va": "top", "ha": "left", **style})

        write(0.2, 0.16, f"{result.dataset.name}: test digits, and what the nets read", fontsize=14, fontweight="bold")
        write(
            0.2, 0.52, f"Weights of the final epoch ({result.config.epochs}); {_sizes(result)}; "
            f"seed {result.config.seed}; misread digits are framed, wrong readings bold with a cross", color=FAINT,
        )  # fmt: skip
        for line, (text, found) in enumerate(sections):
            y = top + row * line
            write(0.2, y, text, fontweight="bold")
            y += 0.28
            if not len(found):
                write(left, y + 0.3, "none", color=FAINT)
                continue
            under = y + tile + 0.06
            write(0.2, under, "true", color=FAINT, fontsize=9)
            for place, net in enumerate(result.nets):
                write(0.2, under + 0.17 * (place + 1), net.name, color=COLOURS[place], fontsize=9)
            for column, index in enumerate(found):
                x = left + pitch * column
                axis = figure.add_axes((x / width, 1 - (y + tile) / height, tile / width, tile / height))
                axis.imshow(result.dataset.test_images[index], cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                truth = int(result.dataset.test_labels[index])
                middle = x + tile / 2
                write(middle, under, str(truth), ha="center", fontsize=9)
                wrong = False
                for place, net in enumerate(result.nets):
                    read = int(net.predicted[index])
                    wrong |= read != truth
                    mark: dict[str, Any] = {"fontweight": "bold"} if read != truth else {}
                    write(
                        middle, under + 0.17 * (place + 1), f"{read} \N{MULTIPLICATION SIGN}" if mark else str(read),
                        ha="center", fontsize=9, color=COLOURS[place], **mark,
                    )  # fmt: skip
                for spine in axis.spines.values():
                    spine.set(color=INK if wrong else "#cccccc", linewidth=1.6 if wrong else 0.6)
    return figure


def write(result: Result, folder: str | os.PathLike[str], **more: Any) -> list[Path]:
    """Write the pictures and ``results.json``; each file appears whole or not at all.

    Parameters
    ----------
    result : Result
    folder : path
    **more
        Further entries of ``results.json``, such as the command and the environment.

    Returns
    -------
    list of Path
        The files written.
    """
    path = check_folder(folder)
    for name, figure in (("curves.png", curves), ("predictions.png", predictions)):
        with whole_file(path / name) as part:
            figure(result).savefig(part)
    write_json(path / "results.json", {"schema": 1, **more, **result.to_dict()})
    return [path / name for name in FILES]
