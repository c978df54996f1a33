"""The tables, in the terminal and in HTML."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fastdrop.mnist import report
from fastdrop.mnist.report import tables
from fastdrop.mnist.report.comparisons import compare
from fastdrop.mnist.results import Results

from .made import NONE, dataset, diverged, run, study


def printed(results: Results, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report.table(results))
    return stream.getvalue()


class Cells(HTMLParser):
    """Collects the text of cells, row by row."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        if tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def test_the_measured_numbers() -> None:
    table = tables.measured(study())
    row = dict(zip(table.heads, table.rows[0], strict=True))
    # Accuracies 90.0, 90.2, 90.4, 89.8, 89.6 %: std .316, t(4) half-width .393.
    assert row["arm"] == "none" and row["seeds"] == "5"
    assert row["test accuracy %"] == "90.00 ± 0.39\nstd 0.32"
    assert row["test error %"] == "10.00 ± 0.39\nstd 0.32"
    assert row["test loss"] == row["validation loss"] == "0.1000 ± 0.0039\nstd 0.0032"
    assert row["training loss"] == row["gap"] == "0.0500 ± 0.0020\nstd 0.0016"
    assert row["best epoch"] == "3.0\n± 0.0, std 0.0"


def test_the_terminal_has_them_in_80_columns() -> None:
    shown = printed(study())
    assert max(map(len, shown.splitlines())) <= 80
    assert "90.00 ± 0.39" in shown and "dropout less none" in shown and "+0.50 ± 0.09" in shown
    assert "some digits: 60 training, 40 validation, 40 test images; seeds 0 to 4" in shown
    assert "std" not in shown


def test_terminal_and_html_have_one_source() -> None:
    results = study()
    table = tables.measured(results)
    assert [tuple(row) for row in Cells(table.html()).rows] == [table.heads, *table.rows]


def test_one_seed_has_no_interval() -> None:
    results = study([(run(), [0.9])])
    assert tables.measured(results).rows[0][2] == "90.00"
    assert "±" not in printed(results)
    assert "One seed has no interval and no test" in report.notes(results)


def test_diverged_runs_are_told() -> None:
    results = study([(run(), NONE)])
    some = Results(results.dataset, (*results.records[:4], diverged(results.records[4])))
    assert tables.measured(some).rows[0][1] == "4\ndiverged in 1 of 5"
    assert "diverged in 1 of 5 runs, which enter no number: the loss is nan in epoch 2" in report.notes(some)
    every = Results(results.dataset, tuple(map(diverged, results.records)))
    assert tables.measured(every).rows[0][1:] == ("0\ndiverged in 5 of 5", *["\N{EN DASH}"] * 7)


def test_rows_of_a_group_stand_together() -> None:
    arms = [run(), run(train_size=50), run("l2"), run("l2", train_size=50)]
    rows = tables.measured(study([(arm, NONE) for arm in arms])).rows
    assert [row[0] for row in rows] == ["none, n = 60", "l2, n = 60", "none, n = 50", "l2, n = 50"]


def test_names_are_escaped_and_no_markup() -> None:
    table = tables.Table("<b>[red]", ("<i>", "&"), (("[bold]x", "<td>\n<br>"),), (0, 1))
    assert "<b>" not in table.html() and "<i>" not in table.html() and "&lt;td&gt;" in table.html()
    stream = io.StringIO()
    Console(file=stream, width=80).print(table.rich())
    assert "[bold]x" in stream.getvalue() and "[red]" in stream.getvalue()


def test_the_paper_stands_beside_its_own_networks_alone() -> None:
    whole = {"model": "dropconnect", "train_size": 60, "validation_size": 40}
    arms = [(run(name, **whole), NONE) for name in ("none", "dropout", "dropconnect", "dropconnect=0.2")]
    found = tables.paper(study(arms, dataset(name="MNIST")))
    assert found is not None
    assert [row[0] for row in found.rows] == ["none", "dropout", "dropconnect p=0.5"]
    assert [row[2] for row in found.rows] == ["1.62", "1.28", "1.20"]
    assert "(Wan et al. 2013: means" in printed(study(arms, dataset(name="MNIST")), 120)
    assert tables.paper(study(arms)) is None  # other data
    part = [(run("none", model="dropconnect", train_size=50), NONE)]
    assert tables.paper(study(part, dataset(name="MNIST"))) is None  # not all images
    assert tables.paper(study([(run(), NONE)], dataset(name="MNIST"))) is None  # another network


def test_the_settings_of_each_arm() -> None:
    (row, _) = tables.arms(study()).rows
    assert row[:6] == ("none", "cnn", "none", "7", "60 / 40", "3")
    assert row[6] == "adam, learning rate 0.001 (constant), batches of 64"


@pytest.mark.parametrize("accuracies", [[0.9], [0.9, 0.91]])
def test_differences_have_signs_and_corrected_p(accuracies: list[float]) -> None:
    results = study([(run(), accuracies), (run("dropout"), [a + 0.01 * (1 + i) for i, a in enumerate(accuracies)])])
    found = tables.paired(results, compare(results))
    assert found is not None
    accuracy, p = found.rows[0][2:4]
    assert accuracy.startswith("+1.00" if len(accuracies) == 1 else "+1.50 ± ")
    assert (p == "\N{EN DASH}") == (len(accuracies) == 1)
    assert tables.paired(results, []) is None
