"""What runs leave: `Record`, what was measured of one, and `Results`, the records of a study and what they are of."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._reporting import write_json
from .data import Dataset
from .regularizers import parse
from .study import Run

__all__ = ["HISTORY", "RECORD", "Name", "Record", "Results", "labels", "names", "read_record", "write_record"]

#: The file that says that a run is finished; it is written last.
RECORD = "record.json"

#: What is measured after each epoch, and in the end.
HISTORY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds")
FINAL = (*HISTORY[:-1], "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Record:
    """What was measured of one run.

    Attributes
    ----------
    run : Run
    layers : tuple of str
        As the layers print themselves.
    parameters : int
        Numbers learned.
    history : dict
        Per epoch: ``train_loss``, ``train_accuracy``, ``validation_loss``, ``validation_accuracy``, all measured after
        the epoch with dropout off, and ``seconds``.
    final : dict
        ``train_loss``, ``train_accuracy`` and so on for ``validation`` and ``test``, with the final weights. Empty
        where training diverged.
    predicted : ndarray of int64
        The class read in each test image; empty where training diverged.
    diverged : str or None
        Why training ended before its time.
    """

    run: Run
    layers: tuple[str, ...]
    parameters: int
    history: dict[str, list[float]]
    final: dict[str, float]
    predicted: npt.NDArray[np.int64]
    diverged: str | None = None

    @property
    def epochs(self) -> int:
        """Epochs that were run: fewer than asked for with early stopping."""
        return len(self.history["train_loss"])

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, of the lowest validation loss."""
        losses = self.history["validation_loss"]
        return 1 + min(range(len(losses)), key=lambda i: (not math.isfinite(losses[i]), losses[i]))

    @property
    def gap(self) -> float:
        """Validation loss less training loss, with the final weights: what was learned by heart."""
        return self.final["validation_loss"] - self.final["train_loss"]

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers in plain types."""
        return {
            "run": dataclasses.asdict(self.run),
            "layers": list(self.layers),
            "parameters": self.parameters,
            "diverged": self.diverged,
            "final": self.final,
            "history": self.history,
            "predicted": " ".join(map(str, self.predicted.tolist())),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Record:
        """Read what `to_dict` gave; ValueError or KeyError where something is missing."""
        history = {name: [_number(value) for value in data["history"][name]] for name in HISTORY}
        final = {} if data["diverged"] is not None else {name: _number(data["final"][name]) for name in FINAL}
        if len({len(values) for values in history.values()}) > 1 or not (history["seconds"] or data["diverged"]):
            raise ValueError("the history is not whole")
        return cls(
            Run(**data["run"]),
            tuple(data["layers"]),
            int(data["parameters"]),
            history,
            final,
            np.array(data["predicted"].split(), np.int64),
            data["diverged"],
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def write_record(record: Record, folder: Path, digest: str) -> None:
    """Write the file that says that a run is finished.

    Parameters
    ----------
    record : Record
    folder : Path
    digest : str
        `Dataset.digest` of what it was trained on.
    """
    write_json(folder / RECORD, {"schema": 1, "data": digest, **record.to_dict()})


def read_record(run: Run, folder: Path, digest: str) -> Record | None:
    """Read the record of a run; None where it is not finished.

    Raises
    ------
    ValueError
        Where the file is none, or of another run or other data: it names the file and what to do.
    """
    path = folder / RECORD
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        held = json.loads(text)
        found, of = Record.from_dict(held), held["data"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no record of a run ({error!r}): delete it to have the run repeated") from None
    if of != digest:
        raise ValueError(f"{path}: trained on other data; take another folder, or delete this one")
    if found.run != run:
        raise ValueError(f"{path}: the record of another run; delete it to have this one repeated")
    return found


@dataclass(frozen=True)
class Results:
    """A finished study.

    Attributes
    ----------
    dataset : Dataset
    records : tuple of Record
        In the order of the study's runs.
    folder : Path or None
        Where the runs' weights are: ``folder / "runs" / run.key / "weights.safetensors"``.
    """

    dataset: Dataset
    records: tuple[Record, ...]
    folder: Path | None = None
    arms: tuple[Run, ...] = field(init=False)

    def __post_init__(self) -> None:
        arms = tuple(dict.fromkeys(record.run.arm for record in self.records))
        object.__setattr__(self, "arms", arms)

    def of(self, arm: Run) -> list[Record]:
        """The records of an arm that did not diverge, by seed."""
        found = [record for record in self.records if record.run.arm == arm and record.diverged is None]
        return sorted(found, key=lambda record: record.run.seed)

    def where(self, keep: Callable[[Run], bool]) -> Results:
        """The part of the study whose runs pass a test."""
        return dataclasses.replace(self, records=tuple(record for record in self.records if keep(record.run)))


@dataclass(frozen=True)
class Name:
    """What an arm is called, in parts.

    Attributes
    ----------
    model : str
        Empty where all arms are of one model.
    regularizer : str
        With its values where another arm has the same regularizer with others.
    settings : str
        Those that vary, as ``"n = 500, epochs 20"``.
    """

    model: str
    regularizer: str
    settings: str

    @property
    def full(self) -> str:
        """All of it."""
        start = f"{self.model}: {self.regularizer}" if self.model else self.regularizer
        return f"{start}, {self.settings}" if self.settings else start

    @property
    def group(self) -> str:
        """All but the regularizer."""
        return ", ".join(filter(None, (self.model, self.settings)))


def names(arms: Sequence[Run]) -> dict[Run, Name]:
    """Name arms by what tells them apart: the regularizer always, and the model and any setting that varies.

    Examples
    --------
    >>> arms = [Run(), Run(regularizer="dropout"), Run(train_size=500)]
    >>> list(names(arms).values())[1]
    Name(model='', regularizer='dropout', settings='n = 3,000')
    """
    plans = {arm: parse(arm.regularizer) for arm in arms}
    spellings: dict[str, set[str]] = {}
    for plan in plans.values():
        spellings.setdefault(plan.family, set()).add(plan.text)
    models = len({arm.model for arm in arms}) > 1
    sizes = len({arm.train_size for arm in arms}) > 1
    named = {}
    for arm, plan in plans.items():
        values = len(spellings[plan.family]) > 1
        regularizer = plan.label if values else plan.family.replace("+", " + ")
        settings = [f"n = {arm.train_size:,}"] if sizes else []
        for name in ("validation_size", "epochs", "batch_size", "optimizer", "lr", "schedule"):
            # A model's own settings need not be told twice.
            if len({getattr(other, name) for other in arms if other.model == arm.model}) > 1:
                settings.append(f"{name.replace('_', ' ')} {getattr(arm, name)}")
        named[arm] = Name(arm.model if models else "", regularizer, ", ".join(settings))
    return named


def labels(arms: Sequence[Run]) -> dict[Run, str]:
    """Name arms in one text each, as `names` does.

    Examples
    --------
    >>> arms = [Run(regularizer="none"), Run(regularizer="dropout=0.5")]
    >>> list(labels(arms).values())
    ['none', 'dropout']
    >>> arms += [Run(regularizer="dropout=0.2"), Run(train_size=500)]
    >>> list(labels(arms).values())
    ['none, n = 3,000', 'dropout p=0.5, n = 3,000', 'dropout p=0.2, n = 3,000', 'none, n = 500']
    """
    return {arm: name.full for arm, name in names(arms).items()}
