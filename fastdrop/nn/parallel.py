"""The processes that train one model together, through an MPI communicator: who has what, and what all have to know.

`fit` makes a `Team` of its `comm`. All processes do the same in the same order; each computes with its part of every
batch. What may fail on one of them alone is done under `agreed`, and raises on all; anything else that one of them
raises ends the job (`guarded`), since the others would wait for it for ever.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastdrop._checks import shown
from fastdrop._reporting import reason, say
from fastdrop._views import even_part
from fastdrop.nn.autograd import Array
from fastdrop.nn.batch import is_together, together
from fastdrop.shards import Shard

if TYPE_CHECKING:
    from fastdrop.nn.checkpoint import Checkpoint, Reached

__all__ = ["ALL", "Part", "RankFailed", "Team", "agreed", "guarded", "make_team"]

#: What a communicator has to be able to do; mpi4py's are.
NEEDED = ("Get_rank", "Get_size", "Allreduce", "Iallreduce", "Bcast", "Abort")

#: Bytes of one broadcast: MPI counts in 32 bits.
PIECE = 1 << 30


class RankFailed(RuntimeError):
    """Raised where another process has failed; that one raised the error itself."""


class Part(NamedTuple):
    """What a process has of a batch.

    Attributes
    ----------
    rows : slice
        Its examples.
    shard : Shard or None
        Where they lie, for the layers that draw.
    weight : float
        What the mean over them counts in the mean over the batch; 0 for examples that another process has too.
    total : callable or None
        Adds an array up over all processes, in place.
    """

    rows: slice
    shard: Shard | None
    weight: float
    total: Callable[[Array], None] | None


#: What a process has that is alone.
ALL = Part(slice(None), None, 1.0, None)


class Team:
    """The processes of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Or what has the methods of it that `NEEDED` names.

    Attributes
    ----------
    rank, size : int
        Which process this is, and of how many.
    """

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())

    # --- who has what -------------------------------------------------------------------------------------------

    def extents(self, count: int) -> tuple[int, ...]:
        """How many of `count` examples each process has: as even as can be, as of `Mask.shard`."""
        parts = (even_part(count, rank, self.size) for rank in range(self.size))
        return tuple(part.stop - part.start for part in parts)

    def part(self, count: int) -> Part:
        """What this process has of a batch of `count` examples.

        One that gets none computes the first example once more, and counts nothing of it: so it makes the same calls
        of generators, and enters the same sums, as the others.
        """
        extents = self.extents(count)
        if own := extents[self.rank]:
            rows = even_part(count, self.rank, self.size)
            return Part(rows, Shard(0, self.rank, extents), own / count, self.total)
        shard = Shard(0, 0, (1, count - 1) if count > 1 else (1,))
        return Part(slice(0, 1), shard, 0.0, self._total_of_others)

    # --- what all have to know ----------------------------------------------------------------------------------

    def total(self, array: Array) -> None:
        """Add an array up over all processes, in place."""
        sums = np.empty(array.shape, array.dtype)
        self.comm.Allreduce(np.ascontiguousarray(array), sums)
        array[...] = sums

    def _total_of_others(self, array: Array) -> None:
        array[...] = 0
        self.total(array)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        count = np.array([flag], np.float64)
        self.total(count)
        return bool(count[0])

    def first(self, value: float) -> float:
        """The number that the first process has."""
        held = np.array([value], np.float64)
        self.comm.Bcast(held, 0)
        return float(held[0])

    def broadcast(self, content: bytes | None, root: int = 0) -> bytes:
        """Give all processes the bytes that one has."""
        size = np.array([len(content or b"")], np.int64)
        self.comm.Bcast(size, root)
        held = np.frombuffer(content, np.uint8) if self.rank == root and content else np.empty(int(size[0]), np.uint8)
        for start in range(0, len(held), PIECE):
            self.comm.Bcast(held[start : start + PIECE], root)
        return held.tobytes()

    def agree(self, error: Exception | None) -> None:
        """Raise on all processes where any has an error: there its own, and `RankFailed` on the others."""
        failed = np.zeros(self.size)
        failed[self.rank] = error is not None
        self.total(failed)
        if not failed.any():
            return
        who = int(failed.argmax())
        told = None if error is None else f"{type(error).__name__}: {reason(error)}".encode(errors="backslashreplace")
        text = self.broadcast(told, who).decode()
        if error is None:
            error = RankFailed(f"rank {who} of {self.size} failed: {text}")
        raise together(error)

    def same(self, facts: dict[str, Any]) -> None:
        """Compare plain data with that of the first process; ValueError, on all, names what differs."""
        ours = json.loads(json.dumps(facts))
        theirs = json.loads(self.broadcast(json.dumps(facts).encode()))
        with agreed(self):
            differences = [f"{name} is {ours[name]}, and {theirs[name]} on rank 0" for name in ours]
            differences = [text for text, name in zip(differences, ours) if ours[name] != theirs[name]]
            if differences:
                raise ValueError(f"rank {self.rank} has other arguments: {'; '.join(differences)}")

    # --- a run --------------------------------------------------------------------------------------------------

    def begin(self, saved: Checkpoint, epochs: int) -> Reached | None:
        """Restore a run on the first process, and give all of them its state, restored or new."""
        content, reached = None, None
        with agreed(self):
            if self.rank == 0:
                reached = saved.restore(epochs)
                content = saved.packed(reached)
        content = self.broadcast(content)
        with agreed(self):
            if self.rank:
                reached = saved.take(content, "the run on rank 0")
        return reached

    def check_same(self, digest: bytes, epoch: int) -> None:
        """Raise RuntimeError on all where a process' digest of the weights is not the first one's."""
        differs = np.zeros(self.size)
        differs[self.rank] = self.broadcast(digest) != digest
        self.total(differs)
        if differs.any():
            ranks = ", ".join(str(rank) for rank in np.flatnonzero(differs))
            raise together(
                RuntimeError(
                    f"after epoch {epoch} the weights, scores or generators on rank {ranks} are not those on rank 0: "
                    "something in the model, the loss, the optimizer or a callback depends on the process"
                )
            )

    def abort(self, error: BaseException) -> None:
        """End the job, and say why."""
        traceback.print_exception(type(error), error, error.__traceback__)
        say(f"rank {self.rank} of {self.size} failed, which ends the job: {type(error).__name__}: {reason(error)}")
        sys.stdout.flush()
        self.comm.Abort(1)


@contextmanager
def agreed(team: Team | None) -> Iterator[None]:
    """Do what may fail on one process alone: an error is then raised on all."""
    if team is None:
        yield
        return
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    team.agree(error)


@contextmanager
def guarded(team: Team | None) -> Iterator[None]:
    """End the job by any error that only this process may have: the others would wait for it."""
    try:
        yield
    except BaseException as error:
        if team is not None and not is_together(error):
            team.abort(error)
        raise


def make_team(comm: Any) -> Team | None:
    """The team of a communicator; None where this process is alone.

    Examples
    --------
    >>> make_team(None)
    >>> make_team(2)
    Traceback (most recent call last):
    TypeError: comm has to be a communicator of mpi4py, such as MPI.COMM_WORLD, or None, but got 2
    """
    if comm is None:
        return None
    if not all(callable(getattr(comm, name, None)) for name in NEEDED):
        raise TypeError(
            f"comm has to be a communicator of mpi4py, such as MPI.COMM_WORLD, or None, but got {shown(comm)}"
        )
    team = Team(comm)
    return team if team.size > 1 else None
