"""How a run of the report shows itself: a live bar on a terminal, a line per group anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from .._extra import extra
from .._reporting import clock
from .sweep import Group

__all__ = ["Display"]


class Display:
    """Listens to `run` and shows where it stands.

    Parameters
    ----------
    console : rich.console.Console
    groups : sequence of Group
        All that will be run.
    """

    def __init__(self, console: Any, groups: tuple[Group, ...]) -> None:
        self.console = console
        self.groups = groups
        self.done = 0
        self.started = time.perf_counter()
        self.live = console.is_terminal and not console.is_dumb_terminal
        if self.live:
            progress = extra("rich.progress", "bench")
            self.bar = progress.Progress(
                progress.BarColumn(24),
                progress.TextColumn("{task.completed}/{task.total}  {task.description}"),
                progress.TimeElapsedColumn(),
                console=console,
                refresh_per_second=2,  # whoever draws takes time from whoever is timed
            )
            self.task = self.bar.add_task("starting", total=len(groups))

    def __enter__(self) -> Display:
        self.started = time.perf_counter()
        if self.live:
            self.bar.start()
            self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()

    def _next(self) -> None:
        following = str(self.groups[self.done]) if self.done < len(self.groups) else "done"
        self.bar.update(self.task, completed=self.done, description=following)

    def __call__(self, group: Group) -> None:
        """Take in a group that is done."""
        self.done += 1
        if self.live:
            self._next()
        else:
            wide = len(str(len(self.groups)))
            spent = clock(time.perf_counter() - self.started)
            print(f"[{self.done:{wide}}/{len(self.groups)}] {group}  ({spent})", file=self.console.file, flush=True)
