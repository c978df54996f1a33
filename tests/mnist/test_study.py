"""From a grid to runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdrop.mnist.data import Dataset
from fastdrop.mnist.models import MODELS
from fastdrop.mnist.study import PRESETS, PRESETS_FEW, Run, expand, preset, read_toml


def dataset(count: int = 60_000) -> Dataset:
    images, labels = np.zeros((count, 4, 4), np.uint8), np.zeros(count, np.uint8)
    return Dataset("blank", "here", images, labels, images[:5], labels[:5])


MNIST = dataset()


def test_nothing_asked_for_is_two_cnns_over_seeds() -> None:
    for named, sizes in PRESETS.items():
        runs = expand([{}], MNIST, named)
        assert {run.model for run in runs} == {"cnn"}
        assert {run.regularizer for run in runs} == {"none", "dropout=0.5"}
        assert {run.seed for run in runs} == set(range(sizes["seeds"]))
        assert len(runs) == 2 * sizes["seeds"]
        assert {run.epochs for run in runs} == {sizes["epochs"]}
        assert {run.train_size for run in runs} == {55_000 if named == "full" else sizes["train_sizes"]}


def test_few_images_have_presets_of_their_own() -> None:
    few = dataset(1347)
    for named in PRESETS_FEW:
        assert preset(named, few) == PRESETS_FEW[named] != PRESETS[named]
        assert all(run.train_size + run.validation_size <= 1347 for run in expand([{}], few, named))
    assert {run.train_size for run in expand([{}], few, "full")} == {947}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_brings_its_comparison_and_its_training(model: str) -> None:
    kind = MODELS[model]
    runs = expand([{"models": model}], MNIST, "full")
    assert len({run.regularizer for run in runs}) == len(kind.compare)
    for name, value in {**kind.training, **kind.full}.items():
        if name != "seeds":
            assert {getattr(run, name) for run in runs} == {value}
    (told,) = {run.lr for run in expand([{"models": model, "lr": 0.5}], MNIST)}
    assert told == 0.5


def test_the_dropconnect_paper() -> None:
    runs = expand([{"models": ["dropconnect"]}], MNIST, "full")
    assert [run.regularizer for run in runs[:3]] == ["none", "dropout=0.5", "dropconnect=0.5"]
    assert {(run.train_size, run.batch_size, run.optimizer) for run in runs} == {(55_000, 128, "sgd")}
    assert {run.seed for run in runs} == set(range(5))


def test_the_product_of_all_axes_seeds_outermost() -> None:
    grid = {
        "models": ["cnn", "mlp"],
        "regularizers": ["none", "dropout", "dropout=0.3+l2"],
        "p": [0.1, 0.5],
        "train_sizes": [100, 200],
        "seeds": [7, 9],
    }
    runs = expand([grid], MNIST)
    assert [run.seed for run in runs] == [7] * 16 + [9] * 16
    assert [run.regularizer for run in runs if (run.model, run.train_size, run.seed) == ("mlp", 200, 7)] == [
        "none",
        "dropout=0.1",
        "dropout=0.5",
        "dropout=0.3+l2=0.0001",
    ]
    assert len({run.key for run in runs}) == len(runs)
    assert len({run.arm for run in runs}) == 16


def test_grids_share_runs() -> None:
    grids: list[dict[str, Any]] = [
        {"regularizers": ["none", "dropout"], "seeds": 2},
        {"regularizers": ["dropout"], "p": [0.5, 0.2], "seeds": 3},
    ]
    assert [(run.regularizer, run.seed) for run in expand(grids, MNIST)] == [
        ("none", 0), ("dropout=0.5", 0), ("dropout=0.2", 0),
        ("none", 1), ("dropout=0.5", 1), ("dropout=0.2", 1),
        ("dropout=0.5", 2), ("dropout=0.2", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "complaint"),
    [
        ({"model": ["cnn"]}, "a grid has no 'model'; it has batch_size, epochs"),
        ({"models": "resnet"}, "model 'resnet': there is none of that name"),
        ({"models": []}, "models is an empty list"),
        ({"models": [3]}, "models has to hold names, but got 3"),
        ({"regularizers": ["spatial"], "models": "mlp"}, "model 'mlp' takes no 'spatial'"),
        ({"regularizers": [0.5]}, "regularizers has to hold names, but got 0.5"),
        ({"p": 1.5}, "but got 1.5"),
        ({"p": ["x"]}, "p has to hold probabilities, but got 'x'"),
        ({"seeds": 0}, "seeds has to be a number from 1 on"),
        ({"seeds": 10**12}, "at most 100000 runs"),
        ({"seeds": []}, "seeds is an empty list"),
        ({"seeds": [-1]}, "seed has to be at least 0, but got -1"),
        ({"seeds": [True]}, "seed has to be a whole number, but got True"),
        ({"train_sizes": [0]}, "train_size has to be at least 1, but got 0"),
        ({"train_sizes": ["half"]}, "train_size has to be a whole number, but got 'half'"),
        ({"train_sizes": 58_001}, "58001 training and 2000 validation images, but blank's training file holds 60000"),
        ({"validation_size": 60_000, "train_sizes": "all"}, "train_size has to be at least 1, but got 0"),
        ({"validation_size": "x"}, "validation_size has to be an integer, but got 'x'"),
        ({"validation_size": 70_000}, "validation_size has to be between 1 and 60000"),
        ({"epochs": 1.5}, "epochs has to be a whole number, but got 1.5"),
        ({"batch_size": 0}, "batch_size has to be at least 1"),
        ({"lr": float("nan")}, "lr has to be above 0, but got nan"),
        ({"lr": 10**400}, "lr has to be a real number, but got a number that no float holds"),
        ({"lr": "fast"}, "lr has to be a number, but got 'fast'"),
        ({"optimizer": "lbfgs"}, "optimizer has to be one of adam, sgd, but got 'lbfgs'"),
        ({"schedule": "step"}, "schedule has to be one of constant, cosine"),
    ],
)
def test_what_cannot_be_run_is_named(grid: dict[str, Any], complaint: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        expand([grid], MNIST)
    assert complaint in str(error.value)


def test_a_train_size_of_all_is_the_rest() -> None:
    assert {run.train_size for run in expand([{"train_sizes": ["all", 100], "validation_size": 7}], MNIST)} == {
        59_993,
        100,
    }


def test_a_run_and_its_name() -> None:
    run = Run(regularizer="max-norm+dropout", seed=3)
    assert run == Run(regularizer="dropout=0.5+max-norm=3.0", seed=3)
    assert run.arm == dataclasses.replace(run, seed=0)
    assert Run(**json.loads(json.dumps(dataclasses.asdict(run)))) == run
    assert Run(lr=1) == Run(lr=1.0)  # type: ignore[arg-type]
    assert Run(lr=1).key == Run(lr=1.0).key  # type: ignore[arg-type]
    # The name is part of what is kept on disks: a change here orphans runs that people could have gone on with.
    assert run.key == "cnn-dropout_0.5+max-norm_3-n3000-s3-14521b2b"
    changes = {"epochs": 5, "lr": 0.5, "batch_size": 1, "optimizer": "sgd", "schedule": "cosine", "validation_size": 9}
    for name, value in changes.items():
        assert dataclasses.replace(run, **{name: value}).key != run.key


def test_a_file_of_grids(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('epochs = 3\nmodels = ["mlp"]\n[[grid]]\nseeds = 2\n[[grid]]\nepochs = 4\n', encoding="utf-8")
    assert read_toml(path) == [{"epochs": 3, "models": ["mlp"], "seeds": 2}, {"epochs": 4, "models": ["mlp"]}]
    path.write_text("epochs = 3\n", encoding="utf-8")
    assert read_toml(path) == [{"epochs": 3}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"epochs = ", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"grid = 3", "grid has to be tables"),
        (b"grid = []", "grid has to be tables"),
        (b"grid = [1]", "grid has to be tables"),
        (b"[grid]\nepochs = 1", "grid has to be tables"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        read_toml(path)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none.toml")
