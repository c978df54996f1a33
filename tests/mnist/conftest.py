"""Tiny files in MNIST's format, with their own sums in the place of MNIST's."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fastdrop.mnist import data
from fastdrop.mnist.results import Record

Bytes = npt.NDArray[np.uint8]


def idx(values: Bytes) -> bytes:
    """Pack an array of bytes as IDX."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def digits(count: int, seed: int) -> tuple[Bytes, Bytes]:
    """Make images of 28x28 noise with a bright bar whose place is the label: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    images = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6] = 255
    return images, labels


@pytest.fixture(scope="session")
def contents() -> dict[str, bytes]:
    """Give the four files' unpacked contents: 120 training and 40 test images."""
    files = {}
    for part, count, seed in (("train", 120, 1), ("t10k", 40, 2)):
        images, labels = digits(count, seed)
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return files


@pytest.fixture
def sums(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny files pass for MNIST."""
    monkeypatch.setattr(data, "SHA256", {name: hashlib.sha256(raw).hexdigest() for name, raw in contents.items()})


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's data, cache and network out; returns the empty cache folder."""
    monkeypatch.delenv("FASTDROP_DATA", raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setattr(data, "cache_dir", lambda: cache)
    monkeypatch.setattr(data, "TIMEOUT", (1.0, 1.0))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    return cache


@pytest.fixture
def put(contents: dict[str, bytes], sums: None) -> Callable[..., Path]:
    """Give a function that writes the four files into a folder, some of them changed or left out."""

    def write(folder: Path, *, packed: bool = True, **changes: bytes | None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, raw in contents.items():
            changed = changes.get(name.rpartition("-")[0].rpartition("-")[0].replace("-", "_"), raw)
            if changed is not None:
                (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(changed, 1) if packed else changed)
        return folder

    return write


#: Names of a history, but for the time.
MEASURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def numbers(record: Record) -> tuple[object, ...]:
    """All that was measured, but for the time: what has to be equal where runs are."""
    return (*(record.history[name] for name in MEASURES), record.final, record.predicted.tolist(), record.diverged)
