"""A training step that several processes share: gradients are added up in buckets while backward goes on."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop.nn import buffers
from fastdrop.nn.autograd import Array, backward, no_grad
from fastdrop.nn.batch import batch_part, drawn, together
from fastdrop.nn.parallel import Team
from fastdrop.nn.scores import Seen, seen_of
from fastdrop.nn.tensor import Tensor, as_tensor

if TYPE_CHECKING:
    from fastdrop.nn.module import Module
    from fastdrop.optim import Optimizer

__all__ = ["BUCKET", "Buckets", "shared_step"]

#: Bytes of gradients that are added up at a time.
BUCKET = 1 << 20


class _Bucket:
    """Gradients on their way: of one dtype, behind each other in one message."""

    def __init__(self, team: Team, leaves: list[Tensor], counts: bool) -> None:
        self.leaves = leaves
        parts = [_gradient(leaf).reshape(-1) for leaf in leaves]
        # A large gradient is sent as it lies. Half precision is added up in float32, which MPI knows.
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self.sent: Array = whole.astype(np.float32) if whole.dtype == np.float16 else whole
        if not counts:
            self.sent = np.zeros_like(self.sent)
        self.sums = buffers.empty(self.sent.shape, self.sent.dtype)
        self.request: Any = team.comm.Iallreduce(self.sent, self.sums)
        self.arrived = False

    def test(self) -> None:
        """Let MPI work at it."""
        self.arrived = self.arrived or bool(self.request.Test())

    def finish(self) -> None:
        """Wait, and put the sums in the place of the gradients."""
        if not self.arrived:
            self.request.Wait()
        first = 0
        for leaf in self.leaves:
            gradient = _gradient(leaf)
            sums = self.sums[first : first + gradient.size].reshape(gradient.shape)
            first += gradient.size
            leaf.grad = leaf.detached(sums.astype(gradient.dtype, copy=False))


def _gradient(leaf: Tensor) -> Array:
    assert leaf.grad is not None
    return leaf.grad.array


class Buckets:
    """Adds up over all processes what backward finds, as a `fastdrop.nn.autograd.Watch`.

    Backward finds gradients in the same order on every process, since all record the same operations; that they do is
    compared before the first bucket is sent, and so is the loss.

    Parameters
    ----------
    team : Team
    trained : list of Tensor
        Whose gradients are added up.
    own : Seen
        What came of the examples of this process; of none it has no gradients either.
    count : int
        Examples of the whole batch.
    diverged : callable
        Takes a loss that is not finite, and returns the error to raise.
    limit : int
        Bytes of a bucket.
    """

    def __init__(
        self,
        team: Team,
        trained: list[Tensor],
        own: Seen,
        count: int,
        diverged: Callable[[float], Exception],
        limit: int = BUCKET,
    ) -> None:
        self.team = team
        self.positions = {id(p): i for i, p in enumerate(trained)}
        self.own = own
        self.count = count
        self.diverged = diverged
        self.limit = limit
        self.filling: list[Tensor] = []
        self.bytes = 0
        self.under_way: list[_Bucket] = []
        self.request: Any = None
        self.whole: Seen | None = None

    def expect(self, leaves: list[Tensor]) -> None:
        """Hear which leaves there are: send that, in a few numbers, and the loss."""
        graph = [(self.positions.get(id(leaf), -1), leaf.array.shape) for leaf in leaves], drawn()
        known = zlib.crc32(repr(graph).encode()) >> 12  # 20 bits, whose squares a float64 adds up exactly
        correct = self.own.correct
        self.sent = np.array([self.own.loss, correct or 0, correct is None, known, known**2], np.float64)
        self.sums = np.empty_like(self.sent)
        self.request = self.team.comm.Iallreduce(self.sent, self.sums)

    def ready(self, leaf: Tensor) -> None:
        """Take a gradient that is whole."""
        if id(leaf) in self.positions:
            gradient = _gradient(leaf)
            if gradient.nbytes >= self.limit:
                self._start([leaf])
            else:
                if self.filling and _gradient(self.filling[0]).dtype != gradient.dtype:
                    self._flush()
                self.filling.append(leaf)
                self.bytes += gradient.nbytes
                if self.bytes >= self.limit:
                    self._flush()
        for bucket in self.under_way:
            bucket.test()

    def finish(self) -> Seen:
        """Send the rest and wait for all of it; returns what came of the whole batch."""
        self._flush()
        for bucket in self.under_way:
            bucket.finish()
        return self._agree()

    def _flush(self) -> None:
        if self.filling:
            self._start(self.filling)
            self.filling, self.bytes = [], 0

    def _start(self, leaves: list[Tensor]) -> None:
        self._agree()
        # An example that another process has too is given gradients all the same, by the batch's statistics.
        self.under_way.append(_Bucket(self.team, leaves, self.own.examples > 0))

    def _agree(self) -> Seen:
        """Wait for what all have to know of the batch; raises on all where there is something wrong with it."""
        if self.whole is None:
            self.request.Wait()
            loss, correct, classless, known, squares = (float(value) for value in self.sums)
            if not math.isfinite(loss):
                raise together(self.diverged(loss / self.count))
            # The squares add up to that only where all are the same.
            if int(squares) * self.team.size != int(known) ** 2:
                raise together(
                    RuntimeError(
                        "the processes have called different layers for this batch; what a model does must not depend "
                        "on the examples that a process has"
                    )
                )
            self.whole = Seen(self.count, loss, None if classless else int(correct))
        return self.whole


def shared_step(
    team: Team,
    model: Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    X: Array,
    y: Array,
    rows: Array,
    diverged: Callable[[float], Exception],
) -> Seen:
    """Take one step on the batch of these rows, of which each process computes a part.

    Returns
    -------
    Seen
        What came of the whole batch.
    """
    part = team.part(len(rows))
    own = rows[part.rows]
    # Those that another optimizer may train too, in a callback.
    trained = list({id(p): p for p in (*_of(optimizer), *model.parameters()) if p.requires_grad}.values())
    drawn()
    with batch_part(part.shard, part.total):
        logits = model(as_tensor(X[own]))
        value = loss(logits, as_tensor(y[own]))
        found = seen_of(part, float(value.item()), logits.array, y[own])
        optimizer.zero_grad()
        # What an optimizer that gathers gradients over steps has kept was added up before.
        kept = [(p, p.grad) for p in trained if p.grad is not None]
        for p, _ in kept:
            p.grad = None
        if not value.requires_grad:
            value.backward()  # says what is missing
        buckets = Buckets(team, trained, found, len(rows), diverged)
        with no_grad():
            backward(value, np.full_like(value.array, part.weight), watch=buckets)
    whole = buckets.finish()
    for p, before in kept:
        if p.grad is None:
            p.grad = before
        else:
            p.grad.array += before.array
    optimizer.step()
    return whole


def _of(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
