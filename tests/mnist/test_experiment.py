"""The comparison itself, on few images."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist import experiment
from fastdrop.mnist.data import Dataset, load
from fastdrop.mnist.experiment import Config, Net, Result, Step, configure, normalise, run

from .conftest import digits


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("MNIST", "here", *digits(120, 1), *digits(40, 2))


CONFIG = Config(seed=3, epochs=3, train_size=60, validation_size=50, batch_size=16)


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> Result:
    return run(CONFIG, dataset)


def test_both_nets_are_measured_in_every_epoch(result: Result) -> None:
    assert [net.name for net in result.nets] == ["no dropout", "dropout"]
    assert result.sizes == {"train": 60, "validation": 50, "test": 40}
    for net in result.nets:
        assert {len(values) for values in net.history.values()} == {3}
        assert net.predicted.shape == (40,)
        truth = result.dataset.test_labels
        assert net.test["accuracy"] == pytest.approx((net.predicted == truth).mean())
        assert all(0 <= value <= 1 for value in net.history["train_accuracy"] + net.history["validation_accuracy"])
        assert net.gap == net.history["validation_loss"][-1] - net.history["train_loss"][-1]
    plain, dropped = result.nets
    assert plain.parameters == dropped.parameters
    assert not any("Dropout" in layer for layer in plain.layers)
    assert sum("Dropout" in layer for layer in dropped.layers) == 3


def test_the_nets_learn(result: Result) -> None:
    for net in result.nets:
        assert net.history["train_loss"][-1] < net.history["train_loss"][0]


def test_equal_seeds_give_equal_runs(dataset: Dataset, result: Result) -> None:
    def numbers(given: Result) -> list[list[float]]:
        return [values for net in given.nets for key, values in net.history.items() if key != "seconds"]

    assert numbers(run(CONFIG, dataset)) == numbers(result)
    assert numbers(run(dataclasses.replace(CONFIG, seed=4), dataset)) != numbers(result)


def test_the_nets_differ_by_dropout_alone(dataset: Dataset, result: Result) -> None:
    # With p = 0 the second net must go exactly the way of the first: same weights, same order of the images.
    same = run(dataclasses.replace(CONFIG, dropout=(0.0, 0.0)), dataset)
    plain, dropped = same.nets
    for key in ("train_loss", "validation_loss"):
        assert plain.history[key] == dropped.history[key] == result.nets[0].history[key]
        assert result.nets[1].history[key] != plain.history[key]


def test_the_listener_hears_every_batch_and_epoch(dataset: Dataset, result: Result) -> None:
    steps: list[Step] = []
    run(CONFIG, dataset, steps.append)
    rows = [step for step in steps if step.row]
    assert [(step.net, step.epoch) for step in rows] == [
        (name, epoch) for name in ("no dropout", "dropout") for epoch in (1, 2, 3)
    ]
    assert rows[2].row is not None
    assert rows[2].row["validation_loss"] == result.nets[0].history["validation_loss"][-1]
    batches = [step for step in steps if not step.row]
    assert [step.done for step in batches[:4]] == [16, 32, 48, 60]
    assert len(batches) == 2 * 3 * 4
    assert {step.epoch for step in batches} == {1, 2, 3}


def test_the_best_epoch_is_that_of_the_lowest_validation_loss() -> None:
    def net(losses: list[float]) -> Net:
        history = dict.fromkeys(("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"), losses)
        return Net("x", (), 0, history, {"loss": 0.0, "accuracy": 0.0}, np.zeros(1, np.int64))

    assert net([3.0, 1.0, 2.0]).best_epoch == 2
    assert net([1.0, 1.0]).best_epoch == 1
    assert net([math.nan, 2.0, math.inf]).best_epoch == 2
    assert net([3.0, 1.0, 2.0]).to_dict()["best_epoch"]["validation_loss"] == 1.0
    assert net([3.0, 1.0, 2.0]).to_dict()["final"]["validation_loss"] == 2.0


def test_normalised_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5)).astype(np.uint8)
    made = normalise(images, float(images.mean()), float(images.std()))
    assert made.dtype == np.float32
    assert made.shape == (20, 1, 5, 5)
    np.testing.assert_allclose(made[:, 0], (images - images.mean()) / images.std(), atol=1e-5)


@pytest.mark.parametrize("preset", ["quick", "default", "full"])
def test_presets_fit_the_digits_of_scikit_learn(preset: str, alone: Path) -> None:
    small = load(download=False, say=lambda _: None)
    config = configure(small, preset, epochs=1)
    done = run(config, small)
    assert done.sizes["test"] == 450
    assert done.nets[1].predicted.shape == (450,)


def test_full_uses_the_whole_training_file() -> None:
    for sizes in experiment.PRESETS.values():
        assert sizes["full"]["train_size"] is None


def test_changes_go_before_the_preset(dataset: Dataset) -> None:
    config = configure(dataset, "quick", seed=9, epochs=None, lr=0.5)
    assert (config.seed, config.lr) == (9, 0.5)
    assert config.epochs == experiment.PRESETS["MNIST"]["quick"]["epochs"]


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch_size": 0}, {"train_size": 0}, {"seed": -1}, {"lr": 0.0}, {"lr": math.nan}]
)
def test_impossible_configurations(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name} has to be"):
        Config(**change)  # type: ignore[arg-type]


def test_a_training_that_diverges_says_so(dataset: Dataset) -> None:
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="loss is"):
        run(dataclasses.replace(CONFIG, lr=1e30), dataset)


def test_interruption_passes_through(dataset: Dataset) -> None:
    def stop(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, dataset, stop)
