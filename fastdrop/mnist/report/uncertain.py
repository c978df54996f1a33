"""Test digits read many times with dropout at work, by the weights that a run has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import nn
from ..data import split
from ..models import make
from ..regularizers import parse
from ..results import Record, Results
from ..runner import run_folder
from ..training import WEIGHTS, alone, normalise

__all__ = ["IMAGES", "PASSES", "Uncertain", "uncertain"]

#: As many test images are read at most, evenly from the file, this often.
IMAGES, PASSES = 2000, 50

BATCH = 250

#: The share of images that counts as the most uncertain.
SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Uncertain:
    """What Monte-Carlo dropout says of some test images.

    Attributes
    ----------
    record : Record
        Of the run whose weights were taken.
    total : int
        Test images in the file.
    passes : int
    indices : ndarray of int64, shape (N,)
        Which test images.
    truth, plain : ndarray of int64, shape (N,)
        Their classes, and those read with dropout off.
    mean : ndarray of float64, shape (N, classes)
        The prediction, averaged over the passes.
    entropy, information : ndarray of float64, shape (N,)
        Its entropy, and the mutual information of prediction and weights, in nats.
    """

    record: Record
    total: int
    passes: int
    indices: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    plain: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    entropy: npt.NDArray[np.float64]
    information: npt.NDArray[np.float64]

    @property
    def which(self) -> str:
        """The images in words."""
        if len(self.indices) == self.total:
            return f"all {self.total:,} test images"
        return f"{len(self.indices):,} of the {self.total:,} test images, evenly from the file"

    @property
    def sentence(self) -> str:
        """Whether uncertainty finds errors."""
        wrong = self.plain != self.truth
        most = np.argsort(-self.entropy, kind="stable")[: max(1, round(SHARE * len(wrong)))]
        rest = np.setdiff1d(np.arange(len(wrong)), most)
        return (
            f"Of the {len(most):,} most uncertain {int(wrong[most].sum()):,} are misread without noise, of the other "
            f"{len(rest):,} {int(wrong[rest].sum()):,}."
        )


def uncertain(results: Results, tell: Callable[[str], Any] | None = None) -> Uncertain | str:
    """Read test images with the noise of training, by the first run that has any.

    The passes are named by the run's seed, and run on one thread: the same weights give the same numbers.

    Parameters
    ----------
    results : Results
    tell : callable, optional
        Told what takes seconds.

    Returns
    -------
    Uncertain or str
        A text says why there is nothing.
    """
    noisy = [arm for arm in results.arms if parse(arm.regularizer).noise is not None and results.of(arm)]
    if not noisy:
        return "no arm that drops anything ended well; --regularizer none dropout brings one"
    if results.folder is None:
        return "the weights of these results are not kept; a study of the command keeps them"
    record = results.of(noisy[0])[0]
    run, dataset = record.run, results.dataset
    if tell is not None:
        tell(f"reading test digits {PASSES} times with the noise of {run.regularizer}")
    path = run_folder(results.folder, run) / WEIGHTS
    total = len(dataset.test_labels)
    indices = np.unique(np.linspace(0, total - 1, min(total, IMAGES)).astype(np.int64))
    pixels = split(dataset, run.train_size, run.validation_size, run.seed).train[0]
    x = normalise(dataset.test_images[indices], float(pixels.mean()), float(pixels.std()) or 1.0)
    with alone(run.seed):
        model = make(run.model, run.regularizer, dataset.size, dataset.classes)
        try:
            nn.load_weights(model, path)
        except FileNotFoundError:
            return f"the weights are missing ({path})"
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            return f"the weights cannot be read ({error})"
        plain = nn.predict(model, x).argmax(axis=1)
        found = nn.mc_predict(model, x, PASSES, run.seed, kind="classification", batch_size=BATCH)
    return Uncertain(
        record,
        total,
        PASSES,
        indices,
        dataset.test_labels[indices].astype(np.int64),
        plain,
        found.mean,
        np.asarray(found.predictive_entropy),
        np.asarray(found.mutual_information),
    )
