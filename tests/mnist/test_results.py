"""Records on the disk, and what arms are called."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist.results import RECORD, Name, Record, Results, labels, names, read_record, write_record
from fastdrop.mnist.study import Run

from .report.made import NONE, dataset, diverged, record, run, study


def equal(one: Record, other: Record) -> bool:
    return one.to_dict() == other.to_dict()


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    made = record(run("dropout", seed=3), dataset(), 0.9)
    write_record(made, tmp_path, "abc")
    found = read_record(made.run, tmp_path, "abc")
    assert found is not None and equal(found, made)
    assert found.predicted.dtype == np.int64
    np.testing.assert_array_equal(found.predicted, made.predicted)


def test_a_diverged_record_comes_back(tmp_path: Path) -> None:
    made = diverged(record(run(), dataset(), 0.9))
    made.history["validation_loss"][-1] = math.nan
    write_record(made, tmp_path, "abc")
    found = read_record(made.run, tmp_path, "abc")
    assert found is not None and found.diverged == made.diverged and found.final == {}
    assert math.isnan(found.history["validation_loss"][-1])


def test_no_record(tmp_path: Path) -> None:
    assert read_record(run(), tmp_path, "abc") is None


def test_a_record_of_other_data_or_of_another_run(tmp_path: Path) -> None:
    made = record(run(), dataset(), 0.9)
    write_record(made, tmp_path, "abc")
    with pytest.raises(ValueError, match="trained on other data"):
        read_record(made.run, tmp_path, "abd")
    with pytest.raises(ValueError, match="the record of another run"):
        read_record(run(seed=1), tmp_path, "abc")


@pytest.mark.parametrize("change", ["", "{", "[]", "{}", "null", '{"data": "abc"}'])
def test_a_damaged_record_is_named(tmp_path: Path, change: str) -> None:
    (tmp_path / RECORD).write_text(change)
    with pytest.raises(ValueError, match=rf"{RECORD}: no record of a run .* delete it"):
        read_record(run(), tmp_path, "abc")


def test_a_record_without_an_entry_is_named(tmp_path: Path) -> None:
    made = record(run(), dataset(), 0.9)
    write_record(made, tmp_path, "abc")
    held = json.loads((tmp_path / RECORD).read_text())
    for name in held.keys() - {"schema"}:
        (tmp_path / RECORD).write_text(json.dumps({key: value for key, value in held.items() if key != name}))
        with pytest.raises(ValueError, match="no record of a run"):
            read_record(made.run, tmp_path, "abc")
    for place in ("history", "final"):
        for name in held[place]:
            part = {key: value for key, value in held[place].items() if key != name}
            (tmp_path / RECORD).write_text(json.dumps({**held, place: part}))
            with pytest.raises(ValueError, match="no record of a run"):
                read_record(made.run, tmp_path, "abc")
    for values in ([], held["history"]["seconds"][1:]):
        history = {key: [] for key in held["history"]} if not values else {**held["history"], "seconds": values}
        (tmp_path / RECORD).write_text(json.dumps({**held, "history": history}))
        with pytest.raises(ValueError, match="history is not whole"):
            read_record(made.run, tmp_path, "abc")


def test_best_epoch_and_gap() -> None:
    made = record(run(), dataset(), 0.9)
    assert (made.epochs, made.best_epoch, made.gap) == (3, 3, pytest.approx(0.05))
    made.history["validation_loss"][:] = [0.5, 0.25, math.nan]
    assert made.best_epoch == 2


def test_arms_and_the_part_of_a_study() -> None:
    results = study([(run(), NONE), (run("dropout"), NONE[:2])])
    shuffled = Results(results.dataset, tuple(reversed(results.records)))
    assert [arm.regularizer for arm in results.arms] == ["none", "dropout=0.5"]
    assert [found.run.seed for found in shuffled.of(results.arms[0])] == [0, 1, 2, 3, 4]
    part = results.where(lambda each: each.regularizer == "none")
    assert (len(part.records), len(part.arms)) == (5, 1)
    first = results.records[0]
    records = (diverged(first), *results.records[1:])
    assert first not in Results(results.dataset, records).of(first.run.arm)
    assert len(Results(results.dataset, records).of(first.run.arm)) == 4


def test_names_tell_what_varies() -> None:
    arms = [Run(), Run(regularizer="dropout=0.2"), Run(regularizer="dropout"), Run(model="mlp", epochs=3)]
    assert list(names(arms).values())[1] == Name("cnn", "dropout p=0.2", "")
    # The other model's epochs are its own, and the model is told.
    assert list(labels(arms).values())[-1] == "mlp: none"
    arms.append(Run(epochs=3))
    assert list(labels(arms).values())[-1] == "cnn: none, epochs 3"
    assert names(arms)[arms[0]].group == "cnn, epochs 40"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("train_size", 5, "n = 5"), ("validation_size", 5, "validation size 5"), ("epochs", 5, "epochs 5"),
        ("batch_size", 5, "batch size 5"), ("optimizer", "sgd", "optimizer sgd"), ("lr", 0.5, "lr 0.5"),
        ("schedule", "cosine", "schedule cosine"),
    ],
)  # fmt: skip
def test_any_setting_that_varies_is_told(setting: str, value: object, told: str) -> None:
    other = dataclasses.replace(Run(), **{setting: value})  # type: ignore[arg-type]
    assert labels([Run(), other])[other] == f"none, {told}"


def test_no_two_arms_share_a_label() -> None:
    regularizers = ["none", "dropout", "dropout=0.2", "dropout+l2", "dropout+l2=0.5", "batch-norm"]
    arms = [
        Run(model=model, regularizer=regularizer, train_size=size)
        for model in ("cnn", "mlp")
        for regularizer in regularizers
        for size in (5, 50)
    ]
    assert len(set(labels(arms).values())) == len(arms)
