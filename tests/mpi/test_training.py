"""Any number of processes trains as one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import Jobs

# What several processes do differently is the order in which float32 numbers are added up: the gradients of examples,
# and losses. 100 steps were measured to move a loss by 3e-7 of itself (2 or 3 units in the last place); batch
# normalisation over the 2 examples of a last batch, which divides by their small difference, moves it by 2e-5.
TOLERANCE = 1e-5
TOLERANCE_OF_PAIRS = 3e-4

NETWORKS = {
    "every step of 100": (("mlp", 127, 127, 100), TOLERANCE),
    "Adam": (("mlp-adam", 127, 127, 100), TOLERANCE),
    "uneven batches, and one of one example": (("mlp", 127, 14, 10), TOLERANCE),
    "batch norm and Dropout2d": (("cnn", 60, 60, 100), TOLERANCE),
    "batch norm, with batches of two": (("cnn", 128, 14, 10), TOLERANCE_OF_PAIRS),
}


def losses(found: dict[str, Any]) -> Any:
    return np.array([[epoch["loss"], epoch["val_loss"]] for epoch in found["history"]])


@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_processes_takes_the_same_steps(jobs: Jobs, name: str) -> None:
    arguments, tolerance = NETWORKS[name]
    (alone,) = jobs.program(1, "steps", *arguments)
    assert losses(alone)[-1, 0] < 0.8 * losses(alone)[0, 0]  # it learns, and so differences have time to grow
    for size in (2, 4):
        ranks = jobs.program(size, "steps", *arguments)
        for found in ranks:
            np.testing.assert_allclose(losses(found), losses(alone), rtol=tolerance)
            assert [epoch["accuracy"] for epoch in found["history"]] == [e["accuracy"] for e in alone["history"]]
            assert found["generator"] == alone["generator"]
            assert found["history"] == ranks[0]["history"]
            assert found["digest"] == ranks[0]["digest"]


def test_every_kind_of_noise_is_that_of_one_process(jobs: Jobs) -> None:
    (alone,) = jobs.program(1, "kinds")
    ranks = jobs.program(3, "kinds")
    for name, expected in alone.items():
        tolerance = TOLERANCE_OF_PAIRS if "batch-norm" in name else TOLERANCE
        for found in ranks:
            np.testing.assert_allclose(found[name], expected, rtol=tolerance, err_msg=name)


def test_what_is_rare_is_right(jobs: Jobs) -> None:
    (alone,) = jobs.program(1, "unusual")
    ranks = jobs.program(2, "unusual")
    for name, expected in alone.items():
        for found in ranks:
            kinds = ["loss"] if name == "loss is a parameter" else ["loss", "val_loss"]
            for kind in kinds:
                theirs = [[epoch[kind] for epoch in each[name]["history"]] for each in (found, alone)]
                np.testing.assert_allclose(*theirs, rtol=TOLERANCE, err_msg=name)
            assert found[name]["digest"] == ranks[0][name]["digest"] and expected["history"]


def test_the_same_number_of_processes_gives_the_same_bits(jobs: Jobs) -> None:
    first, again = (jobs.program(3, "steps", "mlp", 127, 14, 2) for _ in range(2))
    assert first == again


def test_masks_are_slices_of_the_mask_of_one_process(jobs: Jobs) -> None:
    (alone,) = jobs.program(1, "masks")
    ranks = jobs.program(4, "masks")
    assert len(alone["masks"]) == 20
    for step, whole in enumerate(alone["masks"]):
        extents = [len(part) for part in np.array_split(np.arange(len(whole)), 4)]
        parts = [rank["masks"][step] for rank in ranks]
        # Whoever has no example takes the first, and adds nothing.
        assert [len(part) for part in parts] == [max(extent, 1) for extent in extents]
        assert [row for part, extent in zip(parts, extents, strict=True) for row in part[:extent]] == whole
        assert all(part == whole[:1] for part, extent in zip(parts, extents, strict=True) if not extent)


def test_the_first_process_says_how_all_begin(jobs: Jobs) -> None:
    (alone,) = jobs.program(1, "unseeded")
    ranks = jobs.program(2, "unseeded")
    np.testing.assert_allclose(losses(ranks[0]), losses(alone), rtol=TOLERANCE)
    assert ranks[0] == ranks[1]


def test_any_process_may_end_the_run(jobs: Jobs) -> None:
    assert [len(found["history"]) for found in jobs.program(3, "stop")] == [3, 3, 3]


def test_examples_are_shared_out_to_be_evaluated(jobs: Jobs) -> None:
    (alone,) = jobs.program(1, "scored")
    for found in jobs.program(2, "scored"):
        assert found.pop("calls") == alone["calls"]
        for count, scores in found.items():
            assert scores["accuracy"] == alone[count]["accuracy"]
            assert scores["loss"] == pytest.approx(alone[count]["loss"], rel=TOLERANCE)


def test_errors_are_raised_on_all(jobs: Jobs) -> None:
    zero, one = jobs.program(2, "errors")
    assert zero["epochs"] == "RankFailed: rank 1 of 2 failed: " + one["epochs"]
    assert one["epochs"] == "ValueError: rank 1 has other arguments: epochs is 2, and 1 on rank 0"
    assert "data is 126 examples with the checksum" in one["data"] and "data is 126 examples" in zero["data"]
    assert one["a check on one rank"] == "ValueError: epochs must be a positive int, got 0"
    assert zero["a check on one rank"] == "RankFailed: rank 1 of 2 failed: " + one["a check on one rank"]
    assert "this run is not the run on rank 0: model.1.weight is float32 (6,), and was float32" in one["another model"]
    assert zero["divergence"] == one["divergence"]
    assert zero["divergence"].startswith("FloatingPointError: the loss is nan in epoch 1, batch 2")
    assert zero["drift"] == one["drift"]
    assert "after epoch 1 the weights, scores or generators on rank 1 are not those on rank 0" in zero["drift"]
    assert zero["layers"] == one["layers"] and "have called different layers" in zero["layers"]
    for name in ("draws", "looks", "one example left"):
        assert zero[name] == one[name]
    assert "weights, scores or generators on rank 1 are not those on rank 0" in zero["draws"]
    assert "have called different layers" in zero["looks"]
    assert "more than 1 value per channel when training, got one in all" in zero["one example left"]
    assert zero["no such name"].startswith("FileNotFoundError") and "rank 0 of 2 failed" in one["no such name"]
    assert zero["no folder"].startswith("FileNotFoundError: no/such/folder")
    assert one["no folder"] == "RankFailed: rank 0 of 2 failed: " + zero["no folder"]
