"""What a study runs: `Run`, the settings of one training, and `expand`, which makes many of them from a grid."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import check_int, check_real
from .._extra import extra
from .data import Dataset
from .models import MODELS, check
from .regularizers import parse, parts_of

__all__ = ["AXES", "PRESETS", "Run", "expand", "preset", "read_toml"]

#: What a grid may list: the product of these lists is run. Everything else in it is a setting of `Run`.
AXES = ("models", "regularizers", "p", "train_sizes", "seeds")

#: Runs that a grid may have of each model: more are a slip of the pen, and would fill the memory before the first.
MOST = 100_000

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine")

#: Sizes of the data and number of epochs. A small training set and many epochs let a network
#: without dropout overfit within minutes.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"train_sizes": 1000, "validation_size": 1000, "epochs": 20, "seeds": 5},
    "default": {"train_sizes": 3000, "validation_size": 2000, "epochs": 40, "seeds": 5},
    "full": {"train_sizes": "all", "validation_size": 5000, "epochs": 10, "seeds": 3},
}

#: The same where the training file holds fewer images than this, as that of scikit-learn's digits.
FEW = 5000
PRESETS_FEW: dict[str, dict[str, Any]] = {
    "quick": {"train_sizes": 500, "validation_size": 400, "batch_size": 32, "epochs": 60, "seeds": 3},
    "default": {"train_sizes": 500, "validation_size": 400, "batch_size": 32, "epochs": 150, "seeds": 5},
    "full": {"train_sizes": "all", "validation_size": 400, "batch_size": 32, "epochs": 150, "seeds": 5},
}


@dataclass(frozen=True)
class Run:
    """All that the training of one network depends on, besides the images.

    Attributes
    ----------
    model : str
        Of `models.MODELS`.
    regularizer : str
        As `regularizers.parse` reads it.
    train_size, validation_size : int
        Images, both from the training file.
    seed : int
        Decides the split, the initial weights, the order of the images and the masks.
    epochs : int
        Passes over the training images.
    batch_size : int
        Images per step.
    optimizer : {"adam", "sgd"}
        SGD has a momentum of .9.
    lr : float
        Learning rate.
    schedule : {"constant", "cosine"}
        Cosine: the learning rate falls from `lr` to nearly 0, along half a cosine, epoch by epoch.

    Raises
    ------
    ValueError, TypeError
        Where one of them is none that can be run; the message names it.

    Examples
    --------
    >>> run = Run(regularizer="dropout", seed=7)
    >>> run.regularizer, run.key
    ('dropout=0.5', 'cnn-dropout_0.5-n3000-s7-c9d9dc02')
    >>> Run(epochs=0)
    Traceback (most recent call last):
    ValueError: epochs has to be at least 1, but got 0
    """

    model: str = "cnn"
    regularizer: str = "none"
    train_size: int = 3000
    validation_size: int = 5000
    seed: int = 0
    epochs: int = 40
    batch_size: int = 64
    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"

    def __post_init__(self) -> None:
        plan = check(self.model, self.regularizer)
        object.__setattr__(self, "regularizer", plan.text)  # one way to write it, so that equal runs are equal
        least = {"seed": 0, "epochs": 1, "train_size": 1, "validation_size": 1, "batch_size": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} has to be a whole number, but got {value!r}")
            if value < bound:
                raise ValueError(f"{name} has to be at least {bound}, but got {value}")
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)):
            raise TypeError(f"lr has to be a number, but got {self.lr!r}")
        object.__setattr__(self, "lr", check_real("lr", self.lr))
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr has to be above 0, but got {self.lr}")
        for name, words in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} has to be one of {', '.join(words)}, but got {getattr(self, name)!r}")

    @property
    def arm(self) -> Run:
        """The same run for seed 0: what runs of other seeds have in common."""
        return dataclasses.replace(self, seed=0)

    @property
    def key(self) -> str:
        """A name for files: what stands out, and a digest of everything."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        regularizer = self.regularizer.replace("=", "_")
        return f"{self.model}-{regularizer}-n{self.train_size}-s{self.seed}-{digest}"


def preset(name: str, dataset: Dataset) -> dict[str, Any]:
    """Give the grid of a preset, by the size of the data."""
    return dict((PRESETS_FEW if len(dataset.train_labels) < FEW else PRESETS)[name])


def read_toml(path: str | Path) -> list[dict[str, Any]]:
    """Read a file of grids.

    Its top level is a grid, or what the tables ``[[grid]]`` have in common: each is run, and what two of them share is
    run once.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of dict
        As `expand` takes them.

    Raises
    ------
    OSError
        Where it cannot be read.
    ValueError
        Where it is no TOML, or `grid` is no list of tables.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "study.toml")
    >>> _ = path.write_text('''
    ... epochs = 20
    ... [[grid]]
    ... regularizers = ["none", "dropout"]
    ... [[grid]]
    ... train_sizes = [500, 1000, 2000]
    ... ''')
    >>> read_toml(path)
    [{'epochs': 20, 'regularizers': ['none', 'dropout']}, {'epochs': 20, 'train_sizes': [500, 1000, 2000]}]
    """
    try:
        toml = extra("tomllib")
    except ImportError:  # Python 3.10
        toml = extra("tomli")
    try:
        content = toml.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # no UTF-8, or no TOML
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    grids = content.pop("grid", [{}])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        raise ValueError(f"{path}: grid has to be tables, each headed [[grid]]")
    return [{**content, **grid} for grid in grids]


def expand(grids: Iterable[Mapping[str, Any]], dataset: Dataset, named: str = "default") -> list[Run]:
    """Make the runs of some grids.

    Parameters
    ----------
    grids : iterable of mapping
        Each with lists for `AXES` and numbers for the other attributes of `Run`. One value stands for a list of one; a
        number of seeds n for the seeds 0 to n - 1; None for what the preset, the model or `Run` says. Each p is tried
        with every regularizer that drops and tells no p of its own. A train size of "all" takes all that
        validation leaves.
    dataset : Dataset
        Decides the preset's sizes, and how many images there are.
    named : {"quick", "default", "full"}
        The preset.

    Returns
    -------
    list of Run
        Without duplicates. In order of their seeds first, so that a study that was stopped has all arms.

    Raises
    ------
    ValueError, TypeError
        Where a name or a value is none that can be run.

    Examples
    --------
    >>> import numpy as np
    >>> images, labels = np.zeros((9000, 8, 8), np.uint8), np.zeros(9000, np.uint8)
    >>> dataset = Dataset("blank", "nowhere", images, labels, images, labels)
    >>> grid = {"regularizers": ["none", "dropout"], "p": [0.2, 0.5], "train_sizes": 100, "seeds": [4]}
    >>> [(run.regularizer, run.seed) for run in expand([grid], dataset)]
    [('none', 4), ('dropout=0.2', 4), ('dropout=0.5', 4)]
    """
    have = len(dataset.train_labels)
    runs: dict[Run, None] = {}
    for grid in grids:
        known = {*AXES, *(f.name for f in dataclasses.fields(Run))} - {"model", "regularizer", "train_size", "seed"}
        for name in grid:
            if name not in known:
                raise ValueError(f"a grid has no {name!r}; it has {', '.join(sorted(known))}")
        told = {name: value for name, value in grid.items() if value is not None}
        for model in _strings("models", told.get("models", ["cnn"])):
            if model not in MODELS:
                raise ValueError(f"model {model!r}: there is none of that name; there are {', '.join(MODELS)}")
            kind = MODELS[model]
            own = {**kind.training, **(kind.full if named == "full" else {})}
            settings = {**preset(named, dataset), **own, **told}
            regularizers = _regularizers(settings.get("regularizers", kind.compare), settings.get("p"))
            held = check_int("validation_size", settings["validation_size"], 1, have)
            sizes = [have - held if size == "all" else size for size in _list("train_sizes", settings["train_sizes"])]
            rest = {name: value for name, value in settings.items() if name not in AXES}
            seeds = _seeds(settings["seeds"])
            if len(regularizers) * len(sizes) * len(seeds) > MOST:
                raise ValueError(f"a grid has at most {MOST} runs of each model; fewer seeds, sizes or p, please")
            for regularizer, size, seed in itertools.product(regularizers, sizes, seeds):
                run = Run(model=model, regularizer=regularizer, train_size=size, seed=seed, **rest)
                if run.train_size + run.validation_size > have:
                    raise ValueError(
                        f"{run.train_size} training and {run.validation_size} validation images, but {dataset.name}'s "
                        f"training file holds {have}"
                    )
                runs[run] = None
    return sorted(runs, key=lambda run: run.seed)


def _list(name: str, value: Any) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not values:
        raise ValueError(f"{name} is an empty list: nothing to run")
    return values


def _strings(name: str, value: Any) -> list[str]:
    values = _list(name, value)
    for each in values:
        if not isinstance(each, str):
            raise TypeError(f"{name} has to hold names, but got {each!r}")
    return values


def _seeds(value: Any) -> Sequence[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"seeds has to be a number from 1 on, or a list of seeds, but got {value}")
        return range(value)
    return _list("seeds", value)


def _regularizers(value: Any, p: Any) -> list[str]:
    """Combine regularizers with each p, where they drop and do not tell theirs."""
    found: list[str] = []
    for text in _strings("regularizers", value):
        plan = parse(text)
        open_ = plan.noise is not None and f"{plan.noise}=" not in text.replace(" ", "")
        for each in _list("p", p) if p is not None and open_ else [None]:
            if each is not None and (isinstance(each, bool) or not isinstance(each, (int, float))):
                raise TypeError(f"p has to hold probabilities, but got {each!r}")
            found.append(text if each is None else parse(_with_p(text, plan.noise or "", each)).text)
    return found


def _with_p(text: str, noise: str, p: float) -> str:
    return "+".join(f"{noise}={p}" if part == noise else part for part in parts_of(text))
