"""How a study shows itself: bars on a terminal, one line per finished run, and now and then an epoch, anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from .._extra import extra
from .._reporting import clock
from .results import Record, labels
from .runner import Event
from .study import Run
from .training import Step

__all__ = ["Display", "Pace"]

#: Seconds without a line after which the end of an epoch is worth one.
SILENCE = 10.0


class Pace:
    """Guesses how long the rest takes, from how long epochs took: each arm's own, or those of the others until then.

    Parameters
    ----------
    runs : sequence of Run
        All that is to be done.
    jobs : int
        How many go on at once.
    """

    def __init__(self, runs: Sequence[Run], jobs: int) -> None:
        self.jobs = jobs
        self.left = {run: float(run.epochs) for run in runs}  # epochs
        self.spent: dict[Run, tuple[float, int]] = {}  # by arm: seconds, images
        self.since: dict[Run, float] = {}

    def hear(self, event: Event, now: float) -> None:
        """Take in what a study tells."""
        run = event.run
        if event.record is not None:
            self.left.pop(run, None)
            return
        step = event.step
        if step is None or run not in self.left:
            return
        if step.row is None:
            self.since.setdefault(run, now)
            # Measuring comes after an epoch's last batch: it is done only when its row is there.
            self.left[run] = run.epochs - step.epoch + 1 - 0.9 * min(1.0, step.done / run.train_size)
            return
        self.left[run] = run.epochs - step.epoch
        if run in self.since:
            seconds, images = self.spent.get(run.arm, (0.0, 0))
            self.spent[run.arm] = seconds + now - self.since[run], images + run.train_size
        self.since[run] = now

    @property
    def seconds(self) -> float | None:
        """Seconds left; None where there is nothing yet to guess from."""
        images = sum(images for _, images in self.spent.values())
        if not images:
            return None
        mean = sum(seconds for seconds, _ in self.spent.values()) / images
        costs = []
        for run, epochs in self.left.items():
            spent, seen = self.spent.get(run.arm, (mean, 1))
            costs.append(epochs * run.train_size * spent / seen)
        return max([sum(costs) / max(1, min(self.jobs, len(costs))), *costs]) if costs else 0.0


class Display:
    """Listens to `execute` and shows where a study stands.

    Parameters
    ----------
    console : rich.console.Console
    runs : sequence of Run
    jobs : int
        Processes at work.
    """

    def __init__(self, console: Any, runs: Sequence[Run], jobs: int) -> None:
        self.console = console
        self.runs = runs
        self.names = labels(list(dict.fromkeys(run.arm for run in runs)))
        self.pace = Pace(runs, jobs)
        self.finished = 0
        self.found = 0
        self.started = self.said = time.monotonic()
        self.live = console.is_terminal and not console.is_dumb_terminal
        if self.live:
            progress = extra("rich.progress")
            self.bars = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(16),
                progress.TextColumn("{task.fields[note]}"),
                console=console,
                refresh_per_second=4,
            )
            self.whole = self.bars.add_task("all", total=sum(run.epochs * run.train_size for run in runs), note="")
            self.tasks: dict[Run, Any] = {}

    def __enter__(self) -> Display:
        self.started = self.said = time.monotonic()
        if self.live:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.found and not self.finished - self.found:
            self._say("all were finished before")
        if self.live:
            self.bars.stop()

    @property
    def left(self) -> str:
        """Time spent and left, in words."""
        guess = self.pace.seconds
        spent = clock(time.monotonic() - self.started)
        return f"{spent} spent, " + ("the first epoch is running" if guess is None else f"about {clock(guess)} left")

    def name(self, run: Run) -> str:
        """A run, for people."""
        return f"{self.names[run.arm]}, seed {run.seed}"

    def _say(self, line: str) -> None:
        if self.live:
            self.bars.console.print(line, markup=False, soft_wrap=True)
        else:
            print(line, file=self.console.file, flush=True)
        self.said = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        self.pace.hear(event, time.monotonic())
        if event.record is not None:
            self.finished += 1
            self.found += event.found
            if not event.found:
                self._say(self._finished(event.run, event.record))
            elif self.found == 1:
                self._say("finished runs are not repeated")
        if self.live:
            self._draw(event)
        elif event.step is not None and event.step.row and time.monotonic() - self.said >= SILENCE:
            self._say(f"{'':>{self._wide}}  {self.name(event.run)}: {_epoch(event.run, event.step)}  ({self.left})")

    @property
    def _wide(self) -> int:
        return 2 * len(str(len(self.runs))) + 1

    def _finished(self, run: Run, record: Record) -> str:
        count = f"{self.finished}/{len(self.runs)}"
        told = f"diverged: {record.diverged}" if record.diverged else _numbers(record.final)
        return f"{count:>{self._wide}}  {self.name(run)}: {told}" + ("" if self.live else f"  ({self.left})")

    def _draw(self, event: Event) -> None:
        run = event.run
        left = sum(epochs * each.train_size for each, epochs in self.pace.left.items())
        total = self.bars.tasks[0].total
        self.bars.update(self.whole, completed=total - left, note=f"{self.finished}/{len(self.runs)} runs  {self.left}")
        if event.record is not None:
            if run in self.tasks:
                self.bars.remove_task(self.tasks.pop(run))
            return
        if event.step is None:
            return
        if run not in self.tasks:
            self.tasks[run] = self.bars.add_task(self.name(run), total=run.epochs, note="")
        note = {"note": _epoch(run, event.step)} if event.step.row else {}
        self.bars.update(self.tasks[run], completed=run.epochs - self.pace.left[run], **note)


def _epoch(run: Run, step: Step) -> str:
    row = step.row or {}
    return (
        f"epoch {step.epoch}/{run.epochs}, loss {row['train_loss']:.4f} train, {row['validation_loss']:.4f} valid.; "
        f"acc {100 * row['validation_accuracy']:.2f} % valid."
    )


def _numbers(final: dict[str, float]) -> str:
    return (
        f"test acc {100 * final['test_accuracy']:.2f} %, loss {final['train_loss']:.4f} train, "
        f"{final['validation_loss']:.4f} valid., {final['test_loss']:.4f} test"
    )
