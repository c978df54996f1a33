"""What came of examples: running sums of loss and accuracy, and `evaluate` and `predict`, which learn nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop._checks import as_array, is_int, shown
from fastdrop.nn.autograd import Array, no_grad
from fastdrop.nn.batch import batch_part
from fastdrop.nn.losses import cross_entropy
from fastdrop.nn.module import Module
from fastdrop.nn.parallel import ALL, Part, Team, agreed, guarded, make_team
from fastdrop.nn.tensor import Tensor, as_tensor, named_tensor

__all__ = ["Data", "Loss", "Seen", "Totals", "evaluate", "predict", "seen"]

Data = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Loss = Callable[[Tensor, Tensor], Tensor]

#: Examples at a time where nothing is learned: what a network of some size makes of them stays in a second-level cache.
PREDICTED = 64


class Seen(NamedTuple):
    """What came of some examples: how many there were, the sum of their losses, how many were right (of classes)."""

    examples: int
    loss: float
    correct: int | None


def seen(loss: float, logits: Array, targets: Array) -> Seen:
    """Count examples, from their mean loss."""
    correct = None
    if targets.dtype.kind in "iu" and logits.ndim == 2 and targets.ndim == 1:
        correct = int(np.count_nonzero(logits.argmax(axis=1) == targets))
    return Seen(len(targets), loss * len(targets), correct)


def seen_of(part: Part, loss: float, logits: Array, targets: Array) -> Seen:
    """The same of a part of a batch; nothing, where another process has these examples too."""
    found = seen(loss, logits, targets)
    return found if part.weight else Seen(0, 0.0, None if found.correct is None else 0)


class Totals:
    """Running sums over batches of different sizes; no accuracy where there are no classes."""

    def __init__(self) -> None:
        self.count = self.correct = 0
        self.sum = 0.0
        self.classes = True

    def add(self, batch: Seen) -> None:
        self.count += batch.examples
        self.sum += batch.loss
        self.classes &= batch.correct is not None
        self.correct += batch.correct or 0

    def over(self, team: Team) -> None:
        """Add up over all processes."""
        sums = np.array([self.count, self.correct, self.sum, not self.classes], np.float64)
        team.total(sums)
        self.count, self.correct, self.sum = int(sums[0]), int(sums[1]), float(sums[2])
        self.classes = not sums[3]

    def scores(self) -> dict[str, float]:
        scores = {"loss": self.sum / self.count}
        if self.classes:
            scores["accuracy"] = self.correct / self.count
        return scores


def restore_modes(modes: list[tuple[Module, bool]]) -> None:
    for module, mode in modes:
        module.training = mode


def batches(count: int, size: int, order: Array | None = None) -> Iterator[Any]:
    for start in range(0, count, size):
        rows = slice(start, start + size)
        yield rows if order is None else order[rows]


def checked_data(name: str, data: Any) -> Data:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"{name} must be a pair (X, y) of arrays, got {type(data).__name__}")
    X, y = (
        part.array if isinstance(part, Tensor) else as_array(part, f"{name}'s {which}")
        for part, which in zip(data, "Xy")
    )
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
        raise ValueError(f"{name}: X and y must hold the same number of examples, got shapes {X.shape} and {y.shape}")
    return X, y


def check_model(model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model has to be a Module, but got a {type(model).__name__}")


def check_positive(name: str, value: Any) -> None:
    if not is_int(value) or value < 1:
        raise ValueError(f"{name} must be a positive int, got {shown(value)}")


def predict(model: Module, X: Any, batch_size: int = PREDICTED) -> Array:
    """Return what the model gives for `X` in evaluation mode, without recording; the mode is restored."""
    check_model(model)
    check_positive("batch_size", batch_size)
    X = X.array if isinstance(X, Tensor) else as_array(X, "X")
    if not X.ndim:
        raise ValueError(f"X has to have an axis of examples, but got {shown(X)}")
    with evaluating(model):
        return np.concatenate(
            [as_tensor(model(named_tensor(X[rows], "X"))).array for rows in batches(max(len(X), 1), batch_size)]
        )


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """In evaluation mode, without recording; the mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        restore_modes(modes)


def evaluate(
    model: Module, data: Data, batch_size: int = PREDICTED, *, loss: Loss = cross_entropy, comm: Any = None
) -> dict[str, float]:
    """Return ``{"loss", "accuracy"}`` over all examples, in evaluation mode; the mode is restored.

    The accuracy is left out where `y` does not hold class numbers.

    Parameters
    ----------
    model : Module
    data : (X, y) pair of ndarray
    batch_size : int
        Examples at a time.
    loss : callable
        Takes logits and targets and returns the mean loss of a batch.
    comm : mpi4py.MPI.Comm, optional
        Share the examples out to its processes, as `fit` does: all of them call this with the same arguments, and all
        get the same result.
    """
    team = make_team(comm)
    with guarded(team):
        with agreed(team):
            data = checked_data("data", data)
            if not len(data[0]):
                raise ValueError("data holds no examples")
            if not callable(loss):
                raise TypeError(f"loss has to be a function of logits and targets, but got {shown(loss)}")
            check_model(model)
            check_positive("batch_size", batch_size)
        return scores_of(model, data, batch_size, loss, team)


def scores_of(model: Module, data: Data, batch_size: int, loss: Loss, team: Team | None) -> dict[str, float]:
    """What `evaluate` returns, of arguments that were checked."""
    totals = Totals()
    with evaluating(model):
        for rows in batches(len(data[0]), batch_size):
            X, y = (array[rows] for array in data)
            # All take part in every batch, since a layer may draw in evaluation too.
            part = team.part(len(X)) if team else ALL
            own = part.rows
            with batch_part(part.shard, part.total):
                logits = as_tensor(model(named_tensor(X[own], "X")))
                value = loss(logits, as_tensor(y[own]))
            totals.add(seen_of(part, float(value.item()), logits.array, y[own]))
    if team:
        totals.over(team)
    return totals.scores()
