"""One run: a network trained and measured, with its state on the disk after each epoch where a folder is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop

from .. import nn, optim
from .._extra import extra
from ..nn.parallel import guarded, make_team
from .data import Bytes, Dataset, split
from .models import make
from .regularizers import Plan, parse
from .results import HISTORY, Record
from .study import Run

__all__ = ["MEASURED", "Step", "normalise", "prepare", "train"]

Floats = npt.NDArray[np.float32]
Labelled = tuple[Floats, npt.NDArray[np.int64]]

#: The training loss and accuracy with dropout off are measured on these many training images, the first of the split.
MEASURED = 10_000

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"


@dataclass(frozen=True)
class Step:
    """Where a run stands: told after each batch, and with `row` after each epoch.

    Attributes
    ----------
    epoch : int
        The epoch in progress, from 1.
    done : int
        Training images seen in this epoch.
    row : dict or None
        At the end of an epoch its numbers, as in `Record.history`.
    """

    epoch: int
    done: int
    row: dict[str, float] | None = None


def normalise(images: Bytes, mean: float, std: float) -> Floats:
    """Turn bytes (N, height, width) into float32 (N, 1, height, width) of about zero mean and unit variance.

    Examples
    --------
    >>> normalise(np.array([[[0, 255]]], np.uint8), 127.5, 127.5).tolist()
    [[[[-1.0, 1.0]]]]
    """
    # Only 256 values can occur, and images of a full run are many.
    table = ((np.arange(256) - mean) / std).astype(np.float32)
    return table[images][:, None]


def prepare(run: Run, dataset: Dataset) -> dict[str, Labelled]:
    """Split the data as a run does, and normalise it by the mean and deviation of its training pixels.

    Returns
    -------
    dict
        ``"train"``, ``"validation"`` and ``"test"``: images (N, 1, height, width) and labels (N,).

    Raises
    ------
    ValueError
        Where the dataset is too small for the sizes asked for.
    """
    splits = split(dataset, run.train_size, run.validation_size, run.seed)
    pixels = splits.train[0]
    mean, std = float(pixels.mean()), float(pixels.std()) or 1.0
    return {
        name: (normalise(images, mean, std), labels.astype(np.int64))
        for name, (images, labels) in (
            ("train", splits.train),
            ("validation", splits.validation),
            ("test", splits.test),
        )
    }


@contextmanager
def alone(seed: int) -> Iterator[None]:
    """One thread, and the default generator seeded; both as before in the end.

    Runs are many and small: one process each uses the cores better than threads in each, and the numbers of a run
    cannot depend on how many of them share the machine.
    """
    generator = fastdrop.default_generator()
    state, threads = generator.state, fastdrop.get_num_threads()
    try:
        fastdrop.manual_seed(seed)
        fastdrop.set_num_threads(1)
        with extra("threadpoolctl").threadpool_limits(1):
            yield
    finally:
        fastdrop.set_num_threads(threads)
        generator.state = state


class _Recorder(nn.Callback):
    """Collects what `nn.fit` tells, adds the training images measured with dropout off, and passes it on."""

    def __init__(self, train: Labelled, listen: Callable[[Step], None] | None, comm: Any) -> None:
        self.train = train[0][:MEASURED], train[1][:MEASURED]
        self.comm = comm
        self.listen = listen
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}

    def on_batch_end(self, epoch: int, seen: int) -> None:
        if self.listen:
            self.listen(Step(epoch, seen))

    def on_epoch_end(self, history: nn.History, model: nn.Module) -> None:
        told = history.epochs[-1]
        measured = nn.evaluate(model, self.train, comm=self.comm)
        row = {
            "train_loss": measured["loss"],
            "train_accuracy": measured["accuracy"],
            "validation_loss": told["val_loss"],
            "validation_accuracy": told["val_accuracy"],
            "seconds": told["seconds"],
        }
        for key, value in row.items():
            self.history[key].append(value)
        if self.listen:
            self.listen(Step(told["epoch"], 0, row))

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}


class _Schedule(nn.Callback):
    """Sets the learning rate of the next epoch: a function of its number alone, so that there is nothing to save."""

    def __init__(self, optimizer: optim.Optimizer, run: Run) -> None:
        self.optimizer = optimizer
        self.run = run

    def on_epoch_end(self, history: nn.History, model: nn.Module) -> None:
        if self.run.schedule == "cosine":
            for group in self.optimizer.param_groups:
                group["lr"] = self.run.lr * (1 + math.cos(math.pi * len(history) / self.run.epochs)) / 2


def _optimizer(run: Run, plan: Plan, model: nn.Module) -> optim.Optimizer:
    if run.optimizer == "sgd":
        return optim.SGD(model.parameters(), lr=run.lr, momentum=0.9, weight_decay=plan.l2)
    return optim.Adam(model.parameters(), lr=run.lr, weight_decay=plan.l2)


def train(
    run: Run,
    dataset: Dataset,
    folder: Path | None = None,
    listen: Callable[[Step], None] | None = None,
    comm: Any = None,
) -> tuple[Record, nn.Module]:
    """Train a network and measure it.

    All runs of a seed take the same images, in the same order, and those of one model start from the same weights. The
    test split is measured once, with the weights of the last epoch, or with early stopping with those of the best.

    Parameters
    ----------
    run : Run
    dataset : Dataset
    folder : Path, optional
        Where the state is kept after each epoch; what is found there is gone on with, to the same bits.
    listen : callable, optional
        Told each `Step`.
    comm : mpi4py.MPI.Comm, optional
        The processes that train the run together, as of `nn.fit`; only the first needs `folder` and `listen`.

    Returns
    -------
    Record, Module
        What was measured, and the trained network. Where training diverges the record says so, and holds the epochs
        before.

    Raises
    ------
    ValueError
        Where the dataset is too small for the sizes asked for, or a checkpoint in the folder is damaged.
    OSError
        Where the folder cannot be written to.
    """
    # What one process alone fails at would leave the others waiting.
    with guarded(make_team(comm)), alone(run.seed):
        return _train(run, dataset, folder, listen, comm)


def _train(
    run: Run, dataset: Dataset, folder: Path | None, listen: Callable[[Step], None] | None, comm: Any
) -> tuple[Record, nn.Module]:
    plan = parse(run.regularizer)
    data = prepare(run, dataset)
    model = make(run.model, plan, dataset.size, dataset.classes)
    # The order of the images has a generator of its own, which the masks of dropout do not move.
    (order,) = fastdrop.Generator(run.seed).spawn(1)
    optimizer = _optimizer(run, plan, model)
    recorder = _Recorder(data["train"], listen, comm)
    callbacks: list[nn.Callback] = [recorder, _Schedule(optimizer, run)]
    if plan.max_norm:
        callbacks.append(nn.MaxNorm(model.parameters(), plan.max_norm))
    if plan.patience is not None:
        callbacks.append(nn.EarlyStopping(patience=plan.patience))
    diverged = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            nn.fit(
                model,
                data["train"],
                validation=data["validation"],
                epochs=run.epochs,
                optimizer=optimizer,
                loss=partial(nn.functional.cross_entropy, label_smoothing=plan.label_smoothing),
                batch_size=run.batch_size,
                generator=order,
                callbacks=callbacks,
                progress=False,
                checkpoint=None if folder is None else folder / CHECKPOINT,
                comm=comm,
            )
    except FloatingPointError as error:
        diverged = str(error)
    return _record(run, model, data, recorder, diverged), model


def _record(run: Run, model: nn.Module, data: dict[str, Labelled], recorder: _Recorder, diverged: str | None) -> Record:
    final: dict[str, float] = {}
    predicted = np.zeros(0, np.int64)
    if diverged is None:
        final = {name: values[-1] for name, values in recorder.history.items() if name != "seconds"}
        if parse(run.regularizer).patience is not None:  # the weights are those of the best epoch
            for name, labelled in (("train", recorder.train), ("validation", data["validation"])):
                measured = nn.evaluate(model, labelled, comm=recorder.comm)
                final.update({f"{name}_{measure}": value for measure, value in measured.items()})
        images, labels = data["test"]
        logits = nn.predict(model, images)
        predicted = logits.argmax(axis=1)
        with nn.no_grad():
            loss = nn.functional.cross_entropy(nn.as_tensor(logits), nn.as_tensor(labels))
        final |= {"test_loss": float(loss.item()), "test_accuracy": float((predicted == labels).mean())}
    return Record(
        run,
        tuple(str(layer) for layer in model.children()),
        sum(parameter.array.size for parameter in model.parameters()),
        recorder.history,
        final,
        predicted,
        diverged,
    )
