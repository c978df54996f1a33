"""Runs a study: several processes, each with one run at a time, and nothing lost whenever one of them dies.

The processes are strangers to each other: a run's numbers depend on its settings alone, its state is on the disk after
each epoch, and files appear whole or not at all. So a worker can be killed at any moment, by the user or the system,
and whoever comes next goes on from the disk to the same bits.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import nn
from .._files import remove_parts
from . import together
from .data import Dataset
from .results import RECORD, Record, Results, read_record, write_record
from .study import Run
from .training import CHECKPOINT, WEIGHTS, Step, train

__all__ = ["Event", "WorkerDied", "cores", "execute", "run_folder", "run_one"]

#: Seconds between two messages of a worker: enough for the eye.
PAUSE = 0.1


class WorkerDied(RuntimeError):
    """A process that ended without a word, as when the system killed it for its memory."""


@dataclass(frozen=True)
class Event:
    """What a study tells: where a run stands, or with `record` that it is finished.

    Attributes
    ----------
    run : Run
    step : Step or None
    record : Record or None
    found : bool
        Whether the record was there from an earlier time.
    """

    run: Run
    step: Step | None = None
    record: Record | None = None
    found: bool = False


def cores() -> int:
    """How many processes can work at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_folder(folder: Path, run: Run) -> Path:
    """Where a run keeps its state."""
    return folder / "runs" / run.key


def run_one(
    run: Run, dataset: Dataset, folder: Path, listen: Callable[[Step], None] | None = None, comm: Any = None
) -> Record:
    """Do a run, or what is left of it, and write its weights and its record.

    Parameters
    ----------
    run : Run
    dataset : Dataset
    folder : Path
        Of the study.
    listen : callable, optional
        Told each `Step`.
    comm : mpi4py.MPI.Comm, optional
        As of `execute`.

    Returns
    -------
    Record
    """
    own = run_folder(folder, run)
    own.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, RECORD):
        remove_parts(own / name)
    if comm is not None:
        together.start(comm, run)
    record, model = train(run, dataset, own, listen, comm)
    nn.save_weights(model, own / WEIGHTS)
    write_record(record, own, dataset.digest)  # from now on the run counts as finished
    (own / CHECKPOINT).unlink(missing_ok=True)
    return record


def execute(
    runs: Sequence[Run],
    dataset: Dataset,
    folder: Path,
    *,
    jobs: int | None = None,
    listen: Callable[[Event], None] | None = None,
    comm: Any = None,
) -> Results:
    """Do all runs that are not finished, several at a time.

    Parameters
    ----------
    runs : sequence of Run
    dataset : Dataset
    folder : Path
        Where each run keeps its state; runs that are finished there are not repeated.
    jobs : int, optional
        Processes; as many as there are cores by default. The results do not depend on it.
    listen : callable, optional
        Told each `Event`.
    comm : mpi4py.MPI.Comm, optional
        The processes that do each run together, one run after the other; this is the first, and on the others
        `together.follow` is at work.

    Returns
    -------
    Results

    Notes
    -----
    The processes are spawned: a script that calls this with more than one job has to do so under
    ``if __name__ == "__main__":``, as with everything that uses `multiprocessing`.

    Raises
    ------
    OSError
        Where the folder cannot be written to (any more); what is there can be gone on with.
    ValueError
        Where a file of an earlier time is damaged; the message names it.
    WorkerDied
        Where a process was killed.
    """
    tell = listen or (lambda event: None)
    digest = dataset.digest
    done: dict[Run, Record] = {}
    for run in runs:
        record = read_record(run, run_folder(folder, run), digest)
        if record is not None:
            # A run that was killed between its record and this:
            (run_folder(folder, run) / CHECKPOINT).unlink(missing_ok=True)
            done[run] = record
            tell(Event(run, record=record, found=True))
    left = [run for run in runs if run not in done]
    jobs = min(cores() if jobs is None else jobs, len(left))
    if comm is not None:
        together.send(comm, dataset)
        jobs = 1
    if jobs > 1:
        _share(left, dataset, folder, jobs, done, tell)
    else:
        for run in left:
            done[run] = run_one(run, dataset, folder, _seldom(lambda step, run=run: tell(Event(run, step))), comm)  # type: ignore[misc]
            tell(Event(run, record=done[run]))
    return Results(dataset, tuple(done[run] for run in runs), folder)


def _seldom(listen: Callable[[Step], Any]) -> Callable[[Step], None]:
    """Pass on what ends an epoch, and of the rest what does not come too soon."""
    last = 0.0

    def heard(step: Step) -> None:
        nonlocal last
        now = time.monotonic()
        if step.row or now - last >= PAUSE:
            last = now
            listen(step)

    return heard


def _work(pipe: multiprocessing.connection.Connection, folder: Path) -> None:
    """Take the data and then runs through the pipe, answer with steps and records; end when the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to answer
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        dataset: Dataset = pipe.recv()
        while True:
            run: Run = pipe.recv()
            try:
                pipe.send(run_one(run, dataset, folder, _seldom(pipe.send)))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                pipe.send(error)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here never hear a Ctrl-C, not even before their first line; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker  # not there on Windows

    # The first process brings this one along, which lets signals through again when it has started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(pipe: Any, process: Any, run: Run, what: Any) -> None:
    try:
        pipe.send(what)
    except (BrokenPipeError, ConnectionResetError):
        raise _died(process, run) from None


def _died(process: Any, run: Run) -> WorkerDied:
    process.join()
    killed = process.exitcode is not None and process.exitcode < 0
    advice = (
        "memory may be short: fewer --jobs need less"
        if killed
        else 'what it wrote says why; a script that calls execute needs if __name__ == "__main__"'
    )
    return WorkerDied(f"the process of {run.key} died (exit code {process.exitcode}); {advice}")


def _share(
    runs: list[Run],
    dataset: Dataset,
    folder: Path,
    jobs: int,
    done: dict[Run, Record],
    tell: Callable[[Event], None],
) -> None:
    # Not by fork: a copy of a process with threads (BLAS's, fastdrop's) may hang.
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(runs))
    workers: dict[Any, tuple[Any, Run]] = {}  # by our end of the pipe: the process, and what it is at
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, folder), daemon=True)
            with _deaf():
                process.start()
            theirs.close()
            run = waiting.pop()
            workers[ours] = (process, run)
            # Not as arguments: multiprocessing waits for ever where a process dies before it has read a long one.
            _send(ours, process, run, dataset)
            _send(ours, process, run, run)
        while workers:
            for ready in multiprocessing.connection.wait(list(workers)):
                pipe: Any = ready
                process, run = workers[pipe]
                try:
                    heard = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise _died(process, run) from None
                if isinstance(heard, Step):
                    tell(Event(run, heard))
                    continue
                if isinstance(heard, Exception):
                    raise heard
                done[run] = heard
                tell(Event(run, record=heard))
                if waiting:
                    run = waiting.pop()
                    workers[pipe] = (process, run)
                    _send(pipe, process, run, run)
                else:
                    pipe.close()
                    del workers[pipe]
                    process.join()
    finally:
        for process, _ in workers.values():
            process.kill()  # their state is on the disk
        for pipe, (process, _) in workers.items():
            process.join()
            pipe.close()
