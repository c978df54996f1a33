"""What the passes of `mc_predict` add up to: running sums in float64, and the result made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdrop.nn.autograd import Array

__all__ = ["MCPrediction", "Sums"]


@dataclass(frozen=True, eq=False)
class MCPrediction:
    """What `mc_predict` found, in float64.

    Attributes
    ----------
    mean : ndarray
        Over the passes: of the outputs, or for a classifier of the class probabilities.
    variance : ndarray
        Unbiased, that is divided by T - 1; NaN for T = 1, which shows no spread.
    T : int
        The number of passes.
    seed
        What they were made from: pass t again is ``with mc_dropout(model, seed, t): model(x)``.
    predictive_entropy : ndarray or None
        Of a classifier, in nats, without the class axis: the entropy of the mean probabilities, all uncertainty.
    expected_entropy : ndarray or None
        The mean of the passes' entropies: what each pass is unsure of by itself (noise in the data).
    mutual_information : ndarray or None
        The difference of the two, at least 0: what the passes disagree about (the model's own ignorance, BALD).
    samples : ndarray or None
        The outputs of the passes as the model gave them, stacked along a new first axis, if asked for.
    """

    mean: Array
    variance: Array
    T: int
    seed: Any
    predictive_entropy: Array | None = None
    expected_entropy: Array | None = None
    mutual_information: Array | None = None
    samples: Array | None = None

    @property
    def std(self) -> Array:
        """The square root of `variance`."""
        return np.asarray(np.sqrt(self.variance))

    def __repr__(self) -> str:
        return f"MCPrediction(T={self.T}, seed={self.seed!r}, mean of shape {self.mean.shape})"


class Moments:
    """Mean and sum of squared deviations, without keeping what they are of (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: Array) -> None:
        self.count += 1
        with np.errstate(invalid="ignore", over="ignore"):
            delta = values - self.mean
            self.mean = self.mean + delta / self.count
            self.squares = self.squares + delta * (values - self.mean)

    def variance(self) -> Array:
        return np.asarray(self.squares / (self.count - 1) if self.count > 1 else np.full_like(self.mean, np.nan))


def softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):  # a row with an Inf that is no number
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def entropy(probabilities: Array) -> Array:
    # A probability of 0 adds nothing; a NaN stays one. What rounding leaves below 0 is 0.
    logs = np.log(np.where(probabilities == 0, 1, probabilities))
    return np.asarray(np.maximum(-(probabilities * logs).sum(axis=1), 0))


class Sums:
    """The running sums over the passes of one batch."""

    def __init__(self, kind: str, T: int, return_samples: bool) -> None:
        self.classes = kind == "classification"
        self.T = T
        self.values, self.entropy = Moments(), Moments()
        self.samples: Array | None = None
        self.return_samples = return_samples

    def add(self, output: Array) -> None:
        if self.return_samples:
            if self.samples is None:
                self.samples = np.empty((self.T, *output.shape), output.dtype)
            self.samples[self.values.count] = output
        values = output.astype(np.float64)
        if self.classes:
            if output.ndim < 2 or output.shape[1] < 2:
                raise ValueError(
                    "kind='classification' takes logits of shape (N, C) or (N, C, d1, ...) with 2 classes or more, "
                    f"but the model gave {output.shape}"
                )
            values = softmax(values)
            self.entropy.add(entropy(values))
        self.values.add(values)

    def results(self) -> dict[str, Array]:
        found = {"mean": np.asarray(self.values.mean), "variance": self.values.variance()}
        if self.classes:
            total = entropy(self.values.mean)
            expected = np.asarray(self.entropy.mean)
            found |= {"predictive_entropy": total, "expected_entropy": expected}
            found["mutual_information"] = np.maximum(total - expected, 0)
        return found
