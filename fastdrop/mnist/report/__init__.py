"""What a study shows: a table for the terminal, and ``report.html`` with the pictures and ``results.json`` behind it.

`scope` says what may be compared, `comparisons` and `tables` hold the numbers in words, each other file is a picture or
a file that is written.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..._extra import extra
from ..._files import check_folder, remove_parts, whole_file
from ..._reporting import write_json
from ..results import Results, names
from . import html, scope, tables
from .comparisons import Comparison, compare, summary
from .confusion import confusion
from .curves import curves
from .digits import predictions, uncertain_digits
from .numbers import numbers
from .scope import joined, span
from .sweeps import against_p, against_size
from .uncertain import uncertain

__all__ = ["FILES", "PICTURES", "draw", "joined", "notes", "span", "summary", "table", "write"]

#: What can be drawn, in the order of the report: the file, its heading, and what stands under it.
PICTURES = {
    "curves.png": (
        "Training and validation",
        "Where the validation loss rises while the training loss falls, the network learns its images by heart.",
    ),
    "curves-loss.png": (
        "Training and validation: loss",
        "Where the validation loss rises while the training loss falls, the network learns its images by heart.",
    ),
    "curves-accuracy.png": (
        "Training and validation: accuracy",
        "The distance between the dashed and the solid line is what does not carry over to new images.",
    ),
    "gap.png": (
        "Generalisation gap against the size of the training set",
        "The gap is the validation loss less the training loss, with the final weights.",
    ),
    "p.png": (
        "Test accuracy against p",
        "p is the probability to drop. To choose p by this picture would be to choose by the test images: take the "
        "validation loss for that.",
    ),
    "predictions.png": (
        "Sample predictions",
        "The first test images of each kind, in file order: nobody chose them.",
    ),
    "uncertain.png": (
        "The most uncertain images",
        "The same weights read each image many times with the noise of training (Gal, Ghahramani 2016). The entropy of "
        "the mean is all uncertainty; the mutual information is what the passes disagree about.",
    ),
    "confusion.png": (
        "Which class is read as which",
        "Off the diagonal stand the errors.",
    ),
}  # fmt: skip

#: All that `write` may leave in a folder.
FILES = ("report.html", "results.json", *PICTURES)

LIMITS = (
    "Seeds vary the split into training and validation images, the initial weights, the order of the images and the "
    "masks. Arms of one seed share all of these but the masks, so their differences are taken seed by seed.",
    "All runs read the same test images. The intervals say how another seed would come out, not other images.",
    "Nothing is said about other data sets, networks or settings: no arm was tuned, and each may have better ones.",
    "Intervals are of Student's t and take differences to be about normal; a few seeds cannot show whether they are.",
    "Intervals are of single differences. p is corrected for the number of tests in the study (Holm 1979): where the "
    "two disagree, the report goes by p.",
)


def table(results: Results) -> Any:
    """Make the tables of results, as something `rich` prints; `notes` says what the numbers are.

    Parameters
    ----------
    results : Results

    Returns
    -------
    rich.console.Group
    """
    found = [tables.measured(results), tables.paper(results), tables.paired(results, compare(results))]
    return extra("rich.console").Group(*(each.rich() for each in found if each is not None))


def notes(results: Results) -> str:
    """Say what the numbers of the tables are and, in two sentences, what they support."""
    return "\n".join([*_legend(results), "", summary(results)])


def _legend(results: Results) -> list[str]:
    lines = [
        "With the final weights (early stopping: those of the best epoch), dropout off.",
        "Gap: validation loss less training loss. Best epoch: the lowest validation loss.",
    ]
    if any(len(results.of(arm)) > 1 for arm in results.arms):
        lines.insert(0, "Mean over seeds ± half its 95 % interval (Student's t).")
    if any(len(results.of(arm)) == 1 for arm in results.arms):
        lines.append("One seed has no interval and no test: --seeds 5 brings both.")
    diverged = [record for record in results.records if record.diverged is not None]
    if diverged:
        lines.append(
            f"Training diverged in {len(diverged)} of {len(results.records)} runs, which enter no number: "
            f"{diverged[0].diverged}"
        )
    return lines


def _missing(results: Results, comparisons: list[Comparison], drawn: dict[str, Any], why: str | None) -> list[str]:
    """What the report could show, and what would bring it."""
    lines = []
    if not comparisons:
        lines.append(
            "Differences between arms: no two arms differ by the regularizer alone; --regularizer none dropout."
        )
    elif not any(each.accuracy_p is not None for each in comparisons):
        lines.append("Intervals and tests: the arms have fewer than two seeds in common; --seeds 5.")
    if "gap.png" not in drawn:
        lines.append("The gap against the size of the training set: --train-size 500 1000 2000.")
    if "p.png" not in drawn:
        lines.append("The test accuracy against p: --regularizer none dropout --p .1 .3 .5 .7.")
    if why is not None:
        lines.append(f"The most uncertain images: {why}.")
    if "predictions.png" not in drawn:
        lines.append(
            "Curves, sample predictions and confusion matrices: every run diverged; --lr takes a lower learning rate."
        )
    return lines


def _alt(results: Results, name: str) -> str:
    """Tell a picture to those who cannot see it; the numbers stand in the tables."""
    what = {
        "curves.png": "Line charts of loss and accuracy after each epoch, training and validation, for each arm",
        "curves-loss.png": "A line chart for each arm: training and validation loss after each epoch",
        "curves-accuracy.png": "A line chart for each arm: training and validation accuracy after each epoch",
        "gap.png": "Line charts of the generalisation gap and the test error against the number of training images",
        "p.png": "Line charts of the test accuracy against the probability to drop",
        "predictions.png": "Rows of test images with their true class and what the first arm and the best read",
        "uncertain.png": "The test images of the highest predictive entropy, each with bars of its prediction",
        "confusion.png": "Confusion matrices of the first arm and the best",
    }[name]
    return f"{what}. {scope.about(results)}."


def draw(results: Results, tell: Callable[[str], Any] | None) -> tuple[dict[str, Any], str | None]:
    """Draw what a study has the runs for.

    Parameters
    ----------
    results : Results
    tell : callable, optional
        Told what takes seconds.

    Returns
    -------
    dict, str or None
        Figures by their files, of `PICTURES`; why there are no uncertain images.
    """
    found = uncertain(results, tell)
    why = found if isinstance(found, str) else None
    figures: dict[str, Any] = {
        **curves(results),
        "gap.png": against_size(results),
        "p.png": against_p(results),
        "predictions.png": predictions(results),
        "uncertain.png": None if isinstance(found, str) else uncertain_digits(results, found),
        "confusion.png": confusion(results),
    }
    return {name: figures[name] for name in PICTURES if figures.get(name) is not None}, why


def _title(results: Results) -> str:
    named = names(results.arms)
    words = list(dict.fromkeys(name.regularizer for name in named.values()))
    models = list(dict.fromkeys(arm.model for arm in results.arms))
    what = scope.joined(words) if len(words) <= 4 else f"{len(words)} regularizers"
    return f"{results.dataset.name}: {what} on {scope.joined(models)}"


def write(
    results: Results, folder: str | os.PathLike[str], tell: Callable[[str], Any] | None = None, **facts: Any
) -> list[Path]:
    """Write ``report.html``, its pictures and ``results.json``; each file appears whole or not at all.

    Pictures of an earlier report that this study has not are taken away.

    Parameters
    ----------
    results : Results
    folder : path
    tell : callable, optional
        Told what takes seconds.
    **facts
        Further entries: ``command``, ``finished``, ``environment``.

    Returns
    -------
    list of Path
        The files written, the report first.

    Raises
    ------
    OSError
        Where that cannot be done.
    """
    path = check_folder(folder)
    comparisons = compare(results)
    said = summary(results, comparisons)
    figures, why = draw(results, tell)
    pictures = []
    for name, figure in figures.items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        size = tuple(round(inches * figure.dpi) for inches in figure.get_size_inches())
        pictures.append(html.Picture(name, *PICTURES[name], _alt(results, name), stream.getvalue(), size))
    for name in FILES:
        remove_parts(path / name)
    for picture in pictures:
        with whole_file(path / picture.file) as part:
            part.write_bytes(picture.content)
    for name in PICTURES.keys() - figures.keys():
        (path / name).unlink(missing_ok=True)
    write_json(path / "results.json", numbers(results, comparisons, said, facts))
    measured = [tables.measured(results), tables.paper(results)]
    content = html.page(
        title=_title(results),
        about=scope.about(results),
        source=results.dataset.source,
        summary=said,
        measured=[each for each in measured if each is not None],
        notes=_legend(results),
        compared=tables.paired(results, comparisons),
        limits=LIMITS,
        pictures=pictures,
        missing=_missing(results, comparisons, figures, why),
        arms=tables.arms(results),
        facts={**facts, "digest of the data (SHA-256)": results.dataset.digest},
    )
    with whole_file(path / "report.html") as part:
        part.write_text(content, encoding="utf-8")
    return [path / name for name in ("report.html", "results.json", *figures)]
