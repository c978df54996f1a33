"""How `fit` shows where it is: a live bar with rich on a terminal, a line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """Shows nothing; the base of the others."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def step(self, epoch: int, batch: int, scores: dict[str, float]) -> None:
        """Called after every batch."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Called after every epoch."""


class _Lines(Progress):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def epoch(self, record: dict[str, Any]) -> None:
        print(_line(record, self.epochs), file=sys.stderr, flush=True)


def _line(record: dict[str, Any], epochs: int) -> str:
    return f"epoch {record['epoch']}/{epochs}  {_scores(record)}  {record['seconds']:.1f} s"


def _scores(record: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name.endswith(("loss", "accuracy")))


class _Bar(Progress):
    def __init__(self, epochs: int, batches: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.epochs, self.batches = epochs, batches
        self.bar = RichProgress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[scores]}{task.fields[validation]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(
            "fit",
            total=epochs * batches,
            epoch=0,
            epochs=epochs,
            scores="",
            validation="",
        )

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, epoch: int, batch: int, scores: dict[str, float]) -> None:
        self.bar.update(self.task, completed=(epoch - 1) * self.batches + batch, epoch=epoch, scores=_scores(scores))

    def epoch(self, record: dict[str, Any]) -> None:
        validation = {name: value for name, value in record.items() if name.startswith("val_")}
        if validation:
            self.bar.update(self.task, validation="  " + _scores(validation))


def make_progress(show: bool, epochs: int, batches: int) -> Progress:
    """Return the way of showing progress that fits the terminal and what is installed."""
    if not show:
        return Progress()
    if sys.stderr.isatty():
        try:
            return _Bar(epochs, batches)
        except ImportError:
            pass
    return _Lines(epochs)
