"""Training steps of whole networks, written once: fastdrop.nn and PyTorch have the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import PIXELS, Case
from .ready import Ready
from .steps import CLASSES, check_learns, training_step

__all__ = ["NETWORKS", "images", "mlp", "prepare"]


def _cnn(nn: Any, p: float) -> Any:
    """The network of ``fastdrop mnist``."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(p),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(p),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(p), nn.Linear(128, CLASSES),
    )  # fmt: skip


def mlp(nn: Any, p: float) -> Any:
    """Two hidden layers of 800, as in the dropout paper's comparison on MNIST."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 800), nn.ReLU(), nn.Dropout(p), nn.Linear(800, 800), nn.ReLU(), nn.Dropout(p),
        nn.Linear(800, CLASSES),
    )  # fmt: skip


NETWORKS = {"cnn-step": _cnn, "mlp-step": mlp}


def images(case: Case) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (N, 1, 28, 28) of noise, with a bright bar at a height that says the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, case.n // PIXELS)
    inputs = rng.standard_normal((len(labels), 1, 28, 28), np.float32)
    for bar in range(2):
        inputs[np.arange(len(labels)), 0, 2 * labels + 4 + bar] += 2
    return inputs, labels


def prepare(case: Case, nn: Any, optim: Any, tensor: Callable[[NDArray[Any]], Any], enter: Callable[[], None]) -> Ready:
    """One step: forward, cross entropy, backward, Adam."""
    network = NETWORKS[case.family](nn, case.p)
    inputs, labels = (tensor(array) for array in images(case))
    optimizer = optim.Adam(network.parameters(), lr=1e-3)

    call = training_step(optimizer, lambda: nn.functional.cross_entropy(network(inputs), labels))

    # fastdrop's own threads do not spin, the BLAS' do.
    return Ready(call, enter=enter, spins=True, verify=lambda: check_learns(lambda: float(call().item())))
