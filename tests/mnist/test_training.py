"""One run, on few images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop import nn
from fastdrop.mnist import training
from fastdrop.mnist.data import Dataset
from fastdrop.mnist.models import make
from fastdrop.mnist.results import Record
from fastdrop.mnist.study import Run
from fastdrop.mnist.training import Step, normalise, prepare, train

from .conftest import MEASURES, digits, numbers

RUN = Run("cnn", "dropout", train_size=60, validation_size=50, seed=3, epochs=3, batch_size=16)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("MNIST", "here", *digits(120, 1), *digits(40, 2))


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> tuple[Record, nn.Module]:
    return train(RUN, dataset)


def test_a_run_is_measured_in_every_epoch(dataset: Dataset, trained: tuple[Record, nn.Module]) -> None:
    record, model = trained
    assert record.run == RUN
    assert {len(values) for values in record.history.values()} == {3}
    assert record.epochs == 3
    assert record.diverged is None
    assert record.predicted.shape == (40,)
    assert record.final["test_accuracy"] == (record.predicted == dataset.test_labels).mean()
    for name in MEASURES:
        assert record.final[name] == record.history[name][-1]
    assert record.gap == record.final["validation_loss"] - record.final["train_loss"]
    assert record.parameters == sum(p.array.size for p in model.parameters())
    assert sum("Dropout" in layer for layer in record.layers) == 3
    assert record.history["train_loss"][-1] < record.history["train_loss"][0]
    images, labels = prepare(RUN, dataset)["test"]
    assert nn.evaluate(model, (images, labels))["accuracy"] == record.final["test_accuracy"]


def test_equal_settings_give_equal_runs(dataset: Dataset, trained: tuple[Record, nn.Module]) -> None:
    assert numbers(train(RUN, dataset)[0]) == numbers(trained[0])
    assert numbers(train(dataclasses.replace(RUN, seed=4), dataset)[0]) != numbers(trained[0])


def test_a_run_leaves_the_process_as_it_was(dataset: Dataset) -> None:
    before = fastdrop.default_generator().state, fastdrop.get_num_threads()
    train(dataclasses.replace(RUN, epochs=1), dataset)
    assert (fastdrop.default_generator().state, fastdrop.get_num_threads()) == before


def test_runs_of_a_seed_differ_by_the_regularizer_alone(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a dropout that does nothing the run must go exactly the way of the one without.
    plain = train(dataclasses.replace(RUN, regularizer="none"), dataset)[0]
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    assert numbers(train(RUN, dataset)[0]) == numbers(plain)


def test_what_is_heard(dataset: Dataset, trained: tuple[Record, nn.Module]) -> None:
    steps: list[Step] = []
    record, _ = train(RUN, dataset, listen=steps.append)
    rows = [step for step in steps if step.row]
    assert [step.epoch for step in rows] == [1, 2, 3]
    assert [step.row[name] for step in rows if step.row for name in MEASURES] == [
        record.history[name][epoch] for epoch in range(3) for name in MEASURES
    ]
    assert [(step.epoch, step.done) for step in steps if not step.row] == [
        (epoch, seen) for epoch in (1, 2, 3) for seen in (16, 32, 48, 60)
    ]


@pytest.mark.parametrize(
    "regularizer",
    ["l2=0.1", "max-norm=0.5", "label-smoothing=0.3", "batch-norm", "dropout=0.2+max-norm=0.5", "dropconnect"],
)
def test_each_regularizer_changes_a_run(dataset: Dataset, regularizer: str) -> None:
    run = Run("mlp", regularizer, train_size=60, validation_size=50, epochs=1, batch_size=16)
    plain = train(dataclasses.replace(run, regularizer="none"), dataset)[0]
    assert train(run, dataset)[0].history["train_loss"] != plain.history["train_loss"]


def test_max_norm_holds(dataset: Dataset) -> None:
    run = Run("mlp", "max-norm=0.5", train_size=60, validation_size=50, epochs=1, batch_size=16)
    _, model = train(run, dataset)
    for parameter in model.parameters():
        if parameter.array.ndim > 1:
            assert np.linalg.norm(parameter.array, axis=1).max() <= 0.5 * (1 + 1e-6)


def test_early_stopping_ends_a_run_with_its_best_weights(dataset: Dataset) -> None:
    # A learning rate this high makes some epoch worse than the one before.
    run = Run("mlp", "early-stopping=0", train_size=60, validation_size=50, epochs=40, batch_size=16, lr=0.01)
    record, model = train(run, dataset)
    assert 2 <= record.epochs < 40
    assert record.best_epoch == record.epochs - 1
    assert record.final["validation_loss"] == pytest.approx(min(record.history["validation_loss"]), rel=1e-6)
    assert nn.evaluate(model, prepare(run, dataset)["validation"])["loss"] == record.final["validation_loss"]


def test_a_cosine_ends_near_zero(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Watched(training._Schedule):
        def on_batch_end(self, epoch: int, seen: int) -> None:
            rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(training, "_Schedule", Watched)
    run = Run("mlp", train_size=60, validation_size=50, epochs=4, batch_size=60, lr=0.5, optimizer="sgd")
    train(run, dataset)
    assert rates == [0.5] * 4
    rates.clear()
    train(dataclasses.replace(run, schedule="cosine"), dataset)
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


def test_a_run_that_diverges_says_so(dataset: Dataset) -> None:
    record, _ = train(dataclasses.replace(RUN, lr=1e30), dataset)
    assert record.diverged is not None
    assert "the loss is" in record.diverged
    assert record.final == {}
    assert record.predicted.size == 0
    assert record.epochs < 3


@pytest.mark.parametrize("model", ["cnn", "lstm"])
def test_a_run_goes_on_from_the_disk(dataset: Dataset, tmp_path: Path, model: str) -> None:
    run = dataclasses.replace(RUN, model=model, regularizer="dropout+early-stopping=9", schedule="cosine")
    whole, weights = train(run, dataset)
    for stop in (1, 2):
        folder = tmp_path / str(stop)
        folder.mkdir()

        def interrupt(step: Step, stop: int = stop) -> None:
            if step.epoch == stop + 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(run, dataset, folder, interrupt)
        steps: list[Step] = []
        record, model_ = train(run, dataset, folder, steps.append)
        assert steps[0].epoch == stop + 1
        assert numbers(record) == numbers(whole)
        for a, b in zip(model_.parameters(), weights.parameters(), strict=True):
            np.testing.assert_array_equal(a.array, b.array)


def test_normalised_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 7)).astype(np.uint8)
    made = normalise(images, float(images.mean()), float(images.std()))
    assert made.dtype == np.float32
    assert made.shape == (20, 1, 5, 7)
    np.testing.assert_allclose(made[:, 0], (images - images.mean()) / images.std(), atol=1e-5)


def test_images_of_one_shade_do_not_divide_by_zero(dataset: Dataset) -> None:
    flat = dataclasses.replace(dataset, train_images=np.full_like(dataset.train_images, 7))
    assert np.isfinite(prepare(RUN, flat)["train"][0]).all()


def test_another_dataset(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 9, 13)).astype(np.uint8)
    labels = (np.arange(90) % 26).astype(np.uint8)
    letters = Dataset("letters", "here", images, labels, images[:30], labels[:30])
    record, _ = train(dataclasses.replace(RUN, epochs=1, train_size=40, validation_size=20), letters)
    assert record.predicted.max() < 26
    assert make("cnn", "dropout", (9, 13), 26)[-1].out_features == 26  # type: ignore[index]
