"""The training step that frameworks compete in: its data, and what is checked of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import HIDDEN, Case
from .ready import DEVIATIONS, WrongAnswer

__all__ = ["CLASSES", "FEATURES", "check_dropped", "check_learns", "examples", "training_step"]

FEATURES, CLASSES = 256, 10


def examples(case: Case) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs and labels that can be learnt."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, case.n // HIDDEN)
    inputs = rng.standard_normal((len(labels), FEATURES), np.float32)
    inputs[np.arange(len(labels)), labels] += 4
    return inputs, labels


def training_step(optimizer: Any, loss_of: Callable[[], Any]) -> Callable[[], Any]:
    """What is timed: forward, backward, the optimizer's step; gives the loss."""

    def call() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    return call


def check_learns(step: Callable[[], float]) -> None:
    """Ten steps have to bring the loss down."""
    losses = [step() for _ in range(10)]
    if not all(map(math.isfinite, losses)) or losses[-1] >= losses[0]:
        raise WrongAnswer(
            f"a training step that does not learn: the loss went from {losses[0]:.4f} to {losses[-1]:.4f}"
        )


def check_dropped(case: Case, before: NDArray[Any], after: NDArray[Any]) -> None:
    """Of the units that fired, 1 - p have to be kept, and scaled."""
    fired = before > 0
    kept = after[fired] != 0
    rate = kept.mean()
    if abs(rate - (1 - case.p)) > DEVIATIONS * (case.p * (1 - case.p) / kept.size) ** 0.5:
        raise WrongAnswer(f"the layer kept {rate:.4f} of {kept.size} where 1 - p is {1 - case.p:g}")
    if not np.allclose(after[fired][kept], before[fired][kept] / (1 - case.p), rtol=1e-5):
        raise WrongAnswer("the layer's kept units are not x / (1 - p)")
