"""What the pictures hold, and when they are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fastdrop.mnist.report.confusion import confusion, count
from fastdrop.mnist.report.curves import _Curve, _range, curves
from fastdrop.mnist.report.digits import predictions
from fastdrop.mnist.report.sweeps import against_p, against_size
from fastdrop.mnist.results import Results

from .made import DROPOUT, NONE, dataset, diverged, record, run, study, texts

CROSS = "\N{MULTIPLICATION SIGN}"
ABOUT = "some digits: 60 training, 40 validation, 40 test images; seeds 0 to 4"


def failed() -> Results:
    results = study()
    return Results(results.dataset, tuple(map(diverged, results.records)))


def test_few_arms_share_two_panels() -> None:
    (name, figure), *rest = curves(study()).items()
    assert (name, rest) == ("curves.png", [])
    assert len(figure.axes) == 2
    shown = texts(figure)
    for word in (ABOUT, "dropout,\nvalidation 90.50 %", "none,\ntraining 0.050", "95 % interval", "Circle"):
        assert word in shown


def test_the_curves_hold_means_and_intervals() -> None:
    loss, accuracy = curves(study())["curves.png"].axes
    drawn = [line.get_ydata() for line in loss.lines if len(line.get_ydata()) == 3]
    # Validation, then training, of none: loss .1 and .05 at the end, .125 / 2 and .125 more an epoch before.
    np.testing.assert_allclose(drawn[0], [0.225, 0.1625, 0.1])
    np.testing.assert_allclose(drawn[1], [0.3, 0.175, 0.05])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(orig=False), [77.5, 83.75, 90.0])
    band = loss.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(0.1 - 0.003926, abs=1e-5)


def test_one_seed_has_no_interval_in_the_curves() -> None:
    assert "interval" not in texts(curves(study([(run(), [0.9])]))["curves.png"])


@pytest.mark.parametrize(
    "arms",
    [
        [run(name) for name in ("none", "dropout", "l2", "gaussian", "max-norm", "label-smoothing", "batch-norm")],
        [run(), run("dropout"), run(train_size=50), run("dropout", train_size=50)],
        [run(), run(model="mlp"), run(model="lstm")],
    ],
)
def test_many_arms_have_a_panel_each(arms: list[object]) -> None:
    found = curves(study([(arm, NONE) for arm in arms]))  # type: ignore[misc]
    assert list(found) == ["curves-loss.png", "curves-accuracy.png"]
    for figure in found.values():
        assert sum(axis.axison for axis in figure.axes) == len(arms)
    assert "Circle" not in texts(found["curves-accuracy.png"])


def test_runs_that_stop_early_are_drawn_alone_from_there_on() -> None:
    data = dataset()
    arm = run("early-stopping", epochs=9)
    lengths = (3, 5, 9)
    records = [record(dataclasses.replace(arm, seed=s), data, 0.9, epochs=n) for s, n in enumerate(lengths)]
    figure = curves(Results(data, tuple(records)))["curves.png"]
    assert "stopped early" in texts(figure)
    drawn = [line.get_xdata().tolist() for line in figure.axes[1].lines]
    assert drawn[:3] == [[1, 2, 3], [3, 4, 5], [3, 4, 5, 6, 7, 8, 9]]


def test_one_epoch() -> None:
    (figure,) = curves(study([(run(epochs=1), NONE)], epochs=1)).values()
    assert figure.axes[0].lines[0].get_marker() == "."


def test_the_gap_against_the_size() -> None:
    assert against_size(study()) is None
    arms = [(run(name, train_size=n), a) for n in (20, 60) for name, a in (("none", NONE), ("dropout", DROPOUT))]
    figure = against_size(study(arms))
    assert figure is not None
    gap, error = figure.axes
    assert "20 or 60 training" in texts(figure) and "Test error (%)" in texts(figure)
    means = [container.lines[0].get_ydata(orig=False) for container in gap.containers]
    np.testing.assert_allclose(means, [[0.05, 0.05], [0.0475, 0.0475]])
    np.testing.assert_allclose(error.containers[0].lines[0].get_ydata(orig=False), [10.0, 10.0])


def test_each_model_has_its_row() -> None:
    arms = [(run(model=model, train_size=n), NONE) for n in (20, 60) for model in ("cnn", "mlp")]
    figure = against_size(study([*arms, (run(model="lstm"), NONE)]))
    assert figure is not None and len(figure.axes) == 4
    assert "mlp: Gap" in texts(figure) and "lstm" not in texts(figure)


def test_errors_far_apart_have_a_logarithmic_axis() -> None:
    figure = against_size(study([(run(train_size=20), (0.4, 0.42)), (run(), (0.95, 0.951))]))
    assert figure is not None
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "log"]


def test_the_accuracy_against_p() -> None:
    assert against_p(study()) is None
    # Equal settings count: another size, or a second regularizer beside the first, is another line.
    assert against_p(study([(run("dropout"), NONE), (run("dropout=0.2+l2"), NONE)])) is None
    assert against_p(study([(run("dropout"), NONE), (run("dropout=0.2", train_size=50), NONE)])) is None
    figure = against_p(study([(run(), NONE), (run("dropout=0.5"), NONE), (run("dropout=0.2"), DROPOUT)]))
    assert figure is not None
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xdata(orig=False), [0.2, 0.5])
    np.testing.assert_allclose(axis.containers[0].lines[0].get_ydata(orig=False), [90.5, 90.0])
    assert "none" in texts(figure) and ABOUT in texts(figure)
    band = axis.patches[0].get_bbox()
    assert (band.y0 + band.y1) / 2 == pytest.approx(90.0)


def test_the_band_is_the_same_without_dropping() -> None:
    arms = ["none", "batch-norm", "batch-norm+dropout=0.2", "batch-norm+dropout=0.5"]
    figure = against_p(study([(run(name), NONE) for name in arms]))
    assert figure is not None
    assert "dropout +\nbatch-norm" in texts(figure) and "none" not in texts(figure).split("\n")


def test_the_predictions_say_how_they_were_chosen() -> None:
    # 40 images: 4 wrong with the first, 2 with the best; the first ones in both.
    figure = predictions(study([(run(), [0.9]), (run("dropout"), [0.95])]))
    assert figure is not None
    shown = texts(figure)
    assert "seed 0; shown: seed 0" in shown
    assert "The first 10 of the 40 test images" in shown
    assert 'Wrong with "none", right with "dropout": 2 of 40' in shown
    assert 'Right with "none", wrong with "dropout": 0 of 40' in shown
    assert "Wrong with both: 2 of 40" in shown
    # Each wrong reading carries a cross: 6 in the first section, then 2 and 4.
    assert shown.count(CROSS) == 12


def test_predictions_of_one_arm() -> None:
    figure = predictions(study([(run(), [0.5])]))
    assert figure is not None
    assert 'Wrong with "none": 20 of 40; the first 10 in the test file' in texts(figure)


def test_the_confusion_matrix_counts_over_seeds() -> None:
    results = study()
    arm = results.arms[0]
    matrix = count(results.dataset.test_labels, results.of(arm), 10)
    # Each of five seeds reads the first 4 of 40 images, classes 0 to 3, as the class after.
    assert matrix.sum() == 200
    assert [matrix[i, i + 1] for i in range(4)] == [5] * 4
    assert np.trace(matrix) == 180
    figure = confusion(results)
    assert figure is not None
    assert "20 errors in 200 readings (5 seeds)" in texts(figure) and ABOUT in texts(figure)


@pytest.mark.parametrize(("classes", "size"), [(2, (4, 4)), (26, (8, 12)), (47, (28, 28))])
def test_other_data(classes: int, size: tuple[int, int]) -> None:
    data = dataset(classes, size)
    results = study([(run(), NONE), (run("dropout"), DROPOUT)], data)
    figure = confusion(results)
    assert figure is not None and len(figure.axes) == 2
    assert predictions(results) is not None


def test_nothing_is_drawn_of_runs_that_diverged() -> None:
    assert curves(failed()) == {}
    assert [draw(failed()) for draw in (against_size, against_p, predictions, confusion)] == [None] * 4


def test_equal_losses_leave_room_for_their_mark() -> None:
    assert _range([_Curve([2.0], [2.0], [2.0], [])], "loss") == (0.0, pytest.approx(2.16))
