"""The report's tables, each described once: shown in the terminal by rich, and as rows of HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..._extra import extra
from ..results import Record, Results, names
from ..statistics import Estimate, Paired, estimate
from ..study import Run
from .comparisons import Comparison, in_words, p_text
from .scope import about, groups

__all__ = ["MEASURES", "Measure", "Table", "arms", "estimates", "measured", "paired", "paper"]

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Measure:
    """A number that a run has.

    Attributes
    ----------
    key : str
        In ``results.json``.
    head : str
        Over a column.
    of : callable
        Record -> float.
    digits : int
        Behind the point.
    brief : bool
        Whether the terminal shows it.
    minor : bool
        Whether its interval is less important.
    """

    key: str
    head: str
    of: Callable[[Record], float]
    digits: int
    brief: bool = True
    minor: bool = False


def _final(name: str) -> Callable[[Record], float]:
    return lambda record: record.final[name]


MEASURES = (
    Measure("test_accuracy", "test accuracy %", lambda record: 100 * record.final["test_accuracy"], 2),
    Measure("test_error", "test error %", lambda record: 100 * (1 - record.final["test_accuracy"]), 2, False),
    Measure("test_loss", "test loss", _final("test_loss"), 4),
    Measure("validation_loss", "validation loss", _final("validation_loss"), 4, False),
    Measure("train_loss", "training loss", _final("train_loss"), 4, False),
    Measure("gap", "gap", lambda record: record.gap, 4),
    Measure("best_epoch", "best epoch", lambda record: float(record.best_epoch), 1, minor=True),
)


def estimates(results: Results, arm: Run) -> dict[str, Estimate | None]:
    """Estimate each measure of an arm, from the runs that ended well; None where none did."""
    records = results.of(arm)
    found: dict[str, Estimate | None] = {}
    for measure in MEASURES:
        values = [value for value in map(measure.of, records) if math.isfinite(value)]
        found[measure.key] = estimate(values) if values else None
    return found


@dataclass(frozen=True)
class Table:
    """A table in words.

    Attributes
    ----------
    caption : str
    heads : tuple of str
    rows : tuple of tuple of str
        The first cell names the row. A line break in a cell sets apart what is less important.
    brief : tuple of int
        The columns that the terminal shows.
    words : tuple of int
        The columns that hold text, not numbers.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    brief: tuple[int, ...] = ()
    words: tuple[int, ...] = (0,)

    def rich(self) -> Any:
        """Make what rich prints, of the brief columns and the first line of each cell."""
        text = extra("rich.text").Text  # not str: a name may look like markup
        made = extra("rich.table").Table(box=extra("rich.box").SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in self.brief:
            made.add_column(
                text(self.heads[column].replace(" ", "\n", 1) if column else self.heads[column]),
                justify="left" if column in self.words else "right", overflow="fold", no_wrap=bool(column),
            )  # fmt: skip
        for row in self.rows:
            made.add_row(*(text(row[column].split("\n")[0]) for column in self.brief))
        # Not as the table's title: that would be broken to the width of a narrow table.
        return extra("rich.console").Group(text(self.caption, style="bold"), made)

    def html(self) -> str:
        """Make rows of HTML; all text is escaped."""
        lines = [f"<table>\n<caption>{escape(self.caption)}</caption>\n<thead><tr>"]
        lines += [f'<th scope="col"{self._kind(i)}>{escape(head)}</th>' for i, head in enumerate(self.heads)]
        lines.append("</tr></thead>\n<tbody>")
        for row in self.rows:
            cells = [f'<th scope="row">{_lines(row[0])}</th>']
            cells += [f"<td{self._kind(i)}>{_lines(cell)}</td>" for i, cell in enumerate(row) if i]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        return "\n".join([*lines, "</tbody>\n</table>"])

    def _kind(self, column: int) -> str:
        return ' class="words"' if column in self.words else ""


def _lines(cell: str) -> str:
    top, *rest = cell.split("\n")
    return escape(top) + "".join(f"<br><small>{escape(line)}</small>" for line in rest)


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _spread(found: Estimate | None, digits: int, minor: bool = False) -> str:
    if found is None:
        return NOTHING
    text = f"{found.mean:.{digits}f}".replace("-", "\N{MINUS SIGN}")
    if found.half is None or found.std is None:
        return text
    half, std = f"± {found.half:.{digits}f}", f"std {found.std:.{digits}f}"
    return f"{text}\n{half}, {std}" if minor else f"{text} {half}\n{std}"


def seeds_text(results: Results, arm: Run) -> str:
    """How many seeds ended well, and how many did not."""
    well, all_ = len(results.of(arm)), sum(record.run.arm == arm for record in results.records)
    return str(well) if well == all_ else f"{well}\ndiverged in {all_ - well} of {all_}"


def measured(results: Results) -> Table:
    """What was measured: a row for each arm, mean ± half the 95 % interval, and the standard deviation."""
    rows = []
    named = names(results.arms)
    for arm in (arm for arms in groups(results).values() for arm in arms):
        found = estimates(results, arm)
        rows.append(
            (named[arm].full, seeds_text(results, arm), *(_spread(found[m.key], m.digits, m.minor) for m in MEASURES))
        )
    brief = (0, 1, *(index for index, m in enumerate(MEASURES, 2) if m.brief))
    return Table(about(results), ("arm", "seeds", *(m.head for m in MEASURES)), tuple(rows), brief)


def _difference(found: Paired | None, p: float | None, scale: float, digits: int) -> tuple[str, str]:
    if found is None:
        return NOTHING, NOTHING
    mean, half = scale * found.difference.mean, found.difference.half
    if half is None or found.p_value is None or p is None:
        return _signed(mean, digits), NOTHING
    return f"{_signed(mean, digits)} ± {scale * half:.{digits}f}", f"{p_text(p)}\nuncorrected {p_text(found.p_value)}"


def paired(results: Results, comparisons: Sequence[Comparison]) -> Table | None:
    """The differences between arms; None where there are none to compare."""
    if not comparisons:
        return None
    named = names(results.arms)
    rows = []
    for c in comparisons:
        one, other = named[c.first], named[c.second]
        group = f", {one.group}" if one.group else ""
        n = 0 if c.accuracy is None else c.accuracy.difference.n
        rows.append(
            (
                f"{other.regularizer} less {one.regularizer}{group}",
                str(n),
                *_difference(c.accuracy, c.accuracy_p, 100, 2),
                *_difference(c.loss, c.loss_p, 1, 4),
                in_words(c, one.regularizer, other.regularizer),
            )
        )
    tests = sum(p is not None for c in comparisons for p in (c.accuracy_p, c.loss_p))
    caption = "Paired differences on the test images" + (f"; p corrected for {tests} tests (Holm)" if tests else "")
    heads = ("second less first", "seeds", "accuracy, points", "p", "loss", "p", "in words")
    return Table(caption, heads, tuple(rows), (0, 1, 2, 3, 4, 5), (0, 6))


def arms(results: Results) -> Table:
    """The settings of each arm, and the size of its network."""
    rows = []
    for arm, name in names(results.arms).items():
        record = next(record for record in results.records if record.run.arm == arm)
        training = f"{arm.optimizer}, learning rate {arm.lr:g} ({arm.schedule}), batches of {arm.batch_size}"
        sizes = f"{arm.train_size:,} / {arm.validation_size:,}"
        rows.append((name.full, arm.model, arm.regularizer, f"{record.parameters:,}", sizes, str(arm.epochs), training))
    heads = ("arm", "model", "regularizer", "parameters", "images to train / to validate", "epochs", "training")
    return Table("The arms and their settings", heads, tuple(rows), words=(0, 1, 2, 6))


#: Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of neural networks using DropConnect", ICML 2013: test error in %
#: of networks of two hidden layers of 800 ReLUs, without augmentation, means over five networks.
PAPER = {"none": 1.62, "dropout=0.5": 1.28, "dropconnect=0.5": 1.20}


def paper(results: Results) -> Table | None:
    """The DropConnect paper's test errors beside ours; None where the study did not repeat its training set."""
    whole = len(results.dataset.train_labels)
    rows = []
    for arm, name in names(results.arms).items():
        full = results.dataset.name == "MNIST" and arm.train_size + arm.validation_size == whole
        if arm.model == "dropconnect" and full and arm.regularizer in PAPER:
            ours = _spread(estimates(results, arm)["test_error"], 2)
            rows.append((name.full, ours, f"{PAPER[arm.regularizer]:.2f}", f"{arm.train_size:,}"))
    if not rows:
        return None
    caption = "Test error in %, beside the DropConnect paper's (Wan et al. 2013: means of five networks)"
    return Table(caption, ("arm", "test error %", "the paper's %", "training images"), tuple(rows), (0, 1, 2, 3))
