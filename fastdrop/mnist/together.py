"""``mpiexec -n N fastdrop mnist``: rank 0 does the command, and the others train with it what it tells them to.

What goes from process to process is JSON and the bytes of arrays.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._extra import extra
from .._launch import Place
from .._reporting import reason, say
from ..nn.batch import is_together
from ..nn.parallel import Team, guarded
from .data import Dataset
from .study import Run
from .training import train

__all__ = ["alive", "communicator", "end", "follow", "on_all", "send", "start", "watched"]

#: Seconds for rank 0 to speak first.
GRACE = 2.0

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def communicator(place: Place) -> Any:
    """Load MPI, and return the communicator of all processes.

    Raises
    ------
    ImportError, RuntimeError
        Where mpi4py or the MPI library is missing, or the library is another one than the launcher's.
    """
    mpi = extra("mpi4py.MPI", "mpi")
    comm = mpi.COMM_WORLD
    if comm.Get_size() != place.size:
        library = mpi.Get_library_version().partition(",")[0].strip("\0\n ")
        raise RuntimeError(
            f"mpiexec has started {place.size} processes, but {library}, which mpi4py has loaded, knows of "
            f"{comm.Get_size()}: mpiexec has to be of the same MPI"
        )
    return comm


# --- rank 0 ---------------------------------------------------------------------------------------------------------


def send(comm: Any, dataset: Dataset) -> None:
    """Give the others the images."""
    team = Team(comm)
    arrays = [np.ascontiguousarray(getattr(dataset, name)) for name in ARRAYS]
    told = {"name": dataset.name, "source": dataset.source, "shapes": [array.shape for array in arrays]}
    team.broadcast(json.dumps({"dataset": told}).encode())
    for array in arrays:
        team.broadcast(array.tobytes())


def start(comm: Any, run: Run) -> None:
    """Have the others train a run: this process has to do so too."""
    Team(comm).broadcast(json.dumps({"run": dataclasses.asdict(run)}).encode())


def end(comm: Any) -> None:
    """Let the others end."""
    Team(comm).broadcast(json.dumps({"end": True}).encode())


# --- the others -----------------------------------------------------------------------------------------------------


def follow(comm: Any, hear: Callable[[Run], None] = lambda run: None) -> None:
    """Train what rank 0 says, until it says the end. `hear` is told each run that begins."""
    team = Team(comm)
    dataset = None
    while True:
        told = json.loads(team.broadcast(None))
        if "end" in told:
            return
        if "dataset" in told:
            dataset = _received(team, told["dataset"])
        else:
            assert dataset is not None  # it comes first
            run = Run(**told["run"])
            hear(run)
            try:
                train(run, dataset, comm=comm)
            except Exception as error:
                if not is_together(error):  # rank 0 has it too, and tells
                    raise


def _received(team: Team, told: dict[str, Any]) -> Dataset:
    arrays = [np.frombuffer(team.broadcast(None), np.uint8).reshape(shape) for shape in told["shapes"]]
    return Dataset(told["name"], told["source"], *arrays)


# --- the end of the job ---------------------------------------------------------------------------------------------


@contextmanager
def watched(last_words: Callable[[str], None]) -> Iterator[None]:
    """Say last words when a signal ends the job, even while this process waits inside MPI; then exit.

    When a process dies, mpiexec ends the others by SIGTERM. Python's own handlers only run between two of its
    instructions, of which there is none in a call that waits for the dead; so the signal's number is read from a pipe
    on another thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        number = os.read(reader, 1)[0]
        if number:
            try:
                last_words(signal.Signals(number).name)
                sys.stdout.flush()
            finally:
                os._exit(128 + number)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    # The pipe hears of signals that have a handler.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)
        os.write(writer, b"\0")
        watcher.join()
        os.close(reader)
        os.close(writer)


def on_all(
    place: Place, lead: Callable[[Any], int], hear: Callable[[Run], None], last_words: Callable[[str], None]
) -> int:
    """Do a command on rank 0, which is given the communicator, and follow it on the others; returns the exit status.

    Parameters
    ----------
    place : Place
    lead : callable
        The command; returns the exit status.
    hear : callable
        On the others, told each run that begins.
    last_words : callable
        Told the name of the signal that ends the job: on rank 0, or where that is the one that has died, on rank 1.
    """
    try:
        comm = communicator(place)
    except (ImportError, RuntimeError) as error:
        if place.rank:
            time.sleep(GRACE)  # mostly rank 0 has it too, and that ends this
            say(f"rank {place.rank}: {reason(error)}")
        else:
            say(reason(error))
        return 2
    team = Team(comm)
    host, first = json.loads(team.broadcast(json.dumps([platform.node(), os.getpid()]).encode()))
    if team.rank:

        def instead(signal: str) -> None:
            if team.rank == 1 and platform.node() == host and not alive(first):
                last_words(signal)

        with watched(instead), guarded(team):
            follow(comm, hear)
        return 0  # the first to end with another status ends the job, and that is for rank 0, once it has spoken
    with watched(last_words), guarded(team):
        code = lead(comm)
        end(comm)
    return code


def alive(process: int) -> bool:
    """Whether a process of this machine is there, and not dead."""
    try:
        os.kill(process, 0)
        # Dead, but its parent has not looked yet.
        return ") Z " not in Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True
