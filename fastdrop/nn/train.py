"""The training loop (`fit`), what it records (`History`), and `save_weights`, `load_weights`."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import as_array, check_flags, shown
from fastdrop._extra import extra
from fastdrop._files import whole_file
from fastdrop.nn.checkpoint import Checkpoint, Reached
from fastdrop.nn.creation import numpy_generator
from fastdrop.nn.losses import cross_entropy
from fastdrop.nn.module import Module
from fastdrop.nn.parallel import agreed, guarded, make_team
from fastdrop.nn.progress import make_progress
from fastdrop.nn.scores import (
    PREDICTED,
    Data,
    Loss,
    Seen,
    Totals,
    batches,
    check_model,
    check_positive,
    checked_data,
    restore_modes,
    scores_of,
    seen,
)
from fastdrop.nn.shared_step import shared_step
from fastdrop.nn.tensor import Tensor, as_tensor
from fastdrop.random import check_generator

if TYPE_CHECKING:
    from fastdrop import Generator
    from fastdrop.nn.autograd import Array
    from fastdrop.optim import Optimizer

__all__ = ["Callback", "History", "fit", "load_weights", "save_weights"]


#: Takes a step: of the model, the loss, the optimizer, X, y, the rows, and what to raise where the loss is not finite.
Step = Callable[[Module, Loss, "Optimizer", "Array", "Array", "Array", Callable[[float], Exception]], Seen]


class Callback:
    """What `fit` tells; override what you want to hear."""

    def on_batch_end(self, epoch: int, seen: int) -> None:
        """After each step: the epoch, from 1, and how many of its examples were seen."""

    def on_epoch_end(self, history: History, model: Module) -> bool | None:
        """After each epoch, with its numbers in ``history.epochs[-1]``; returning True ends the run."""

    def on_run_end(self, history: History, model: Module) -> None:
        """After the last epoch, whatever it ended by; not after an exception."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold of this object: numbers, strings, arrays, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, when a run goes on."""
        if state:
            raise NotImplementedError(f"{type(self).__name__} has a state_dict, and needs a load_state_dict")


def more_is_better(metric: str) -> bool:
    """Whether a metric of a history grows as the model improves: an accuracy does, anything else is a loss."""
    return metric.endswith("accuracy")


class History:
    """What happened in each epoch of a run.

    Attributes
    ----------
    epochs : list of dict
        For each epoch ``epoch`` (from 1), ``loss`` and ``accuracy`` on the training batches as they were trained on
        (dropout at work), ``seconds``, and with validation data ``val_loss`` and ``val_accuracy`` in evaluation mode.
        Accuracies are left out where `y` does not hold class numbers.

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    >>> history.best("loss")
    {'epoch': 2, 'loss': 1.0}
    """

    def __init__(self, epochs: Sequence[dict[str, Any]] = ()) -> None:
        if not isinstance(epochs, Sequence) or not all(isinstance(epoch, Mapping) for epoch in epochs):
            raise TypeError(f"epochs has to be a sequence of dicts, but got {shown(epochs)}")
        self.epochs = [dict(epoch) for epoch in epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, metric: str) -> list[float]:
        """Return one metric over all epochs."""
        self._check(metric)
        return [epoch[metric] for epoch in self.epochs]

    def best(self, metric: str) -> dict[str, Any]:
        """Return the epoch with the best value: the largest for an accuracy, the smallest for anything else."""
        self._check(metric)
        pick = max if more_is_better(metric) else min
        return dict(pick(self.epochs, key=lambda epoch: epoch[metric]))

    def _check(self, metric: str) -> None:
        if not self.epochs:
            raise ValueError("the history is empty")
        if not isinstance(metric, str) or metric not in self.epochs[-1]:
            raise KeyError(f"no metric {shown(metric)}; there are {', '.join(self.epochs[-1])}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold."""
        return {"epochs": [dict(epoch) for epoch in self.epochs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """Return the history that `to_dict` described."""
        if not isinstance(data, Mapping) or "epochs" not in data:
            raise TypeError(f"data has to be what to_dict gives, but got {shown(data)}")
        return cls(data["epochs"])

    def __repr__(self) -> str:
        return f"History({len(self.epochs)} epochs{': ' + json.dumps(self.epochs[-1]) if self.epochs else ''})"


def fit(
    model: Module,
    data: Data,
    *,
    validation: Data | None = None,
    epochs: int,
    optimizer: Optimizer,
    loss: Loss = cross_entropy,
    batch_size: int = 128,
    generator: Generator | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    comm: Any = None,
) -> History:
    """Train a model, usually a classifier.

    Parameters
    ----------
    model : Module
        Trained in training mode; the mode of each of its modules is restored at the end.
    data, validation : (X, y) pairs of ndarray
        Examples along the first axis; `y` holds class numbers.
    epochs : int
        Passes over the data, each in a new random order.
    optimizer : Optimizer
        Over the parameters of `model`.
    loss : callable
        Takes logits and targets and returns the mean loss of the batch.
    batch_size : int
        Examples per step; the last batch of an epoch may be smaller.
    generator : fastdrop.Generator, optional
        Where the order comes from; by default `fastdrop.default_generator()`.
    callbacks : sequence
        `Callback` objects, told after each step and each epoch; one may end the run.
    progress : bool, optional
        Show progress: a live bar on a terminal (with rich), a line for each epoch elsewhere. By default only on a
        terminal.
    checkpoint : path_like, optional
        A file, for runs that survive: it is written after each epoch, once the callbacks were told, and where it is
        there at the beginning the run goes on from it. See the notes.
    comm : mpi4py.MPI.Comm, optional
        The processes that train together, such as ``MPI.COMM_WORLD``: all of them call this, with the same arguments.
        See the notes.

    Returns
    -------
    History
        Of the whole run, also of the epochs before it was interrupted.

    Raises
    ------
    ValueError
        If the data or a number does not fit. If `checkpoint` is damaged, or belongs to another run; the message names
        the file and what differs, and nothing has been changed.
    FloatingPointError
        If a loss is NaN or infinite; the message names the epoch and the batch.
    TypeError
        If a callback's or the optimizer's state holds what a checkpoint cannot.
    RuntimeError
        With `comm`, if another process has failed, if the weights of processes have come to differ, or if they have
        called different layers.
    OSError
        If the checkpoint cannot be written; the one before it is still there, whole.
    ImportError
        With `checkpoint` or `comm`, where safetensors is not installed.

    Notes
    -----
    *What is guaranteed with a checkpoint*: a run that was killed at any moment, even while it wrote the file, and is
    started again with the same arguments ends with the weights, the optimizer's and callbacks' states, the generators
    and the history (but for the seconds) of one that ran through, bit for bit on the same machine and libraries. Only
    the epoch it was in is trained again. A file of a run that has ended, by its last epoch or by a callback, gives its
    result: only `on_run_end` is called. With more `epochs` than before a run goes on that a callback has not ended.

    The file holds the parameters and buffers of the model, of a loss that is a Module, and what else the optimizer
    trains; the optimizer's state and options, which win over those it was made with; the default generator, that of
    the order, and every `fastdrop.Generator` and `numpy.random.Generator` in an attribute of a module or a callback
    (also inside lists, tuples and dicts); and what the callbacks' `state_dict` returns. What else changes during a run,
    such as a layer's `p` under a callback, that callback has to restore.

    To be the same, a run has to have the same names, shapes and dtypes of parameters, optimizer, callbacks (by
    position and class), shapes and dtypes of `data` and `validation`, `batch_size`, and generators with the same keys;
    generators that were not seeded take the file's. The values of the data, and the loss, are not compared.
    It is a safetensors file, written beside its place, flushed and renamed; one run at a time may use it.

    *What is guaranteed with a communicator*: each process computes a part of every batch, as even as can be, and the
    layers and functions of fastdrop.nn, on the thread that calls this, drop what they would drop in the whole batch. So
    any number of processes takes the steps of one, up to the rounding of sums; the same number takes the same steps to
    the bit. Rounding grows as it does between machines: over 100 steps losses of small networks stayed within 3e-7 of
    themselves under SGD and Adam; batch normalisation of two examples, and long runs of Adam, move them further. All of
    it holds where `loss` is a plain mean over examples (not over weighted or ignored ones). Gradients are added up in
    buckets while backward goes on. All processes have the same weights and generators, which is compared after each
    epoch; the same history; and their callbacks hear the same, and may each end the run.

    At the beginning all take over what the first process has: weights, buffers, the optimizer's state and options, the
    states of generators. Only the first shows progress, and reads and writes `checkpoint`, on whose content the number
    of processes has no influence: a run may go on with another. Every process holds all of `data`, which is compared
    by samples.

    Layers take axis 0 for the examples, or the one that their arguments name; for a model that gives them something
    else there are ``fastdrop.nn.batch.along(axis)`` and, for weights that it drops, ``undivided()``. What a model draws
    by itself (``fastdrop.dropout``, ``nn.randn``, a generator's mask) is no slice of anything. Which layers are called
    must not depend on the examples.

    Wrong arguments, a checkpoint's errors, and a loss that is not finite are raised on all. An error in the model, the
    loss or a callback ends the job, by ``comm.Abort``, after it was printed. Outside of this function a process that
    fails leaves the others waiting, unless the script is started as ``mpiexec -n N python -m mpi4py script.py``. Each
    process has threads of its own: ``OMP_NUM_THREADS=1`` keeps several on a machine out of each other's way.

    Examples
    --------
    >>> import fastdrop
    >>> from fastdrop import nn, optim
    >>> _ = fastdrop.manual_seed(0)
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0]] * 32, dtype=np.float32)
    >>> y = np.array([0, 1] * 32)
    >>> model = nn.Linear(2, 2)
    >>> history = nn.fit(model, (X, y), epochs=20, optimizer=optim.SGD(model.parameters(), lr=1.0), batch_size=16)
    >>> nn.evaluate(model, (X, y))["accuracy"]
    1.0

    With a checkpoint this can be killed and started again; here its second start asks for more epochs:

    >>> import os, tempfile
    >>> def run(path, epochs):
    ...     _ = fastdrop.manual_seed(0)
    ...     model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    ...     optimizer = optim.Adam(model.parameters())
    ...     history = nn.fit(model, (X, y), epochs=epochs, optimizer=optimizer, checkpoint=path)
    ...     return history["loss"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = run(os.path.join(folder, "run.safetensors"), epochs=2)
    ...     resumed = run(os.path.join(folder, "run.safetensors"), epochs=4)
    >>> resumed == run(None, epochs=4)
    True
    """
    team = make_team(comm)
    with guarded(team):
        with agreed(team):
            check_model(model)
            X, y = checked_data("data", data)
            if validation is not None:
                validation = checked_data("validation", validation)
                if not len(validation[0]):
                    raise ValueError("validation holds no examples")
            check_positive("epochs", epochs)
            check_positive("batch_size", batch_size)
            if not len(X):
                raise ValueError("data holds no examples")
            _check_run(optimizer, loss, callbacks, progress)
            check_generator(generator)
            saved = None
            if checkpoint is not None or team:
                saved = Checkpoint(
                    checkpoint,
                    model=model,
                    loss=loss,
                    optimizer=optimizer,
                    generator=generator,
                    callbacks=callbacks,
                    facts={"batch_size": int(batch_size), **_facts("data", (X, y)), **_facts("validation", validation)},
                )
        reached = None
        if saved and team:
            team.same({"epochs": int(epochs), "data": _sample((X, y)), "validation": _sample(validation)})
            reached = team.begin(saved, epochs)
        elif saved:
            reached = saved.restore(epochs)
        # A run that goes on takes no call: it took one when it began.
        reached = reached or Reached(0, False, [], numpy_generator(generator))
        shown_here = (sys.stderr.isatty() if progress is None else progress) and (team is None or team.rank == 0)
        show = make_progress(shown_here, epochs, math.ceil(len(X) / batch_size))
        step: Step = partial(shared_step, team) if team else _step
        modes = [(module, module.training) for module in model.modules()]
        history = History(reached.history)
        try:
            with show:
                for epoch in range(reached.epoch + 1, 1 if reached.stopped else epochs + 1):
                    began = time.perf_counter()
                    model.train()
                    totals = Totals()
                    for batch, rows in enumerate(batches(len(X), batch_size, reached.order.permutation(len(X))), 1):
                        totals.add(step(model, loss, optimizer, X, y, rows, partial(_diverged, epoch, batch)))
                        show.step(epoch, batch, totals.scores())
                        for callback in callbacks:
                            callback.on_batch_end(epoch, totals.count)
                    record: dict[str, Any] = {"epoch": epoch, **totals.scores()}
                    if validation is not None:
                        scores = scores_of(model, validation, PREDICTED, loss, team)
                        record.update({f"val_{name}": value for name, value in scores.items()})
                    seconds = time.perf_counter() - began
                    record["seconds"] = team.first(seconds) if team else seconds
                    history.epochs.append(record)
                    show.epoch(record)
                    # Every callback hears of every epoch, also when an earlier one has asked to stop.
                    wishes = [callback.on_epoch_end(history, model) for callback in callbacks]
                    stopped = any(wishes)
                    if team and saved:
                        stopped = team.any(stopped)
                        team.check_same(saved.digest() + repr(record).encode(), epoch)
                    with agreed(team):
                        if saved and (team is None or team.rank == 0):
                            saved.save(Reached(epoch, stopped, history.epochs, reached.order))
                    if stopped:
                        break
                for callback in callbacks:
                    callback.on_run_end(history, model)
        finally:
            restore_modes(modes)
    return history


def _step(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    X: Array,
    y: Array,
    rows: Array,
    diverged: Callable[[float], Exception],
) -> Seen:
    """Take one step on the batch of these rows; returns what came of them."""
    targets = y[rows]
    logits = model(as_tensor(X[rows]))
    value = loss(logits, as_tensor(targets))
    number = float(value.item())
    if not math.isfinite(number):
        raise diverged(number)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return seen(number, logits.array, targets)


def _diverged(epoch: int, batch: int, loss: float) -> FloatingPointError:
    return FloatingPointError(
        f"the loss is {loss} in epoch {epoch}, batch {batch}: a smaller learning rate, or inputs without NaN and of "
        "moderate size, may help"
    )


def _sample(data: Data | None) -> str | None:
    """What is different for other data: of all targets, and of as many examples as cost nothing."""
    if data is None:
        return None
    X, y = data
    some = np.linspace(0, len(X) - 1, min(len(X), 64)).astype(np.intp)
    checksum = zlib.crc32(np.ascontiguousarray(y).tobytes(), zlib.crc32(X[some].tobytes()))
    return f"{len(X)} examples with the checksum {checksum:08x}"


def _facts(name: str, data: Data | None) -> dict[str, Any]:
    """What a checkpoint compares of data."""
    if data is None:
        return {f"len({name})": None}
    examples = " and ".join(f"{part.dtype} {part.shape[1:]}" for part in data)
    return {f"len({name})": len(data[0]), f"an example of {name}": examples}


def _check_run(optimizer: Any, loss: Any, callbacks: Any, progress: Any) -> None:
    """What `fit` calls, before anything is drawn."""
    if not hasattr(optimizer, "step") or not hasattr(optimizer, "zero_grad"):
        raise TypeError(f"optimizer has to be one of fastdrop.optim, but got {shown(optimizer)}")
    if not callable(loss):
        raise TypeError(f"loss has to be a function of logits and targets, but got {shown(loss)}")
    told = ("on_batch_end", "on_epoch_end", "on_run_end")
    if not isinstance(callbacks, Sequence) or not all(hasattr(c, name) for c in callbacks for name in told):
        raise TypeError(f"callbacks has to be a sequence of Callback objects, but got {shown(callbacks)}")
    if progress is not None:
        check_flags(progress=progress)


def save_weights(model: Module | Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the weights of a model, or a state dict, as a safetensors file.

    The file appears complete or not at all: it is written beside `path`, flushed to the disk and renamed.
    """
    safetensors = extra("safetensors.numpy", "nn")
    state = model.state_dict() if isinstance(model, Module) else model
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise TypeError(f"model has to be a Module, or a dict of arrays by name, but got {shown(model)}")
    _check_path(path)
    arrays = {
        # Not ascontiguousarray, which gives a 0-d array an axis.
        name: np.asarray(value.array if isinstance(value, Tensor) else as_array(value, f"model[{name!r}]"), order="C")
        for name, value in state.items()
    }
    try:
        content = safetensors.save(arrays)
    except Exception as error:  # safetensors' own, which is no ValueError
        kinds = ", ".join(f"{name} of {array.dtype}" for name, array in arrays.items())
        raise ValueError(f"model has to hold what safetensors can, but got {kinds}: {error}") from error
    with whole_file(path) as part:
        part.write_bytes(content)


def _check_path(path: Any) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path has to be a path, but got {shown(path)}")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError(f"path has to be one that the system can write, but got {shown(path)}") from None


def load_weights(model: Module, path: str | os.PathLike[str], *, strict: bool = True) -> None:
    """Read a safetensors file into a model; see `Module.load_state_dict` for `strict` and the errors raised."""
    safetensors = extra("safetensors.numpy", "nn")
    check_model(model)
    _check_path(path)
    check_flags(strict=strict)
    content = Path(path).read_bytes()
    try:
        weights = safetensors.load(content)
    except Exception as error:  # safetensors' own, which is no ValueError
        raise ValueError(f"{path} is no safetensors file, or a damaged one: {error}") from error
    model.load_state_dict(weights, strict=strict)
