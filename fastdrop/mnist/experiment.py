"""The comparison: two networks, equal but for dropout, trained side by side on the same images in the same order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop

from .. import nn, optim
from .data import Bytes, Dataset, split
from .models import DROPOUT, cnn

__all__ = ["NETS", "PRESETS", "Config", "Net", "Result", "Step", "configure", "normalise", "run"]

Floats = npt.NDArray[np.float32]
Labelled = tuple[Floats, npt.NDArray[np.int64]]

#: The nets of the comparison: name and whether it has dropout.
NETS = (("no dropout", False), ("dropout", True))

#: Sizes of the data and number of epochs: for MNIST, and for scikit-learn's 8x8 digits. None is all that is left.
#: A small training set and many epochs let the net without dropout overfit within minutes.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "MNIST": {
        "quick": {"train_size": 1000, "validation_size": 2000, "epochs": 30},
        "default": {"train_size": 3000, "validation_size": 5000, "epochs": 40},
        "full": {"train_size": None, "validation_size": 5000, "epochs": 10},
    },
    "scikit-learn digits": {
        "quick": {"train_size": 500, "validation_size": 400, "batch_size": 32, "epochs": 60},
        "default": {"train_size": 500, "validation_size": 400, "batch_size": 32, "epochs": 150},
        "full": {"train_size": None, "validation_size": 400, "batch_size": 32, "epochs": 150},
    },
}


@dataclass(frozen=True)
class Config:
    """What a run depends on, besides the images.

    Attributes
    ----------
    seed : int
        Decides the split, the initial weights, the order of the images and the dropout masks.
    epochs : int
        Passes over the training images.
    train_size : int or None
        Training images; None takes all that validation leaves.
    validation_size : int
        Validation images, taken from the training file too.
    batch_size : int
        Images per step.
    lr : float
        Adam's learning rate.
    dropout : (float, float)
        p, the probability to drop, after the pools and after the dense layer.

    Examples
    --------
    >>> Config(epochs=0)
    Traceback (most recent call last):
    ValueError: epochs has to be at least 1, but got 0
    """

    seed: int = 0
    epochs: int = 40
    train_size: int | None = 3000
    validation_size: int = 5000
    batch_size: int = 64
    lr: float = 1e-3
    dropout: tuple[float, float] = DROPOUT

    def __post_init__(self) -> None:
        least = {"seed": 0, "epochs": 1, "train_size": 1, "validation_size": 1, "batch_size": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"{name} has to be at least {bound}, but got {value}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr has to be above 0, but got {self.lr}")


def configure(dataset: Dataset, preset: str = "default", **changes: Any) -> Config:
    """Make the configuration of a preset, changed where asked for.

    Parameters
    ----------
    dataset : Dataset
        Decides the sizes: scikit-learn's digits are fewer.
    preset : {"quick", "default", "full"}
    **changes
        Attributes of Config; None leaves the preset's.
    """
    sizes = PRESETS.get(dataset.name, PRESETS["MNIST"])[preset]
    return Config(**{**sizes, **{name: value for name, value in changes.items() if value is not None}})


@dataclass(frozen=True)
class Step:
    """Where a run stands: told after each batch, and with `row` after each epoch.

    Attributes
    ----------
    net : str
        The net in training.
    epoch : int
        The epoch in progress, from 1.
    done, total : int
        Training images seen in this epoch, and images in an epoch.
    row : dict or None
        At the end of an epoch its numbers, as in Net.history.
    """

    net: str
    epoch: int
    done: int
    total: int
    row: dict[str, float] | None = None


@dataclass(frozen=True)
class Net:
    """What became of one net.

    Attributes
    ----------
    name : str
    layers : tuple of str
        As the layers print themselves.
    parameters : int
        Numbers learned.
    history : dict
        Per epoch: ``train_loss``, ``train_accuracy``, ``validation_loss``, ``validation_accuracy``, all measured after
        the epoch with dropout off, and ``seconds``.
    test : dict
        ``loss`` and ``accuracy`` on the test split, with the weights of the final epoch.
    predicted : ndarray of int64
        The digit read in each test image.
    """

    name: str
    layers: tuple[str, ...]
    parameters: int
    history: dict[str, list[float]]
    test: dict[str, float]
    predicted: npt.NDArray[np.int64]

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, of the lowest validation loss."""
        losses = self.history["validation_loss"]
        return 1 + min(range(len(losses)), key=lambda i: (not math.isfinite(losses[i]), losses[i]))

    @property
    def gap(self) -> float:
        """Validation loss less training loss after the final epoch: what was learned by heart."""
        return self.history["validation_loss"][-1] - self.history["train_loss"][-1]

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers in plain types."""
        return {
            "name": self.name,
            "layers": list(self.layers),
            "parameters": self.parameters,
            "final": {
                "epoch": len(self.history["train_loss"]),
                **{key: values[-1] for key, values in self.history.items() if key != "seconds"},
                "test_loss": self.test["loss"],
                "test_accuracy": self.test["accuracy"],
                "gap": self.gap,
            },
            "best_epoch": {
                "epoch": self.best_epoch,
                **{key: values[self.best_epoch - 1] for key, values in self.history.items() if key != "seconds"},
            },
            "history": self.history,
        }


@dataclass(frozen=True)
class Result:
    """A finished comparison."""

    config: Config
    dataset: Dataset
    sizes: dict[str, int]
    nets: tuple[Net, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers in plain types."""
        return {
            "dataset": {"name": self.dataset.name, "source": self.dataset.source, "side": self.dataset.side},
            "sizes": self.sizes,
            "config": asdict(self.config),
            "weights": "test figures, predictions and final: the weights of the final epoch",
            "nets": [net.to_dict() for net in self.nets],
            "seconds": self.seconds,
        }


def normalise(images: Bytes, mean: float, std: float) -> Floats:
    """Turn bytes (N, side, side) into float32 (N, 1, side, side) of about zero mean and unit variance.

    Examples
    --------
    >>> normalise(np.array([[[0, 255]]], np.uint8), 127.5, 127.5).tolist()
    [[[[-1.0, 1.0]]]]
    """
    # Only 256 values can occur, and images of a full run are many.
    table = ((np.arange(256) - mean) / std).astype(np.float32)
    return table[images][:, None]


def run(config: Config, dataset: Dataset, listen: Callable[[Step], None] | None = None) -> Result:
    """Train every net and measure it.

    All nets start from the same weights and see the images in the same order. Training and validation are measured
    after each epoch with dropout off, the test split once, with the weights of the final epoch: early stopping would
    hide what the comparison is to show.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    listen : callable, optional
        Told each `Step`.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        Where the dataset is too small for the sizes asked for.
    FloatingPointError
        Where training diverges.
    """
    started = time.perf_counter()
    splits = split(dataset, config.train_size, config.validation_size, config.seed)
    pixels = splits.train[0]
    mean, std = float(pixels.mean()), float(pixels.std()) or 1.0
    data = {
        part: (normalise(images, mean, std), labels.astype(np.int64))
        for part, (images, labels) in (
            ("train", splits.train),
            ("validation", splits.validation),
            ("test", splits.test),
        )
    }
    nets = tuple(_train(name, dropout, config, dataset.side, data, listen) for name, dropout in NETS)
    return Result(config, dataset, splits.sizes, nets, time.perf_counter() - started)


class _Recorder(nn.Callback):
    """Collects what `nn.fit` tells, adds the training images measured with dropout off, and passes it on."""

    def __init__(self, net: str, train: Labelled, listen: Callable[[Step], None] | None) -> None:
        self.net = net
        self.train = train
        self.listen = listen
        self.history: dict[str, list[float]] = {
            "train_loss": [],
            "train_accuracy": [],
            "validation_loss": [],
            "validation_accuracy": [],
            "seconds": [],
        }

    def _tell(self, epoch: int, seen: int, row: dict[str, float] | None = None) -> None:
        if self.listen:
            self.listen(Step(self.net, epoch, seen, len(self.train[1]), row))

    def on_batch_end(self, epoch: int, seen: int) -> None:
        self._tell(epoch, seen)

    def on_epoch_end(self, history: nn.History, model: nn.Module) -> None:
        told = history.epochs[-1]
        measured = nn.evaluate(model, self.train)
        row = {
            "train_loss": measured["loss"],
            "train_accuracy": measured["accuracy"],
            "validation_loss": told["val_loss"],
            "validation_accuracy": told["val_accuracy"],
            "seconds": told["seconds"],
        }
        for key, value in row.items():
            self.history[key].append(value)
        self._tell(len(history), len(self.train[1]), row)


def _train(
    name: str,
    dropout: bool,
    config: Config,
    side: int,
    data: dict[str, Labelled],
    listen: Callable[[Step], None] | None,
) -> Net:
    # Dropout draws nothing when it is made, so every net takes the same initial weights from here. The order of the
    # images has a generator of its own, which the masks of dropout do not move.
    fastdrop.manual_seed(config.seed)
    (order,) = fastdrop.Generator(config.seed).spawn(1)
    model = cnn(config.dropout if dropout else False, side=side)
    recorder = _Recorder(name, data["train"], listen)
    nn.fit(
        model,
        data["train"],
        validation=data["validation"],
        epochs=config.epochs,
        optimizer=optim.Adam(model.parameters(), lr=config.lr),
        batch_size=config.batch_size,
        generator=order,
        callbacks=[recorder],
        progress=False,
    )
    images, labels = data["test"]
    logits = nn.predict(model, images)
    with nn.no_grad():
        loss = float(nn.functional.cross_entropy(nn.tensor(logits), nn.tensor(labels)).item())
    predicted = logits.argmax(axis=1)
    return Net(
        name,
        tuple(str(layer) for layer in model),
        sum(parameter.array.size for parameter in model.parameters()),
        recorder.history,
        {"loss": loss, "accuracy": float((predicted == labels).mean())},
        predicted,
    )
