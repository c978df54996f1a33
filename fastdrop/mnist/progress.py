"""How a run shows itself: one live display for all nets on a terminal, one line per epoch anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from .._extra import extra
from .._reporting import clock
from .experiment import Step

__all__ = ["Display"]


def _numbers(row: dict[str, float]) -> str:
    return (
        f"loss {row['train_loss']:.4f} train, {row['validation_loss']:.4f} valid.; "
        f"acc {100 * row['validation_accuracy']:.2f} % valid."
    )


class Display:
    """Listens to `run` and shows where it stands.

    Parameters
    ----------
    console : rich.console.Console
    nets : sequence of str
        All the nets, in the order of their training.
    epochs : int
        Of each net.
    """

    def __init__(self, console: Any, nets: tuple[str, ...], epochs: int) -> None:
        self.console = console
        self.nets = nets
        self.epochs = epochs
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.started = time.perf_counter()
        if self.live:
            progress = extra("rich.progress")
            self.bars = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(16),
                progress.TextColumn("{task.fields[note]}"),
                console=console,
                refresh_per_second=4,
            )
            self.tasks = {net: self.bars.add_task(net, total=epochs, note="waiting") for net in nets}
            self.whole = self.bars.add_task("all", total=epochs * len(nets), note="")

    def __enter__(self) -> Display:
        self.started = time.perf_counter()
        if self.live:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bars.stop()

    def left(self, done: float) -> str:
        """Guess the time left when `done` of all epochs are done; the nets cost about the same."""
        spent = time.perf_counter() - self.started
        return f"{clock(spent)} spent, about {clock(spent / done * (self.epochs * len(self.nets) - done))} left"

    def __call__(self, step: Step) -> None:
        """Take in one step."""
        # An epoch's measuring comes after its last batch: it is done only when its row is there.
        here = step.epoch if step.row else step.epoch - 1 + 0.9 * step.done / step.total
        done = here + self.epochs * self.nets.index(step.net)
        if self.live:
            bar = self.tasks[step.net]
            note = f"epoch {step.epoch}/{self.epochs}"
            if step.row:
                self.bars.update(bar, completed=here, note=f"{note}  {_numbers(step.row)}")
            else:
                self.bars.update(bar, completed=here, **({"note": note} if step.epoch == 1 else {}))
            self.bars.update(self.whole, completed=done, note=self.left(done))
        elif step.row:
            wide = max(map(len, self.nets))
            digits = len(str(self.epochs))
            epoch = f"epoch {step.epoch:{digits}}/{self.epochs}"
            print(
                f"{step.net:{wide}}  {epoch}  {_numbers(step.row)}  ({self.left(done)})",
                file=self.console.file,
                flush=True,
            )
